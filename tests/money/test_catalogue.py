import json

import pytest
from hypothesis import given, strategies as st

from headgate.money.catalogue import Catalogue
from headgate.money.pricedata import DATA, PriceData, day_micros
from headgate.money.prices import PriceBook
from headgate.money.vocab import ENCODINGS

PRICES = PriceData.load()
CATALOGUE = Catalogue.load(PRICES)


def openai(name):
    return CATALOGUE.model("openai", name)


@pytest.mark.parametrize(
    ("name", "window", "output", "tokenizer"),
    [
        ("gpt-3.5-turbo", 16_385, 4_096, "cl100k_base"),
        ("gpt-3.5-turbo-16k", 16_385, 4_096, "cl100k_base"),
        ("gpt-4", 8_192, 8_192, "cl100k_base"),
        ("gpt-4-turbo", 128_000, 4_096, "cl100k_base"),
        ("gpt-4o", 128_000, 16_384, "o200k_base"),
        ("gpt-4o-mini", 128_000, 16_384, "o200k_base"),
        ("gpt-4.1", 1_047_576, 32_768, "o200k_base"),
        ("gpt-5", 400_000, 128_000, "o200k_base"),
        ("gpt-5.4", 1_050_000, 128_000, "o200k_base"),
        ("o3", 200_000, 100_000, "o200k_base"),
    ],
)
def test_an_openai_model_has_its_published_limits_and_an_exact_tokenizer(name, window, output, tokenizer):
    model = openai(name)
    assert (model.context_window, model.max_output) == (window, output)
    assert (model.tokenizer, model.exact) == (tokenizer, True)
    assert model.operations == ("chat",)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2031-01-01", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-3.5-turbo-16k-0613", "gpt-3.5-turbo-16k"),
        ("ft:gpt-4o-mini-2024-07-18:acme:bot:abc", "gpt-4o-mini"),
        ("openai/gpt-5", "gpt-5"),
        ("GPT-5-mini-20250807", "gpt-5-mini"),
    ],
)
def test_a_snapshot_counts_as_its_family(name, family):
    got, expected = openai(name), openai(family)
    assert got.name == name
    assert (got.context_window, got.max_output, got.tokenizer) == (
        expected.context_window,
        expected.max_output,
        expected.tokenizer,
    )
    assert got.exact


def test_a_snapshot_with_limits_of_its_own_keeps_them():
    assert openai("gpt-4o-2024-05-13").max_output == 4_096


@pytest.mark.parametrize("name", ["gpt-6-sol", "gpt-6-luna-2026-10-01", "gpt-6.1-terra", "gpt-6.9-x"])
def test_gpt_6_is_counted_with_o200k_but_not_exactly(name):
    model = openai(name)
    assert (model.tokenizer, model.exact) == ("o200k_base", False)
    assert model.wants_max_completion_tokens


@pytest.mark.parametrize(
    ("name", "wants"),
    [
        *((name, False) for name in ("gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "gpt-oss-20b")),
        *((name, True) for name in ("o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5.9-new")),
    ],
)
def test_models_that_refuse_max_tokens_are_known(name, wants):
    assert openai(name).wants_max_completion_tokens is wants


@pytest.mark.parametrize(
    ("name", "dimensions"),
    [
        ("text-embedding-3-small", 1_536),
        ("text-embedding-3-large", 3_072),
        ("text-embedding-ada-002", 1_536),
    ],
)
def test_embedding_models_have_their_dimensions(name, dimensions):
    model = openai(name)
    assert (model.dimensions, model.operations) == (dimensions, ("embeddings",))
    assert (model.tokenizer, model.exact, model.context_window) == ("cl100k_base", True, 8_192)


def test_completion_models_complete():
    for name in ("gpt-3.5-turbo-instruct", "davinci-002", "babbage-002"):
        assert openai(name).operations == ("completions",)


def test_a_tokenizer_is_exact_only_where_the_model_is_openai_s_own():
    assert CATALOGUE.model("azure", "gpt-35-turbo-16k").exact
    for provider in ("openrouter", "ours", "groq"):
        model = CATALOGUE.model(provider, "openai/gpt-4o")
        assert (model.tokenizer, model.exact) == ("o200k_base", False)


def test_a_model_of_another_maker_is_known_by_the_beginning_of_its_name():
    assert CATALOGUE.model("deepseek", "deepseek-chat").context_window >= 128_000
    assert CATALOGUE.model("anthropic", "claude-sonnet-4-6").max_output == 128_000
    assert CATALOGUE.model("ollama", "bge-m3").operations == ("embeddings",)
    assert CATALOGUE.model("ollama", "llama3.1:8b").context_window == 131_072
    assert CATALOGUE.model("openrouter", "moonshotai/kimi-k2.6").context_window == 262_144


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("us.anthropic.claude-sonnet-4-6", "claude-sonnet-4-6"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("us-gov.anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku"),
        (
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-8-v1:0",
            "claude-opus-4-8",
        ),
        ("openai.gpt-oss-120b-1:0", "gpt-oss-120b"),
        ("qwen.qwen3-32b-v1:0", "qwen3-32b"),
    ],
)
def test_a_cloud_s_name_of_a_model_is_looked_through(name, model):
    found, known = CATALOGUE.model("bedrock", name), CATALOGUE.model("bedrock", model)
    assert (found.name, found.max_output) == (name, known.max_output)
    assert found.context_window >= known.context_window > 0
    assert not found.exact


def test_a_window_that_only_the_price_data_knows_is_taken_from_there():
    assert CATALOGUE.model("groq", "meta-llama/llama-guard-4-12b").context_window == 131_072


@given(st.text(), st.text())
def test_any_name_at_any_provider_gives_a_model(provider, name):
    model = CATALOGUE.model(provider, name)
    assert model.name == name
    assert model.operations


def test_an_unknown_name_gives_zeros():
    model = CATALOGUE.model("nobody", "some-model")
    assert (model.context_window, model.max_output, model.tokenizer) == (0, 0, "")
    assert (model.exact, model.dimensions, model.wants_max_completion_tokens) == (False, 0, False)
    assert set(model.operations) == {"chat", "completions", "embeddings"}


def test_the_names_of_the_guide_and_the_current_ones_are_offered():
    names = CATALOGUE.names("openai")
    assert len(names) == len(set(names)) > 80
    for name in ("gpt-3.5-turbo", "gpt-3.5-turbo-16k", "gpt-4", "gpt-4-turbo", "gpt-4o", "gpt-5"):
        assert name in names
    for name in ("gpt-4o-2024-08-06", "gpt-5.6-sol", "gpt-6-astra", "text-embedding-3-small"):
        assert name in names
    assert "gpt-4-32k" not in names


def test_every_name_that_is_offered_is_known_and_priced():
    book = PriceBook.load(data=PRICES)
    now = day_micros("2026-11-24")
    for name in CATALOGUE.names("openai"):
        assert openai(name).context_window or "chat" not in openai(name).operations, name
        assert book.find("openai", name, now) is not None, name


def test_other_providers_offer_what_their_price_list_holds():
    assert "deepseek-chat" in CATALOGUE.names("deepseek")
    assert "llama-3.3-70b-versatile" in CATALOGUE.names("groq")
    assert "whisper-large-v3" in CATALOGUE.names("groq")
    assert CATALOGUE.names("xai") == CATALOGUE.names("x-ai") != ()
    assert CATALOGUE.names("nobody") == ()


def test_the_profiles_name_each_model_once_and_only_shipped_tokenizers():
    file = json.loads((DATA / "models.json").read_bytes())
    for rows in file.values():
        names = [row["name"] for row in rows]
        assert len(names) == len(set(names))
        assert names == [name.lower() for name in names]
        assert {row.get("tokenizer", "") for row in rows} <= {"", *ENCODINGS}
    for row in file["families"]:
        assert row.get("window", 0) >= row.get("output", 0)


def test_the_tokenizer_of_a_model_is_the_one_that_tiktoken_names():
    from tiktoken.model import encoding_name_for_model

    for name in CATALOGUE.names("openai"):
        model = openai(name)
        try:
            expected = encoding_name_for_model(name)
        except KeyError:
            assert not model.exact, name
        else:
            assert model.tokenizer == expected, name
