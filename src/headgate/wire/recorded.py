"""What is kept of an answer that is recorded while it is given, and what it is found by."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headgate.values import Operation

if TYPE_CHECKING:
    from headgate.values import Book, WallMicros


class State(IntEnum):
    """What became of a recording."""

    OPEN = 0  # the call goes on
    WHOLE = 1  # the answer is kept
    LOST = 2  # its call ended before the answer did: nobody waited any more, or the process died
    DROPPED = 3  # there was no room for it
    EXPIRED = 4  # it has been kept for as long as was asked
    REFUSED = 5  # an error that cost nothing, kept for a moment for those who wait in other workers


class Label(NamedTuple):
    """What a recording is found by."""

    call: bytes  # that is recorded: 16 bytes
    name: bytes  # of whose calls, and which of them: 32 bytes
    request: bytes  # what was asked: 32 bytes
    project: int
    book: Book
    keyed: bool  # by an Idempotency-Key; else by the call alone
    resume_s: int  # how long after its end it may be read on; 0: not at all


class Recorded(msgspec.Struct, frozen=True, array_like=True):
    """An answer, or the beginning of one."""

    status: int
    lines: bytes  # of its head
    length: int | None  # of the body in bytes; None: a stream
    operation: Operation
    model: str  # as the caller named it
    body: bytes = b""


class Kept(NamedTuple):
    """A recording as the store knows it."""

    label: Label
    slot: int  # whose worker records
    state: State
    resume_until: WallMicros
    recorded: Recorded | None  # of one that is whole


class Progress(NamedTuple):
    """How far a recording of another worker has come."""

    state: State
    parts: list[bytes]  # that were not known yet: the first of all is a head, the others are of the body
    recorded: Recorded | None  # the whole of it, once it has ended
    beat: int | None = None  # changes while its worker lives; None: what a dead one leaves is lost by itself


class Order(NamedTuple):
    """What a caller asks for: that its answer is recorded."""

    key: bytes  # its Idempotency-Key; empty: none
    request: bytes  # what is asked, as far as it matters whether it is the same
    resume_s: int  # how long the rest of the answer waits for it; 0: not at all
    skip: int = 0  # how many events of the answer under this key it has
