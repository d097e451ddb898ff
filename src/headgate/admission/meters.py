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
_UNBOUND: Final = 1 << 62


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

    __slots__ = ("due", "kind", "limit", "place", "size", "unit")

    def __init__(self, place: Place, kind: Kind, limit: int, now: MonotonicNs) -> None:
        self.place = place
        self.kind: Kind = kind
        self.unit = WINDOWS[kind]
        self._resize(limit)
        self.due = now * limit

    def _resize(self, limit: int) -> None:
        self.limit = limit
        self.size = limit * self.unit

    def change(self, limit: int, now: MonotonicNs) -> None:
        """Change the limit; what is used stays used, as far as the new limit goes."""
        if limit == self.limit:
            return
        lack = self._lack(now)
        self._resize(limit)
        self.due = now * limit + min(lack, self.size)

    def _lack(self, now: MonotonicNs) -> int:
        lack = self.due - now * self.limit
        return max(lack, 0)

    def wait_ns(self, amount: int, now: MonotonicNs) -> int:
        """Return how long until `amount` fits: 0 when it does now. Above the limit it never does."""
        over = amount * self.unit - self.size
        lack = self.due - now * self.limit
        if lack > 0:
            over += lack
        return -(-over // self.limit) if over > 0 else 0

    def take(self, amount: int, now: MonotonicNs) -> None:
        """Take `amount`, whether it fits or not."""
        base = now * self.limit
        if self.due > base:
            self.due += amount * self.unit
        else:
            self.due = base + amount * self.unit

    def give(self, amount: int, now: MonotonicNs) -> None:
        """Give back what was taken a moment ago; more than it lacks is lost."""
        self.due -= min(amount * self.unit, self._lack(now))

    def remaining(self, now: MonotonicNs) -> int:
        """Return the whole units left."""
        lack = self.due - now * self.limit
        if lack <= 0:
            return self.limit
        left = self.size - lack
        return left // self.unit if left > 0 else 0

    def used(self, now: MonotonicNs) -> int:
        """Return the units used, a begun one as a whole."""
        return -(-self._lack(now) // self.unit)

    def reset_ns(self, now: MonotonicNs) -> int:
        """Return how long until it is full."""
        lack = self.due - now * self.limit
        return -(-lack // self.limit) if lack > 0 else 0

    def idle(self, now: MonotonicNs) -> bool:
        """Say whether it says nothing: it is full."""
        return self.due <= now * self.limit

    # ── across restarts ──────────────────────────────────────────────────────────────────────────

    def lacking(self, now: MonotonicNs) -> int:
        """Return what it lacks in millionths of a unit, rounded up."""
        return -(-self._lack(now) * _MICRO // self.unit)

    def restore(self, lacking: int, ago_ns: int, now: MonotonicNs) -> None:
        """Begin with what a bucket of this name lacked some time ago; never with more than it holds."""
        lack = min(lacking * self.unit // _MICRO, self.size) - max(ago_ns, 0) * self.limit
        self.due = now * self.limit + max(lack, 0)


class TokenBucket(Bucket):
    """A bucket whose calls take more than they use and give the rest back when they end.

    It then lacks exactly what it would if only what was used had been taken: what has been refilled since
    is not given a second time. A call can thus give back at most the least that was lacking at any later
    take; nothing, once one has found it full. The other lows are kept as the minima of what follows: in
    order, and growing. One that is not below all that open calls have reserved can bound none of them, and
    is not kept. Takes of one moment refill nothing between them, so they need no order.
    """

    __slots__ = ("full_at", "lows", "reserved", "times")

    def __init__(self, place: Place, kind: Kind, limit: int, now: MonotonicNs) -> None:
        super().__init__(place, kind, limit, now)
        self.reserved = 0  # by open calls, in units times the window
        self.full_at: MonotonicNs = now  # when a take last found it full
        self.times: list[MonotonicNs] = []  # of the takes that found the lows
        self.lows: list[int] = []

    def take(self, amount: int, now: MonotonicNs) -> None:
        """Take `amount`, whether it fits or not, for good."""
        base = now * self.limit
        low = self.due - base
        if low <= 0:
            low, self.full_at = 0, now
        elif low < self.reserved:
            self.note(low, now)
        self.due = base + low + amount * self.unit

    def reserve(self, amount: int, now: MonotonicNs) -> None:
        """Take `amount`, whether it fits or not, until `settle`."""
        self.take(amount, now)
        self.reserved += amount * self.unit

    def settle(self, reserved: int, used: int, since: MonotonicNs, now: MonotonicNs) -> None:
        """End a call: give back what of its reservation it did not use, or take what it used beyond."""
        self.reserved -= reserved * self.unit
        if used > reserved:
            self.take(used - reserved, now)
        elif used < reserved:
            self.release(reserved - used, since, now)

    def note(self, low: int, now: MonotonicNs) -> None:
        """Keep what was lacking at a take."""
        lows, times = self.lows, self.times
        if times and times[-1] <= self.full_at:  # whoever they could bound has nothing to give back
            lows.clear()
            times.clear()
        while lows and lows[-1] >= low:
            lows.pop()
            times.pop()
        lows.append(low)
        times.append(now)
        if len(lows) > _MOST_LOWS:
            self._merge_lows()

    def _merge_lows(self) -> None:
        """Keep fewer lows, each the lowest of its neighbours: then a little too little is given back."""
        lows, times = [self.lows[0]], [self.times[0]]
        step = (self.lows[-1] - lows[0]) * 2 // _MOST_LOWS
        for low, time in zip(self.lows, self.times, strict=True):
            if low - lows[-1] <= step:
                times[-1] = time
            else:
                lows.append(low)
                times.append(time)
        self.lows, self.times = lows, times

    def release(self, amount: int, since: MonotonicNs, now: MonotonicNs) -> None:
        """Give back a part of what was reserved at a time, as if it had never been taken."""
        lack = self.due - now * self.limit
        if lack <= 0 or since < self.full_at:
            return
        back = min(lack, amount * self.unit)
        times = self.times
        if times and times[-1] > since:  # there were takes after it
            back = self._lower(bisect_right(times, since), back)
        self.due -= back

    def _lower(self, at: int, back: int) -> int:
        """Lower the lows from one on, by what fits under the first of them; return that."""
        lows, times = self.lows, self.times
        back = min(back, lows[at])
        lows[at:] = [low - back for low in lows[at:]]
        while at and lows[at - 1] >= lows[at]:
            at -= 1
            del lows[at], times[at]
        return back


class Group:
    """Buckets that a call passes together: all of them, or none."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: tuple[Bucket, ...]) -> None:
        self.buckets = buckets

    def passes(self, amount: int, now: MonotonicNs) -> bool:
        """Say whether `amount` fits into each now."""
        return not any(bucket.wait_ns(amount, now) for bucket in self.buckets)

    def take(self, amount: int, now: MonotonicNs) -> None:
        """Take `amount` from each for good, whether it fits or not."""
        for bucket in self.buckets:
            bucket.take(amount, now)

    def tightest(self, now: MonotonicNs) -> tuple[Bucket, int, int]:
        """Return the bucket with the fewest units left, what it lacks, and how many units pass all of them.

        These are below 0 where one lacks more than it holds; of several such the first has the fewest left.
        """
        least, lacked = self.buckets[0], 0
        fewest = room = _UNBOUND
        for bucket in self.buckets:
            lack, left = bucket.due - now * bucket.limit, bucket.limit
            if lack > 0:
                left = (bucket.size - lack) // bucket.unit
            room = min(room, left)
            if left < fewest > 0:
                least, lacked, fewest = bucket, max(lack, 0), left
        return least, lacked, room

    def least(self, now: MonotonicNs) -> tuple[int, int, int]:
        """Return the limit of the bucket with the fewest units left, those, and when it is full again."""
        left = [bucket.remaining(now) for bucket in self.buckets]
        fewest = min(left)
        least = self.buckets[left.index(fewest)]
        return least.limit, fewest, least.reset_ns(now)


class TokenGroup(Group):
    """The same of buckets that give back what a call did not use."""

    __slots__ = ("tokens",)

    def __init__(self, buckets: tuple[TokenBucket, ...]) -> None:
        super().__init__(buckets)
        self.tokens = buckets

    def reserve(self, amount: int, now: MonotonicNs) -> None:
        """Take `amount` from each until `settle`, whether it fits or not."""
        for bucket in self.tokens:
            bucket.reserve(amount, now)

    def settle(self, reserved: int, used: int, since: MonotonicNs, now: MonotonicNs) -> None:
        """End a call in each that has reserved so much at a time."""
        for bucket in self.tokens:
            bucket.settle(reserved, used, since, now)

    def book(self, taken: int, unused: int, reserved: int, now: MonotonicNs) -> None:
        """Take from each what some calls took but did not leave unused, of which so much is to be settled."""
        for bucket in self.tokens:
            bucket.take(taken - unused, now)
            bucket.reserved += reserved * bucket.unit

    def release(self, amount: int, since: MonotonicNs, now: MonotonicNs) -> None:
        """Give back to each a part of what was reserved at a time, as if it had never been taken."""
        for bucket in self.tokens:
            bucket.release(amount, since, now)


class Count:
    """A limit on calls at once."""

    __slots__ = ("limit", "open", "place")

    def __init__(self, place: Place, limit: int) -> None:
        self.place = place
        self.limit = limit
        self.open = 0

    def room(self) -> int:
        """Return how many further calls may begin; 0 or less: none."""
        return self.limit - self.open

    def full(self) -> bool:
        """Say whether no further call may begin."""
        return self.room() <= 0

    def begin(self, calls: int = 1) -> None:
        """Count a call, or several."""
        self.open += calls

    def end(self, calls: int = 1) -> None:
        """Count it, or them, no more."""
        self.open -= calls

    def idle(self) -> bool:
        """Say whether it says nothing: no call is open."""
        return not self.open
