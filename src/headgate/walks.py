"""Looking at very many things one after another without keeping calls waiting meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set as AbstractSet

T = TypeVar("T")

_AT_ONCE: Final = 100  # some tenth of a millisecond of work: half of what a call takes
_LEAST_S: Final = 0.01  # between two parts


async def in_turns(members: Iterable[T], look: Callable[[T], object]) -> None:
    """Look at each of them, some in each turn of the loop; who comes meanwhile is left out."""
    left = list(members)
    while left:
        for each in left[-_AT_ONCE:]:
            look(each)
        del left[-_AT_ONCE:]
        if left:
            await asyncio.sleep(0)


class Walk(Generic[T]):
    """Goes over a set in parts: all of a small one at once, some of a large one at a time, evenly.

    Args:
        at_once: members of a part.
    """

    __slots__ = ("_at_once", "_left", "_parts")

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._left: list[T] = []
        self._parts = 1

    def part(self, members: AbstractSet[T]) -> list[T]:
        """Return those whose turn it is; who has left meanwhile is passed over."""
        at_once = self._at_once
        if not self._left or not members:
            self._left = list(members)
            self._parts = max(1, -(-len(self._left) // at_once))
        part = self._left[-at_once:]
        del self._left[-at_once:]  # in place: a copy of the rest would touch every one of them
        return [each for each in part if each in members]

    def pause_s(self, every_s: float) -> float:
        """Return after how long the next part is due, for each to be looked at so often, or as it can be."""
        return max(every_s / self._parts, _LEAST_S) if self._parts > 1 else every_s
