"""Caps on the command line, with what is spent of them by the books."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.stores import books
from tests.stores.records import IDS, opened, settled

from headgate.ports import SystemClock
from headgate.values import Book

Say = Callable[..., Any]


@pytest.fixture
def data(run: Run, tmp_path: Path) -> Path:
    """A data folder with a key `app` of a project, and a call of it a second ago for 0.165 mUSD."""
    run("keys", "create", "--name", "app")
    folder = tmp_path / "headgate-data"
    now = SystemClock().wall()
    real, play = (opened(IDS.next(), at=now - 1_000_000, book=book) for book in Book)
    with books.journal(folder) as journal:
        books.write(journal, [(real, settled(real, charge=400_000)), (play, settled(play, charge=7_000))])
    return folder


@pytest.mark.parametrize("scope", ["account", "project", "key"])
def test_a_cap_is_set_listed_shown_changed_and_removed(data: Path, say: Say, run: Run, scope: str) -> None:
    name = "app" if scope == "key" else "default"
    made, play = say("budgets", "create", "0.001/month", f"--{scope}", name, "--tz", "Asia/Shanghai")
    assert (play["book"], play["amount"]) == ("sim", 1_000_000)
    say("budgets", "remove", play["id"])
    assert (made["scope"], made["amount"], made["unit"]) == (scope, 1_000_000, "month")
    assert (made["hard"], made["origin"], made["book"]) == (True, "local", "real")
    [row] = say("budgets", "list")
    assert (row["id"], row["spent"], row["left"], row["passed"]) == (made["id"], 400_000, 600_000, [])
    assert row["period"].endswith("@Asia/Shanghai")
    table = run("budgets", "list").stdout
    for text in (scope, name, "$0.001 per month", "$0.0004", "$0.0006", "hard"):
        assert text in table
    changed = say("budgets", "change", made["id"], "--amount", "0.0005", "--soft", "--alerts", "50,80%")
    assert (changed["amount"], changed["hard"], changed["thresholds"]) == (500_000, False, [50, 80])
    assert say("budgets", "show", made["id"])["passed"] == [50, 80]
    shown = run("budgets", "show", made["id"]).stdout
    for text in ("80 % (passed)", "soft", f"{scope} {name}", "$0.0001"):
        assert text in shown
    assert say("budgets", "change", made["id"], "--amount", "0")["amount"] == 0  # below what is spent
    assert say("budgets", "show", made["id"])["left"] == -400_000
    assert "Removed" in run("budgets", "remove", made["id"]).stdout
    assert say("budgets", "list") == []
    assert run("budgets", "list").stdout == "No caps.\n"


def test_play_money_and_each_period_are_counted_apart(data: Path, say: Say) -> None:
    say("budgets", "create", "1/day", "--book", "sim")
    say("budgets", "create", "1/total", "--book", "real")
    say("budgets", "create", "1/week", "--key", "app", "--book", "real")
    assert [(row["unit"], row["book"], row["spent"]) for row in say("budgets", "list")] == [
        ("day", "sim", 7_000),
        ("total", "real", 400_000),
        ("week", "real", 400_000),
    ]
    assert say("budgets", "list")[1]["until"] == 0
    assert [row["unit"] for row in say("budgets", "list", "--key", "app")] == ["week"]
    assert [row["unit"] for row in say("budgets", "list", "--project", "default")] == ["week"]
    assert len(say("budgets", "list", "--account", "default")) == 3


def test_a_cap_takes_the_place_of_the_one_before(data: Path, say: Say, run: Run) -> None:
    first = say("budgets", "create", "5/month")
    second = say("budgets", "create", "6/month", "--tz", "Asia/Shanghai")
    assert [row["id"] for row in first] == [row["id"] for row in second]
    assert [(row["book"], row["amount"], row["tz"]) for row in say("budgets", "list")] == [
        ("real", 6_000_000_000, "Asia/Shanghai"),
        ("sim", 6_000_000_000, "Asia/Shanghai"),
    ]
    assert run("budgets", "create", "7/month").stdout.count("$7.00 per month") == 2
    say("budgets", "create", "1/month", "--soft")
    assert [row["hard"] for row in say("budgets", "list")] == [True, True, False, False]


def test_a_key_is_made_with_a_cap(data: Path, say: Say, run: Run) -> None:
    made = say("keys", "create", "--name", "capped", "--cap", "5/day", "--tz", "Asia/Shanghai")
    cap, play = say("keys", "show", "capped")["budgets"]
    assert (cap["book"], play["book"], play["amount"]) == ("real", "sim", 5_000_000_000)
    assert (cap["ref"], cap["amount"], cap["unit"], cap["tz"]) == (
        made["id"],
        5_000_000_000,
        "day",
        "Asia/Shanghai",
    )
    assert "$0.00 of $5.00 is spent" in run("keys", "show", "capped").stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("create", "5/year"), 2, "period"),
        (("create", "-5"), 2, "No such option"),
        (("create",), 2, "Missing argument"),
        (("create", "5", "--tz", "Nowhere/City"), 1, "time zone"),
        (("create", "5", "--alerts", "a"), 2, "percentages"),
        (("create", "5", "--alerts", "0"), 1, "thresholds"),
        (("create", "5", "--project", "none"), 1, "There is no project"),
        (("create", "5", "--key", "none"), 1, "There is no key"),
        (("show", "budget_none"), 1, "There is no budget"),
        (("change", "budget_none", "--amount", "5"), 1, "There is no budget"),
        (("change", "budget_none"), 2, "Say what to change"),
        (("change", "budget_none", "--amount", "x"), 2, "amount"),
        (("remove", "budget_none"), 1, "There is no budget"),
        (("list", "--account", "none"), 1, "There is no account"),
    ],
)
def test_what_is_wrong_is_told(
    data: Path, run: Run, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    result = run("budgets", *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr
