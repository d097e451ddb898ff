"""Allotments: money that a key's calls of the next moment hold together.

A busy key meets its pots thousands of times a second: three budgets and a grant, when a call opens and when
it is closed. So where there is plenty in all of them, one hold for many calls is taken of each pot at once,
and calls hold a part of that: a subtraction when they open, an addition when they are closed. It is a hold
like any other, so no call passes that would not have passed each pot by itself. Near the end of any pot
there is none: each call asks each pot.

It lasts until this worker next talks to the store, a tenth of a second: then what nobody holds is put back,
and what was charged is noted. The same happens at once where a call finds too little in a pot, or a pot is
lowered. What a call holds still is its own hold from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headgate.admission.purse import Slice

CALLS: Final = 32  # for so many calls like the one that opens it,
_PLENTY: Final = 4  # where every pot has enough for so many of it


class Allotment:
    """What was taken of every slice that a key's calls spend from, and has not been put back.

    Args:
        slices: of the budgets.
        pots: their ids.
        grant: that is spent first, where the account is prepaid.
    """

    __slots__ = ("_all", "drawn", "free", "grant", "open", "parts", "pots", "slices")

    def __init__(self, slices: tuple[Slice, ...], pots: tuple[int, ...], grant: Slice | None) -> None:
        self.slices = slices
        self.pots = pots
        self.grant = grant
        self.parts = (grant,) if grant is not None else ()
        self._all = (*slices, *self.parts)
        self.free = 0  # what may be held by the next call
        self.drawn = 0  # charged by calls since it was opened
        self.open = False

    def begin(self, amount: int) -> bool:
        """Take enough for many calls of an amount; say whether there was plenty everywhere."""
        size = CALLS * amount
        for own in self._all:
            if own.free < _PLENTY * size:
                return False
        for own in self._all:
            own.free -= size
            own.allotments += 1
        self.free, self.open = size, bool(self._all)
        return self.open

    def end(self) -> None:
        """Put back what nobody holds, and note what was charged."""
        for own in self._all:
            own.free += self.free
            own.drawn += self.drawn
            own.allotments -= 1
        self.free, self.open = 0, False


CLOSED: Final = Allotment((), (), None)
