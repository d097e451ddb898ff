"""Meters of which this worker has a part in hand; the rest is shared with others (`money/shares.py`).

They look like the meters of a single worker. What is in hand is spent at once; more is fetched from the
store (`sharing.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from headgate.admission.meters import (
    MINUTE_NS,
    WINDOWS,
    Bucket,
    Count,
    Group,
    Kind,
    Place,
    TokenBucket,
    TokenGroup,
)
from headgate.money.shares import MICRO, Ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.money.shares import Answer, Sight
    from headgate.values import MonotonicNs

_PLENTY: Final = 32  # times what a round takes
_REFUSED_NS: Final = 50_000_000  # what the store has refused is not asked for again sooner


class Hand:
    """What this worker has of one shared meter, and what it has to tell.

    `spare` is what is left of `held` after `spent`. What was given back beyond that is the store's to give.
    """

    __slots__ = (
        "free", "held", "idle", "known_ns", "moved_ns", "name", "others", "pace", "refused_until", "row",
        "sight", "spare", "spent", "taken", "used", "used_ns", "want",
    )  # fmt: skip

    def __init__(self, name: str, sight: Sight | None = None) -> None:
        self.name = name
        self.sight = sight
        self.row = 0  # in sight; 0: not known yet
        self.held = 0  # in hand, as the store knows it
        self.spent = 0  # since the store was told; of calls at once: those that are open
        self.spare = 0
        self.taken = 0  # since the last round
        self.pace = 0  # what a round takes, where that is little of what is free; else 0
        self.want = 0  # wished for, until the store has answered
        self.free = 0  # in nobody's hand, when the store last answered
        self.others = 0
        self.known_ns: MonotonicNs = 0
        self.used = 0  # by all, in millionths, when the store last said so
        self.used_ns: MonotonicNs = 0
        self.refused_until: MonotonicNs = 0
        self.moved_ns: MonotonicNs = 0
        self.idle = True  # nothing to tell

    def _level(self) -> None:
        self.spare = self.held - min(max(self.spent, 0), self.held)

    def take(self, amount: int) -> None:
        """Spend from the hand; what it lacks is spent all the same."""
        self.spent += amount
        self.taken += amount
        self._level()
        if self.sight is not None:
            self.sight.spend(self.row, amount)

    def give(self, amount: int) -> None:
        """Have spent less: what the store was not told of stays in hand."""
        self.spent -= amount
        self._level()
        if self.sight is not None:
            self.sight.spend(self.row, -amount)

    def let_go(self, *, all_of_it: bool) -> None:
        """Keep as much in hand as was taken since the last time, at most.

        Of what there is plenty, twice as much is kept, and what the next round will take is asked for in this
        one: then no call has to wait for the store.
        """
        plenty = self.free >= _PLENTY * self.taken and not all_of_it
        self.pace = self.taken if plenty else 0
        self.held -= self.spare - (0 if all_of_it else min(self.spare, self.taken + self.pace))
        self.taken = 0
        self._level()

    def report(self, limit: int, window_ns: int, now: MonotonicNs) -> Ask:
        """Return what the store is told, and take note that it is."""
        if window_ns:
            known, want = self.known(limit, window_ns, now), max(self.want, self.pace - self.spare)
            ask = Ask(self.name, limit, window_ns, self.spent, self.spare, want, known)
            self.held, self.spent = self.spare, 0
        else:
            ask = Ask(self.name, limit, 0, 0, self.held, self.want)
        self.want = 0
        self.idle = True
        return ask

    def known(self, limit: int, window_ns: int, now: MonotonicNs) -> int:
        """Return the millionths that are used by now, by what the store said last."""
        return max(0, self.used - (now - self.used_ns) * limit * MICRO // window_ns)

    def lose(self, held: int) -> None:
        """Have only so much in hand: the store knows of nothing."""
        self.held = held
        self._level()

    def untold(self, ask: Ask) -> None:
        """Take back a report that the store did not get."""
        self.spent += ask.spent
        self._level()

    def told(self, ask: Ask, answer: Answer, now: MonotonicNs) -> None:
        """Take what the store gives and says."""
        if self.sight is not None:
            if not self.row:  # what was spent before it had one
                self.row = answer.row
                self.sight.enter(self.name, self.row)
                self.sight.spend(self.row, ask.spent + self.spent)
            if answer.left is not None:
                self.sight.show(self.row, answer.left, answer.told, now)
        if answer.left is not None:
            self.used, self.used_ns = (ask.limit - answer.left) * MICRO, now
        self.held += answer.granted
        self._level()
        self.free, self.others, self.known_ns = answer.free, answer.others, now
        if answer.wait_ns:
            self.refused_until = now + min(answer.wait_ns, _REFUSED_NS)


class LeasedBucket(TokenBucket):
    """A shared limit on requests or tokens per window."""

    __slots__ = ("__weakref__", "hand", "touch")

    def __init__(
        self,
        place: Place,
        kind: Kind,
        limit: int,
        touch: Callable[[LeasedBucket], None],
        sight: Sight | None = None,
    ) -> None:
        super().__init__(place, kind, limit, 0)
        self.hand = Hand(place.named(kind), sight)
        self.touch = touch

    def change(self, limit: int, now: MonotonicNs) -> None:
        """Change the limit; the store hears of it with the next wish."""
        if limit != self.limit:
            self.hand.moved_ns = now
            self._resize(limit)
            self.touch(self)

    def _unheld(self, now: MonotonicNs) -> int:
        """Return what is in nobody's hand, as far as that is known here."""
        back = (now - self.hand.known_ns) * self.limit // self.unit
        return min(self.hand.free + max(back, 0), self.limit - self.hand.others - self.hand.spare)

    def wait_ns(self, amount: int, now: MonotonicNs) -> int:
        """Return 0 when `amount` is in hand, else how long until it can be, at least 1."""
        hand = self.hand
        if amount <= hand.spare:
            return 0
        lack = amount - hand.spare - max(self._unheld(now), 0)
        return max(lack * self.unit // self.limit, hand.refused_until - now, 1)

    def take(self, amount: int, now: MonotonicNs) -> None:
        """Spend `amount`, in hand or not."""
        self.hand.moved_ns = now
        self.hand.take(amount)
        if self.hand.idle:
            self.touch(self)

    def give(self, amount: int, now: MonotonicNs) -> None:
        """Give back what was spent a moment ago."""
        self.hand.moved_ns = now
        self.hand.give(amount)
        if self.hand.idle:
            self.touch(self)

    def reserve(self, amount: int, now: MonotonicNs) -> None:
        """Spend `amount` until `settle`."""
        self.take(amount, now)

    def settle(self, reserved: int, used: int, since: MonotonicNs, now: MonotonicNs) -> None:
        """End a call that has reserved so much."""
        if used > reserved:
            self.take(used - reserved, now)
        elif used < reserved:
            self.release(reserved - used, since, now)

    def release(self, amount: int, since: MonotonicNs, now: MonotonicNs) -> None:
        """Give back a part of what was reserved, as far as it cannot have been refilled since."""
        left = self.size - (now - since) * self.limit
        if left > 0:
            self.give(min(amount, left // self.unit), now)

    def remaining(self, now: MonotonicNs) -> int:
        """Return the whole units that nobody has used, as all workers of the machine see it.

        Where they do not, as far as it is known here: what is in others' hands is taken for not used.
        """
        hand = self.hand
        if hand.sight is not None:
            row = hand.row or hand.sight.find(hand.name)
            seen = hand.sight.left(row, self.limit, self.unit, now)
            if seen is not None:
                return seen
        return max(0, (self.size - self.lack(now)) // self.unit)

    def lack(self, now: MonotonicNs) -> int:
        """Return what it lacks as far as it is known here, in units times the window."""
        hand = self.hand
        left = hand.held - hand.spent + hand.others + hand.free
        back = max(now - hand.known_ns, 0) * self.limit
        return max((self.limit - left) * self.unit - back, 0)

    def used(self, now: MonotonicNs) -> int:
        """Return the units used."""
        return self.limit - self.remaining(now)

    def reset_ns(self, now: MonotonicNs) -> int:
        """Return how long until it is full."""
        return self.used(now) * self.unit // self.limit

    def idle(self, now: MonotonicNs) -> bool:
        """Say whether it may be forgotten: nothing is in hand, and no open call is likely."""
        hand = self.hand
        return hand.idle and not hand.spare and now - hand.moved_ns > MINUTE_NS

    def lacking(self, now: MonotonicNs) -> int:
        """Return what it lacks in millionths of a unit."""
        return self.used(now) * MICRO

    def restore(self, lacking: int, ago_ns: int, now: MonotonicNs) -> None:
        """Know what it lacked some time ago, for a store that does not."""
        self.hand.used, self.hand.used_ns = lacking, now - ago_ns

    def lose(self, now: MonotonicNs) -> bool:
        """Have nothing in hand; say whether there is something that a store does not know then."""
        self.hand.lose(0)
        return bool(self.hand.spent or self.hand.known(self.limit, self.unit, now))

    def report(self, now: MonotonicNs) -> Ask:
        """Return what the store is told."""
        return self.hand.report(self.limit, WINDOWS[self.kind], now)


class LeasedCount(Count):
    """A shared limit on calls at once."""

    __slots__ = ("__weakref__", "hand", "touch")

    def __init__(self, place: Place, limit: int, touch: Callable[[LeasedCount], None]) -> None:
        super().__init__(place, limit)
        self.hand = Hand(place.named("concurrency"))
        self.touch = touch

    def room(self) -> int:
        """Return how many further calls may begin before the store is asked."""
        return self.hand.spare

    def begin(self, calls: int = 1) -> None:
        """Count a call, or several."""
        self.open += calls
        self.hand.take(calls)
        if self.hand.idle:
            self.touch(self)

    def end(self, calls: int = 1) -> None:
        """Count it, or them, no more; the room stays in hand for a round."""
        self.open -= calls
        self.hand.give(calls)
        if self.hand.idle:
            self.touch(self)

    def idle(self) -> bool:
        """Say whether it may be forgotten."""
        return self.hand.idle and not self.hand.spare and not self.open

    def lose(self, _now: MonotonicNs) -> bool:
        """Have in hand what is open; say whether that is something."""
        self.hand.lose(self.open)
        return self.open > 0

    def report(self, now: MonotonicNs) -> Ask:
        """Return what the store is told: open calls stay in hand."""
        return self.hand.report(self.limit, 0, now)


Meter: TypeAlias = LeasedBucket | LeasedCount


class LeasedGroup(Group):
    """Shared buckets that a call passes together. Each call meets several: loops do without their methods."""

    __slots__ = ()
    buckets: tuple[LeasedBucket, ...]

    def passes(self, amount: int, _now: MonotonicNs) -> bool:
        """Say whether each has `amount` in hand."""
        return all(amount <= bucket.hand.spare for bucket in self.buckets)

    def take(self, amount: int, now: MonotonicNs) -> None:
        """Spend `amount` from each, in hand or not."""
        for bucket in self.buckets:
            hand = bucket.hand
            hand.moved_ns = now
            hand.taken += amount
            hand.spent = spent = hand.spent + amount
            hand.spare = max(hand.held - spent, 0) if spent > 0 else hand.held
            if hand.sight is not None:
                hand.sight.spend(hand.row, amount)
            if hand.idle:
                bucket.touch(bucket)

    def least(self, now: MonotonicNs) -> tuple[int, int, int]:
        """Return the limit of the bucket with the fewest units left, those, and when it is full again."""
        left = [bucket.remaining(now) for bucket in self.buckets]
        fewest = min(left)
        least = self.buckets[left.index(fewest)]
        return least.limit, fewest, (least.limit - fewest) * least.unit // least.limit

    def tightest(self, now: MonotonicNs) -> tuple[LeasedBucket, int, int]:
        """Return the bucket with the fewest units left, what it lacks, and how many each has in hand."""
        lacks = [bucket.lack(now) for bucket in self.buckets]
        left = [(bucket.size - lack) // bucket.unit for bucket, lack in zip(self.buckets, lacks, strict=True)]
        at = left.index(min(left))
        return self.buckets[at], lacks[at], min(bucket.hand.spare for bucket in self.buckets)


class LeasedTokenGroup(LeasedGroup, TokenGroup):
    """The same of buckets that give back what a call did not use."""

    __slots__ = ()
    buckets: tuple[LeasedBucket, ...]

    def reserve(self, amount: int, now: MonotonicNs) -> None:
        """Spend `amount` from each until `settle`, in hand or not."""
        self.take(amount, now)

    def book(self, taken: int, unused: int, _reserved: int, now: MonotonicNs) -> None:
        """Take from each what some calls took but did not leave unused; as much is kept as they took."""
        self.take(taken - unused, now)
        for bucket in self.buckets:
            bucket.hand.taken += unused

    def settle(self, reserved: int, used: int, since: MonotonicNs, now: MonotonicNs) -> None:
        """End a call in each that has reserved so much at a time."""
        over = used - reserved
        if over >= 0:
            if over:
                self.take(over, now)
            return
        for bucket in self.buckets:
            left = bucket.size - (now - since) * bucket.limit
            if left <= 0:
                continue
            amount = min(-over, left // bucket.unit)
            hand = bucket.hand
            hand.moved_ns = now
            hand.spent = spent = hand.spent - amount
            hand.spare = max(hand.held - spent, 0) if spent > 0 else hand.held
            if hand.sight is not None:
                hand.sight.spend(hand.row, -amount)
            if hand.idle:
                bucket.touch(bucket)


def group(buckets: tuple[Bucket, ...]) -> Group:
    """Return some buckets as a group."""
    leased = tuple(bucket for bucket in buckets if isinstance(bucket, LeasedBucket))
    return LeasedGroup(leased) if 0 < len(leased) == len(buckets) else Group(buckets)


def token_group(buckets: tuple[TokenBucket, ...]) -> TokenGroup:
    """Return some buckets of tokens as a group."""
    leased = tuple(bucket for bucket in buckets if isinstance(bucket, LeasedBucket))
    return LeasedTokenGroup(leased) if 0 < len(leased) == len(buckets) else TokenGroup(buckets)
