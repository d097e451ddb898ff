"""A store of leases in a dictionary. It passes the contract suite, and a state machine drives it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from headgate.money.pots import Batch, Lot, Outcome, Pot, PotName, allocate


class MemoryLeases:
    """Implements `ports.Leases`, and the side of it that people and the drain have."""

    def __init__(self) -> None:
        self.store = self
        self.pots: dict[PotName, Pot] = {}
        self.slots: dict[str, tuple[int, int, bool]] = {}  # epoch, stamp, in service
        self.turns: dict[str, tuple[int, dict[int, int]]] = {}  # the last that was applied, what it granted
        self._numbers = count(1)

    # ── ports.Leases ─────────────────────────────────────────────────────────────────────────────

    async def join(self, slot: str, now: int) -> int:
        return self.enter(slot, now)

    async def exchange(self, batch: Batch) -> Outcome:
        return self.apply(batch)

    def enter(self, slot: str, now: int) -> int:
        epoch = self.slots.get(slot, (0, 0, False))[0] + 1
        self.slots[slot] = (epoch, now, True)
        self.turns[slot] = (0, {})
        return epoch

    def apply(self, batch: Batch) -> Outcome:
        epoch, stamp, _ = self.slots.get(batch.slot, (0, 0, False))
        if epoch != batch.epoch:
            return Outcome(fenced=True)
        self.slots[batch.slot] = (epoch, batch.now if batch.beat else stamp, not batch.leaving)
        turn, given = self.turns[batch.slot]
        if repeated := turn >= batch.turn:
            lots = [self._told(pot, batch)._replace(granted=given[pot.number]) for pot in self._pots(given)]
        else:
            self._take_back(batch)
            lots = self._grant(batch)
            self.turns[batch.slot] = (batch.turn, {lot.pot: lot.granted for lot in lots})
        known = {lot.pot for lot in lots}
        lots += [self._told(pot, batch) for pot in self._pots({*batch.watched, *batch.answers} - known)]
        recalled = {
            pot.number: pot.recall
            for pot in self.pots.values()
            if pot.recall > batch.seen and pot.slices.get(batch.slot, (0, pot.recall))[1] < pot.recall
        }
        return Outcome(lots, recalled, self._last_recall(), self.serving(), repeated=repeated)

    def _pots(self, numbers: Iterable[int]) -> list[Pot]:
        return [pot for number in numbers if (pot := self.by_id(number)) is not None]

    def _told(self, pot: Pot, batch: Batch) -> Lot:
        self._look(pot, batch)
        return pot.lot(batch.slot)

    def _take_back(self, batch: Batch) -> None:
        for number, amount in batch.returns.items():
            if (pot := self.by_id(number)) is not None:
                self._less(pot, batch.slot, amount)
                self._settle_down(pot)
        for number, recall in batch.answers.items():
            if (pot := self.by_id(number)) is not None and batch.slot in pot.slices:
                pot.slices[batch.slot] = (pot.slices[batch.slot][0], recall)

    def serving(self) -> dict[str, int]:
        """Return the stamp of every slot in service."""
        return {slot: seen for slot, (_, seen, serves) in self.slots.items() if serves}

    def _grant(self, batch: Batch) -> list[Lot]:
        names = {name for want in batch.wants for name in (*want.all_of, *want.sources)} | batch.ahead.keys()
        there = {name: self.pots[name] for name in names if name in self.pots}
        for pot in there.values():
            self._look(pot, batch)
        recall = self._last_recall() + 1
        if batch.wants or batch.ahead:
            allocate(batch, there, recall)
        for pot in there.values():
            own = pot.slices.get(batch.slot)
            if pot.recall == recall and own is not None and own[1] >= pot.heard:
                pot.slices[batch.slot] = (own[0], recall)
        return [there[n].lot(batch.slot) if n in there else Lot(n, 0, 0, 0, 0, 0, -1, 0) for n in names]

    @staticmethod
    def _look(pot: Pot, batch: Batch) -> None:
        pot.granted = 0
        pot.listen(batch.slot, batch.live)

    def _last_recall(self) -> int:
        return max((pot.recall for pot in self.pots.values()), default=0)

    # ── contract.Shared ──────────────────────────────────────────────────────────────────────────

    def budget(self, amount: int, spent: int = 0) -> PotName:
        return self._add(PotName("budget", len(self.pots) + 1, "today"), amount, spent)

    def grant(self, amount: int, expires_at: int = 0) -> PotName:
        return self._add(PotName("grant", len(self.pots) + 1), amount, 0)

    def tokens(self, amount: int) -> PotName:
        return self._add(PotName("tokens", len(self.pots) + 1), amount, 0)

    def _add(self, name: PotName, amount: int, spent: int) -> PotName:
        self.pots[name] = Pot(name, next(self._numbers), (amount, 0, spent, 0), {})
        return name

    def by_id(self, number: int) -> Pot | None:
        return next((pot for pot in self.pots.values() if pot.number == number), None)

    @staticmethod
    def _less(pot: Pot, slot: str, amount: int) -> None:
        had, answered = pot.slices.get(slot, (0, 0))
        if slot in pot.slices:
            pot.slices[slot] = (max(0, had - amount), answered)

    @staticmethod
    def _settle_down(pot: Pot) -> None:
        if pot.over:
            pot.over = max(0, pot.spent + sum(amount for amount, _ in pot.slices.values()) - pot.amount)

    def spend(self, slot: str, pot: int, charge: int) -> None:
        found = self.by_id(pot)
        assert found is not None
        found.spent += charge
        self._less(found, slot, charge)

    def resize(self, name: PotName, amount: int) -> None:
        pot = self.pots[name]
        pot.amount = amount
        pot.over = max(0, pot.spent + sum(has for has, _ in pot.slices.values()) - amount)
        if pot.over:
            pot.recall = self._last_recall() + 1

    def remove(self, name: PotName) -> None:
        del self.pots[name]

    def bury(self, slot: str) -> None:
        epoch, stamp, _ = self.slots[slot]
        self.slots[slot] = (epoch, stamp, False)
        for pot in self.pots.values():
            pot.slices.pop(slot, None)
            self._settle_down(pot)

    def standing(self, name: PotName) -> tuple[int, int, int, dict[str, int]]:
        pot = self.pots[name]
        return pot.amount, pot.over, pot.spent, {slot: amount for slot, (amount, _) in pot.slices.items()}
