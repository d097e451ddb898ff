"""Models by what they are, side by side; what changed between price books."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

Say = Callable[..., Any]


def names(rows: list[dict[str, Any]]) -> set[str]:
    return {row["model"] for row in rows}


def test_models_are_filtered_by_what_they_can_take_give_and_cost(say: Say) -> None:
    able = say(
        "models", "--all", "--capability", "schema", "--capability", "reasoning", "--modality", "image"
    )
    assert all({"schema", "reasoning"} <= set(row["capabilities"]) for row in able)
    assert all("image" in row["input_modalities"] for row in able)
    assert "gpt-6-luna" in names(able)
    assert "gpt-3.5-turbo" not in names(able)
    makes = say("models", "--provider", "gemini", "--modality", "out:image")
    assert "gemini-3-pro-image" in names(makes)
    wide = say("models", "--all", "--min-context", "1m", "--min-output", "100k", "--max-price", "0.5")
    assert {"gpt-6-luna", "deepseek-flash"} <= names(wide)
    assert all(row["context_window"] >= 1_000_000 for row in wide)
    assert all(row["prices"]["pico_usd_per_token"]["input"] <= 500_000 for row in wide)
    cheap = say("models", "--max-output-price", "1")
    assert all(row["prices"]["pico_usd_per_token"]["output"] <= 1_000_000 for row in cheap)


def test_models_whose_end_is_announced_say_when_and_what_instead(say: Say, run: Run) -> None:
    rows = {row["model"]: row for row in say("models", "gpt-4o", "--deprecated")}
    assert rows["gpt-4o"]["shutdown_date"] == "2027-01-14"
    assert rows["gpt-4o"]["deprecated"] == "2026-10-14"
    assert rows["gpt-4o"]["replacement"] == "gpt-6-luna"
    assert rows["gpt-4o"]["dates_source"].startswith("https://")
    assert "gpt-4o" not in names(say("models", "--current"))
    assert "2027-01-14, use gpt-6-luna" in run("models", "gpt-4o").output


def test_a_provider_that_is_given_its_models_has_no_others(say: Say, tmp_path: Path) -> None:
    settings = tmp_path / "own.toml"
    settings.write_text('[[providers]]\nname = "openai"\nmodels = ["gpt-4o*"]\n')
    assert all(name.startswith("gpt-4o") for name in names(say("models", "--config", str(settings))))


def test_a_provider_without_prices_is_listed(say: Say) -> None:
    rows = say("models", "--provider", "volcengine", "--capability", "tools")
    assert any(row["model"].startswith("doubao-seed-2-1") for row in rows)
    assert all(row["prices"] is None for row in rows)


def test_models_stand_side_by_side(say: Say, run: Run) -> None:
    output = run("models", "--compare", "gpt-6-luna", "claude-haiku-4-5").output
    assert "gpt-6-luna (openai)" in output
    assert "200,000" in output
    assert [row["provider"] for row in say("models", "--compare", "gpt-6-luna", "deepseek-flash")] == [
        "openai",
        "deepseek",
    ]
    assert run("models", "--compare", "gpt-4o").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [("--capability", "flying"), ("--modality", "smell"), ("--max-price", "cheap"), ("--min-context", "big")],
)
def test_a_filter_that_is_none_is_refused(run: Run, arguments: tuple[str, str]) -> None:
    result = run("models", *arguments)
    assert result.exit_code == 2, result.output


def test_drift_tells_scripts_by_its_exit_code(run: Run, say: Say) -> None:
    found = run("prices", "drift", "2026-08-01", "--provider", "deepseek", "--on", "2026-11-26", "--json")
    assert found.exit_code == 1
    told = json.loads(found.stdout)
    row = next(row for row in told["rows"] if row["model"] == "deepseek-v4-flash")
    assert {"part": "input", "old": 140_000, "new": 150_000} in row["changes"]
    assert told["drifted"] == len(told["rows"])
    assert say("prices", "drift", "default") == {
        "old": "default",
        "new": "default",
        "on": say("prices", "drift", "default")["on"],
        "drifted": 0,
        "rows": [],
    }
    table = run("prices", "drift", "2026-08-01", "--provider", "deepseek", "--kind", "changed").output
    assert "+7.1%" in table
    assert "0 added, 0 removed" in table


def test_drift_of_another_book(run: Run, tmp_path: Path) -> None:
    from headgate.money.pricedata import DATA

    other = tmp_path / "old.json"
    other.write_bytes((DATA / "prices.json").read_bytes().replace(b'"gpt-6-luna"', b'"gpt-6-moon"'))
    result = run("prices", "drift", str(other), "--provider", "openai", "--kind", "added", "--json")
    assert [(row["model"], row["kind"]) for row in json.loads(result.stdout)["rows"]] == [
        ("gpt-6-luna", "added")
    ]
    own = tmp_path / "own.toml"
    own.write_text('source = "me"\n[[prices]]\nmodel = "gpt-6-luna"\ninput = 9\noutput = 9\n')
    result = run("prices", "drift", "default", str(own), "--json")
    assert {row["model"] for row in json.loads(result.stdout)["rows"]} == {"gpt-6-luna"}


@pytest.mark.parametrize("book", ["2026-13-01", "nope.toml", "nope.json", "nope"])
def test_what_is_no_book_is_refused(run: Run, book: str) -> None:
    result = run("prices", "drift", book)
    assert (result.exit_code, book in result.output) == (2, True)
