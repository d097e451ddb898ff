import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

Say = Callable[..., Any]
GUIDE = ("--prices", "guide-2025")


@pytest.mark.parametrize(
    ("arguments", "usd"),
    [
        (("--model", "gpt-3.5-turbo", "--input", "300", "--output", "200", "--calls", "1000"), "$0.85"),
        (("--model", "gpt-4", "--input", "1200", "--output", "800", "--calls", "100"), "$8.40"),
        (("--model", "gpt-3.5-turbo", "--input", "300", "--output", "200", "--per-day", "1000"), "$25.50"),
    ],
)
def test_the_guides_sums_come_out_to_the_cent(
    run: Run, say: Say, arguments: tuple[str, ...], usd: str
) -> None:
    result = run("cost", *arguments, *GUIDE)
    assert result.exit_code == 0
    assert result.output.startswith(usd + "  ")
    assert "2025" in result.output
    assert say("cost", *arguments, *GUIDE)["total_usd"] == usd[1:]


def test_a_cost_states_its_price_with_date_and_source(say: Say) -> None:
    quote = say("cost", "--model", "gpt-4o", "--input", "1k", "--output", "0")
    assert quote["cost_nano_usd"] == quote["prices"]["pico_usd_per_token"]["input"] * 1000 // 1000
    assert quote["prices"]["source"]
    assert quote["prices"]["dated"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("sonar", "output $1.00; $0.012 for each call"),
        ("gpt-5.4", "; above 272,000 input tokens: input $5.00"),
    ],
)
def test_a_cost_says_every_price_that_it_is_made_of(run: Run, model: str, said: str) -> None:
    assert said in run("cost", "--model", model, "--input", "300", "--output", "200").output


def test_cached_input_and_batches_are_cheaper(say: Say) -> None:
    call = ("--model", "gpt-4o", "--input", "1000", "--output", "100")
    plain = say("cost", *call)["cost_nano_usd"]
    assert say("cost", *call, "--cached", "1000")["cost_nano_usd"] < plain
    assert say("cost", *call, "--batch")["cost_nano_usd"] * 2 == plain


def test_a_comparison_goes_from_the_cheapest_to_the_dearest_with_savings(say: Say, run: Run) -> None:
    rows = say("cost", "--compare", "--input", "300", "--output", "200", *GUIDE)
    assert rows[0]["model"] == "gpt-3.5-turbo"
    totals = [row["total_nano_usd"] for row in rows]
    assert totals == sorted(totals)
    assert [row["saving_nano_usd"] for row in rows] == [totals[-1] - total for total in totals]
    table = run("cost", "--compare", "--input", "300", "--output", "200", *GUIDE).output
    assert "96.0%" in table  # 0.00085 against gpt-4's 0.021
    assert "against the dearest, gpt-4" in table
    assert "16,384" in table


def test_a_comparison_covers_a_whole_provider_and_leaves_out_what_cannot_serve(say: Say) -> None:
    rows = say("cost", "--compare", "--provider", "openai", "--input", "100k", "--output", "1000")
    names = {row["model"] for row in rows}
    assert "gpt-4o" in names
    assert "gpt-4" not in names  # its window is too small
    assert "text-embedding-3-small" not in names
    assert "gpt-4o-2024-08-06" not in names


def test_other_makers_are_found_by_model_by_provider_and_by_prefix(say: Say) -> None:
    call = ("--input", "1000", "--output", "1000")
    found = say("cost", "--model", "deepseek-chat", *call)
    assert found["provider"] == "deepseek"
    assert say("cost", "--model", "deepseek/deepseek-chat", *call) == found
    assert say("cost", "--model", "deepseek-chat", "--provider", "deepseek", *call) == found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--input", "1", "--output", "1"), 2, "--model gpt-4o"),
        (("--model", "gpt-4o"), 2, "--input 300 --output 200"),
        (("--model", "gpt-4o", "--input", "x", "--output", "1"), 2, "not a count"),
        (("--model", "gpt-4o", "--input", "1", "--output", "1", "--cached", "2"), 2, "more than --input"),
        (("--model", "no-such", "--input", "1", "--output", "1"), 1, "headgate models --all"),
        (("--model", "gpt-4o", "--input", "1", "--output", "1", "--prices", "nope"), 2, "guide-2025"),
    ],
)
def test_a_cost_that_cannot_be_said_says_what_is_missing(
    run: Run, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = run("cost", *arguments)
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_tokens_per_hanzi_word_and_character(say: Say, run: Run) -> None:
    new, old = say("cost", "--tokens-per")
    assert (new["tokenizer"], old["tokenizer"]) == ("o200k_base", "cl100k_base")
    assert 0.5 < new["per_hanzi"] < 1.1 < old["per_hanzi"] < 2  # the guide's 2 to 3 were GPT-3's
    assert 1 < new["per_word"] < 1.4
    assert "per 汉字" in run("cost", "--tokens-per").output


def test_a_text_is_counted_exactly_with_its_cost(say: Say, run: Run) -> None:
    count = say("count", "hello world", "--model", "gpt-4", *GUIDE)
    assert (count["tokens"], count["exact"], count["at_most"]) == (2, True, 2)
    assert count["cost_nano_usd"] == 60_000
    said = run("count", "hello world").output
    assert "2 tokens for gpt-4o (exact)" in said
    assert "as input" in said


def test_a_text_may_come_from_a_file_or_a_pipe(say: Say, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("今天天气真好", encoding="utf-8")
    by_file = say("count", "--file", "a.txt", "--stats")
    by_pipe = say("count", "--stats", input="今天天气真好")
    assert by_file == by_pipe
    assert by_file["hanzi"] == 6
    assert by_file["tokens_per_hanzi"] == round(by_file["tokens"] / 6, 3)


def test_a_conversation_is_counted_as_openai_counts_it(say: Say, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hello"}]
    (tmp_path / "list.json").write_text(json.dumps(messages))
    (tmp_path / "body.json").write_text(json.dumps({"model": "gpt-4", "messages": messages}))
    assert say("count", "--messages", "list.json")["tokens"] == 8  # 3 + 3 + role 1 + content 1
    body = say("count", "--messages", "body.json")
    assert (body["model"], body["tokens"]) == ("gpt-4", 8)


def test_other_makers_texts_are_estimated_with_a_bound(say: Say) -> None:
    count = say("count", "hello world", "--model", "deepseek-chat")
    assert not count["exact"]
    assert count["at_most"] >= count["tokens"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("a", "--file", "b"), 2, "one thing to count"),
        (("--file", "none.txt"), 1, "Cannot read none.txt"),
        (("--messages", "bad.json"), 1, "not JSON"),
        (("--messages", "odd.json"), 1, "A conversation is a list"),
        (("--messages", "wrong.json"), 1, "messages[0].content"),
        (("--file", "latin.txt"), 1, "not UTF-8"),
    ],
)
def test_what_cannot_be_counted_says_why(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "odd.json").write_text('["a"]')
    (tmp_path / "wrong.json").write_text('[{"role": "user", "content": 5}]')
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    result = run("count", *arguments)
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_models_are_listed_with_window_price_and_date(say: Say, run: Run) -> None:
    rows = {row["model"]: row for row in say("models", "gpt-4o")}
    assert rows["gpt-4o"]["context_window"] == 128_000
    assert rows["gpt-4o"]["prices"]["dated"]
    assert all("gpt-4o" in name for name in rows)
    assert "128,000" in run("models", "gpt-4o").output


def test_models_of_a_price_book_have_its_windows(say: Say) -> None:
    rows = {row["model"]: row["context_window"] for row in say("models", *GUIDE)}
    guide = {"gpt-3.5-turbo": 16_384, "gpt-4": 8_192, "gpt-4-turbo": 128_000, "gpt-5": 200_000}
    assert {name: rows[name] for name in guide} == guide


def test_models_of_a_provider_that_is_found_are_listed(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-deepseek")
    assert {row["provider"] for row in say("models")} == {"deepseek"}


def test_models_everywhere_are_searched_by_words(say: Say, run: Run) -> None:
    rows = say("models", "--all", "claude", "opus")
    assert {"anthropic"} <= {row["provider"] for row in rows}
    assert run("models", "no-such-model").exit_code == 1
