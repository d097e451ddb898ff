import csv
import io
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.stores import books
from tests.stores.records import CLOCK, START, cost_of, opened, settled

from headgate.cli.output import counted
from headgate.stores.sql.database import connect
from headgate.values import Book

Say = Callable[..., Any]
DAY_US = 86_400_000_000
COST = cost_of(300, 200)


@pytest.fixture
def data(run: Run, tmp_path: Path) -> str:
    """A data folder with two days of calls: three in the books, one in the journal."""
    run("keys", "create", "--name", "=first")
    folder = tmp_path / "headgate-data"
    CLOCK.now = START
    first = [opened(), opened(model="gpt-4")]
    CLOCK.now = START + DAY_US
    second = [opened(), opened(book=Book.SIM)]
    CLOCK.now = START
    with books.journal(folder) as journal:
        books.write(journal, [(record, settled(record)) for record in (*first, second[1])])
    books.copy_all(folder)
    with books.journal(
        folder,
    ) as journal:
        books.write(journal, [(second[0], settled(second[0], status=429))])
    return str(folder)


def test_usage_by_day_counts_the_books_and_the_journal(data: str, say: Say) -> None:
    used = say("usage")
    assert (used["book"], used["by"]) == ("real", "day")
    assert [(row["name"], row["calls"], row["failed"]) for row in used["rows"]] == [
        ("2025-11-24", 2, 0),
        ("2025-11-25", 1, 1),
    ]
    total = used["total"]
    assert (total["calls"], total["input_tokens"], total["output_tokens"]) == (3, 900, 600)
    assert total["cost_nano_usd"] == 3 * COST


def test_usage_by_model_and_by_key(data: str, say: Say, run: Run) -> None:
    assert [(row["name"], row["calls"]) for row in say("usage", "--by", "model")["rows"]] == [
        ("gpt-4", 1),
        ("gpt-4o-mini", 2),
    ]
    [row] = say("usage", "--by", "key")["rows"]
    assert row["name"].startswith("key_")
    assert f"=first ({row['name']})" in run("usage", "--by", "key").output


def test_usage_is_narrowed_to_things_by_name_or_id(data: str, say: Say, run: Run) -> None:
    key = say("keys", "list")[0]
    whole = say("usage")["total"]["calls"]
    for some in (
        ("--account", "default"),
        ("--account", key["account"], "--project", "default"),
        ("--project", key["project"], "--key", key["id"]),
        ("--key", "=first", "--model", "gpt-4", "--model", "gpt-4o-mini"),
    ):
        assert say("usage", *some)["total"]["calls"] == whole
        assert len(say("usage", "--calls", *some)) == whole
    assert say("usage", "--model", "gpt-4")["total"]["calls"] == 1
    assert say("usage", "--model", "no-such")["rows"] == []
    [call] = say("usage", "--calls", "--model", "gpt-4")
    assert (call["account"], call["project"], call["key"], call["member"]) == (
        key["account"],
        key["project"],
        key["id"],
        "",
    )


@pytest.mark.parametrize("by", ["account", "project", "member"])
def test_usage_by_whom_shows_names(data: str, run: Run, say: Say, by: str) -> None:
    [row] = say("usage", "--by", by)["rows"]
    assert row["calls"] == 3
    shown = run("usage", "--by", by).output
    assert f"default ({row['name']})" in shown if row["name"] else "none" in shown


@pytest.mark.parametrize("option", ["--account", "--project", "--member", "--key"])
def test_usage_of_what_is_not_there_exits_1(data: str, run: Run, option: str) -> None:
    result = run("usage", option, "nobody")
    assert result.exit_code == 1
    assert "There is no" in result.output


def test_each_call_has_the_names_that_others_rely_on(data: str, say: Say) -> None:
    rows = say("usage", "--calls")
    assert len(rows) == 3
    for row in rows:
        assert row["request_id"].startswith("req_")
        assert {"model", "input_tokens", "output_tokens", "cost_nano_usd", "status", "estimated"} <= set(row)
    assert [row["status"] for row in rows] == [200, 200, 429]


def test_play_money_is_shown_when_asked_for_and_when_there_is_no_other(
    data: str, say: Say, run: Run, tmp_path: Path
) -> None:
    assert say("usage", "--book", "sim")["total"]["calls"] == 1
    run("keys", "create", "--name", "a", "--data", "other")
    record = opened(book=Book.SIM)
    with books.journal(tmp_path / "other") as journal:
        books.write(journal, [(record, settled(record))])
    used = say("usage", "--data", "other")
    assert (used["book"], used["total"]["calls"]) == ("sim", 1)
    assert "Play money" in run("usage", "--data", "other").output


@pytest.mark.parametrize(
    ("window", "calls"),
    [
        (("--since", "2025-11-25"), 1),
        (("--until", "2025-11-25"), 2),
        (("--since", "2025-11-24", "--until", "2025-11-26"), 3),
        (("--since", "2025-11-25T00:00+08:00"), 1),
        (("--since", "2025-11-25", "--tz", "Asia/Shanghai"), 1),
        (("--since", "2025-11-24T12:00:00Z"), 1),
        (("--since", "30d"), 0),
        (("--since", "9999d"), 3),
    ],
)
def test_a_window_bounds_the_calls(data: str, say: Say, window: tuple[str, ...], calls: int) -> None:
    assert say("usage", *window)["total"]["calls"] == calls
    assert len(say("usage", "--calls", *window)) == calls


def test_days_begin_where_the_zone_says(data: str, say: Say) -> None:
    assert [row["name"] for row in say("usage", "--tz", "America/New_York")["rows"]] == [
        "2025-11-23",
        "2025-11-24",
    ]


def test_csv_is_read_back_and_runs_nothing_in_a_spreadsheet(data: str, run: Run, tmp_path: Path) -> None:
    record = opened(model="=cmd()")
    with books.journal(Path(data), slot="slot-1") as journal:
        books.write(journal, [(record, settled(record))])
    rows = list(csv.DictReader(io.StringIO(run("usage", "--calls", "--csv").stdout)))
    assert len(rows) == 4
    assert rows[0]["estimated"] == "false"
    assert "'=cmd()" in {row["model"] for row in rows}
    sums = list(csv.DictReader(io.StringIO(run("usage", "--csv").stdout)))
    assert [row["calls"] for row in sums] == ["3", "1"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "yesterday"),
        ("--tz", "Nowhere/City"),
        ("--json", "--csv"),
        ("--by", "colour"),
        ("--book", "red"),
    ],
)
def test_wrong_usage_exits_2(data: str, run: Run, arguments: tuple[str, ...]) -> None:
    assert run("usage", *arguments).exit_code == 2


def test_a_window_that_ends_before_it_begins_exits_1(data: str, run: Run) -> None:
    assert run("usage", "--since", "2025-11-25", "--until", "2025-11-24").exit_code == 1


def test_an_empty_folder_has_no_calls(run: Run, say: Say) -> None:
    run("keys", "create", "--name", "a")
    assert run("usage").output == "No calls.\n"
    assert say("usage", "--calls") == []
    assert run("usage", "--calls").exit_code == 0


def test_the_table_has_a_total_and_exact_amounts(data: str, run: Run) -> None:
    table = run("usage").output
    assert "total" in table
    assert "$0.000495" in table  # 3 × 165,000 nano-USD


def test_the_ledger_check_exits_0_when_the_books_hold_and_1_when_not(data: str, run: Run) -> None:
    good = run("ledger", "check", "--json")
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["holds"]
    with closing(connect(Path(data))) as sql:
        sql.execute("UPDATE balances SET debits = debits + 1")
    bad = run("ledger", "check", "--json")
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["findings"]
    assert "findings in" in run("ledger", "check").output


def test_what_is_one_is_said_so(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--name", "first")
    folder = tmp_path / "headgate-data"
    with books.journal(folder) as journal:
        record = opened()
        books.write(journal, [(record, settled(record))])
    books.copy_all(folder)
    assert run("ledger", "check").output == "The books hold: 1 call, 2 entries.\n"
    with closing(connect(folder)) as sql:
        sql.execute("UPDATE balances SET debits = debits + 1 WHERE debits > 0 AND ledger_account = 1")
    assert "\n1 finding in 1 call, 2 entries.\n" in run("ledger", "check").output


def test_a_count_is_that_of_one_or_of_many() -> None:
    assert [counted(count, "call") for count in (0, 1, 2_345)] == ["0 calls", "1 call", "2,345 calls"]
    assert [counted(count, "entry", "entries") for count in (1, 2)] == ["1 entry", "2 entries"]
