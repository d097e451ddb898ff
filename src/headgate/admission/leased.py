"""Meters of which this worker has a part in hand; the rest is shared with others (`money/shares.py`).

They look like the meters of a single worker. What is in hand is spent at once; more is fetched from the
store, many wishes in one step, off the loop. What is not used comes back within two rounds of `EVERY_S`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from headgate.admission.meters import MINUTE_NS, WINDOWS, Count, Kind, Place, TokenBucket
from headgate.errors import Unavailable
from headgate.money.shares import MICRO, Ask
from headgate.ports import Forgotten

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.admission.gates import Gate
    from headgate.money.shares import Answer, Sight
    from headgate.ports import Clock, SharedMeters
    from headgate.values import MonotonicNs

EVERY_S: Final = 0.1
_ROUNDS: Final = 8  # of asking for one call
_AT_ONCE: Final = 256  # meters in one exchange: the store serves others, too
_REFUSED_NS: Final = 50_000_000  # what the store has refused is not asked for again sooner


class Hand:
    """What this worker has of one shared meter, and what it has to tell.

    `spare` is what is left of `held` after `spent`. What was given back beyond that is the store's to give.
    """

    __slots__ = (
        "free", "held", "idle", "known_ns", "moved_ns", "name", "others", "refused_until", "row", "sight",
        "spare", "spent", "taken", "used", "used_ns", "want",
    )  # fmt: skip

    def __init__(self, name: str, sight: Sight | None = None) -> None:
        self.name = name
        self.sight = sight
        self.row = 0  # in sight; 0: not known yet
        self.held = 0  # in hand, as the store knows it
        self.spent = 0  # since the store was told; of calls at once: those that are open
        self.spare = 0
        self.taken = 0  # since the last round
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
        """Keep as much in hand as was taken since the last time, at most."""
        self.held -= self.spare - (0 if all_of_it else min(self.spare, self.taken))
        self.taken = 0
        self._level()

    def report(self, limit: int, window_ns: int, now: MonotonicNs) -> Ask:
        """Return what the store is told, and take note that it is."""
        if window_ns:
            known = self.known(limit, window_ns, now)
            ask = Ask(self.name, limit, window_ns, self.spent, self.spare, self.want, known)
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

    __slots__ = ("__weakref__", "_touch", "hand")

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
        self._touch = touch

    def change(self, limit: int, now: MonotonicNs) -> None:
        """Change the limit; the store hears of it with the next wish."""
        if limit != self.limit:
            self.hand.moved_ns = now
            self._resize(limit)
            self._touch(self)

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
            self._touch(self)

    def give(self, amount: int, now: MonotonicNs) -> None:
        """Give back what was spent a moment ago."""
        self.hand.moved_ns = now
        self.hand.give(amount)
        if self.hand.idle:
            self._touch(self)

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
        return max(0, min(self.hand.spare + self._unheld(now) + self.hand.others, self.limit))

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

    __slots__ = ("__weakref__", "_touch", "hand")

    def __init__(self, place: Place, limit: int, touch: Callable[[LeasedCount], None]) -> None:
        super().__init__(place, limit)
        self.hand = Hand(place.named("concurrency"))
        self._touch = touch

    def full(self) -> bool:
        """Say whether no further call may begin before the store is asked."""
        return self.hand.spare <= 0

    def begin(self) -> None:
        """Count a call."""
        self.open += 1
        self.hand.take(1)
        if self.hand.idle:
            self._touch(self)

    def end(self) -> None:
        """Count it no more; its room stays in hand for a round."""
        self.open -= 1
        self.hand.give(1)
        if self.hand.idle:
            self._touch(self)

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


Meter = LeasedBucket | LeasedCount


def _hand(meter: object) -> Hand:
    assert isinstance(meter, Meter)
    return meter.hand


class Shares:
    """One worker's way to the shared meters.

    Args:
        slot: of this worker.
        store: where they are.
        clock: monotonic time, which all workers share.
        report: told what the store said when it began to refuse.
        sight: what the workers of this machine see of one another; None: nothing.
        beat_ns: the store hears of this worker at least so often; 0: it need not.
    """

    __slots__ = (
        "_beat_ns",
        "_bell",
        "_clock",
        "_made",
        "_report",
        "_round_ns",
        "_sight",
        "_slot",
        "_store",
        "_told_ns",
        "_touched",
        "_waiting",
        "answered",
        "trouble",
    )

    def __init__(
        self,
        slot: int,
        store: SharedMeters,
        clock: Clock,
        report: Callable[[str], None] = lambda _: None,
        sight: Sight | None = None,
        *,
        beat_ns: int = 0,
    ) -> None:
        self._slot = slot
        self._beat_ns = beat_ns
        self._told_ns: MonotonicNs = 0
        self._made: WeakSet[Meter] = WeakSet()
        self._sight = sight
        self._report = report
        self._store = store
        self._clock = clock
        self._touched: dict[Meter, None] = {}  # with something to tell
        self._waiting: list[asyncio.Future[None]] = []
        self._bell = asyncio.Event()
        self._round_ns: MonotonicNs = 0
        self.answered: Callable[[], None] = lambda: None  # told when the store has answered wishes
        self.trouble = ""  # what the store said when it refused

    def touch(self, meter: Meter) -> None:
        """Note that a meter has something to tell."""
        meter.hand.idle = False
        self._touched[meter] = None

    def bucket(self, place: Place, kind: Kind, limit: int) -> LeasedBucket:
        """Return a shared bucket."""
        bucket = LeasedBucket(place, kind, limit, self.touch, self._sight)
        self._made.add(bucket)
        return bucket

    def count(self, place: Place, limit: int) -> LeasedCount:
        """Return a shared count."""
        count = LeasedCount(place, limit, self.touch)
        self._made.add(count)
        return count

    def wish(self, gate: Gate, tokens: int, now: MonotonicNs) -> bool:
        """Ask for what a call lacks; False where the store has just refused some of it."""
        lacking: list[tuple[Meter, int]] = []
        for meter in gate.meters():
            assert isinstance(meter, Meter)
            requests = isinstance(meter, LeasedCount) or meter.kind in {"rpm", "rpd"}
            lack = (1 if requests else tokens) - meter.hand.spare
            if lack > 0:
                lacking.append((meter, lack))
        if any(meter.hand.refused_until > now for meter, _ in lacking):
            return False
        for meter, lack in lacking:
            meter.hand.want += lack
            self.touch(meter)
        self._bell.set()
        return True

    async def fetch(self, gate: Gate, tokens: int) -> None:
        """Ask for what a call lacks and wait for the answers; once more where others have it in hand."""
        patient = True
        for _ in range(_ROUNDS):
            now = self._clock.monotonic()
            if not gate.wait_ns(tokens, now):
                return
            if self.wish(gate, tokens, now):
                waited = asyncio.get_running_loop().create_future()
                self._waiting.append(waited)
                await waited
            elif patient and any(_hand(meter).others for meter in gate.meters()):
                patient = False
                await asyncio.sleep(1.5 * EVERY_S)  # by then they have given back what they do not use
            else:
                return

    async def run(self) -> None:
        """Tell and ask for as long as the process lives."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._bell.wait()
            self._bell.clear()
            await self.tell()

    async def tell(self, *, leaving: bool = False) -> None:
        """Tell the store everything once; take what it gives."""
        now = self._clock.monotonic()
        waiting, self._waiting = self._waiting, []
        if leaving or now - self._round_ns >= EVERY_S * 1_000_000_000:
            self._round_ns = now
            for meter in self._touched:
                meter.hand.let_go(all_of_it=leaving)
        meters = self._take_touched()
        asks = [meter.report(now) for meter in meters]
        if asks or (self._beat_ns and now - self._told_ns >= self._beat_ns):
            self._told_ns = now
            await self._exchange(meters, asks, now)
        for waited in waiting:
            if not waited.done():
                waited.set_result(None)
        if any(ask.want for ask in asks):
            self.answered()

    def _take_touched(self) -> list[Meter]:
        """Return what is told now: those that are waited for, then as many others as one step takes."""
        meters = list(self._touched)
        if len(meters) > _AT_ONCE:
            meters.sort(key=lambda meter: not meter.hand.want)
            self._bell.set()
        self._touched = dict.fromkeys(meters[_AT_ONCE:])
        return meters[:_AT_ONCE]

    async def _exchange(self, meters: list[Meter], asks: list[Ask], now: MonotonicNs) -> None:
        try:
            answers = await self._store.exchange(self._slot, asks, now)
        except Forgotten:
            self._begin_anew(meters, asks, now)
            return
        except Unavailable as fault:
            if not self.trouble:
                self._report(fault.message)
            self.trouble = fault.message
            for meter, ask in zip(meters, asks, strict=True):
                meter.hand.untold(ask)
                self.touch(meter)
            return
        self.trouble = ""
        for meter, ask, answer in zip(meters, asks, answers, strict=True):
            meter.hand.told(ask, answer, now)
            if meter.hand.spare > 0:  # what is not used goes back in a later round
                self.touch(meter)

    def _begin_anew(self, meters: list[Meter], asks: list[Ask], now: MonotonicNs) -> None:
        """Tell the store what it may have lost: what was used and what is open. Nothing else is in hand."""
        for meter, ask in zip(meters, asks, strict=True):
            meter.hand.untold(ask)
            self.touch(meter)
        for meter in tuple(self._made):
            if meter.lose(now):
                self.touch(meter)
        self._bell.set()
