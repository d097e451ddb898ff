import asyncio
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from tests.stores.books import SLOT, anywhere, copy_all, figures, journal, make, write
from tests.stores.records import CLOCK, PRICES, opened, settled

from headgate.errors import Unavailable
from headgate.failpoints import ArmedFailpoints, FailpointHit, NoFailpoints
from headgate.stores.journal import JournalSettings, SlotJournal, cursor, handover, slot
from headgate.stores.journal.bell import Bell
from headgate.stores.journal.cursor import Settled
from headgate.stores.journal.segments import Position, segment_numbers
from headgate.stores.sql import drain
from headgate.stores.sql.connection import Connection
from headgate.stores.sql.database import Place, connect
from headgate.stores.sql.drain import Copier, Drain, Rests
from headgate.stores.sql.ledger import Books
from headgate.values import Book, Prices, Usage


def wait_until_drained(book: SlotJournal) -> None:
    for _ in range(1000):
        if not book.undrained_bytes:
            return
        time.sleep(0.005)
    raise AssertionError("not drained")


def accounts(data: Place) -> dict[str, tuple[int, int]]:
    found = figures(
        data,
        "SELECT code || ':' || book, debits, credits FROM balances JOIN ledger_accounts a ON a.id = ledger_account",
    )
    return {row[0]: (row[1], row[2]) for row in found}


def test_a_call_is_booked_with_its_entries_balances_and_hour(place: Place) -> None:
    data = make(place)
    record = opened(streamed=True)
    end = settled(record)
    with journal(data) as book:
        write(book, [(record, end)])
    copy_all(data)
    call = figures(data, "SELECT call, seq, charge, cost, input, output, flags, status, opened_at FROM calls")
    assert call == [(record.call, 1, end.charge, end.costs[0], 300, 200, 4, 200, record.at)]
    entries = figures(data, "SELECT kind, attempt, n, amount FROM entries ORDER BY kind")
    assert entries == [(1, 0, 0, end.charge), (2, 0, 0, end.costs[0])]
    assert accounts(data) == {
        "credit:1:0": (end.charge, 0),
        "revenue:0": (0, end.charge),
        "cost:0": (end.costs[0], 0),
        "payable:openai:0": (0, end.costs[0]),
    }
    hour = figures(
        data, "SELECT hour, calls, failed, estimated, input, output, charge, cost FROM usage_hours"
    )
    assert hour == [(record.at // 3_600_000_000, 1, 0, 0, 300, 200, end.charge, end.costs[0])]


def test_what_is_above_the_hold_is_the_houses(place: Place) -> None:
    data = make(place)
    record = opened(hold=100_000)
    end = settled(record)
    with journal(data) as book:
        write(book, [(record, end)])
    copy_all(data)
    assert figures(data, "SELECT kind, amount FROM entries WHERE kind IN (1, 3) ORDER BY kind") == [
        (1, 100_000),
        (3, end.absorbed),
    ]
    assert accounts(data)["house:absorbed:0"] == (end.absorbed, 0)


def test_each_attempt_pays_its_own_provider(place: Place) -> None:
    data = make(place)
    first = opened()
    second = opened(first.call, attempt=1, provider="azure")
    with journal(data) as book:
        book.open(first)
        book.open(second)
        book.settle(settled(second, costs=(11, 22)))
    copy_all(data)
    assert accounts(data)["payable:openai:0"] == (0, 11)
    assert accounts(data)["payable:azure:0"] == (0, 22)
    assert figures(data, "SELECT cost, attempt FROM calls") == [(33, 1)]


def test_a_free_or_failed_call_makes_no_entry(place: Place) -> None:
    data = make(place)
    free, failed = opened(prices=None, costs=None), opened()
    with journal(data) as book:
        write(book, [(free, settled(free)), (failed, settled(failed, 0, 0, status=502))])
    copy_all(data)
    assert figures(data, "SELECT count(*) FROM entries") == [(0,)]
    assert figures(data, "SELECT flags, prices, status FROM calls ORDER BY seq") == [(2, 0, 200), (0, 1, 502)]


def test_the_books_are_numbered_apart_and_without_gaps(place: Place) -> None:
    data = make(place)
    calls = [opened(book=Book(index % 2)) for index in range(50)]
    with journal(data) as book:
        write(book, [(record, settled(record)) for record in calls])
    copy_all(data)
    for number in (0, 1):
        found = figures(data, "SELECT seq FROM calls WHERE book = ? ORDER BY seq", number)
        assert found == [(seq,) for seq in range(1, 26)]
    assert figures(data, "SELECT book, seq FROM books") == [(0, 25), (1, 25)]


def test_the_long_prices_of_a_call_are_kept_with_it(place: Place) -> None:
    data = make(place)
    long = Prices(1, 2, 3, 4, 5, 6, 7, 8, 200_000, PRICES)
    record = opened(prices=long)
    with journal(data) as book:
        write(book, [(record, settled(record))])
    copy_all(data)
    (text,) = figures(data, "SELECT p.prices FROM calls c JOIN price_rows p ON p.id = c.prices")
    assert text == ("[1,2,3,4,5,6,7,8,200000,[150000,600000,75000,150000,600000,150000,600000,0,0,null]]",)


def test_copying_twice_books_once(place: Place) -> None:
    data = make(place)
    calls = [opened() for _ in range(40)]
    with journal(data) as book:
        write(book, [(record, settled(record)) for record in calls])
    copy_all(data)
    before = accounts(data)
    with closing(connect(data)) as sql:
        sql.execute('UPDATE drains SET "offset" = 0')
    copy_all(data)
    assert accounts(data) == before
    assert figures(data, "SELECT count(*), max(seq) FROM calls") == [(40, 40)]
    assert figures(data, "SELECT sum(calls) FROM usage_hours") == [(40,)]


def test_a_batch_that_is_half_known_books_the_other_half(place: Place) -> None:
    data = make(place)
    calls = [opened() for _ in range(60)]
    items = [Settled([record], settled(record)) for record in calls]
    with closing(connect(data)) as sql:
        assert Books(sql).post(items[:30], SLOT, Position(1, 1)) == 30
        assert Books(sql).post(items, SLOT, Position(1, 2)) == 30
    assert figures(data, "SELECT count(*), max(seq) FROM calls") == [(60, 60)]
    assert accounts(data)["credit:1:0"] == (sum(item.settle.charge for item in items), 0)


def test_a_refused_batch_leaves_nothing_behind_and_is_copied_later(place: Place) -> None:
    data = make(place)
    record = opened()
    with journal(data) as book:
        write(book, [(record, settled(record))])
    with closing(connect(data)) as sql, closing(connect(data)) as other:
        sql.wait_for_writers(0.01)
        copier = Copier(data / "journal" / SLOT, sql)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError):
                copier.copy(Position(2**62, 0))
        other.execute("ROLLBACK")
        assert copier.copy(Position(2**62, 0)) == 2
    assert figures(data, "SELECT count(*) FROM calls") == [(1,)]


@pytest.mark.parametrize("moment", ["drain-before-commit", "drain-after-commit"])
def test_a_drain_that_dies_around_its_commit_books_each_call_once(place: Place, moment: str) -> None:
    data = make(place)
    calls = [opened() for _ in range(20)]
    with journal(data) as book:
        write(book, [(record, settled(record)) for record in calls])
    with closing(connect(data)) as sql:
        copier = Copier(data / "journal" / SLOT, sql, ArmedFailpoints(f"{moment}=raise@1"))
        with pytest.raises(FailpointHit):
            copier.copy(Position(2**62, 0))
    copy_all(data)
    assert figures(data, "SELECT count(*), max(seq) FROM calls") == [(20, 20)]


def test_a_call_that_was_open_at_the_checkpoint_is_booked_when_it_settles(place: Place) -> None:
    data = make(place)
    long = opened(streamed=True)
    with journal(data, segment_bytes=4096) as book:
        book.open(long)
        for _ in range(60):
            record = opened()
            write(book, [(record, settled(record))])
        copy_all(data)
        book.settle(settled(long))
        copy_all(data)
        assert book.position.segment > 2
    assert figures(data, "SELECT count(*) FROM calls WHERE call = ?", long.call) == [(1,)]
    assert figures(data, "SELECT count(*) FROM calls") == [(61,)]


@pytest.mark.anyio
async def test_the_thread_copies_what_is_written_and_removes_the_segments(place: Place) -> None:
    data = make(place)
    trouble: list[str] = []
    with journal(data, segment_bytes=4096) as book:
        drain = Drain(book, lambda: connect(data), NoFailpoints(), trouble.append, every_s=0.005)
        drain.start()
        for _ in range(100):
            record = opened()
            write(book, [(record, settled(record))])
        await drain.flush()
        assert book.undrained_bytes == 0
        assert book.undrained_records == 0
        assert segment_numbers(data / "journal" / SLOT) == [book.position.segment]
        await drain.close()
    assert figures(data, "SELECT count(*) FROM calls") == [(100,)]
    assert not trouble


@pytest.mark.anyio
async def test_a_flush_waits_for_a_slow_disk_and_no_longer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written reaches the disk after the thread was hurried: it must not wait for its next turn then."""
    data = make(place)
    sync = slot.sync_data
    with journal(data) as book:
        drain = Drain(book, lambda: connect(data), NoFailpoints(), print, every_s=20)
        drain.start()
        await drain.flush()

        def slowly(fd: int) -> None:
            time.sleep(0.3)
            sync(fd)

        monkeypatch.setattr(slot, "sync_data", slowly)
        write(book, [(record := opened(), settled(record))])
        await asyncio.wait_for(drain.flush(), 10)
        assert book.undrained_records == 0
        await drain.close()


@pytest.mark.anyio
@pytest.mark.parametrize(("count", "following_s"), [(100, 0.05), (1_200, 0.02)])
async def test_many_records_make_the_next_turn_longer_while_one_transaction_takes_them(
    place: Place, monkeypatch: pytest.MonkeyPatch, count: int, following_s: float
) -> None:
    data = make(place)
    waits: list[float] = []

    class Noted(Bell):
        def wait(self, timeout_s: float = -1) -> bool:
            waits.extend([timeout_s] * (timeout_s >= 0))
            return super().wait(timeout_s)

    monkeypatch.setattr("headgate.stores.sql.drain.Bell", Noted)
    with journal(data) as book:
        calls = [opened() for _ in range(count)]
        write(book, [(record, settled(record)) for record in calls])
        book.make_durable()
        drain = Drain(book, lambda: connect(data), NoFailpoints(), print, every_s=0.02)
        drain.start()
        wait_until_drained(book)
        for record in (opened(), opened()):
            write(book, [(record, settled(record))])
            wait_until_drained(book)
        await drain.close()
    assert waits[:2] == [0.02, following_s]
    assert waits[-1] == 0.02
    assert figures(data, "SELECT count(*) FROM calls") == [(count + 2,)]


def test_what_is_handed_over_is_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(place)
    with journal(data, segment_bytes=4096) as book, closing(connect(data)) as sql:
        copier = Copier(data / "journal" / SLOT, sql, handover=book.handover)
        copier.copy(book.position)
        monkeypatch.setattr(cursor, "read_segment", None)
        waiting = opened()
        write(book, [(record := opened(), settled(record)) for _ in range(30)])
        write(book, [(waiting, None)])
        assert copier.copy(book.position) >= 60  # and what a rotation carried
        assert copier.done == book.position
        write(book, [(waiting := opened(waiting.call, 1), settled(waiting))])
        assert copier.copy(book.position) >= 3  # both attempts, perhaps carried, and their end
    assert figures(data, "SELECT count(*), max(attempt) FROM calls") == [(31, 1)]


def test_more_than_may_wait_is_read_from_the_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(place)
    monkeypatch.setattr(handover, "_MOST", 10)
    with journal(data, segment_bytes=4096) as book, closing(connect(data)) as sql:
        copier = Copier(data / "journal" / SLOT, sql, handover=book.handover)
        early = [opened() for _ in range(3)]
        write(book, [(record, None) for record in early])
        for calls in (5, 35, 4, 50):  # handed over, beyond it, handed over again, beyond it again
            write(book, [(record := opened(), settled(record)) for _ in range(calls)])
            if early:
                book.settle(settled(early.pop()))
            while copier.copy(book.position):
                pass
            assert copier.done == book.position
    assert not copier.damaged
    assert figures(data, "SELECT count(*), count(DISTINCT call) FROM calls") == [(97, 97)]


@pytest.mark.anyio
async def test_a_locked_database_loses_nothing_and_is_said(place: Place) -> None:
    data = make(place)
    said = asyncio.Event()
    loop = asyncio.get_running_loop()

    def trouble(text: str) -> None:
        loop.call_soon_threadsafe(said.set)

    with journal(data) as book, closing(anywhere(data)) as other:
        drain = Drain(book, lambda: connect(data), NoFailpoints(), trouble, every_s=0.005)
        drain.start()
        other.execute("BEGIN IMMEDIATE")
        for _ in range(100):
            record = opened()
            write(book, [(record, settled(record))])
        await asyncio.wait_for(said.wait(), 10)
        assert not drain.healthy
        assert book.undrained_records == 200
        other.execute("ROLLBACK")
        await asyncio.wait_for(drain.flush(), 10)
        assert drain.healthy
        await drain.close()
    assert figures(data, "SELECT count(*) FROM calls") == [(100,)]


@pytest.mark.anyio
async def test_calls_open_for_so_long_only_while_the_database_takes_nothing(place: Place) -> None:
    data = make(place)
    with journal(data, bound_s=0.3) as book, closing(anywhere(data)) as other:
        drain = Drain(book, lambda: connect(data), NoFailpoints(), lambda said: None, every_s=0.005)
        drain.start()
        other.execute("BEGIN IMMEDIATE")
        began, waiting = time.monotonic(), opened()
        write(book, [(waiting, None), (record := opened(), settled(record))])
        while book.accepting:
            assert time.monotonic() - began < 10
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.3
        with pytest.raises(Unavailable, match="the database does not take the books"):
            book.open(opened())
        book.settle(settled(waiting))  # what was open ends as ever
        other.execute("ROLLBACK")
        await asyncio.wait_for(drain.flush(), 10)
        while not book.accepting:
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.01)
        write(book, [(record := opened(), settled(record))])
        await drain.flush()
        await drain.close()
    assert figures(data, "SELECT count(*) FROM calls") == [(3,)]


@pytest.mark.anyio
async def test_a_thread_that_dies_ends_its_task_with_the_reason(place: Place) -> None:
    data = make(place)
    record = opened()
    with journal(data) as book:
        drain = Drain(book, lambda: connect(data), ArmedFailpoints("drain-before-commit=raise"), print, 0.005)
        write(book, [(record, settled(record))])
        with pytest.raises(FailpointHit):
            await asyncio.wait_for(drain.run(), 10)
        assert not drain.healthy


def test_usage_of_every_kind_reaches_its_column(place: Place) -> None:
    data = make(place)
    record = opened(operation="embeddings", model="alias", upstream_model="real", member=7)
    end = settled(record, usage=Usage(10, 20, 1, 2, 3, 4, 5))
    with journal(data) as book:
        write(book, [(record, end)])
    copy_all(data)
    assert figures(
        data,
        "SELECT input, output, cached, cache_write, reasoning, input_audio, output_audio, member FROM calls",
    ) == [(10, 20, 1, 2, 3, 4, 5, 7)]
    assert figures(
        data,
        "SELECT o.name, m.name, p.name, u.name FROM calls JOIN names o ON o.id = operation"
        " JOIN names m ON m.id = model JOIN names p ON p.id = provider JOIN names u ON u.id = upstream",
    ) == [("embeddings", "alias", "openai", "real")]


def test_a_name_with_nul_stops_nothing(place: Place) -> None:
    data = make(place)
    record = opened(model="a\0b")
    with journal(data) as book:
        write(book, [(record, settled(record))])
    copy_all(data)
    assert figures(data, "SELECT m.name FROM calls JOIN names m ON m.id = model") == [("a\ufffdb",)]


def test_settings_have_the_sizes_of_the_design() -> None:
    assert JournalSettings() == JournalSettings(
        segment_bytes=8 << 20, bound_bytes=64 << 20, sync="group", group_s=0.010
    )
    assert CLOCK.wall() > 0


def test_the_last_use_of_each_key_is_kept(place: Place) -> None:
    data = make(place)
    calls = [opened(key=key, at=at) for key, at in ((7, 50), (8, 30), (7, 40))]
    with journal(data) as book:
        write(book, [(record, settled(record)) for record in calls])
    copy_all(data)
    assert figures(data, "SELECT key, used_at FROM key_uses ORDER BY key") == [(7, 50), (8, 30)]
    late = opened(key=7, at=45)  # another worker's journal is behind
    with closing(connect(data)) as sql:
        Books(sql).post([Settled((late,), settled(late), False)], "slot-9", Position(1, 0))
    assert figures(data, "SELECT used_at FROM key_uses WHERE key = 7") == [(50,)]


def test_the_thread_rests_for_four_times_its_work_within_bounds() -> None:
    worked = iter([0.0, 0.0005, 0.0013, 0.0113])
    rests = Rests(lambda: next(worked))
    assert [rests.next_s(0.005) for _ in range(4)] == pytest.approx([0.0005, 0.002, 0.0032, 0.005])


def test_what_a_thread_may_not_rest_at_once_it_rests_later() -> None:
    worked = iter([0.001, 0.002, 0.0022, 0.0022, 0.1, 0.1, 0.1])
    rests = Rests(lambda: next(worked))
    taken = [rests.next_s(longest) for longest in (0.001, 0.001, 0.03, 0.03)]
    assert taken == pytest.approx([0.001, 0.001, 0.0068, 0.0005])
    assert [rests.next_s(0.001), rests.next_s(1.0), rests.next_s(1.0)] == pytest.approx([0.001, 0.03, 0.0005])


@pytest.mark.parametrize("far_behind", [0, 10**6])
def test_a_drain_rests_for_long_where_nobody_waits_for_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, far_behind: int
) -> None:
    data, seen = make(place), []
    writing = threading.local()

    class Watched(Rests):
        def next_s(self, longest_s: float) -> float:
            seen.append((writing.sql.in_transaction, longest_s))
            return 0.0

    def open_books() -> Connection:
        writing.sql = connect(data)
        return writing.sql

    monkeypatch.setattr(drain, "Rests", Watched)
    monkeypatch.setattr(drain, "_FAR_BEHIND", far_behind)
    with journal(data) as book:
        write(book, [(record, settled(record)) for record in (opened() for _ in range(300))])
        monkeypatch.setattr(drain, "BATCH", 100)
        copying = Drain(book, open_books, NoFailpoints(), print, every_s=0.01)
        copying.start()
        wait_until_drained(book)
        asyncio.run(copying.close())
    assert {longest for inside, longest in seen if inside} == {0.001}  # all who write wait for it
    assert sum(not inside for inside, _ in seen) >= 3  # between two transactions
    assert {longest for inside, longest in seen if not inside} == ({0.03} if far_behind else {0.001, 0.03})
