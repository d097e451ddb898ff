"""Settled calls on their way from a journal to its drain, so that they need not be read again.

The files stay what counts: they hold everything, and whoever starts reads them. Where the drain is far
behind, or has just begun, it reads them too, until it is where the hand-over goes on without a gap.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.stores.journal.segments import Position

if TYPE_CHECKING:
    from headgate.stores.journal.cursor import Settled

_MOST: Final = 16_384  # calls that may wait here: some 16 MB; with more the drain reads the files
_END: Final = itemgetter(0)


class Taken(NamedTuple):
    """A part of what was handed over."""

    settled: list[Settled]
    end: Position  # everything that was settled before it has been taken
    records: int  # that this stands for in the journal


class Handover:
    """What a journal has settled and its drain has not taken yet, in order. One thread gives, one takes.

    Args:
        start: what stands before it in the journal was never given.
    """

    __slots__ = ("_gap", "_waiting")

    def __init__(self, start: Position) -> None:
        self._gap: tuple[int, int] = start  # what was settled before it is to be read
        self._waiting: deque[tuple[tuple[int, int], int, Settled]] = deque()

    def give(self, end: tuple[int, int], records: int, settled: Settled) -> None:
        """Add a settled call, before anybody is told that the journal reaches to its end.

        Args:
            end: of its settlement in the journal: segment and offset.
            records: that the call has in the journal.
            settled: the call.
        """
        if len(self._waiting) >= _MOST:
            self._gap = self._waiting[-1][0]  # first: who still has the old queue then needs no other
            self._waiting = deque()
        self._waiting.append((end, records, settled))

    def take(self, done: Position, until: Position, limit: int) -> Taken | None:
        """Return up to `limit` calls that were settled behind `done` and not behind `until`.

        None where some of them are only in the files.
        """
        waiting = self._waiting  # before the gap is looked at; see `give`
        if done < self._gap:
            return None
        while waiting and waiting[0][0] <= done:  # it was read meanwhile
            waiting.popleft()
        count = bisect_right(waiting, until, 0, min(limit, len(waiting)), key=_END)
        if not count:
            return Taken([], max(done, until), 0)
        ends, records, settled = zip(*[waiting.popleft() for _ in range(count)], strict=True)
        end = Position(*ends[-1]) if count == limit else max(done, until)
        return Taken(list(settled), end, sum(records))
