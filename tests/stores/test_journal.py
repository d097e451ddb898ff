import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.stores.records import CLOCK, marked, opened, settled

from headgate.errors import Unavailable
from headgate.failpoints import ArmedFailpoints, FailpointHit
from headgate.ports import Failpoints, Open, Settle
from headgate.stores.journal import JournalSettings, SlotJournal, records, slot
from headgate.stores.journal.cursor import Cursor, OpenCalls
from headgate.stores.journal.segments import START, Position, Segment, segment_numbers, segment_path

SMALL = 4096


@contextmanager
def journal(
    folder: Path, *, failpoints: Failpoints | None = None, **options: object
) -> Iterator[SlotJournal]:
    settings = JournalSettings(**{"segment_bytes": SMALL, **options})  # type: ignore[arg-type]
    made = SlotJournal(folder, CLOCK, settings, failpoints)
    try:
        yield made
    finally:
        made.close()


def wait_for(what: Callable[[], bool], seconds: float = 5.0) -> None:
    done = threading.Event()
    for _ in range(int(seconds / 0.005)):
        if what():
            return
        done.wait(0.005)
    raise AssertionError("it did not happen")


def fill(book: SlotJournal) -> None:
    for _ in range(100):
        book.open(opened())


def serve(book: SlotJournal, under_way: list[Open], settles: list[Settle]) -> None:
    while True:
        under_way.append(opened())
        book.open(under_way[-1])
        if len(under_way) > 5:
            settles.append(settled(under_way.pop(0)))
            book.settle(settles[-1])


def written(folder: Path, at: Position = START) -> list[object]:
    return [record for kind, record in Cursor(folder, at).read(100_000) if kind != records.HEAD]


def test_what_was_written_is_read_back_in_order(tmp_path: Path) -> None:
    first, second = opened(), opened(streamed=True)
    wrote = [first, second, marked(second, 256), settled(first), settled(second)]
    with journal(tmp_path) as book:
        book.open(first)
        book.open(second)
        book.mark(wrote[2])  # type: ignore[arg-type]
        book.settle(wrote[3])  # type: ignore[arg-type]
        book.settle(wrote[4])  # type: ignore[arg-type]
        assert written(tmp_path) == wrote
    assert written(tmp_path) == wrote


def test_a_record_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []

    def counting(data: bytes) -> None:
        writes.append(len(data))
        write(data)

    with journal(tmp_path) as book:
        write = book._file.write
        monkeypatch.setattr(book._file, "write", counting)
        record = opened()
        book.open(record)
        book.settle(settled(record))
        assert len(writes) == 2


def test_any_changed_bit_breaks_a_record(tmp_path: Path) -> None:
    data = records.frame(records.SETTLE, settled(opened()))
    assert records.is_record(data, 0)
    for place in range(len(data) * 8):
        broken = bytearray(data)
        broken[place // 8] ^= 1 << place % 8
        assert not records.is_record(bytes(broken), 0)


def test_reading_stops_at_a_torn_tail_wherever_it_is_cut(tmp_path: Path) -> None:
    whole, torn = opened(), opened()
    with journal(tmp_path) as book:
        book.open(whole)
        kept = book.position.offset
        book.open(torn)
        end = book.position.offset
    path = segment_path(tmp_path, 1)
    data = path.read_bytes()
    for cut in range(kept, end):
        path.write_bytes(data[:cut])
        assert written(tmp_path) == [whole]
        path.write_bytes(data[:cut] + bytes(end - cut))
        assert written(tmp_path) == [whole]


def test_a_damaged_record_is_stepped_over_and_reported(tmp_path: Path) -> None:
    calls = [opened() for _ in range(3)]
    with journal(tmp_path) as book:
        for record in calls:
            book.open(record)
    path = segment_path(tmp_path, 1)
    data = bytearray(path.read_bytes())
    place = data.index(calls[1].call)
    data[place] ^= 1
    path.write_bytes(data)
    cursor = Cursor(tmp_path, START)
    assert [record for kind, record in cursor.read(100) if kind == records.OPEN] == [calls[0], calls[2]]
    assert len(cursor.damage) == 1


def test_open_calls_move_to_the_next_segment_with_their_last_mark(tmp_path: Path) -> None:
    long = opened(streamed=True)
    with journal(tmp_path) as book:
        book.open(long)
        book.mark(marked(long, 256))
        book.mark(marked(long, 512))
        while book.position.segment < 3:
            record = opened()
            book.open(record)
            book.settle(settled(record))
        assert book.open_calls == 1
        head = [record for record in written(tmp_path, Position(3, 0)) if record.call == long.call]  # type: ignore[attr-defined]
        assert head == [long, marked(long, 512)]


def test_every_attempt_of_an_open_call_moves_to_the_next_segment(tmp_path: Path) -> None:
    first = opened()
    second = opened(first.call, attempt=1, provider="azure")
    with journal(tmp_path) as book:
        book.open(first)
        book.open(second)
        while book.position.segment < 2:
            record = opened()
            book.open(record)
            book.settle(settled(record))
        assert written(tmp_path, Position(2, 0))[:2] == [first, second]


def test_more_open_calls_than_a_segment_holds_still_rotate(tmp_path: Path) -> None:
    calls = [opened() for _ in range(200)]
    with journal(tmp_path) as book:
        for record in calls:
            book.open(record)
        for record in calls:
            book.settle(settled(record))
        found = OpenCalls()
        done = [found.take(kind, record) for kind, record in Cursor(tmp_path, START).read(100_000)]
        assert sum(item is not None for item in done) == 200
        assert not found.opens
        assert not found.orphans


def test_segments_go_when_they_are_drained_and_not_before(tmp_path: Path) -> None:
    with journal(tmp_path) as book:
        while book.position.segment < 4:
            record = opened()
            book.open(record)
            book.settle(settled(record))
        assert segment_numbers(tmp_path) == [1, 2, 3, 4]
        book.drained(Position(3, 100), 1)
        assert segment_numbers(tmp_path) == [3, 4]


def test_the_undrained_figures_fall_to_zero_when_all_is_drained(tmp_path: Path) -> None:
    with journal(tmp_path) as book:
        for _ in range(100):
            book.open(opened())
        assert book.undrained_records >= 100
        assert book.undrained_bytes > 100 * 100
        book.drained(book.position, 100)
        assert book.undrained_bytes == 0
        assert book.undrained_records == 0


def test_the_bound_stops_admission_until_the_drain_catches_up(tmp_path: Path) -> None:
    with journal(tmp_path, bound_bytes=2000) as book:
        with pytest.raises(Unavailable, match="bound"):
            fill(book)
        assert not book.accepting
        book.drained(book.position, 10)
        assert book.accepting


def test_the_bound_is_of_all_segments_together(tmp_path: Path) -> None:
    with journal(tmp_path, bound_bytes=3 * SMALL) as book:
        for drained in (Position(2, 100), Position(4, 100)):
            with pytest.raises(Unavailable, match="bound"):
                serve(book, [], [])
            assert not book.accepting
            assert 3 * SMALL <= book.undrained_bytes < 4 * SMALL
            assert book.position.segment > drained.segment
            book.drained(drained, 10)
            assert book.accepting


def test_a_second_process_goes_on_in_a_segment_of_its_own(tmp_path: Path) -> None:
    record = opened()
    with journal(tmp_path) as book:
        book.open(record)
    with journal(tmp_path) as book:
        assert book.position.segment == 2
        assert written(tmp_path) == [record]


def test_what_was_written_becomes_durable_by_itself_and_then_all_is_still(tmp_path: Path) -> None:
    woken: list[Position] = []
    with journal(tmp_path) as book:
        book.on_durable = lambda: woken.append(book.durable)
        book.open(opened())
        wait_for(lambda: book.durable == book.position)
        count = len(woken)
        time.sleep(0.01)
        assert len(woken) == count


def test_before_send_returns_with_the_record_on_the_disk(tmp_path: Path) -> None:
    with journal(tmp_path, sync="before-send", group_s=60.0) as book:
        book.open(opened())
        assert book.durable == book.position


def failing(code: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_failed_fsync_stops_admission_for_good_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def fail(fd: int) -> None:
        tried.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    with journal(tmp_path) as book:
        record = opened()
        book.open(record)
        wait_for(lambda: book.durable == book.position)
        monkeypatch.setattr(slot, "sync_data", fail)
        book.settle(settled(record))
        wait_for(lambda: not book.accepting)
        with pytest.raises(Unavailable, match="Input/output"):
            book.open(opened())
        assert len(tried) == 1
        other = settled(record)
        book.settle(other)  # still written, and still shown to the drain
        wait_for(lambda: book.durable == book.position)
        assert written(tmp_path)[-1] == other
        assert len(tried) == 1


def test_an_open_that_is_not_durable_is_refused_and_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal(tmp_path, sync="before-send", group_s=60.0) as book:
        monkeypatch.setattr(slot, "sync_data", failing(errno.EIO))
        record = opened()
        with pytest.raises(Unavailable, match="Input/output"):
            book.open(record)
        assert book.open_calls == 0
        first, last = written(tmp_path)
        assert first == record
        assert isinstance(last, Settle)
        assert (last.call, last.status, last.charge) == (record.call, 503, 0)


def test_a_write_error_refuses_the_call_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal(tmp_path) as book:
        monkeypatch.setattr(Segment, "write", failing(errno.EIO))
        with pytest.raises(Unavailable):
            book.open(opened())
        assert not book.accepting
        assert book.open_calls == 0
        monkeypatch.undo()
        assert not book.accepting


def test_a_settlement_that_cannot_be_written_is_kept_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(), opened()
    with journal(tmp_path) as book:
        book.open(first)
        book.open(second)
        monkeypatch.setattr(Segment, "write", failing(errno.EIO))
        book.settle(settled(first))
        assert book.open_calls == 2
        monkeypatch.undo()
        book.settle(settled(second))
        assert book.open_calls == 0
        assert written(tmp_path)[-2:] == [settled(first), settled(second)]


def test_what_could_not_be_written_is_written_when_it_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = opened()
    with journal(tmp_path) as book:
        book.open(record)
        monkeypatch.setattr(Segment, "write", failing(errno.EIO))
        book.settle(settled(record))
        monkeypatch.undo()
    assert written(tmp_path)[-1] == settled(record)


def test_a_full_disk_stops_admission_until_there_is_space_and_loses_no_settlement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    real = slot.preallocate

    def preallocate(path: Path, size: int) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, size)

    monkeypatch.setattr(slot, "preallocate", preallocate)
    with journal(tmp_path) as book:
        wait_for((tmp_path / "spare").exists)
        full.set()
        under_way: list[Open] = []
        settles: list[Settle] = []
        with pytest.raises(Unavailable, match="No space"):
            serve(book, under_way, settles)
        assert book.position.segment == 2  # the spare takes what is under way
        for record in under_way[:-1]:
            settles.append(settled(record))
            book.settle(settles[-1])
        full.clear()
        wait_for(lambda: book.accepting)
        book.open(opened())
        assert [each for each in written(tmp_path) if isinstance(each, Settle)] == settles


def test_a_failpoint_stands_before_each_rotation(tmp_path: Path) -> None:
    with journal(tmp_path, failpoints=ArmedFailpoints("rotate=raise")) as book, pytest.raises(FailpointHit):
        fill(book)


@pytest.mark.parametrize("zeros", [0, 1, 4095, 4096, 4097, 9000, 1 << 20])
@pytest.mark.parametrize("wrote", [b"", b"a", b"a\0\0b", b"\0" * 5000 + b"c", b"d" * 4096])
@pytest.mark.parametrize("offset", [0, 1, 5001, 1 << 21])
def test_zeros_at_the_end_of_a_segment_are_not_read(wrote: bytes, zeros: int, offset: int) -> None:
    data = wrote + bytes(zeros)
    assert records.trimmed(data, offset) == data[offset:].rstrip(b"\0")
