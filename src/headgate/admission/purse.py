"""What one worker may spend: its slices of the pots, and what it owes the store. Pure: no I/O, no waiting.

`collect` says what to tell the store now, `apply` takes what came of it, `answer` what others want of it.
Meanwhile `Budgets` spends from the slices: it only compares and subtracts integers.

What is given back is taken out of a slice before it is told, and what is granted is put in after it was
told, so the store never believes that a worker has less than it can spend. A batch whose answer was lost may
have been applied: what it gave back is told again in the same turn until it is answered, and counts once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from headgate.money.pots import NEAR_THE_END, Batch, PotName
from headgate.walks import Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headgate.admission.allotment import Allotment
    from headgate.money.pots import Lot, Outcome, Want
    from headgate.values import MonotonicNs, WallMicros

LEASE_NS: Final = 1_000_000_000  # without a look at the store for so long, a worker asks before it spends
_LIVE_NS: Final = 2_000_000_000  # a slot whose stamp has not changed for so long is not waited for
_BEAT_NS: Final = 400_000_000
_LOOK_NS: Final = 100_000_000  # between two looks at how fast slices are spent,
_LOOKED_AT: Final = 400  # of them, at most,
_PACED_NS: Final = 1_000_000_000  # and at the same one
_PACE_S: Final = 10.0  # the memory of that
_LASTS_S: Final = 60.0  # a slice is filled up to what it gives in so long, once it is half empty
_FROZEN: Final = 2**61  # taken off a slice from which nothing may be spent


class Slice:
    """This worker's part of one pot.

    `free` is what may be held by the next call; it alone is looked at for each call.
    """

    __slots__ = (
        "allotments", "drawn", "elsewhere", "free", "frozen", "grant", "granted", "heard", "known",
        "looked_at", "model", "name", "need", "others", "per_s", "pot", "required", "retired", "seen",
        "until",
    )  # fmt: skip

    def __init__(self, name: PotName) -> None:
        self.name = name
        self.until = name.until
        self.grant = name.ref
        self.model = ""  # that a grant in tokens is for
        self.pot = 0  # its id, once the store has told it
        self.free = 0
        self.drawn = 0  # charged by calls of this worker
        self.allotments = 0  # that are open: what they have is as if it was held
        self.granted = 0  # by the store, less what was given back
        self.frozen = False  # the pot was lowered: what becomes free goes back
        self.retired = False  # its period is over, or its budget gone
        self.known = False  # the rest is as the store has it, and it tells when that changes
        self.elsewhere = 0  # in nobody's slice
        self.others = 0  # in the slices of other slots
        self.heard = -1
        self.required = 0
        self.need = 0  # of the call that was the last to ask the store
        self.per_s = 0.0  # of this worker's charges
        self.seen = 0  # what was drawn
        self.looked_at: MonotonicNs = 0  # then

    @property
    def unused(self) -> int:
        """Return what is neither charged nor held."""
        return max(0, self.free + _FROZEN if self.frozen else self.free)

    @property
    def held(self) -> int:
        """Return what open calls hold."""
        return self.granted - self.drawn - self.unused

    @property
    def reach(self) -> int:
        """Return what a call could have now."""
        return max(0, self.free) + self.elsewhere

    @property
    def hope(self) -> int:
        """Return what a call could have if every other hold were released, here and elsewhere."""
        return self.granted - self.drawn + self.elsewhere + self.others

    def look(self, monotonic: MonotonicNs) -> int:
        """Learn how fast it is spent; return what it should have more, if there is plenty, or 0."""
        passed = monotonic - self.looked_at
        if passed < _PACED_NS:
            return 0
        if self.looked_at:
            per_s = max(0, self.drawn - self.seen) * 1_000_000_000 / passed
            self.per_s += (per_s - self.per_s) * min(1.0, passed / 1e9 / _PACE_S)
        self.seen, self.looked_at = self.drawn, monotonic
        lasts = int(self.per_s * _LASTS_S)
        full = lasts + min(self.need, lasts)  # a call holds more than it costs
        if self.frozen or self.retired or not self.pot or 2 * self.unused >= full:
            return 0
        lack = full - self.unused
        return lack if self.elsewhere >= NEAR_THE_END * lack else 0

    def freeze(self, frozen: bool) -> None:
        """Let nothing be spent from it, or again."""
        if frozen != self.frozen:
            self.frozen = frozen
            self.free += -_FROZEN if frozen else _FROZEN

    def take_back(self) -> int:
        """Take out what is unused, to give it back."""
        unused = self.unused
        self.free -= unused
        self.granted -= unused
        return unused


def spent_next(offers: tuple[Slice, ...]) -> Slice | None:
    """Return the grant that is spent next; None where that is one in tokens.

    One of which nothing is left or held anywhere is passed over: what is added to it comes with a change.
    """
    for own in offers:
        if not own.known or own.hope > 0:
            return None if own.model else own
    return None


class Purse:
    """All slices of one worker.

    Args:
        slot: of the worker.
        time_ns: monotonic, and runs on while the machine sleeps.
    """

    def __init__(self, slot: str, time_ns: Callable[[], MonotonicNs] = time.monotonic_ns) -> None:
        self.slot = slot
        self.time_ns = time_ns
        self.epoch = 0  # of this worker in its slot; the store refuses it once there is a later one
        self.fenced = False
        self.closing = False  # everything unused goes back, and nothing is taken
        self.booked = True  # all that it has charged is in the books, so that its slot can be said to be left
        self.live: frozenset[str] = frozenset([slot])
        self.good_until: MonotonicNs = 0  # until when slices may be spent without asking
        self.allotments: set[Allotment] = set()  # that are open
        self._slices: dict[PotName, Slice] = {}
        self._by_pot: dict[int, Slice] = {}
        self._draining: set[Slice] = set()  # frozen or retired
        self._returns: dict[int, int] = {}  # not yet told
        self._answers: dict[int, int] = {}
        self._turn = 0
        self._told: Batch | None = None  # not answered: nobody knows whether it was applied
        self._seen = 0
        self._stamps: dict[str, tuple[int, MonotonicNs]] = {}
        self._beat_at: MonotonicNs = 0
        self._walk = Walk[PotName](_LOOKED_AT)
        self._looked_at: MonotonicNs = 0

    @property
    def alone(self) -> bool:
        """Say whether no other worker lives."""
        return len(self.live) == 1

    def slice(self, name: PotName, *, revived: bool = True) -> Slice:
        """Return this worker's slice of a pot, empty if it never had one.

        Args:
            name: of the pot.
            revived: one that was retired may be spent from again.
        """
        found = self._slices.get(name)
        if found is None:
            found = self._slices[name] = Slice(name)
        elif found.retired and revived:
            found.retired = False
            if not found.frozen:
                self._draining.discard(found)
        return found

    def retire(self, unwanted: Slice) -> None:
        """Give a slice back as far as it is not held, now and as its holds are closed."""
        unwanted.retired = True
        self._draining.add(unwanted)

    def doubt(self) -> None:
        """Note that pots may have grown: who finds too little asks the store again."""
        for each in self._slices.values():
            each.known = False

    def gather(self, only: Allotment | None = None) -> None:
        """Put what is allotted and not held back into the slices, of one allotment or of all."""
        if only is None:
            ended, self.allotments = self.allotments, set()
            for each in ended:
                each.end()
        elif only in self.allotments:
            self.allotments.remove(only)
            only.end()

    @property
    def idle(self) -> bool:
        """Say whether there is nothing to tell the store."""
        return not (self._returns or self._answers or self._draining)

    @property
    def ending(self) -> bool:
        """Say whether what `collect` returns next is the last of a worker that closes."""
        return self.closing and self._told is None

    # ── to the store, and back ───────────────────────────────────────────────────────────────────

    def collect(self, wants: Sequence[Want], now: WallMicros, monotonic: MonotonicNs) -> Batch:
        """Return what to tell the store.

        Args:
            wants: of the calls that wait, in the order in which they came.
            now: wall time, for people who look at the slots.
            monotonic: for how long which slot has been silent.
        """
        self.gather()
        ending = self.ending
        if self.closing:
            self._draining.update(self._slices.values())
        for each in self._draining:
            self._give_back(each)
        told = self._told
        if told is None:
            self._turn += 1
        for want in wants:
            self._heed(want)
        self._told = Batch(
            slot=self.slot,
            epoch=self.epoch,
            now=now,
            turn=self._turn,
            live=self.live,
            wants=tuple(wants),
            free={name: self._slices[name].unused for name in _named(wants) if name in self._slices},
            ahead=self._ahead(monotonic),
            returns=dict(self._returns) if told is None else told.returns,
            answers=dict(self._answers) if told is None else told.answers,
            watched=tuple(each.pot for each in self._draining if each.frozen),
            seen=self._seen,
            beat=told is not None or monotonic - self._beat_at >= _BEAT_NS,  # else a turn is only looked at
            leaving=ending and self.booked,
        )
        return self._told

    def apply(self, batch: Batch, outcome: Outcome, monotonic: MonotonicNs) -> None:
        """Take what the store said to a batch: what was granted can be spent now."""
        if outcome.fenced:
            self.fenced = True
            return
        self._told = None
        if batch.beat:
            self._beat_at = monotonic
        for pot, amount in batch.returns.items():
            self._returns[pot] -= amount
            if not self._returns[pot]:
                del self._returns[pot]
        for pot, number in batch.answers.items():
            if self._answers.get(pot) == number:
                del self._answers[pot]
        self._notice(outcome, monotonic)
        for lot in outcome.lots:
            self._take(lot)

    def answer(self, outcome: Outcome) -> bool:
        """Give back what others lack, once those who were granted it have it; say whether to tell at once."""
        for pot, number in outcome.recalled.items():
            self._recall(pot, number)
        self._seen = max(self._seen, outcome.seen)
        self._forget()
        return bool(self._returns or self._answers)

    def renew(self, monotonic: MonotonicNs) -> None:
        """Note that this worker runs: it may go on spending, unless it had stopped for too long."""
        if monotonic <= self.good_until:
            self.good_until = monotonic + LEASE_NS

    def _heed(self, want: Want) -> None:
        for name in (*want.all_of, *want.sources):
            if (own := self._slices.get(name)) is not None:
                own.need = want.tokens if name.kind == "tokens" else want.amount

    def _ahead(self, monotonic: MonotonicNs) -> dict[PotName, int]:
        """Return what slices should have more, to last while the store is away; some are looked at."""
        if self.alone or self.closing or monotonic - self._looked_at < _LOOK_NS:
            return {}
        self._looked_at = monotonic
        names = self._walk.part(self._slices.keys())
        return {name: lack for name in names if (lack := self._slices[name].look(monotonic))}

    def _notice(self, outcome: Outcome, monotonic: MonotonicNs) -> None:
        """Learn which slots live, by their stamps and our own time, whatever their clocks say."""
        stamps = {}
        for slot, stamp in outcome.slots.items():
            known = self._stamps.get(slot)
            stamps[slot] = known if known is not None and known[0] == stamp else (stamp, monotonic)
        self._stamps = stamps
        silent = monotonic - _LIVE_NS
        self.live = frozenset([self.slot, *(slot for slot, (_, at) in stamps.items() if at > silent)])
        self.good_until = monotonic + LEASE_NS

    def _take(self, lot: Lot) -> None:
        """Put in what was granted, and learn how the pot stands."""
        own = self._slices.get(lot.name) or self._by_pot.get(lot.pot)
        if own is None:  # its period was over before this came
            if lot.granted:
                self._returns[lot.pot] = self._returns.get(lot.pot, 0) + lot.granted
            return
        if not lot.pot:  # the reload that takes it away is under way
            own.elsewhere = _FROZEN // 2 if lot.name.kind == "budget" else 0
            own.others, own.required = 1, 0
            return
        self.gather()  # nothing that was allotted may be held once it is frozen
        own.pot = lot.pot
        self._by_pot[lot.pot] = own
        own.granted += lot.granted
        own.free += lot.granted
        own.elsewhere, own.others = lot.free, lot.others
        own.heard, own.required, own.known = lot.heard, lot.required, True
        own.freeze(lot.over > 0)
        if own.frozen:
            self._draining.add(own)
            self._give_back(own)
        elif not own.retired:
            self._draining.discard(own)

    def _recall(self, pot: int, number: int) -> None:
        """Give back what is unused of a pot in which somebody found too little."""
        self._answers[pot] = number
        own = self._by_pot.get(pot)
        if own is None:  # all that is left in the store is spent and not drained
            return
        self.gather()
        own.known, own.per_s = False, 0.0  # nothing is asked ahead of calls while others lack it
        own.freeze(True)  # until the answer to our answer says that it was not lowered
        self._draining.add(own)
        self._give_back(own)

    def _give_back(self, own: Slice) -> None:
        if (unused := own.take_back()) and own.pot:
            self._returns[own.pot] = self._returns.get(own.pot, 0) + unused

    def _forget(self) -> None:
        """Drop the retired slices that hold and owe nothing."""
        done = [each for each in self._draining if each.retired and each.granted == each.drawn]
        for each in done:
            if each.pot not in self._returns and each.pot not in self._answers:
                self._draining.discard(each)
                self._slices.pop(each.name, None)
                self._by_pot.pop(each.pot, None)


def _named(wants: Iterable[Want]) -> set[PotName]:
    return {name for want in wants for name in (*want.all_of, *want.sources)}
