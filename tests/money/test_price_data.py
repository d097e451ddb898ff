"""The shipped prices against the package that they are made from."""

import importlib.util
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from headgate.money.cost import cost
from headgate.money.pricedata import PriceData
from headgate.money.prices import PriceBook
from headgate.values import Prices, Usage

ROOT = Path(__file__).parent.parent.parent
MOMENTS = [
    datetime(2024, 7, 1, 12, tzinfo=UTC),
    datetime(2026, 8, 20, 2, 30, tzinfo=UTC),
    datetime(2026, 10, 13, 7, tzinfo=UTC),
    datetime(2026, 11, 24, 12, tzinfo=UTC),
    datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC),
]
BOOK = PriceBook.load()
DATA = BOOK.data

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("genai_prices") is None, reason="genai-prices is not installed"
)


def micros(moment):
    return int(moment.timestamp()) * 1_000_000


def at(*when):
    return micros(datetime(*when, tzinfo=UTC))


@needs_package
def test_the_file_is_what_the_generator_makes_of_the_installed_package():
    command = [sys.executable, "tools/make_prices.py", "--check"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


@needs_package
def test_all_providers_and_models_of_the_package_are_there():
    from genai_prices.data import providers

    assert len(providers) == 47
    assert DATA.providers == tuple(provider.id for provider in providers)
    for provider in providers:
        ours = DATA.provider(provider.id).models
        ours, own = ours[: len(provider.models)], ours[len(provider.models) :]
        assert [row.id for row in ours] == [model.id for model in provider.models]
        assert [row.context_window for row in ours] == [
            model.context_window or 0 for model in provider.models
        ]
        offered = [row.id for row in own if row.current and not row.id.startswith(("veo-", "grok-imagine-"))]
        assert offered == [], "what the package has no more, nobody offers; videos it never had"


def names_of(provider):
    """Every whole name that a rule of the provider mentions, each in two spellings."""
    from genai_prices import types

    pending = [model.match for model in provider.models]
    while pending:
        clause = pending.pop()
        pending.extend(getattr(clause, "or_", ()))
        if isinstance(clause, types.ClauseEquals):
            yield clause.equals
            yield clause.equals.upper()
        elif isinstance(clause, types.ClauseStartsWith):
            yield clause.starts_with + "-20260101"


@needs_package
def test_a_name_means_the_same_model_as_in_the_package():
    from genai_prices.data import providers

    for provider in providers:
        for name in names_of(provider):
            found = DATA.model(provider.id, name)
            expected = provider.find_model(name, all_providers=providers)
            assert found is not None, (provider.id, name)
            assert expected is not None
            assert found[1].id == expected.id, (provider.id, name)


def priced_calls(moment):
    """Every model and tier that has a price at a moment: the package's prices and ours."""
    from genai_prices.data import providers

    for provider in providers:
        for model in provider.models:
            found = DATA.model(provider.id, model.id)
            row = found[1].row(micros(moment)) if found and found[1].id == model.id else None
            if row and row.prices:
                yield model.id, model.get_prices(moment), row.prices
            if row and (batch := row.tiers.get("batch")):
                yield model.id, model.get_prices(moment, {"processing": "batch"}), batch


@needs_package
@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("tokens", [1_000, 250_000, 300_000])
def test_calls_cost_what_the_package_says_to_the_nano(moment, tokens):
    from genai_prices import types as package

    theirs = package.Usage(
        input_tokens=tokens,
        cache_read_tokens=tokens // 10,
        cache_write_tokens=tokens // 5,
        output_tokens=777,
    )
    ours = Usage(tokens, 777, tokens // 10, tokens // 5)
    # Both are exact, and ours is rounded up; but for a handful of averages finer than a pico-USD.
    slack = Decimal(tokens) / 10**12 + Decimal(1) / 10**9
    compared = 0
    for name, package_prices, prices in priced_calls(moment):
        expected = package_prices.calc_price(theirs)["total_price"]
        assert abs(Decimal(cost(ours, prices)) / 10**9 - expected) <= slack, name
        compared += 1
    assert compared > 2_000


def test_a_tiered_price_applies_to_the_whole_call():
    prices = BOOK.find("openai", "gpt-5.4", at(2026, 11, 24)).prices
    assert prices.long_above == 272_000
    assert (prices.input, prices.long.input) == (2_500_000, 5_000_000)
    assert (prices.output, prices.long.output) == (15_000_000, 22_500_000)


def test_a_price_with_two_thresholds_nests_its_bands():
    prices = next(
        row.prices
        for name in DATA.providers
        for model in DATA.provider(name).models
        for row in model.rows
        if row.prices and row.prices.long and row.prices.long.long
    )
    assert 0 < prices.long_above < prices.long.long_above
    assert prices.long.long.long is None


def test_a_price_changes_on_its_day_and_a_window_at_its_hour():
    assert BOOK.find("openai", "o3", at(2025, 6, 9, 23, 59, 59)).prices.input == 10_000_000
    assert BOOK.find("openai", "o3", at(2025, 6, 10)).prices.input == 2_000_000
    assert BOOK.find("openai", "o3", at(2026, 11, 24)).since == "2025-06-10"
    hours = {hour: BOOK.find("deepseek", "deepseek-v4-pro", at(2026, 11, 24, hour)) for hour in range(24)}
    dear = [hour for hour, row in hours.items() if row.prices.input == 1_320_000]
    assert dear == [1, 2, 3, 6, 7, 8, 9]
    again = BOOK.find("deepseek", "deepseek-v4-pro", at(2026, 11, 25, 0, 59, 59))
    assert again.prices.input != 1_320_000


def test_prices_that_usage_cannot_tell_apart_are_left_out_rather_than_cheap():
    now = at(2026, 11, 24)
    for provider, model in [
        ("google", "gemini-embedding-2"),
        ("cerebras", "qwen-3-coder-480b"),
    ]:
        assert DATA.model(DATA.provider_id(provider), model) is not None
        assert BOOK.find(provider, model, now) is None


def test_other_units_have_prices_of_their_own():
    now = at(2026, 11, 24)
    for provider, model, unit, pico in [
        ("openai", "whisper-1", "second", 100_000_000),
        ("openai", "tts-1", "character", 15_000_000),
        ("openai", "gpt-image-1", "input_image", 5_000_000),
        ("openai", "dall-e-3", "image:1024x1024:hd", 80_000_000_000),
        ("google", "gemini-2.5-flash-image", "output_image", 27_500_000),
        ("groq", "whisper-large-v3", "second", 30_833_333),
    ]:
        assert dict(BOOK.find(provider, model, now).prices.more)[unit] == pico


def test_what_is_known_to_be_free_has_an_explicit_zero():
    row = BOOK.find("openai", "omni-moderation-latest", at(2026, 11, 24))
    assert row.prices == Prices()


def test_audio_has_its_own_price():
    prices = BOOK.find("openai", "gpt-4o-audio-preview-2025-06-03", at(2026, 11, 24)).prices
    assert (prices.input_audio, prices.output_audio) == (40_000_000, 80_000_000)


@pytest.mark.parametrize(
    ("name", "url", "provider"),
    [
        ("openai", "", "openai"),
        ("XAI", "", "x-ai"),
        ("moonshot", "", "moonshotai"),
        ("ours", "https://api.openai.com/v1", "openai"),
        ("ours", "https://acme.openai.azure.com/openai/v1", "azure"),
        ("ours", "http://127.0.0.1:8000/v1", ""),
        ("my-openai-proxy", "", ""),
        ("my-openai-proxy", "https://example.com/https://api.openai.com", ""),
    ],
)
def test_a_provider_is_known_by_its_name_or_its_address_but_never_guessed(name, url, provider):
    assert DATA.provider_id(name, url) == provider


def test_a_cloud_falls_back_to_the_maker_s_list():
    provider, model = DATA.model("azure", "o3-pro-2025-06-10")
    assert (provider.name, model.id) == ("OpenAI", "o3-pro")


def test_loading_costs_little_cpu_and_memory():
    code = """
import resource, time
import msgspec, headgate.values
def pages(): return int(open("/proc/self/statm").read().split()[1])
from headgate.money.pricedata import PriceData
from headgate.money.prices import PriceBook
from headgate.money.catalogue import Catalogue
before, begun = pages(), time.process_time()
data = PriceData.load()
assert data.model("openai", "gpt-4o")
spent, grown = time.process_time() - begun, pages() - before
print(spent * 1000, grown * resource.getpagesize() / 1e6)
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    figures = [tuple(map(float, run.stdout.split())) for run in runs]
    assert min(ms for ms, _ in figures) < 15
    assert min(mb for _, mb in figures) < 5


def test_no_price_in_the_file_is_negative_or_no_integer():
    def whole(prices):
        if prices is None:
            return True
        fields = [getattr(prices, name) for name in prices.__struct_fields__[:9]]
        return all(type(field) is int and field >= 0 for field in fields) and whole(prices.long)

    data = PriceData.load()
    rows = [row for name in data.providers for model in data.provider(name).models for row in model.rows]
    assert len(rows) > 2_500
    assert all(whole(row.prices) and all(map(whole, row.tiers.values())) for row in rows)


@pytest.mark.parametrize(
    ("name", "input_", "output"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", 1_100_000, 5_500_000),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", 1_000_000, 5_000_000),
        ("eu.anthropic.claude-opus-5", 5_500_000, 27_500_000),
        ("global.anthropic.claude-opus-5", 5_000_000, 25_000_000),
        ("apac.anthropic.claude-3-5-sonnet-20241022-v2:0", 3_000_000, 15_000_000),
        ("us.amazon.nova-pro-v1:0", 800_000, 3_200_000),
        ("amazon.titan-embed-text-v2:0", 20_000, 0),
        ("openai.gpt-oss-20b-1:0", 70_000, 300_000),
    ],
)
def test_a_cloud_s_models_have_the_price_of_their_region_by_id_and_by_arn(name, input_, output):
    arn = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{name}"
    for spelling in (name, arn):
        row = BOOK.find("bedrock", spelling, at(2026, 11, 26))
        assert row is not None
        assert (row.prices.input, row.prices.output) == (input_, output)
    opaque = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6"
    assert BOOK.find("bedrock", opaque, at(2026, 11, 26)) is None
