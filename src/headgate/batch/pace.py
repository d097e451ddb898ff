"""How many lines of a model run at once: more while its provider answers, fewer while it limits us. Pure."""

from __future__ import annotations

from typing import Final

_FIRST: Final = 8
_LESS: Final = 0.7
_REST_NS: Final = 1_000_000_000  # one storm of refusals lowers it once
_SHORTEST_NS: Final = 500_000_000
_LONGEST_NS: Final = 60_000_000_000


class Pace:
    """The lines of one model in one worker.

    Args:
        most: so many at once.
    """

    __slots__ = ("_lowered_ns", "_most", "_refused", "limit", "resting_until", "running")

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = float(min(_FIRST, most))
        self.running = 0
        self.resting_until = 0  # monotonic ns
        self._lowered_ns = -_REST_NS
        self._refused = 0  # times in a row

    def room(self, now: int) -> int:
        """Return how many lines may begin now."""
        return 0 if now < self.resting_until else max(0, int(self.limit) - self.running)

    def served(self) -> None:
        """Take in that the provider has answered."""
        self._refused = 0
        self.limit = min(float(self._most), self.limit + 1.0 / max(1.0, self.limit) * 4)

    def refused(self, now: int, retry_after_s: float | None) -> int:
        """Take in that it has too much to do; return when the line may be tried again, monotonic ns."""
        if now - self._lowered_ns >= _REST_NS:
            self._lowered_ns = now
            self._refused = min(self._refused + 1, 10)
            self.limit = max(1.0, self.limit * _LESS)
        own = min(_SHORTEST_NS << max(0, self._refused - 1), _LONGEST_NS)
        asked = int((retry_after_s or 0) * 1_000_000_000)
        pause = min(max(own, asked), _LONGEST_NS)
        self.resting_until = max(self.resting_until, now + pause)
        return now + pause
