from __future__ import annotations

import asyncio

import pytest

from headgate.outbox import Outbox

pytestmark = pytest.mark.anyio


class Tape(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing


async def test_writes_leave_in_order_at_the_end_of_the_turn() -> None:
    outbox, one, two = Outbox(), Tape(), Tape()
    outbox.send(one, b"a")
    outbox.send(two, b"b")
    outbox.send(one, b"c")
    assert one.written == []
    await asyncio.sleep(0)
    assert (one.written, two.written) == ([b"a", b"c"], [b"b"])
    outbox.send(one, b"d")  # the next turn is as good
    await asyncio.sleep(0)
    assert one.written == [b"a", b"c", b"d"]


async def test_a_long_piece_goes_at_once_behind_what_waits() -> None:
    outbox, tape = Outbox(), Tape()
    outbox.send(tape, b"head")
    outbox.send(tape, b"x" * 70_000)
    assert tape.written == [b"head", b"x" * 70_000]


async def test_no_more_waits_than_the_transports_marks_may_miss() -> None:
    outbox, tape = Outbox(), Tape()
    for _ in range(100):
        outbox.send(tape, b"x" * 1024)
    assert sum(map(len, tape.written)) >= 32 * 1024


@pytest.mark.parametrize(("size", "said"), [(300, True), (1000, False)])
async def test_it_says_where_many_pieces_come_in_one_turn(size: int, said: bool) -> None:
    outbox, tape, heard = Outbox(3000), Tape(), []
    outbox.on_many = lambda: heard.append(len(tape.written))
    for _ in range(4):
        outbox.send(tape, b"x" * size)
    assert not heard
    await asyncio.sleep(0)
    assert not heard  # four in each turn are not many
    for _ in range(12):
        outbox.send(tape, b"x" * size)
    assert bool(heard) is said  # a few large ones are not many, either


async def test_a_flush_before_closing_sends_and_one_after_drops() -> None:
    outbox, early, late = Outbox(), Tape(), Tape()
    outbox.send(early, b"a")
    outbox.flush()
    early.closing = True
    outbox.send(late, b"b")
    late.closing = True
    outbox.flush()
    assert (early.written, late.written) == ([b"a"], [])
    await asyncio.sleep(0)  # the turn's own flush finds nothing
    assert early.written == [b"a"]
