"""A breaker: what is known of one target's failures, and whether it is asked now. Pure; time is given.

After Envoy's outlier detection: five failures in a row, or half of at least twenty calls within ten seconds,
take a target out for 30 s. Then one call probes it, and what it meets decides: it is well, or out for another
30 s, so that it is asked again soon after it has recovered, however long that took. One that fails again when
it was well stays out twice as long the next time, up to 300 s; time in good health is taken off that count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.values import MonotonicNs
    from headgate.vitals import State

_NS = 1_000_000_000


class BreakerTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a target is taken out, and for how long."""

    row: int = 5  # failures one after the other that take a target out; 0: never
    share_percent: int = 50  # or so many of a window's calls,
    least: int = 20  # where it had at least so many
    window_s: float = 10.0  # which begins with a failure
    out_s: float = 30.0  # the first time, and after each probe that fails;
    longest_s: float = 300.0  # of one that fails anew soon after: so much longer each time, up to this

    def wrong(self) -> str:
        """Return what is wrong with the numbers, or an empty text."""
        if not 0 <= self.row <= 1000 or not 1 <= self.least <= 100_000:
            return "row must be 0 (never) to 1000, least 1 to 100000"
        if not 1 <= self.share_percent <= 100:
            return "share_percent must be 1 to 100"
        if not 0 < self.window_s <= 3600 or not 0 < self.out_s <= self.longest_s <= 86_400:
            return "window_s must be above 0 and at most 3600, out_s above 0 and at most longest_s"
        return ""


class Breaker:
    """One target: closed (asked), out (not asked until an instant), or probed (by one call)."""

    __slots__ = (
        "_bad",
        "_busy_until",
        "_good",
        "_out_until",
        "_probing",
        "_row",
        "_terms",
        "_times",
        "_unsaid",
        "_window",
    )

    def __init__(self, terms: BreakerTerms) -> None:
        self._terms = terms
        self._row = 0  # failures since the last success
        self._good = 0  # in the window
        self._bad = 0
        self._window: MonotonicNs = 0  # when it began
        self._out_until: MonotonicNs = 0  # 0: it is asked
        self._probing: MonotonicNs = 0  # until when a probe's answer is waited for; 0: there is none
        self._times = 0  # how often it was taken out in a row
        self._busy_until: MonotonicNs = 0  # as it said itself
        self._unsaid = 0  # of the good ones, not among those of all workers yet

    def tell(self) -> list[int]:
        """Return all that it knows, for other workers."""
        self._unsaid = 0
        return [
            self._row, self._good, self._bad, self._window, self._out_until, self._probing, self._times,
            self._busy_until,
        ]  # fmt: skip

    def learn(self, facts: Sequence[int]) -> None:
        """Take what all workers know in place of what it knows."""
        (
            self._row, self._good, self._bad, self._window, self._out_until, self._probing, self._times,
            self._busy_until,
        ) = facts  # fmt: skip

    def join(self, facts: Sequence[int]) -> None:
        """Take what all workers know, and add what it alone has seen go well."""
        self.learn(facts)
        self._good += self._unsaid

    @property
    def out(self) -> bool:
        """Say whether it was taken out and has not proven itself since."""
        return self._out_until > 0

    @property
    def times(self) -> int:
        """Return how often in a row it was taken out."""
        return self._times

    def state(self, now: MonotonicNs) -> State:
        """Return how it stands. `probing`: its time out is over, and one call tries it."""
        if self._out_until:
            return "out" if self._out_until > now else "probing"
        return "busy" if self._busy_until > now else "well"

    def wait_ns(self, now: MonotonicNs) -> int:
        """Return how long it is not asked; 0: it is, or may be probed."""
        return max(0, self._out_until - now, self._busy_until - now)

    def admits(self, now: MonotonicNs) -> bool:
        """Say whether a call may ask it. Where it is out, that call would be the probe."""
        if self._busy_until > now:
            return False
        return not self._out_until or (self._out_until <= now and self._probing <= now)

    def due(self, now: MonotonicNs) -> bool:
        """Say whether its time out is over, and nobody probes it."""
        return 0 < self._out_until <= now and self._probing <= now

    def asked(self, now: MonotonicNs) -> bool:
        """Take in that a call asks it; say whether that call is the probe, as the time out is over."""
        if not self._out_until or self._out_until > now:
            return False
        self._probing = now + int(self._terms.longest_s * _NS)
        return True

    def left(self) -> None:
        """Take in that the probe has ended without a verdict, as its caller left: the next call is it."""
        self._probing = 0

    def served(self, now: MonotonicNs) -> None:
        """Take in that it answered."""
        self._row = 0
        self._good += 1
        self._unsaid += 1
        if self._out_until and (self._probing or self._out_until <= now):
            self._out_until = self._probing = 0
            self._window = now
            self._good = self._bad = 0

    def failed(self, now: MonotonicNs, draw: float) -> bool:
        """Take in that it failed; say whether that took it out. `draw` is from [0, 1)."""
        terms = self._terms
        if now - self._window > terms.window_s * _NS:
            self._heal(now)
            self._window, self._good, self._bad = now, 0, 0
        self._row += 1
        self._bad += 1
        if self._out_until:
            if not self._probing:
                return False  # asked before it was taken out, or because all are out
            self._rest(now, terms.out_s, draw)
            return False
        total = self._good + self._bad
        if terms.row and (
            self._row >= terms.row
            or (total >= terms.least and self._bad * 100 >= total * terms.share_percent)
        ):
            self._take_out(now, draw)
            return True
        return False

    def busy(self, until: MonotonicNs) -> None:
        """Take in that it asked to be left alone until an instant."""
        self._busy_until = max(self._busy_until, until)

    def forgettable(self, now: MonotonicNs) -> bool:
        """Say whether nothing of it matters any more."""
        quiet = now - self._window > self._terms.longest_s * _NS
        return not self._out_until and not self._row and self._busy_until <= now and quiet

    def _take_out(self, now: MonotonicNs, draw: float) -> None:
        terms = self._terms
        self._times += 1
        self._rest(now, min(terms.out_s * self._times, terms.longest_s), draw)

    def _rest(self, now: MonotonicNs, span_s: float, draw: float) -> None:
        self._out_until = now + int(span_s * (1 + draw / 10) * _NS)
        self._probing = 0
        self._row = self._good = self._bad = 0
        self._window = self._out_until

    def _heal(self, now: MonotonicNs) -> None:
        """Forget one time out for each such span that it was well."""
        if not self._out_until and self._window:
            self._times = max(0, self._times - int((now - self._window) / (self._terms.out_s * _NS)))
