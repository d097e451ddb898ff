"""One recording: who may read it, when its call goes on, and how much of it is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from headgate.errors import Unavailable
from headgate.ports import SystemClock
from headgate.recordings.neighbours import Neighbours
from headgate.recordings.recording import Memory, Recording
from headgate.stores.sql.recordings import SqlRecordings
from headgate.stores.sql.sealed import Room
from headgate.values import Book, Call
from headgate.vaults.boxes import Box
from headgate.wire.recorded import Label

pytestmark = pytest.mark.anyio
KB = 1024


class Reader:
    """Reads when it is told to."""

    def __init__(self, recording: Recording) -> None:
        self.position = 0
        self.woken = 0
        self._recording = recording

    def wake(self) -> None:
        self.woken += 1

    def read(self) -> bytes:
        data = self._recording.since(self.position)
        self.position += len(data)
        self._recording.took()
        return data


def recording(memory: Memory, keep_s: float = 60.0) -> Recording:
    label = Label(b"c" * 16, b"n" * 32, b"r" * 32, 1, Book.REAL, keyed=True, resume_s=0)
    made = Recording(label, Call(b"c" * 16, "chat", 0), memory, keep_s)
    made.start(200, [(b"content-type", b"text/event-stream")], None)
    return made


async def test_what_is_too_long_passes_at_the_pace_of_the_slowest_reader() -> None:
    memory = Memory(100 * KB, 1000 * KB)
    made = recording(memory)
    fast, slow = Reader(made), Reader(made)
    assert made.attach(fast)
    assert made.attach(slow)
    sent = b""
    for number in range(10):
        piece = bytes([number]) * 64 * KB
        sent += piece
        made.write(piece)
        assert fast.read() == piece
    assert not made.kept
    assert len(made._body) == 640 * KB  # the slow one has read nothing
    waiting = asyncio.ensure_future(made.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert slow.read() == sent
    await waiting
    assert len(made._body) == 0
    assert not made.attach(Reader(made))  # the beginning is gone
    made.close()
    assert memory.take(0, 100 * KB)
    memory.give(100 * KB)
    assert memory._left == 1000 * KB


async def test_what_is_too_long_for_nobody_ends() -> None:
    made = recording(Memory(10 * KB, 1000 * KB))
    ended = asyncio.Event()
    made.on_gone(ended.set)
    made.write(bytes(11 * KB))
    assert made.gone
    assert ended.is_set()


async def test_all_together_have_so_much_memory() -> None:
    memory = Memory(10 * KB, 15 * KB)
    first, second = recording(memory), recording(memory)
    readers = [Reader(first), Reader(second)]
    first.attach(readers[0])
    second.attach(readers[1])
    first.write(bytes(10 * KB))
    second.write(bytes(6 * KB))
    assert (first.kept, second.kept) == (True, False)
    assert readers[1].read() == bytes(6 * KB)
    first.close()
    assert memory._left == 15 * KB


async def test_a_call_without_a_reader_goes_on_for_a_while_and_longer_where_it_is_wanted_elsewhere() -> None:
    made = recording(Memory(KB, KB), keep_s=0.01)
    gone = asyncio.Event()
    made.on_gone(gone.set)
    reader = Reader(made)
    made.attach(reader)
    made.detach(reader)
    assert not made.gone
    made.attach(reader)  # in time
    assert made._timer is None
    made.wanted = True
    made.detach(reader)
    first = made._timer
    while made._timer is first:
        await asyncio.sleep(0.001)
    assert not made.gone  # its time was over, and it was given another one
    made.wanted = False
    async with asyncio.timeout(10):
        await gone.wait()
    assert made.gone
    assert not made.ended


async def test_after_its_end_nobody_ends_it() -> None:
    made = recording(Memory(KB, KB), keep_s=0.0)
    reader = Reader(made)
    made.attach(reader)
    made.write(b"all of it")
    made.finish()
    made.detach(reader)
    assert made.ended
    assert not made.gone
    late = Reader(made)
    assert made.attach(late)
    assert late.read() == b"all of it"


class Deaf(SqlRecordings):
    """Takes what it is told, and its answer is lost the first time."""

    lost = 0

    async def tell(self, call: bytes, first: int, parts: Sequence[bytes]) -> None:
        await super().tell(call, first, parts)
        if not self.lost:
            self.lost = len(parts)
            raise Unavailable("the answer was lost")


async def test_parts_that_may_have_been_told_are_told_again_as_they_were(tmp_path: Path) -> None:
    store, clock, said = Deaf(tmp_path, Box([b"s" * 32]), Room(10, 1 << 20, 10**12)), SystemClock(), []
    made, other = recording(Memory(KB, KB)), recording(Memory(KB, KB), keep_s=0)
    neighbours, reader = Neighbours(store, 0, clock, said.append), Reader(other)
    other.status = 0  # it has no head yet
    assert other.attach(reader)
    assert await store.claim(made.label, 0, clock.wall()) is None
    made.write(b"one ")
    following = asyncio.ensure_future(neighbours.follow(other))
    own = {made.label.call: made}
    showing = asyncio.ensure_future(neighbours.show(own, set, always=False))
    async with asyncio.timeout(30):
        while not store.lost:
            await asyncio.sleep(0.01)
        made.write(b"two ")
        while other.size < made.size:
            await asyncio.sleep(0.01)
    assert (store.lost, said) == (2, ["the answer was lost"])
    assert (other.since(0), other.lines) == (b"one two ", made.lines)
    own.clear()
    other.detach(reader)  # nobody reads it any more
    await asyncio.gather(following, showing)
    await store.close()
