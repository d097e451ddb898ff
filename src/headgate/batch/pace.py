"""How many lines of a model run at once: more while its provider answers, fewer while it limits us. Pure."""

from __future__ import annotations

from typing import Final

_FIRST: Final = 8
_GROWN_S: Final = 10.0  # a provider whose answers take long has then as many lines as may be
_LESS: Final = 0.7
_REST_NS: Final = 1_000_000_000  # one storm of refusals lowers it once
_SHORTEST_NS: Final = 500_000_000
_LONGEST_NS: Final = 60_000_000_000


class Pace:
    """The lines of one model in one worker.

    Args:
        most: so many at once.
    """

    __slots__ = (
        *("_base", "_began_ns", "_eager", "_lowered_ns", "_refused"),
        *("limit", "most", "resting_until", "running"),
    )

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(min(_FIRST, most))
        self.running = 0
        self.resting_until = 0  # monotonic ns
        self._lowered_ns = -_REST_NS
        self._refused = 0  # times in a row
        self._eager = False
        self._began_ns: int | None = None  # when one line began alone, where more do in each second
        self._base = 0  # lines that were there when the last one was refused

    def follow(self, most: int, *, eager: bool) -> None:
        """Take in what the settings say now.

        Args:
            most: lines at once.
            eager: answers take long, so that nothing is learnt from them: one line begins, and then twice as
                many in each second; after a refusal one more than were left, and so on.
        """
        self.most, self._eager = most, eager
        self.limit = min(self.limit, float(most))

    def room(self, now: int) -> int:
        """Return how many lines may begin now."""
        if now < self.resting_until:
            return 0
        return max(0, (self._grown(now) if self._eager else int(self.limit)) - self.running)

    def _grown(self, now: int) -> int:
        """Return how many lines may be there by now, where they double in each second."""
        if self._began_ns is None:
            self._began_ns = now
        seconds = (now - max(self._began_ns, self.resting_until)) / 1_000_000_000
        return self.most if seconds >= _GROWN_S else min(self.most, self._base + int(2**seconds))

    def served(self) -> None:
        """Take in that the provider has answered."""
        self._refused = 0
        self.limit = min(float(self.most), self.limit + 1.0 / max(1.0, self.limit) * 4)

    def refused(self, now: int, retry_after_s: float | None) -> int:
        """Take in that it has too much to do; return when the line may be tried again, monotonic ns."""
        self._base = max(0, self.running - 1)
        if now - self._lowered_ns >= _REST_NS:
            self._lowered_ns = now
            self._refused = min(self._refused + 1, 10)
            self.limit = max(1.0, self.limit * _LESS)
        own = min(_SHORTEST_NS << max(0, self._refused - 1), _LONGEST_NS)
        asked = int((retry_after_s or 0) * 1_000_000_000)
        pause = min(max(own, asked), _LONGEST_NS)
        self.resting_until = max(self.resting_until, now + pause)
        return now + pause
