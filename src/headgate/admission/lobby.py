"""Calls that have come and not begun, while there is much to do. Pure; it is told of the time.

Each turn of the loop begins a few of them, so turns stay short, and none is refused for coming together
with others. Who asks for less than it may have goes first, in order. Of the rest keys take turns, batch
keys last. Those of a key go in order while nobody is refused and the line is short; else the newest goes
first: where more come than are served somebody waits for long, and is refused then; so those who are served
have not.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from headgate.values import MonotonicNs

T = TypeVar("T")
_MODEST_NS: Final = 5_000_000  # of work, in which a turn of the loop begins calls of who asks for little
_PATIENCE_NS: Final = 1_000_000  # after which a call that two turns passed over is refused under overload;
_SHORT_NS: Final = 16_000_000  # of waiting: in a line that is no longer than this calls go in order;
_LONG_NS: Final = 200_000_000  # else it has its turn then, though others are newer


class _Waiting(Generic[T]):
    """One who waits; `item` is None once it is taken out."""

    __slots__ = ("item", "key", "since_ns")

    def __init__(self, item: T, key: int, since_ns: MonotonicNs) -> None:
        self.item: T | None = item
        self.key = key
        self.since_ns = since_ns

    def take(self) -> T | None:
        """Take it out."""
        item, self.item = self.item, None
        return item


class Lobby(Generic[T]):
    """Who waits to be begun.

    Args:
        patience_ns: how long one waits before it is late.
    """

    __slots__ = (
        "_before", "_began", "_by_key", "_came", "_first", "_in_order", "_keys", "_last", "_line",
        "patience_ns",
    )  # fmt: skip

    def __init__(self, patience_ns: int = _PATIENCE_NS) -> None:
        self.patience_ns = patience_ns
        self._before: MonotonicNs = -1  # when the turn before this one began,
        self._began: MonotonicNs = -1  # and this one
        self._first: deque[_Waiting[T]] = deque()
        self._line: deque[_Waiting[T]] = deque()  # the rest, by age
        self._by_key: dict[int, deque[_Waiting[T]]] = {}  # the same
        self._came: deque[MonotonicNs] = deque()  # when those did who would be left, had all gone in order
        self._in_order = True  # they go, in this turn
        self._keys: deque[int] = deque()  # take turns
        self._last: deque[int] = deque()  # so do these, when no other waits

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._came)

    def enter(self, item: T, key: int, now: MonotonicNs, *, first: bool, last: bool = False) -> None:
        """Let a call of a key wait, in front of all others, among them or behind them."""
        waiting = _Waiting(item, key, now)
        self._came.append(now)
        if first:
            self._first.append(waiting)
            return
        self._line.append(waiting)
        own = self._by_key.get(key)
        if own is None:
            self._by_key[key] = deque((waiting,))
            (self._last if last else self._keys).append(key)
        else:
            own.append(waiting)

    def turn(self, now: MonotonicNs, *, refuses: bool = False) -> None:
        """Begin a turn of the loop.

        Args:
            now: when.
            refuses: whether those are refused who wait for long.
        """
        self._before, self._began = self._began, now
        self._in_order = not refuses and self.age_ns(now) < _SHORT_NS

    def next(self, worked_ns: int, turn_ns: int) -> T | None:
        """Take out whom to begin in this turn; None where nobody is left, or the turn is long enough.

        Args:
            worked_ns: since the turn began to begin calls.
            turn_ns: for so long it does.
        """
        item = None
        if self._first and worked_ns <= _MODEST_NS:
            item = self._first.popleft().take()
        elif worked_ns <= turn_ns:
            item = self._oldest(self._began - _LONG_NS) or self._of(self._keys) or self._of(self._last)
        if item is not None:
            self._came.popleft()
        return item

    def late(self, now: MonotonicNs) -> T | None:
        """Take out one who has waited too long, the first first."""
        item = self._oldest(min(now - self.patience_ns, self._before))
        if item is not None:
            self._came.popleft()
        return item

    def age_ns(self, now: MonotonicNs) -> int:
        """Return for how long the first one would have waited, had all gone in order."""
        return now - self._came[0] if self._came else 0

    def _oldest(self, until: MonotonicNs) -> T | None:
        """Take out the first who came no later than that."""
        line = self._line
        while line and line[0].item is None:
            line.popleft()
        if not line or line[0].since_ns > until:
            return None
        oldest = line.popleft()
        self._by_key[oldest.key].popleft()  # of its key it is the oldest, too
        return oldest.take()

    def _of(self, keys: deque[int]) -> T | None:
        while keys:
            key = keys.popleft()
            own = self._by_key[key]
            while own:
                item = (own.popleft() if self._in_order else own.pop()).take()
                if item is not None:
                    keys.append(key)
                    return item
            del self._by_key[key]
        return None
