"""Looking at very many things one after another without keeping calls waiting meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

T = TypeVar("T")

_AT_ONCE: Final = 400  # a millisecond of work
_PARTS: Final = 10  # of the time between two walks lie between two parts


class Walk(Generic[T]):
    """Goes over a set in parts: all of a small one at once, some of a large one at a time."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: list[T] = []

    def part(self, members: AbstractSet[T]) -> list[T]:
        """Return those whose turn it is; who has left meanwhile is passed over."""
        walk = self._left if self._left and members else list(members)
        part, self._left = walk[-_AT_ONCE:], walk[:-_AT_ONCE]
        return [each for each in part if each in members]

    def pause_s(self, every_s: float) -> float:
        """Return after how long the next part is due, where a walk begins so long after the one before."""
        return every_s / _PARTS if self._left else every_s
