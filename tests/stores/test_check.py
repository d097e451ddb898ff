"""Each corruption that the check must find is planted in books that it holds for clean."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.stores.books import SLOT, copy_all, drop_trigger, journal, make, spoken, unlocked
from tests.stores.copies import filled
from tests.stores.records import CLOCK, PRICES, START, marked, opened, settled

from headgate.failpoints import NoFailpoints
from headgate.money.cost import cost
from headgate.ports import Lost, Open, Settle
from headgate.stores.journal import SlotJournal
from headgate.stores.journal.segments import segment_numbers, segment_path
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.check import check
from headgate.stores.sql.database import Place, connect, url_of
from headgate.stores.sql.drain import Drain
from headgate.stores.sql.folder import holder, lock_folder
from headgate.stores.sql.recovery import recover
from headgate.values import Book, Prices, Usage

LONG = Prices(1000, 2000, 500, 1250, 2000, 4000, 8000, 5_000, 1000, PRICES)


def found(data: Place, now: int = START) -> set[str]:
    return {finding.kind for finding in check(data, now).findings}


@pytest.fixture
def books(place: Place) -> Place:
    """Clean books: 60 calls of every kind in SQL, 20 more in the journal."""
    return filled(place, fill_both)


def fill_both(place: Place) -> None:
    data = make(place)
    with journal(data) as book:
        for index in range(80):
            write_one(book, index)
            if index == 59:
                copy_all(data)
    assert check(data, START).findings == []


def write_one(book: SlotJournal, index: int) -> None:
    first = opened(
        book=Book(index % 2),
        account=1 + index % 3,
        hold=(2_000_000, 90_000)[index % 5 == 0],
        prices=(PRICES, LONG, None)[index % 3],
        costs=(PRICES, None)[index % 7 == 0],
    )
    book.open(first)
    last, lost = first, ()
    if index % 11 == 0:
        lost = (Lost(0, Usage(700 + index, 0), estimated=True),) if index % 2 else ()
        last = opened(**{**_members(first), "attempt": 1, "provider": "azure", "lost": lost})
        book.open(last)
    usage = Usage(900 + index * 7, 100 + index, 50, 20, 30, 10, 5) if index % 13 else Usage()
    book.settle(_settle(last, usage, 200 if index % 13 else 502, lost=lost))


def _members(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}  # type: ignore[attr-defined]


def _settle(record: Open, usage: Usage, status: int, lost: tuple[Lost, ...] = ()) -> Settle:
    due = cost(usage, record.prices) if record.prices else 0
    taken = cost(usage, record.costs) if record.costs else 0
    costs = [0] * record.attempt
    for each in lost:
        costs[each.attempt] = cost(each.usage, record.costs) if record.costs else 0
    return settled(
        record,
        usage=usage,
        status=status,
        charge=min(due, record.hold),
        absorbed=max(0, due - record.hold),
        costs=(*costs, taken),
        lost=lost,
    )


def plant(data: Place, *statements: str) -> None:
    """Change the books as a thief would: without their triggers."""
    with closing(connect(data)) as sql, unlocked(sql):
        for statement in statements:
            assert sql.execute(spoken(sql, statement)).rowcount > 0, statement


ONE = "(SELECT call FROM calls WHERE charge > 0 AND absorbed = 0 AND cost > 0 LIMIT 1 OFFSET 5)"
STRAY = (
    "INSERT INTO lost SELECT {}, attempt, provider, upstream, estimated, input, output, cached, cache_write,"
    " reasoning, input_audio, output_audio, costs, more FROM lost LIMIT 1"
)
CORRUPTIONS: dict[str, tuple[str, list[str]]] = {
    "a changed charge": ("amount", [f"UPDATE calls SET charge = charge + 1 WHERE call = {ONE}"]),
    "a changed usage": ("amount", [f"UPDATE calls SET output = output + 1 WHERE call = {ONE}"]),
    "a changed part of a usage": ("amount", [f"UPDATE calls SET cached = cached + 9 WHERE call = {ONE}"]),
    "an amount changed everywhere": (
        "amount",
        [
            f"UPDATE entries SET amount = amount - 1 WHERE kind = 1 AND call = {ONE}",
            (
                "UPDATE balances SET debits = debits - 1 WHERE ledger_account ="
                f" (SELECT debit FROM entries WHERE kind = 1 AND call = {ONE})"
            ),
            (
                "UPDATE balances SET credits = credits - 1 WHERE ledger_account ="
                f" (SELECT credit FROM entries WHERE kind = 1 AND call = {ONE})"
            ),
            (
                "UPDATE usage_hours SET charge = charge - 1 WHERE (book, account, model) ="
                f" (SELECT book, account, model FROM calls WHERE call = {ONE})"
            ),
            f"UPDATE calls SET charge = charge - 1 WHERE call = {ONE}",
        ],
    ),
    "a changed entry": ("entry", [f"UPDATE entries SET amount = amount + 1 WHERE kind = 1 AND call = {ONE}"]),
    "a dropped entry": ("entry", [f"DELETE FROM entries WHERE kind = 1 AND call = {ONE}"]),
    "a dropped cost": ("entry", [f"DELETE FROM entries WHERE kind = 2 AND call = {ONE}"]),
    "a doubled entry": (
        "entry",
        [
            (
                "INSERT INTO entries SELECT call, kind, attempt, 1, book, debit, credit, amount FROM entries"
                f" WHERE kind = 1 AND call = {ONE}"
            )
        ],
    ),
    "an entry of the wrong account": (
        "entry",
        [f"UPDATE entries SET debit = credit, credit = debit WHERE kind = 1 AND call = {ONE}"],
    ),
    "an entry of the other book": ("entry", [f"UPDATE entries SET book = 1 - book WHERE call = {ONE}"]),
    "an entry without its call": (
        "entry",
        [
            (
                "INSERT INTO entries SELECT x'00', kind, attempt, n, book, debit, credit, amount FROM entries"
                f" WHERE kind = 1 AND call = {ONE}"
            )
        ],
    ),
    "a dropped call": (
        "sequence",
        [f"DELETE FROM entries WHERE call = {ONE}", f"DELETE FROM calls WHERE call = {ONE}"],
    ),
    "a dropped last call": (
        "sequence",
        ["DELETE FROM calls WHERE seq = (SELECT max(seq) FROM calls WHERE book = 0) AND book = 0"],
    ),
    "a number given twice": ("sequence", ["UPDATE calls SET seq = seq - 1 WHERE seq = 7"]),
    "a stale balance": ("balance", ["UPDATE balances SET debits = debits + 5 WHERE ledger_account = 1"]),
    "a balance of nobody": ("balance", ["INSERT INTO balances VALUES (99, 5, 5)"]),
    "a wrong price row": (
        "amount",
        ["UPDATE price_rows SET prices = replace(prices, '600000', '600001') WHERE prices LIKE '[150000%'"],
    ),
    "a broken price row": ("price row", ["UPDATE price_rows SET prices = '[1, 2]' WHERE id = 1"]),
    "a lost price row": ("price row", ["DELETE FROM price_rows WHERE id = 1"]),
    "a roll-up that is off": ("roll-up", ["UPDATE usage_hours SET input = input + 1 WHERE account = 1"]),
    "a lost roll-up": ("roll-up", ["DELETE FROM usage_hours WHERE account = 1"]),
    "a sum of a day that is off": ("roll-up", ["UPDATE usage_days SET input = input + 1 WHERE account = 1"]),
    "a lost sum of a day": ("roll-up", ["DELETE FROM usage_days WHERE account = 1"]),
    "a charge above its hold": ("hold", ["UPDATE calls SET hold = charge - 1 WHERE charge > 0 AND seq = 9"]),
    "a changed provider cost": (
        "provider cost",
        ["UPDATE calls SET costs = prices WHERE costs = 0 AND charge > 0 AND absorbed = 0"],
    ),
    "a failed attempt's usage changed": (
        "provider cost",
        ["UPDATE lost SET input = input + 1 WHERE costs > 0"],
    ),
    "a failed attempt's prices changed": (
        "provider cost",
        ["UPDATE lost SET costs = (SELECT id FROM price_rows WHERE id <> lost.costs AND id > 0 LIMIT 1)"],
    ),
    "a failed attempt of another provider": (
        "provider cost",
        ["UPDATE lost SET provider = (SELECT id FROM names WHERE name = 'azure')"],
    ),
    "a dropped failed attempt": ("provider cost", ["DELETE FROM lost WHERE costs > 0"]),
    "a failed attempt of no call": ("provider cost", [STRAY.format("x'00'")]),
    "a failed attempt of a call after all others": ("provider cost", [STRAY.format("x'ffff'")]),
    "a dropped cost of a failed attempt": (
        "provider cost",
        [
            (
                "DELETE FROM entries WHERE kind = 2 AND attempt = 0"
                " AND call IN (SELECT call FROM lost WHERE costs > 0)"
            )
        ],
    ),
    "a call that the journal settled otherwise": (
        "settlement",
        [f"UPDATE calls SET status = 599 WHERE call = {ONE}"],
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_check_finds(books: Place, name: str) -> None:
    kind, statements = CORRUPTIONS[name]
    plant(books, *statements)
    assert kind in found(books)


def test_the_check_finds_a_missing_trigger(books: Place) -> None:
    with closing(connect(books)) as sql:
        drop_trigger(sql, "entries", "update")
    assert found(books) == {"schema"}


def test_the_check_finds_that_sums_of_days_are_not_kept(books: Path) -> None:
    with closing(connect(books)) as sql:
        on = "" if isinstance(sql, sqlite3.Connection) else " ON usage_hours"
        sql.execute(f"DROP TRIGGER usage_days_update{on}")
    assert found(books) == {"schema"}
    with journal(books) as book:
        for _ in range(3):  # into the one hour that all calls of these books are in
            write_one(book, 3)
    copy_all(books)
    assert "roll-up" in found(books)


def test_the_check_finds_a_settlement_that_the_books_passed_over(books: Place) -> None:
    """The checkpoint was moved without the calls: a drain that pops before it writes."""
    path = segment_path(books / "journal" / SLOT, 1)
    end = len(path.read_bytes().rstrip(b"\0"))
    with closing(connect(books)) as sql:
        sql.execute('UPDATE drains SET "offset" = ?', (path.stat().st_size,))
    assert path.stat().st_size >= end
    assert found(books) == {"settlement"}


def test_the_check_finds_a_journal_that_was_cut(books: Place) -> None:
    path = segment_path(books / "journal" / SLOT, 1)
    os.truncate(path, path.stat().st_size // 2)
    assert "journal" in found(books)


def test_the_check_finds_a_journal_that_is_gone(books: Place) -> None:
    segment_path(books / "journal" / SLOT, 1).unlink()
    assert "journal" in found(books)


def test_the_check_finds_a_segment_that_is_gone(place: Place) -> None:
    data = make(place)
    with journal(data, segment_bytes=4096) as book:
        for index in range(80):
            write_one(book, index)
    folder = data / "journal" / SLOT
    assert found(data) == set()
    segment_path(folder, segment_numbers(folder)[2]).unlink()
    assert "journal" in found(data)


def test_the_check_finds_a_damaged_record_and_not_a_torn_tail(books: Place) -> None:
    path = segment_path(books / "journal" / SLOT, 1)
    content = bytearray(path.read_bytes())
    torn = content.copy()
    torn[-5] ^= 1
    path.write_bytes(torn)
    assert found(books) == {"hold"}  # the last SETTLE was torn off, so its call is open
    content[-300] ^= 1
    path.write_bytes(content)
    assert "journal" in found(books)


def test_damage_is_told_until_somebody_removes_what_was_kept(books: Place) -> None:
    path = segment_path(books / "journal" / SLOT, 1)
    content = bytearray(path.read_bytes())
    content[-900] ^= 1
    path.write_bytes(content)
    with closing(connect(books)) as sql:
        recover(books, sql, CLOCK)
    assert found(books) == {"journal"}
    for kept in (books / "journal" / SLOT).glob("*.damaged"):
        kept.unlink()
    assert found(books) == set()


def test_a_call_left_open_by_a_dead_server_is_told_until_it_is_recovered(books: Place) -> None:
    with journal(books) as book:
        book.open(opened())
    assert found(books) == {"hold"}
    with closing(connect(books)) as sql:
        recover(books, sql, CLOCK)
    assert found(books) == set()


def test_an_open_call_of_a_running_server_is_told_only_when_it_is_overdue(books: Place) -> None:
    with lock_folder(books), journal(books) as book:
        record = opened(at=START)
        book.open(record)
        assert found(books, START + 649_000_000) == set()
        assert found(books, START + 651_000_000) == {"hold"}
        book.settle(settled(record))
        assert found(books, START + 651_000_000) == set()


def test_a_line_that_its_worker_holds_on_to_may_be_open_for_hours(books: Place) -> None:
    now, until = START + 9_000_000_000, START + 9_600_000_000
    with lock_folder(books), journal(books) as book:
        record = opened(at=START)
        book.open(record)
        book.open(
            opened(at=START, call=bytes(15) + b"2", parent=record.call)
        )  # one of several that it became
        with closing(connect(books)) as sql, writing(sql):
            sql.execute(
                "INSERT INTO batch_lines (batch, n, at, size, custom_id, start, bound, state, until, call)"
                " VALUES (1, 1, 0, 0, 'c', 0, 0, 1, ?, ?)",
                (until, record.call),
            )
        assert found(books, now) == set()
        assert found(books, until + 1) == {"hold"}
        plant(books, "UPDATE batch_lines SET state = 2")
        assert found(books, now) == {"hold"}


@pytest.mark.parametrize("absorb", [False, True])
def test_books_after_each_kind_of_recovery_are_clean(place: Place, absorb: bool) -> None:
    data = make(place)
    with journal(data) as book:
        for number in range(30):
            record = opened(streamed=True, hold=(2_000_000, 1000)[number % 2])
            book.open(record)
            if number % 3:
                book.mark(marked(record, number * 100))
    with closing(connect(data)) as sql:
        assert recover(data, sql, CLOCK, absorb_unmarked=absorb).estimated == 30
    assert check(data, START).findings == []


def test_the_check_finds_a_recovered_call_whose_tokens_are_not_its_charge(place: Place) -> None:
    data = make(place)
    with journal(data) as book:
        book.open(opened())
    with closing(connect(data)) as sql:
        recover(data, sql, CLOCK)
    assert found(data) == set()
    plant(data, "UPDATE calls SET output = 0")
    assert "amount" in found(data)


def test_the_check_finds_a_wrong_cost_of_a_failed_attempt_in_the_journal(place: Place) -> None:
    data = make(place)
    lost = (Lost(0, Usage(700, 0)),)
    with journal(data) as book:
        first = opened()
        book.open(first)
        last = opened(first.call, attempt=1, provider="azure", lost=lost)
        book.open(last)
        book.settle(_settle(last, Usage(300, 200), 200))  # its costs leave out what was lost
    assert found(data) == set()
    with journal(data) as book:
        first = opened()
        book.open(first)
        last = opened(first.call, attempt=1, provider="azure", lost=lost)
        book.open(last)
        book.settle(msgspec.structs.replace(_settle(last, Usage(300, 200), 200), lost=lost))
    assert found(data) == {"provider cost"}


def test_a_wrong_book_does_not_fill_the_screen(books: Place) -> None:
    plant(books, "UPDATE calls SET hold = -1")
    findings = check(books, START).findings
    assert len(findings) < 100
    assert any("more" in finding.detail for finding in findings)


def test_the_figures_of_a_check_are_those_of_the_books(books: Place) -> None:
    result = check(books, START)
    with closing(connect(books)) as sql:
        assert result.calls == sql.execute("SELECT count(*) FROM calls").fetchone()[0] == 60
        assert result.entries == sql.execute("SELECT count(*) FROM entries").fetchone()[0]


def test_a_lock_names_its_holder_as_long_as_it_lives(place: Place) -> None:
    assert holder(place) is None
    with lock_folder(place):
        assert holder(place) == os.getpid()
    assert holder(place) is None


@pytest.fixture
def busy(place: Place) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Books that a server writes as fast as they take it, until it is told to stop."""
    data = make(place)
    stop = threading.Event()
    rest_s = 0.02 if url_of(place) else 0.0005  # nothing here waits for a drain that is behind

    def serve() -> None:
        with journal(data, segment_bytes=64 << 10) as book:
            drain = Drain(book, lambda: connect(data), NoFailpoints(), print, every_s=0.001)
            drain.start()
            index = 0
            while not stop.wait(rest_s):
                for _ in range(20):
                    index += 1
                    write_one(book, index)
            asyncio.run(drain.close())

    with lock_folder(data):
        thread = threading.Thread(target=serve)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join()

        yield data, end
        end()


def test_a_check_of_a_running_server_raises_no_false_alarm(busy: tuple[Path, Callable[[], None]]) -> None:
    data, end = busy
    seen = [check(data, START)]
    deadline = time.monotonic() + 20
    while len(seen) < 6 or (seen[-1].calls <= seen[0].calls and time.monotonic() < deadline):
        seen.append(check(data, START))
    end()
    assert [finding for result in seen for finding in result.findings] == []
    assert check(data, START).findings == []
    assert seen[-1].calls > seen[0].calls


def test_the_check_refuses_what_is_no_database(place: Place) -> None:
    with pytest.raises(sqlite3.Error):
        check(place, START)
