"""Looking at very many things one after another without keeping calls waiting meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

T = TypeVar("T")

_AT_ONCE: Final = 400  # a millisecond of work
_PARTS: Final = 10  # of the time between two walks lie between two parts


class Walk(Generic[T]):
    """Goes over a set in parts: all of a small one at once, some of a large one at a time.

    Args:
        every_s: a walk begins so long after the end of the one before.
    """

    __slots__ = ("_every_s", "_left")

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._left: list[T] = []

    def part(self, members: AbstractSet[T]) -> list[T]:
        """Return those whose turn it is; who has left meanwhile is passed over."""
        walk = self._left if self._left and members else list(members)
        part, self._left = walk[-_AT_ONCE:], walk[:-_AT_ONCE]
        return [each for each in part if each in members]

    @property
    def pause_s(self) -> float:
        """Return after how long the next part is due."""
        return self._every_s / _PARTS if self._left else self._every_s
