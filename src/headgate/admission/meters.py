"""What limits are counted in: buckets that refill, and calls at once. Pure; the time comes from outside.

A bucket holds what its limit allows in a window and refills evenly, so there is no edge of a window to
burst around: in any time t a limit L per window W lets at most L + L*t/W through. It is kept as one
integer, the moment at which it will be full again, in nanoseconds times its limit; what it lacks is then
exact, in units times the nanoseconds of its window. Times are monotonic: no step of the wall clock
reaches a running process.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from headgate.values import MonotonicNs

Kind = Literal["rpm", "tpm", "rpd", "tpd"]
SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
DAY_NS: Final = 86_400 * SECOND_NS
WINDOWS: Final[dict[Kind, int]] = {"rpm": MINUTE_NS, "tpm": MINUTE_NS, "rpd": DAY_NS, "tpd": DAY_NS}
_MICRO: Final = 1_000_000  # a saved unit
_MOST_LOWS: Final = 128


class Place(NamedTuple):
    """Whose limit it is."""

    scope: str  # account, project, key
    ref: int
    model: str = ""  # the pattern of the models that it is for; empty: all
    sim: bool = False  # play money is counted apart

    def named(self, kind: str) -> str:
        """Return the name of one of its meters."""
        return f"{self.scope}:{self.ref}:{self.model}:{kind}{'@sim' if self.sim else ''}"


class Bucket:
    """A limit on requests or tokens per window.

    Args:
        place: whose it is.
        kind: what it counts.
        limit: units per window, at least 1.
        now: it is full then.
    """

    __slots__ = ("_due", "_size", "_unit", "kind", "limit", "place")

    def __init__(self, place: Place, kind: Kind, limit: int, now: MonotonicNs) -> None:
        self.place = place
        self.kind: Kind = kind
        self._unit = WINDOWS[kind]
        self._resize(limit)
        self._due = now * limit

    def _resize(self, limit: int) -> None:
        self.limit = limit
        self._size = limit * self._unit

    def change(self, limit: int, now: MonotonicNs) -> None:
        """Change the limit; what is used stays used, as far as the new limit goes."""
        if limit == self.limit:
            return
        lack = self._lack(now)
        self._resize(limit)
        self._due = now * limit + min(lack, self._size)

    def _lack(self, now: MonotonicNs) -> int:
        lack = self._due - now * self.limit
        return max(lack, 0)

    def wait_ns(self, amount: int, now: MonotonicNs) -> int:
        """Return how long until `amount` fits: 0 when it does now. Above the limit it never does."""
        over = amount * self._unit - self._size
        lack = self._due - now * self.limit
        if lack > 0:
            over += lack
        return -(-over // self.limit) if over > 0 else 0

    def take(self, amount: int, now: MonotonicNs) -> None:
        """Take `amount`, whether it fits or not."""
        base = now * self.limit
        if self._due > base:
            self._due += amount * self._unit
        else:
            self._due = base + amount * self._unit

    def give(self, amount: int, now: MonotonicNs) -> None:
        """Give back what was taken a moment ago; more than it lacks is lost."""
        self._due -= min(amount * self._unit, self._lack(now))

    def remaining(self, now: MonotonicNs) -> int:
        """Return the whole units left."""
        lack = self._due - now * self.limit
        if lack <= 0:
            return self.limit
        left = self._size - lack
        return left // self._unit if left > 0 else 0

    def used(self, now: MonotonicNs) -> int:
        """Return the units used, a begun one as a whole."""
        return -(-self._lack(now) // self._unit)

    def reset_ns(self, now: MonotonicNs) -> int:
        """Return how long until it is full."""
        lack = self._due - now * self.limit
        return -(-lack // self.limit) if lack > 0 else 0

    def idle(self, now: MonotonicNs) -> bool:
        """Say whether it says nothing: it is full."""
        return self._due <= now * self.limit

    # ── across restarts ──────────────────────────────────────────────────────────────────────────

    def lacking(self, now: MonotonicNs) -> int:
        """Return what it lacks in millionths of a unit, rounded up."""
        return -(-self._lack(now) * _MICRO // self._unit)

    def restore(self, lacking: int, ago_ns: int, now: MonotonicNs) -> None:
        """Begin with what a bucket of this name lacked some time ago; never with more than it holds."""
        lack = min(lacking * self._unit // _MICRO, self._size) - max(ago_ns, 0) * self.limit
        self._due = now * self.limit + max(lack, 0)


class TokenBucket(Bucket):
    """A bucket whose calls take more than they use and give the rest back when they end.

    It then lacks exactly what it would if only what was used had been taken: what has been refilled since
    is not given a second time. A call can thus give back at most the least that was lacking at any later
    take. These lows are kept as the minima of what follows: in order, and growing.
    """

    __slots__ = ("_lows", "_marks", "_taken")

    def __init__(self, place: Place, kind: Kind, limit: int, now: MonotonicNs) -> None:
        super().__init__(place, kind, limit, now)
        self._taken = 0  # how many takes there were
        self._marks: list[int] = []  # of the takes that found the lows
        self._lows: list[int] = []

    def take(self, amount: int, now: MonotonicNs) -> None:
        """Take `amount`, whether it fits or not, for good."""
        self.reserve(amount, now)

    def reserve(self, amount: int, now: MonotonicNs) -> int:
        """Take `amount`, whether it fits or not; return a mark for `release`."""
        base = now * self.limit
        low = self._due - base
        if low > 0:
            self._due += amount * self._unit
        else:
            low = 0
            self._due = base + amount * self._unit
        lows, marks = self._lows, self._marks
        self._taken = mark = self._taken + 1
        while lows and lows[-1] >= low:
            lows.pop()
            marks.pop()
        lows.append(low)
        marks.append(mark)
        if len(lows) > _MOST_LOWS:
            self._merge_lows()
        return mark

    def _merge_lows(self) -> None:
        """Keep fewer lows, each the lowest of its neighbours: then a little too little is given back."""
        lows, marks = [self._lows[0]], [self._marks[0]]
        step = (self._lows[-1] - lows[0]) * 2 // _MOST_LOWS
        for low, mark in zip(self._lows, self._marks, strict=True):
            if low - lows[-1] <= step:
                marks[-1] = mark
            else:
                lows.append(low)
                marks.append(mark)
        self._lows, self._marks = lows, marks

    def release(self, amount: int, mark: int, now: MonotonicNs) -> None:
        """Give back a part of what was reserved with this mark, as if it had never been taken."""
        lack = self._due - now * self.limit
        if lack <= 0:
            return
        back = min(lack, amount * self._unit)
        marks = self._marks
        if marks[-1] > mark:  # there were takes after it
            back = self._lower(bisect_right(marks, mark), back)
        self._due -= back

    def _lower(self, at: int, back: int) -> int:
        """Lower the lows from one on, by what fits under the first of them; return that."""
        lows, marks = self._lows, self._marks
        back = min(back, lows[at])
        lows[at:] = [low - back for low in lows[at:]]
        while at and lows[at - 1] >= lows[at]:
            at -= 1
            del lows[at], marks[at]
        return back


class Count:
    """A limit on calls at once."""

    __slots__ = ("limit", "open", "place")

    def __init__(self, place: Place, limit: int) -> None:
        self.place = place
        self.limit = limit
        self.open = 0

    def full(self) -> bool:
        """Say whether no further call may begin."""
        return self.open >= self.limit

    def begin(self) -> None:
        """Count a call."""
        self.open += 1

    def end(self) -> None:
        """Count it no more."""
        self.open -= 1

    def idle(self) -> bool:
        """Say whether it says nothing: no call is open."""
        return not self.open
