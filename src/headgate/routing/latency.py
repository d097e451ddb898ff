"""How fast targets answer, as one worker has seen it lately, and which comes first. Pure; time is given.

Of a stream it is the time to the first byte, of a whole answer the time for each token that it has. Both are
moving averages. Who was never measured is asked at once, by one call at a time; who was not measured for a
minute is asked after nine calls went to others: a target that was slow once has its chance again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.routing.health import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.routing.health import Place
    from headgate.values import MonotonicNs, Target

STALE_NS: Final = 60_000_000_000
PASSED: Final = 9  # calls that went to others
_NEW, _NEW_AFTER_LONG = 0.2, 0.5  # what the latest measurement counts
_MOST: Final = 10_000


class Pace:
    """One target's, of streams or of whole answers."""

    __slots__ = ("due", "passed", "seen", "value_ns")

    def __init__(self) -> None:
        self.value_ns = 0.0  # 0: never measured
        self.seen: MonotonicNs = 0  # when it was measured last
        self.due: MonotonicNs = 0  # when it is asked to be measured
        self.passed = 0  # calls that went to others since it was

    def take(self, value_ns: float, now: MonotonicNs) -> None:
        """Take in a measurement."""
        share = _NEW_AFTER_LONG if now - self.seen >= STALE_NS else _NEW
        self.value_ns += (value_ns - self.value_ns) * (share if self.value_ns else 1.0)
        self.seen = now
        self.asked(now)

    def asked(self, now: MonotonicNs) -> None:
        """Take in that a call goes to it."""
        self.due, self.passed = now + STALE_NS, 0

    def wanted(self, now: MonotonicNs) -> bool:
        """Say whether a call shall go to it to measure it."""
        return now >= self.due and (not self.value_ns or self.passed >= PASSED)


class Latencies:
    """The paces of a process."""

    __slots__ = ("_paces",)

    def __init__(self) -> None:
        self._paces: dict[tuple[Place, bool], Pace] = {}

    def fastest_first(
        self, targets: Sequence[Target], now: MonotonicNs, *, stream: bool
    ) -> tuple[Target, ...]:
        """Return targets, the fastest first; before it one that shall be measured."""
        paces = [self._pace(target, stream=stream) for target in targets]
        order = sorted(
            range(len(targets)), key=lambda index: (not paces[index].value_ns, paces[index].value_ns)
        )
        wanted = [index for index in order if paces[index].wanted(now)]
        if wanted:
            first = next((index for index in wanted if not paces[index].value_ns), wanted[-1])
            order.remove(first)
            order.insert(0, first)
            paces[first].asked(now)
        for index in order[1:]:
            paces[index].passed += 1
        return tuple(targets[index] for index in order)

    def took(self, target: Target, value_ns: float, now: MonotonicNs, *, stream: bool) -> None:
        """Take in how long a target took: to the first byte, or for each token."""
        self._pace(target, stream=stream).take(value_ns, now)

    def of(self, target: Target, *, stream: bool) -> float:
        """Return the average of a target in ns; 0: it was never measured."""
        return self._pace(target, stream=stream).value_ns

    def _pace(self, target: Target, *, stream: bool) -> Pace:
        name = (place_of(target), stream)
        pace = self._paces.get(name)
        if pace is None:
            if len(self._paces) >= _MOST:
                self._paces.clear()
            pace = self._paces[name] = Pace()
        return pace
