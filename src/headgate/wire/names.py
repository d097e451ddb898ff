"""What the names of a JSON object's members stand for, kept: clients repeat theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_MOST: Final = 1024  # a client sends few
_LONGEST: Final = 1_024  # characters: beyond, a caller's names would fill memory


class ByNames(dict[tuple[str, ...], T]):
    """Look something up by names in their order. When there are too many, all are forgotten.

    Args:
        make: works it out.
    """

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[tuple[str, ...]], T]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, names: tuple[str, ...]) -> T:
        """Work it out, and keep it unless the names are long."""
        made = self._make(names)
        if sum(map(len, names)) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[names] = made
        return made
