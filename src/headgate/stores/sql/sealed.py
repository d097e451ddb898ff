"""Recordings as they are kept: what they hold of callers is sealed (`vaults.boxes`), for one place each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from headgate.values import Book
from headgate.wire.recorded import Kept, Label, Progress, Recorded, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros
    from headgate.vaults.boxes import Box

MOMENT_US: Final = 10_000_000  # how long an error waits for those who read elsewhere
WANTED_US: Final = 5_000_000  # how long one who reads along is known to
_LONGEST_US: Final = 24 * 3_600_000_000  # that a call is made
RENEWED_US: Final = 2_000_000  # a wish to read along is written again when it is so old
COLUMNS: Final = "call, name, request, project, book, keyed, resume_s, state, resume_until, answer"
_encode = msgspec.msgpack.encode
_recorded = msgspec.msgpack.Decoder(Recorded).decode


class Room(NamedTuple):
    """How much is kept, and how long."""

    entries: int
    total_bytes: int
    kept_us: WallMicros

    def open_until(self, now: WallMicros) -> WallMicros:
        """Return until when a call that begins is known, also where answers are kept for less."""
        return now + max(self.kept_us, _LONGEST_US)


def any_lost(sql: Connection, node: str) -> bool:
    """Say whether a node has recordings in its database that are lost, or whose cost it alone knows."""
    rows = sql.execute(
        "SELECT 1 FROM recordings WHERE node = ?"
        f" AND (state = 0 OR (state = {State.LOST} AND charge IS NULL)) LIMIT 1",
        (node,),
    )
    return rows.fetchone() is not None


class Sealed:
    """Between rows and recordings.

    Args:
        box: seals what is kept.
    """

    __slots__ = ("_box",)

    def __init__(self, box: Box) -> None:
        self._box = box

    def answer(self, call: bytes, recorded: Recorded) -> bytes:
        """Return an answer as it is kept."""
        return self._box.seal(_encode(recorded), call)

    def parts(self, call: bytes, first: int, parts: Sequence[bytes]) -> list[tuple[bytes, int, bytes]]:
        """Return the rows of parts, from a number on."""
        return [(call, n, self._box.seal(part, _place(call, n))) for n, part in enumerate(parts, start=first)]

    def kept(self, row: Sequence[Any], slot: int) -> Kept:
        """Return a recording of a row of `COLUMNS`, which a worker's slot has."""
        call, name, request, project, book, keyed, resume_s, state, resume_until, answer = row
        recorded = self._opened(call, answer)
        if state == State.WHOLE and recorded is None:  # the secret that it was sealed with is gone
            state = State.DROPPED
        label = Label(call, name, request, project, Book(book), bool(keyed), resume_s)
        return Kept(label, slot, State(state), resume_until, recorded)

    def progress(
        self, call: bytes, state: int, answer: bytes | None, parts: Sequence[tuple[int, bytes]]
    ) -> Progress:
        """Return how far a recording has come that is made elsewhere, with the parts that are new."""
        opened = [self._box.open(part, _place(call, n)) for n, part in parts]
        recorded = self._opened(call, answer)
        if None in opened or (recorded is None and state in {State.WHOLE, State.REFUSED}):
            state = State.DROPPED  # it cannot be opened here
        return Progress(State(state), [part for part in opened if part is not None], recorded)

    def _opened(self, call: bytes, answer: bytes | None) -> Recorded | None:
        data = self._box.open(answer, call) if answer is not None else None
        return _recorded(data) if data is not None else None


def _place(call: bytes, n: int) -> bytes:
    return b"%b%d" % (call, n)
