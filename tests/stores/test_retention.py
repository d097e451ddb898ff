"""Calls that are too old are dropped: what they came to stays, and nothing else can be missing unseen."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.stores.books import SLOT, anywhere, copy_all, figures, journal, make, spoken, unlocked, write
from tests.stores.copies import filled
from tests.stores.grants import Credit
from tests.stores.records import START, opened, settled
from tests.stores.test_buckets import GROUPS
from tests.stores.test_check import write_one
from tests.stores.test_reports import HOUR, fill
from tests.stores.test_units_kept import painted
from tests.surfaces.conftest import HEADGATE, plain_environment
from tests.surfaces.forks import run

from headgate.failpoints import NoFailpoints
from headgate.records import BucketOrder, UsageOrder
from headgate.stores.journal.segments import segment_path
from headgate.stores.sql import retention
from headgate.stores.sql.check import check
from headgate.stores.sql.database import Place, connect, folder_of
from headgate.stores.sql.reports import SqlReports
from headgate.stores.sql.retention import drop_calls
from headgate.stores.sql.totals import totals
from headgate.stores.sql.upkeep import Upkeep
from headgate.values import Book

DAY = 24 * HOUR
END = START + 100 * HOUR  # of the calls that `fill` makes, one in twenty minutes


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 13)


def dropped(place: Place, now: int, keep_days: int = 1, steps: int = 1_000) -> int:
    with closing(connect(place)) as sql:
        return drop_calls(sql, now, keep_days, steps)


def kinds(place: Place, now: int = END) -> set[str]:
    return {finding.kind for finding in check(place, now).findings}


def make_and_fill(place: Place) -> None:
    make(place)
    fill(place)


def id_at(at: int, number: int) -> bytes:
    return ((at // 1000) << 80 | 7 << 76 | 2 << 62 | number).to_bytes(16)


def varied(place: Place) -> None:
    """Add calls with other units, and of grants in money and in tokens, to what `fill` makes."""
    credit = Credit(place)
    credit.top_up(10**10)
    credit.give(300_000)
    credit.give(900, model="gpt-4o*")
    for number in range(6):
        at = START + number * 7 * HOUR + 5
        with journal(place, "slot-1") as book:
            paid = credit.call(2_000_000, call=id_at(at, 1_000 + number), at=at)
            assert paid is not None
            write(book, [paid, painted(call=id_at(at, 2_000 + number), at=at)])
        copy_all(place, "slot-1")
    credit.close()


# ── what stays ───────────────────────────────────────────────────────────────────────────────────


def told(place: Place) -> list[Any]:
    """Return what reports say, by everything that they tell apart, where windows begin with an hour."""
    reports = SqlReports(place)
    window = {"since": START + 5 * HOUR, "until": START + 80 * HOUR, "tz": "Europe/Berlin"}
    orders = [
        UsageOrder(by="model"),
        UsageOrder(by="day", **window),
        UsageOrder(by="hour", members=("user_two",), **window),
        UsageOrder(by="member", keys=("key_two", "key_three"), book=Book.SIM),
    ]
    said: list[Any] = [reports.sums(order) for order in orders]
    for groups, operations in ((GROUPS[1], ()), (GROUPS[2], ("chat",)), (GROUPS[3], ("chat", "embeddings"))):
        order = BucketOrder(
            since=START, until=END, width_us=HOUR, groups=groups, operations=operations, book=Book.REAL
        )
        said.append(reports.buckets(order))
    return said


def test_reports_and_totals_are_what_they_were(place: Place) -> None:
    filled(place, make_and_fill)
    varied(place)
    kept = "ledger", "entries", "postings", "pots", "usage"

    def come_to() -> dict[str, int]:
        with closing(connect(place)) as sql:
            return {name: figure for name, figure in totals(sql).items() if name.startswith(kept)}

    said, came, before = told(place), come_to(), check(place, END)
    assert before.findings == []
    assert dropped(place, END, keep_days=2) > 100
    assert figures(place, "SELECT min(opened_at) FROM calls")[0][0] >= END - 2 * DAY - 2 * HOUR
    assert told(place) == said
    assert come_to() == came
    after = check(place, END)
    assert after.findings == []
    assert (after.entries, after.calls + after.dropped) == (before.entries, before.calls)
    assert after.before > START + DAY
    assert dropped(place, END, keep_days=2) == 0
    assert dropped(place, END + 9 * DAY) == after.calls
    assert check(place, END).findings == []
    assert figures(place, "SELECT book, first, last FROM dropped_numbers ORDER BY book") == figures(
        place, "SELECT book, 1, seq FROM books ORDER BY book"
    )


def test_an_hour_of_which_calls_were_dropped_counts_where_it_begins(place: Place) -> None:
    filled(place, make_and_fill)
    dropped(place, END + 9 * DAY)
    cut = START + 10 * HOUR + HOUR // 2
    parts = [UsageOrder(by="model", until=cut), UsageOrder(by="model", since=cut)]
    first, second = (sum(line.calls for line in SqlReports(place).sums(order)) for order in parts)
    assert (first, first + second) == (33, 300)


def test_books_whose_calls_were_dropped_are_backed_up_whole(place: Place, tmp_path: Any) -> None:
    from headgate.identity.keys import mint_key
    from headgate.stores.sql import transfer
    from headgate.stores.sql.bootstrap import prepare

    prepare(place, START, mint_key)
    with journal(place) as book:
        for number in range(40):
            write_one(book, number)
    copy_all(place)
    assert dropped(place, START + 9 * DAY) == 40
    transfer.backup(place, tmp_path / "b", START, lambda *_: None)
    transfer.restore(tmp_path / "b", tmp_path / "new", lambda *_: None)
    found = check(tmp_path / "new", START)
    assert (found.findings, found.calls, found.dropped) == ([], 0, 40)


def test_the_check_tells_people_how_many_were_dropped(tmp_path: Path) -> None:
    make(tmp_path)
    fill(tmp_path)
    dropped(tmp_path, END + 9 * DAY)
    copy_all(tmp_path)
    command = [HEADGATE, "ledger", "check", "--data", str(tmp_path)]
    done = run(command, tmp_path, plain_environment(), 60)
    assert done.stdout == (
        "The books hold: 99 calls, 600 entries; 201 calls from before 2025-11-26 were dropped, their entries"
        " stay.\n"
    )


# ── what is never dropped ────────────────────────────────────────────────────────────────────────

NEEDED = {
    "a period of a budget": (
        "INSERT INTO pots (kind, ref, period, book, since, until, amount, spent)"
        " VALUES ('budget', 1, '2025-11@UTC', 0, ?, 4000000000000000, 0, 0)"
    ),
    "a batch": (
        "INSERT INTO batches (id, project, book, key, status, created_at, expires_at, job)"
        " VALUES ('batch_a', 1, 0, 1, 'in_progress', ?, 0, '{}')"
    ),
    "a run of a batch's line that is in doubt": (
        "INSERT INTO batches (id, project, book, key, status, created_at, expires_at, job)"
        " VALUES ('batch_a', 1, 0, 1, 'completed', ?, 0, '{}')"
    ),
    "a video": (
        "INSERT INTO videos (id, project, slot, created_at, open, deleted, job)"
        " VALUES ('video_a', 1, 0, ?, 1, 0, '{}')"
    ),
}


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_not_over_keeps_its_calls(place: Place, name: str) -> None:
    filled(place, make_and_fill)
    since = START + 50 * HOUR
    with closing(anywhere(place)) as sql:
        sql.execute(NEEDED[name], (since,))
        sql.execute(
            "INSERT INTO batch_lines (batch, n, at, size, custom_id, start, bound, state)"
            " SELECT n, -1, 0, 0, '', 0, 1, 4 FROM batches WHERE status = 'completed'"
        )
    assert dropped(place, END + 9 * DAY) > 100
    (first,) = figures(place, "SELECT min(opened_at) FROM calls")[0]
    assert since - HOUR <= first < since


def test_a_call_above_the_horizon_cannot_be_deleted(place: Place) -> None:
    filled(place, make_and_fill)
    dropped(place, END, keep_days=3)
    with closing(anywhere(place)) as sql, pytest.raises(Exception, match="calls are append-only"):
        sql.execute("DELETE FROM calls WHERE call = (SELECT call FROM calls ORDER BY call DESC LIMIT 1)")


def test_nothing_is_dropped_unless_it_is_asked_for(place: Place) -> None:
    filled(place, make_and_fill)

    class Late:
        def wall(self) -> int:
            return END + 400 * DAY

    def look(*days: int) -> int:
        upkeep = Upkeep(lambda: connect(place), Late(), (), NoFailpoints(), print, *days)  # type: ignore[arg-type]
        upkeep.look()
        return int(figures(place, "SELECT count(*) FROM calls")[0][0])

    assert look() == 201
    assert look(410) == 201
    assert look(35) == 201 - 10 * retention.AT_ONCE  # in steps, so that who books waits for none of them long


# ── what comes again, or late ────────────────────────────────────────────────────────────────────


def test_a_journal_that_is_copied_again_books_nothing_twice(place: Place) -> None:
    filled(place, make_and_fill)
    dropped(place, END + 9 * DAY)
    with closing(anywhere(place)) as sql:
        sql.execute("DELETE FROM drains")  # as a restored backup has none
    copy_all(place)
    found = check(place, END)
    assert (found.findings, found.calls, found.dropped) == ([], 99, 201)
    assert sum(line.calls for line in SqlReports(place).sums(UsageOrder(by="model"))) == 300


def test_calls_without_money_are_not_booked_twice_either(place: Place) -> None:
    """They have no entries that would stand in the way."""
    make(place)
    with journal(place) as book:
        free = [opened(prices=None, costs=None, hold=0) for _ in range(5)]
        write(book, [(record, settled(record)) for record in free])
    copy_all(place)
    assert dropped(place, START + 9 * DAY) == 5
    with closing(anywhere(place)) as sql:
        sql.execute("DELETE FROM drains")
    copy_all(place)
    found = check(place, START)
    assert (found.findings, found.calls, found.dropped) == ([], 0, 5)


def test_a_clock_that_was_ahead_leaves_room_for_the_calls_to_come(place: Place) -> None:
    filled(place, make_and_fill)
    dropped(place, END + 400 * DAY, keep_days=35)
    with journal(place, "slot-1") as book:
        free = opened(id_at(END + DAY, 7), at=END + DAY, prices=None, costs=None, hold=0)
        write(book, [(free, settled(free))])
    copy_all(place, "slot-1")
    assert figures(place, "SELECT call FROM calls") == [(free.call,)]
    assert check(place, END + DAY).findings == []


def test_numbers_that_are_dropped_in_any_order_become_one_run(place: Place) -> None:
    make(place)
    with closing(anywhere(place)) as sql:
        for runs in (
            [(5, 6), (9, 9)],
            [(1, 1), (12, 20)],
            [(7, 8), (10, 11)],
            [(30, 31)],
            [(2, 4), (21, 29)],
        ):
            retention._keep_numbers(sql, 1, list(runs))
    assert figures(place, "SELECT book, first, last FROM dropped_numbers") == [(1, 1, 31)]


def test_a_call_that_is_settled_below_the_horizon_is_booked_and_dropped_later(place: Place) -> None:
    filled(place, make_and_fill)
    dropped(place, END + 9 * DAY)
    record = opened(id_at(START + 5, 7), at=START + 5)
    with journal(place, "slot-1") as book:
        write(book, [(record, settled(record))])
    copy_all(place, "slot-1")
    found = check(place, END)
    assert (found.findings, found.calls, found.dropped) == ([], 1, 201)
    assert dropped(place, END + 9 * DAY) == 1
    found = check(place, END)
    assert (found.findings, found.calls, found.dropped) == ([], 0, 202)


# ── what the check finds ─────────────────────────────────────────────────────────────────────────

ENTRY = (
    "SELECT call FROM entries WHERE kind = 1 AND call NOT IN (SELECT call FROM calls) ORDER BY call LIMIT 1"
)
CORRUPTIONS: dict[str, tuple[str, list[str]]] = {
    "a changed entry": (
        "entry",
        [f"UPDATE entries SET amount = amount + 1 WHERE kind = 1 AND call = ({ENTRY})"],
    ),
    "a dropped entry": ("entry", [f"DELETE FROM entries WHERE kind = 1 AND call = ({ENTRY})"]),
    "a dropped cost": ("entry", [f"DELETE FROM entries WHERE kind = 2 AND call = ({ENTRY})"]),
    "a doubled entry": (
        "entry",
        [
            (
                "INSERT INTO entries SELECT call, kind, attempt, 9, book, debit, credit, amount FROM entries"
                f" WHERE kind = 1 AND call = ({ENTRY})"
            )
        ],
    ),
    "an entry that changed sides": (
        "entry",
        [f"UPDATE entries SET debit = credit, credit = debit WHERE kind = 1 AND call = ({ENTRY})"],
    ),
    "an entry of a call that never was": (
        "entry",
        [
            (
                "INSERT INTO entries SELECT x'00', kind, attempt, n, book, debit, credit, amount FROM entries"
                f" WHERE kind = 1 AND call = ({ENTRY})"
            )
        ],
    ),
    "an amount changed in all sums of entries": (
        "entry",
        [
            f"UPDATE entries SET amount = amount - 1 WHERE kind = 1 AND call = ({ENTRY})",
            (
                "UPDATE balances SET debits = debits - 1 WHERE ledger_account ="
                f" (SELECT debit FROM entries WHERE kind = 1 AND call = ({ENTRY}))"
            ),
            (
                "UPDATE balances SET credits = credits - 1 WHERE ledger_account ="
                f" (SELECT credit FROM entries WHERE kind = 1 AND call = ({ENTRY}))"
            ),
            (
                "UPDATE dropped_entries SET amount = amount - 1 WHERE kind = 1 AND debit ="
                f" (SELECT debit FROM entries WHERE kind = 1 AND call = ({ENTRY}))"
            ),
        ],
    ),
    "a call that retention did not drop": (
        "sequence",
        ["DELETE FROM calls WHERE call = (SELECT call FROM calls ORDER BY call DESC LIMIT 1)"],
    ),
    "a call that a moved horizon hides": (
        "sequence",
        [
            "UPDATE horizon SET before = (SELECT call FROM calls ORDER BY call DESC LIMIT 1)",
            "DELETE FROM calls WHERE call = (SELECT call FROM calls ORDER BY call LIMIT 1)",
        ],
    ),
    "a number that is not a dropped call's": (
        "sequence",
        ["UPDATE dropped_numbers SET last = last + 1 WHERE book = 0"],
    ),
    "a lost record of numbers": ("sequence", ["DELETE FROM dropped_numbers WHERE book = 1"]),
    "a lost horizon": ("entry", ["DELETE FROM horizon"]),
    "a lost sum of dropped calls": ("roll-up", ["DELETE FROM dropped_hours WHERE book = 0"]),
    "a changed sum of dropped calls": (
        "roll-up",
        ["UPDATE dropped_hours SET input = input + 1 WHERE book = 0"],
    ),
    "a charge of dropped calls that nobody paid": (
        "entry",
        [
            "UPDATE dropped_hours SET charge = charge + 1 WHERE book = 0",
            "UPDATE usage_hours SET charge = charge + 1 WHERE book = 0",
            "UPDATE usage_days SET charge = charge + 1 WHERE book = 0",
        ],
    ),
    "a sum of an hour that is off": ("roll-up", ["UPDATE usage_hours SET calls = calls + 1 WHERE book = 0"]),
    "a lost failed attempt of a dropped call": (
        "provider cost",
        [
            "DELETE FROM lost WHERE call = (SELECT call FROM lost WHERE call NOT IN (SELECT call FROM calls) ORDER BY call LIMIT 1)"
        ],
    ),
    "a stale balance": ("balance", ["UPDATE balances SET debits = debits + 5 WHERE ledger_account = 1"]),
}


@pytest.fixture
def halved(place: Place) -> Place:
    """Books of 60 calls of every kind, of which about a half was dropped, and 20 more in the journal."""
    return filled(place, fill_and_halve)


def fill_and_halve(place: Place) -> None:
    make(place)
    with journal(place) as book:
        for index in range(80):
            write_one(book, index)
            if index == 59:
                copy_all(place)
    with closing(connect(place)) as sql:
        drop_calls(sql, START + 9 * DAY, 1, 2)
    found = check(place, START)
    assert (found.findings, found.calls, found.dropped) == ([], 34, 26)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_check_finds(halved: Place, name: str) -> None:
    kind, statements = CORRUPTIONS[name]
    with closing(connect(halved)) as sql, unlocked(sql):
        for statement in statements:
            assert sql.execute(spoken(sql, statement)).rowcount > 0, statement
    assert kind in kinds(halved, START)


def test_the_check_finds_a_grant_that_gave_more_than_its_entries_say(place: Place) -> None:
    make(place)
    varied(place)
    assert dropped(place, END + 9 * DAY) == 12
    assert kinds(place) == set()
    with closing(anywhere(place)) as sql:
        sql.execute("UPDATE pots SET spent = spent - 1 WHERE kind = 'grant' AND spent > 0")
    assert kinds(place) == {"pot"}


def test_the_check_finds_a_settlement_below_the_horizon_that_the_books_passed_over(halved: Place) -> None:
    """The checkpoint was moved over the journal's end, and all that it has is as old as what was dropped."""
    dropped(halved, START + 9 * DAY)
    path = segment_path(folder_of(halved) / "journal" / SLOT, 1)
    with closing(anywhere(halved)) as sql:
        sql.execute('UPDATE drains SET "offset" = ?', (path.stat().st_size,))
    assert kinds(halved, START) == {"settlement"}
