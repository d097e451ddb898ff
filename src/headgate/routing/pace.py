"""How fast a provider may be asked with one key, by what its answers say is left of its limits. Pure.

What is told counts the calls that it has seen; those that are on their way, and those that were sent since,
are taken off here. A limit comes back at once when its window ends, or evenly, as token buckets do: what is
told shows which, and after a refusal the end is waited for. What forbids calls for longer than anybody would
wait is tested by one of them, what a refusal said once in a minute, and not believed for a while if that one
is served. After a refusal one call goes first, then one more for each that comes back.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from headgate.values import MonotonicNs
    from headgate.wire.limits import Left, Told

_NS: Final = 1_000_000_000
FREED: Final = 1 << 62  # waits until somebody leaves
_LEAST_NS: Final = 10_000_000  # that anybody waits
_NEAR: Final = 32  # units: with so few left, or a quarter of the limit, every call is counted
_DOUBT_NS: Final = 60 * _NS
_KEPT_NS: Final = 600 * _NS  # after a refusal
_MOST_OPEN: Final = 256  # calls: where so many were served at once, as many as come are
_TESTED_NS: Final = 60 * _NS  # after a refusal that forbids more than anybody would wait


class _First(NamedTuple):
    """What was told first in a window."""

    left: int
    end: MonotonicNs
    unit_ns: float  # in which one unit would come back, if they come evenly


class _Allowance:
    """What is left of one limit, in requests or tokens.

    All units that were ever taken are added up; `_bound` is how far that sum may go. An answer bounds it by
    what is left beyond the sum at the time when its call was sent, so one that is overtaken does no harm.
    """

    __slots__ = (
        "_began", "_bound", "_end", "_first", "_known_until", "_limit", "_rate", "_since", "_window_ns",
        "out", "taken",
    )  # fmt: skip

    def __init__(self) -> None:
        self.taken = 0
        self.out = 0  # of these, of calls whose answer has not begun
        self._limit = 0  # 0: not known
        self._bound = 0.0  # as of an instant,
        self._since: MonotonicNs = 0  # this one,
        self._rate = 0.0  # from which on it grows by so much in a nanosecond; 0: at the end, at once
        self._end: MonotonicNs = 0  # when all is back,
        self._began: MonotonicNs = 0  # and when it was the last time
        self._known_until: MonotonicNs = 0
        self._window_ns = 0  # the longest time to an end that was told
        self._first = _First(0, 0, 0.0)

    def take(self, units: int) -> int:
        """Count a call that is about to be sent; return the sum with it."""
        self.taken += units
        self.out += units
        return self.taken

    def tell(self, said: Left, mark: int, fare: Fare | None, now: MonotonicNs) -> None:
        """Take in what the answer to a call says; `mark` was the sum when it was sent."""
        bound, end = float(said.left + mark), now + said.reset_ns
        if said.limit == self._limit and now < self._end:
            if fare is not None and fare.sent < self._began:
                return  # it tells of the window before
            if self._end == self._known_until:
                end = max(end, self._end)
            if fare is None or not fare.alone or mark < self.taken:  # it may have been overtaken
                bound = min(bound, self._bound_at(now))
        self._judge(said, now)
        self._limit, self._bound, self._since = said.limit, bound, now
        self._end = self._known_until = end
        self._window_ns = max(self._window_ns, said.reset_ns)

    def _judge(self, said: Left, now: MonotonicNs) -> None:
        """Find out how units come back: each that is taken puts off the end of a bucket, not of a window."""
        used, end, first = said.limit - said.left, now + said.reset_ns, self._first
        if said.limit != self._limit or now >= first.end or not first.unit_ns:
            self._first = _First(said.left, end, said.reset_ns / used if used else 0.0)
        elif said.left < first.left:
            evenly = (end - first.end) * 2 > (first.left - said.left) * first.unit_ns
            # What is left was rounded down, so one less may be used.
            self._rate = max(used - 1, 0.5) / max(1, said.reset_ns) if evenly else 0.0

    def wait_ns(self, units: int, now: MonotonicNs, *, stepwise: bool) -> int:
        """Return how long until so many units are there; 0: they are."""
        if not self._limit:
            return 0
        if stepwise:
            self._rate = 0.0
        if now >= self._end and not self._rate:  # those on their way may be counted in the new window
            self._bound = float(self._limit + self.taken - self.out)
            self._end = now + max(_LEAST_NS, self._window_ns)
            self._began = now
        else:
            self._bound = min(self._bound_at(now), float(self._limit + self.taken))
        self._since = now
        lacking = min(units, self._limit) + self.taken - self._bound
        if lacking <= 0:
            return 0
        return max(_LEAST_NS, ceil(lacking / self._rate) if self._rate else self._end - now)

    def _bound_at(self, now: MonotonicNs) -> float:
        return self._bound + self._rate * (now - self._since)

    def over(self, now: MonotonicNs) -> bool:
        """Say whether nothing is known any more of what is left."""
        return not self.out and now >= self._known_until


class Fare(NamedTuple):
    """What one call has taken."""

    sent: MonotonicNs
    tokens: int
    marks: tuple[int, int]  # the sums of requests and tokens with it
    tests: bool  # whether what was said is true
    alone: bool  # no other was on its way


class Pace:
    """What is known of the limits of one provider's model, asked with one key."""

    __slots__ = (
        "_doubted_until",
        "_near",
        "_open",
        "_refused_at",
        "_requests",
        "_stepwise",
        "_tokens",
        "_until",
    )

    def __init__(self) -> None:
        self._requests = _Allowance()
        self._tokens = _Allowance()
        self._until: MonotonicNs = 0  # when it may be asked again, as it said itself
        self._refused_at: MonotonicNs = 0
        self._open = 0  # calls that may be on their way; 0: as many as come
        self._stepwise = False
        self._doubted_until: MonotonicNs = 0
        self._near = True

    def wait_ns(self, tokens: int, now: MonotonicNs, longest_ns: int) -> int:
        """Return how long a call waits; 0: not at all. `longest_ns` is what it would wait at most."""
        if self._until > now:
            wait = self._until - now
            tested = wait > longest_ns and not self._requests.out and now - self._refused_at > _TESTED_NS
            return 0 if tested else wait
        if 0 < self._open <= self._requests.out:
            return FREED
        if self._doubted_until > now:
            return 0
        wait = self._wait_ns(tokens, now)
        return 0 if wait > longest_ns and not self._requests.out else wait

    def _wait_ns(self, tokens: int, now: MonotonicNs) -> int:
        stepwise = self._stepwise
        return max(
            self._requests.wait_ns(1, now, stepwise=stepwise),
            self._tokens.wait_ns(tokens, now, stepwise=stepwise),
        )

    def take(self, tokens: int, now: MonotonicNs) -> Fare:
        """Count a call that is about to be sent."""
        tests = self._until > now or (self._doubted_until <= now and self._wait_ns(tokens, now) > 0)
        alone = not self._requests.out
        return Fare(now, tokens, (self._requests.take(1), self._tokens.take(tokens)), tests, alone)

    def back(self, fare: Fare) -> None:
        """Take in that a call's answer has begun, or will not come."""
        self._requests.out -= 1
        self._tokens.out -= fare.tokens
        if self._open and fare.sent > self._refused_at:
            self._open = 0 if self._open >= _MOST_OPEN else self._open + 1

    def tell(self, told: Told, fare: Fare | None, now: MonotonicNs) -> None:
        """Take in what the answer to a call says is left; None: to one that was not counted."""
        self._near = near(told)
        for said, allowance, mark in zip(
            told,
            (self._requests, self._tokens),
            fare.marks if fare is not None else (None, None),
            strict=True,
        ):
            if said is not None:
                allowance.tell(said, allowance.taken if mark is None else mark, fare, now)

    def doubt(self, now: MonotonicNs) -> None:
        """Take in that a call was served although nothing was said to be left."""
        self._until = now
        self._doubted_until = now + _DOUBT_NS

    def refused(self, wait_ns: int, now: MonotonicNs) -> None:
        """Take in that it refused a call, and for how long it wants to be left alone."""
        self._until = max(self._until, now + wait_ns)
        self._refused_at = now
        self._stepwise = True
        self._open = 1

    @property
    def slow(self) -> bool:
        """Say whether only so many calls may be on their way, as others were refused."""
        return self._open > 0

    def forgettable(self, now: MonotonicNs) -> bool:
        """Say whether nothing of it matters any more."""
        if self._requests.out or max(self._until + _KEPT_NS * self._stepwise, self._doubted_until) > now:
            return False
        return not self._near or (self._requests.over(now) and self._tokens.over(now))


def near(told: Told) -> bool:
    """Say whether so little is left that calls should be counted."""
    return any(said is not None and (said.left < _NEAR or said.left * 4 < said.limit) for said in told)
