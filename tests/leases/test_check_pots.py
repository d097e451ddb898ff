"""What a settled call moves in pots and slices, and each corruption of them that `ledger check` must find."""

from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.stores.books import SLOT, copy_all, figures, journal, make
from tests.stores.records import CLOCK, START, later_version, opened, settled

from headgate.money.periods import period_end, period_key, period_start
from headgate.money.pots import PotName
from headgate.ports import Open, Source
from headgate.stores.journal import SlotJournal
from headgate.stores.journal.records import JournalTooNew
from headgate.stores.journal.segments import segment_path
from headgate.stores.sql import pots
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect
from headgate.stores.sql.postings import Grant, add_grant
from headgate.stores.sql.recovery import recover, recover_slot

DAY = 86_400_000_000
HOLD = 2_000_000
CAP = 20_000_000
CHARGE = settled(opened()).charge


def name(number: int, at: int = START, unit: str = "day") -> PotName:
    which = (at, unit, "UTC")
    return PotName("budget", number, period_key(*which), period_start(*which), period_end(*which))  # type: ignore[arg-type]


def found(data: Path) -> set[str]:
    return {finding.kind for finding in check(data, START).findings}


def budget(data: Path, number: int, scope: str, unit: str = "day", hard: int = 1, amount: int = CAP) -> None:
    with closing(connect(data)) as sql, writing(sql):
        sql.execute(
            "INSERT INTO budgets (id, public_id, scope, ref, book, amount, unit, tz, hard, origin, created_at)"
            " VALUES (?, ?, ?, 1, 0, ?, ?, 'UTC', ?, 'test', 0)",
            (number, f"budget_{number}", scope, amount, unit, hard),
        )
        sql.execute("INSERT INTO changes (kind, ref, at) VALUES ('budget', '', 0)")


def lend(data: Path, which: PotName, amount: int, slot: str = SLOT) -> int:
    """Give a slot a slice, as a take would; return the pot's id."""
    with closing(connect(data)) as sql, writing(sql):
        pot = pots.find(sql, which)
        assert pot is not None
        sql.execute("INSERT OR REPLACE INTO slices VALUES (?, ?, ?, 0)", (pot.number, slot, amount))
        return pot.number


def standing(data: Path) -> list[tuple[int, str, int, int]]:
    return figures(data, "SELECT ref, period, spent, over FROM pots ORDER BY ref, since")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path)


@pytest.fixture
def lent(data: Path) -> tuple[Path, SlotJournal, Open]:
    """Three budgets; ten calls drained, one settled behind the checkpoint, one open."""
    for number, scope in ((1, "account"), (2, "project"), (3, "key")):
        budget(data, number, scope, "total" if scope == "key" else "day")
    ids = tuple(lend(data, name(n, unit="total" if n == 3 else "day"), 15_000_000) for n in (1, 2, 3))
    one = opened(pots=ids)
    with journal(data) as book:
        for _ in range(10):
            call = opened(pots=ids)
            book.open(call)
            book.settle(settled(call))
        book.make_durable()
        copy_all(data)
        book.open(one)
        call = opened(pots=ids)
        book.open(call)
        book.settle(settled(call))
    assert not found(data) & {"pot", "slice"}
    return data, book, one


def test_a_settled_call_moves_every_pot_above_it_and_the_slices_of_its_slot(data: Path) -> None:
    for number, scope in ((1, "account"), (2, "key")):
        budget(data, number, scope)
    first, second = lend(data, name(1), 9_000_000), lend(data, name(2), 5_000_000)
    other = lend(data, name(1), 1_000_000, "slot-7")
    assert other == first
    call = opened(pots=(first, second))
    with journal(data) as book:
        book.open(call)
        book.settle(settled(call))
    copy_all(data)
    copy_all(data)  # again, and nothing moves
    assert standing(data) == [(1, name(1).period, CHARGE, 0), (2, name(2).period, CHARGE, 0)]
    assert figures(data, "SELECT pot, slot, amount FROM slices ORDER BY pot, slot") == [
        (first, SLOT, 9_000_000 - CHARGE),
        (first, "slot-7", 1_000_000),
        (second, SLOT, 5_000_000 - CHARGE),
    ]
    assert check(data, START).findings == []


def test_a_call_is_spent_in_the_period_in_which_it_opened(data: Path) -> None:
    budget(data, 1, "account")
    yesterday, today = lend(data, name(1, START - DAY), HOLD), lend(data, name(1), HOLD)
    with journal(data) as book:
        late = opened(at=START - 1, pots=(yesterday,))
        book.open(late)
        book.settle(settled(late))
        early = opened(at=START, pots=(today,))
        book.open(early)
        book.settle(settled(early))
    copy_all(data)
    assert standing(data) == [
        (1, name(1, START - DAY).period, CHARGE, 0),
        (1, name(1).period, CHARGE, 0),
    ]
    assert check(data, START).findings == []


def test_a_soft_budget_counts_without_slices_and_tells_each_threshold_once(data: Path) -> None:
    budget(data, 1, "key", hard=0, amount=2 * CHARGE)
    for _ in range(3):
        with journal(data) as book:
            call = opened()
            book.open(call)
            book.settle(settled(call))
        copy_all(data)
    assert standing(data) == [(1, name(1).period, 3 * CHARGE, CHARGE)]
    events = figures(data, "SELECT account, kind, ref, detail FROM events ORDER BY seq")
    assert [event[:3] for event in events] == [(1, "budget.threshold", "budget_1")] * 3
    told = [msgspec.json.decode(event[3]) for event in events]
    assert [each["per_cent"] for each in told] == [50, 80, 100]
    assert [each["spent_nano_usd"] for each in told] == [CHARGE, 2 * CHARGE, 2 * CHARGE]
    assert check(data, START).findings == []


def test_a_call_from_before_the_budget_counts_and_what_is_lent_too_much_is_recalled(data: Path) -> None:
    budget(data, 1, "account", amount=CHARGE + 10)
    pot = lend(data, name(1), CHARGE + 10)
    with journal(data) as book:
        call = opened()  # held in no pot
        book.open(call)
        book.settle(settled(call))
    copy_all(data)
    assert standing(data) == [(1, name(1).period, CHARGE, CHARGE)]
    assert figures(data, "SELECT recall FROM pots WHERE id = ?", pot) == [(1,)]
    assert check(data, START).findings == []


def test_a_budget_that_moves_to_another_zone_and_back_has_lost_nothing(data: Path) -> None:
    zones = ("UTC", "Asia/Shanghai", "UTC")
    budget(data, 1, "account")
    for zone in zones:
        with closing(connect(data)) as sql, writing(sql):
            sql.execute("UPDATE budgets SET tz = ?", (zone,))
            sql.execute("INSERT INTO changes (kind, ref, at) VALUES ('budget', '', 0)")
        with journal(data) as book:
            call = opened()
            book.open(call)
            book.settle(settled(call))
        copy_all(data)
    which = (START, "day", "Asia/Shanghai")
    assert standing(data) == [
        (1, period_key(*which), 3 * CHARGE, 0),
        (1, name(1).period, 3 * CHARGE, 0),
    ]
    assert check(data, START).findings == []


def test_grants_lose_what_their_parts_of_a_call_are_charged(data: Path) -> None:
    with closing(connect(data)) as sql, writing(sql):
        grants = [add_grant(sql, Grant(1, 0, "gift", START))[0] for _ in range(2)]
        numbers = [
            sql.execute("UPDATE pots SET amount = ? WHERE ref = ? RETURNING id", (HOLD, grant)).fetchone()[0]
            for grant in grants
        ]
        sql.executemany("INSERT INTO slices VALUES (?, ?, ?, 0)", [(n, SLOT, HOLD) for n in numbers])
    parts = (Source(numbers[0], grants[0], CHARGE - 7), Source(numbers[1], grants[1], HOLD - CHARGE + 7))
    with journal(data) as book:
        call = opened(sources=parts)
        book.open(call)
        book.settle(settled(call))
    copy_all(data)
    assert figures(data, "SELECT spent FROM pots ORDER BY id") == [(CHARGE - 7,), (7,)]
    assert figures(data, "SELECT amount FROM slices ORDER BY pot") == [(HOLD - CHARGE + 7,), (HOLD - 7,)]


def test_slices_go_back_only_after_their_journal_is_in_the_books(
    lent: tuple[Path, SlotJournal, Open],
) -> None:
    data, _, _ = lent
    with closing(connect(data)) as sql:
        recover(data, sql, CLOCK)
    assert figures(data, "SELECT count(*) FROM slices") == [(0,)]
    assert check(data, START).findings == []
    lend(data, name(1), 1)  # it is made anew, from the books
    assert (1, name(1).period, 11 * CHARGE + HOLD, 0) in standing(data)
    assert check(data, START).findings == []


def test_one_dead_slot_is_cleared_while_another_goes_on(lent: tuple[Path, SlotJournal, Open]) -> None:
    data, _, _ = lent
    lend(data, name(1), 3_000_000, "slot-1")
    with closing(connect(data)) as sql:
        recover_slot(data, SLOT, sql, CLOCK)
    assert figures(data, "SELECT slot, amount FROM slices") == [("slot-1", 3_000_000)]
    assert {row[2] for row in standing(data)} == {11 * CHARGE + HOLD}
    assert check(data, START).findings == []


def test_the_slice_of_a_lost_journal_stays_away(lent: tuple[Path, SlotJournal, Open]) -> None:
    data, book, _ = lent
    for path in book.folder.iterdir():
        path.unlink()
    book.folder.rmdir()
    with closing(connect(data)) as sql:
        recover(data, sql, CLOCK)
    assert figures(data, "SELECT DISTINCT slot FROM slices") == [(pots.LOST,)]
    assert {row[0] for row in figures(data, "SELECT amount FROM slices")} == {15_000_000 - 10 * CHARGE}


def test_the_slice_of_a_damaged_journal_stays_away(lent: tuple[Path, SlotJournal, Open]) -> None:
    data, book, one = lent
    path = segment_path(book.folder, 1)
    content = bytearray(path.read_bytes())
    content[content.index(one.call) + 40] ^= 1
    path.write_bytes(content)
    with closing(connect(data)) as sql:
        assert recover(data, sql, CLOCK).damaged
    assert figures(data, "SELECT DISTINCT slot FROM slices") == [(pots.LOST,)]


def test_the_slice_of_a_journal_that_is_not_read_yet_stays_with_it(
    lent: tuple[Path, SlotJournal, Open],
) -> None:
    data, book, _ = lent
    segment_path(book.folder, 2).write_bytes(later_version())
    with closing(connect(data)) as sql, pytest.raises(JournalTooNew):
        recover(data, sql, CLOCK)
    assert figures(data, "SELECT DISTINCT slot FROM slices") == [(SLOT,)]


def test_what_a_dead_slot_had_of_a_lowered_pot_is_no_longer_over(data: Path) -> None:
    budget(data, 1, "account", amount=100)
    lend(data, name(1), 60)
    lend(data, name(1), 30, "slot-1")
    with closing(connect(data)) as sql:
        with writing(sql):
            sql.execute("UPDATE budgets SET amount = 50")
            pots.resize(sql, "budget", 1, 50)
        assert standing(data) == [(1, name(1).period, 0, 40)]
        with writing(sql):
            pots.clear(sql, SLOT)
    assert standing(data) == [(1, name(1).period, 0, 0)]
    assert check(data, START).findings == []


def test_pots_of_ended_periods_go_once_nobody_has_any_of_them(data: Path) -> None:
    budget(data, 1, "account")
    ended, used, today = (lend(data, name(1, START - n * DAY), n) for n in (4, 3, 0))
    with closing(connect(data)) as sql:
        sql.execute("UPDATE slices SET amount = 0 WHERE pot = ?", (ended,))
        sql.execute("UPDATE pots SET recall = id")
        with writing(sql):
            assert pots.prune(sql, START - DAY) == 1
            assert [row[0] for row in sql.execute("SELECT id FROM pots ORDER BY id")] == [used, today]
            pots.clear(sql, SLOT, lost=True)  # what nobody has any more is in nobody's hands
            assert pots.prune(sql, START + 2 * DAY) == 1  # not the one with the last recall
            assert pots.next_recall(sql) == today + 1
            made = pots.find(sql, name(1, START - 4 * DAY))  # a late call needs it again: a new one
    assert made is not None
    assert made.number > today


PLANTED = {
    "more spent": ("UPDATE pots SET spent = spent + 1, over = 0 WHERE ref = 1", "pot"),
    "less spent": ("UPDATE pots SET spent = spent - 1 WHERE ref = 2", "pot"),
    "a larger pot": ("UPDATE pots SET amount = amount + 1 WHERE ref = 3", "pot"),
    "a smaller pot": ("UPDATE pots SET amount = 1 WHERE ref = 3", "pot"),
    "an excuse": ("UPDATE pots SET over = 5 WHERE ref = 1", "pot"),
    "more lent than there is": (f"UPDATE slices SET amount = {CAP}", "pot"),
    "lent to one more": (f"INSERT INTO slices VALUES (1, 'slot-9', {CAP}, 0)", "pot"),
    "a pot of another day": (
        f"UPDATE pots SET since = since + {DAY}, until = until + {DAY} WHERE ref = 1",
        "pot",
    ),
    "a pot of another book": ("UPDATE pots SET book = 1 WHERE ref = 1", "pot"),
    "a pot without its budget": ("DELETE FROM budgets WHERE id = 1", "pot"),
    "less lent than is held": (f"UPDATE slices SET amount = {CHARGE + HOLD - 1} WHERE pot = 2", "slice"),
    "a slice that is gone": ("DELETE FROM slices WHERE pot = 3", "slice"),
    "a slice of no pot": ("INSERT INTO slices VALUES (99, 'slot-0', 1, 0)", "slice"),
    "a slice below zero": ("UPDATE slices SET amount = -1 WHERE pot = 1", "slice"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_the_check_finds(lent: tuple[Path, SlotJournal, Open], planted: str) -> None:
    data, _, _ = lent
    statement, kind = PLANTED[planted]
    before = found(data)
    with closing(connect(data)) as sql:
        sql.execute("PRAGMA foreign_keys = OFF")
        sql.execute("PRAGMA ignore_check_constraints = ON")
        sql.execute(statement)
    assert kind in found(data) - before
