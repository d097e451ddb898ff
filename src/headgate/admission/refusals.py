"""Refusals that are made and wait to be given, under overload. Pure; it is told of the time.

Who is refused may ask again at once, and to refuse it takes time that those need who are served. So a refusal
is given some forty milliseconds after the call came, and later among very many. They are given evenly, a few
in each turn of the loop: a burst of them would come back as a burst of calls, for which all others would have
to wait.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from headgate.values import MonotonicNs

T = TypeVar("T")
_WAIT_NS: Final = 40_000_000  # of a call until its refusal is given,
_CROWD: Final = 440  # where no more wait; more would ask again so often that nobody was served
_AT_ONCE: Final = 12  # in a turn of the loop, however many are due: a slow machine has to serve, too
_TOGETHER_NS: Final = 2_000_000  # between two turns that are for nothing else


class Refusals(Generic[T]):
    """Those that wait, in order."""

    __slots__ = ("_left", "_line", "_now", "_share_ns")

    def __init__(self) -> None:
        self._line: deque[tuple[T, MonotonicNs]] = deque()  # and when it has waited for long enough
        self._now: MonotonicNs = 0  # when the turn began
        self._left = 0  # that may be given in it
        self._share_ns = 0  # of the wait of one: so it is given before its time where many wait evenly

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._line)

    def enter(self, item: T, now: MonotonicNs, came: MonotonicNs) -> None:
        """Let one wait whose call came at that time."""
        if not self._line:
            self._now, self._share_ns = now, 0
        self._line.append((item, came + _WAIT_NS * max(len(self._line), _CROWD) // _CROWD))

    def turn(self, now: MonotonicNs) -> None:
        """Begin a turn of the loop."""
        self._share_ns += (now - self._now) * min(len(self._line), _CROWD)
        self._now, self._left = now, _AT_ONCE

    def next(self) -> T | None:
        """Take out one to be given in this turn; None where that is all."""
        if not self._left or not self._due:
            return None
        self._left -= 1
        self._share_ns = max(0, self._share_ns - _WAIT_NS)
        return self._line.popleft()[0]

    @property
    def pause_ns(self) -> int:
        """Return after how long to look again, where nothing else is done meanwhile."""
        if self._due:  # more than are given in a turn
            return 0
        return max(_TOGETHER_NS, _WAIT_NS // min(max(1, len(self._line)), _CROWD))

    @property
    def _due(self) -> bool:
        line = self._line
        return bool(line) and (self._share_ns >= _WAIT_NS or line[0][1] <= self._now)
