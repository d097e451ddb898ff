"""Workers and pots as a state machine: Hypothesis chooses what happens, and shrinks what goes wrong."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.leases.contract import NOW, LeasesContract
from tests.leases.memory import MemoryLeases

from headgate.admission.budget import Budgets, Hold
from headgate.admission.purse import Purse
from headgate.money.pots import BudgetTerms, PotName
from headgate.values import Book, Principal

SLOTS = ("slot-0", "slot-1", "slot-2")
KEYS = (Principal(key=1, project=1, account=1), Principal(key=2, project=1, account=1))
TERMS = (
    BudgetTerms(1, "account", 1, Book.REAL, 0, "total"),
    BudgetTerms(2, "key", 1, Book.REAL, 0, "total"),
)
SLOT, KEY, AMOUNT = st.sampled_from(SLOTS), st.sampled_from(KEYS), st.integers(0, 60)


@pytest.mark.anyio
class TestMemoryLeases(LeasesContract):
    @pytest.fixture
    def shared(self) -> MemoryLeases:
        return MemoryLeases()


@dataclass
class Worker:
    purse: Purse
    budgets: Budgets
    holds: list[tuple[Hold, Principal]] = field(default_factory=list)
    undrained: list[tuple[int, int]] = field(default_factory=list)  # pot, charge


class Pots(RuleBasedStateMachine):
    """Two budgets, three workers. What is charged or held never passes a cap, and nothing gets lost."""

    @initialize(account=st.integers(20, 200), key=st.integers(20, 200))
    def begin(self, account: int, key: int) -> None:
        self.store = MemoryLeases()
        self.time = 0
        self.names = [PotName("budget", terms.id, "total") for terms in TERMS]
        for name, amount in zip(self.names, (account, key), strict=True):
            self.store._add(name, amount, 0)
        self.caps = {1: account, 2: key}
        self.spent = {1: 0, 2: 0}
        self.lowered = False
        self.workers: dict[str, Worker] = {}
        for slot in SLOTS:
            self.enter(slot)

    def enter(self, slot: str) -> None:
        purse = Purse(slot, lambda: self.time)
        purse.epoch = self.store.enter(slot, NOW)
        budgets = Budgets(purse)
        budgets.replace(TERMS)
        self.workers[slot] = Worker(purse, budgets)

    def exchange(self, worker: Worker, *wants: object) -> None:
        self.time += 100_000_000
        batch = worker.purse.collect(wants, NOW + self.time // 1000, self.time)  # type: ignore[arg-type]
        outcome = self.store.apply(batch)
        worker.purse.apply(batch, outcome, self.time)
        worker.purse.answer(outcome)

    @rule(slot=SLOT, who=KEY, amount=AMOUNT)
    def call(self, slot: str, who: Principal, amount: int) -> None:
        worker = self.workers[slot]
        found = worker.budgets.in_force(who, NOW)
        hold = worker.budgets.reserve(found, amount, NOW)
        if hold is None:
            self.exchange(worker, worker.budgets.want(found, amount, None))
            hold = worker.budgets.reserve(found, amount, NOW)
        if hold is not None:
            worker.holds.append((hold, who))

    @rule(slot=SLOT, part=st.integers(0, 100))
    def settle(self, slot: str, part: int) -> None:
        worker = self.workers[slot]
        if worker.holds:
            hold, _ = worker.holds.pop(0)
            charge = hold.amount * part // 100
            worker.budgets.close(hold, charge)
            for own in hold.slices:
                self.spent[own.name.ref] += charge
                worker.undrained.append((own.pot, charge))

    @rule(slot=SLOT)
    def drain(self, slot: str) -> None:
        worker = self.workers[slot]
        for pot, charge in worker.undrained:
            if pot:
                self.store.spend(slot, pot, charge)
        worker.undrained.clear()

    @rule(slot=SLOT)
    def tick(self, slot: str) -> None:
        self.exchange(self.workers[slot])

    @rule(ref=st.sampled_from((1, 2)), amount=st.integers(0, 250))
    def resize(self, ref: int, amount: int) -> None:
        self.lowered |= amount < self.caps[ref]
        self.caps[ref] = amount
        self.store.resize(self.names[ref - 1], amount)

    @rule(slot=SLOT)
    def crash(self, slot: str) -> None:
        """Its holds are booked as they were, then its slices go back."""
        worker = self.workers[slot]
        for hold, _ in worker.holds:
            for own in hold.slices:
                self.spent[own.name.ref] += hold.amount
                worker.undrained.append((own.pot, hold.amount))
        self.drain(slot)
        self.store.bury(slot)
        self.enter(slot)

    @precondition(lambda self: not any(worker.holds for worker in self.workers.values()))
    @rule(slot=SLOT, who=KEY)
    def spend_the_rest(self, slot: str, who: Principal) -> None:
        for _ in range(2):
            for each in SLOTS:
                self.drain(each)
                self.tick(each)
        rest = min(self.caps[n] - self.spent[n] for n in ((1, 2) if who.key == 1 else (1,)))
        worker = self.workers[slot]
        for beyond in (1, 0):
            for _ in range(2):  # asked once, the others give back; asked again, it is there
                found = worker.budgets.in_force(who, NOW)
                self.exchange(worker, worker.budgets.want(found, max(rest, 0) + beyond, None))
                hold = worker.budgets.reserve(found, max(rest, 0) + beyond, NOW)
                if hold is not None:
                    worker.budgets.close(hold, 0)
                    break
                for each in SLOTS:
                    self.tick(each)
                    self.tick(each)
            assert (hold is not None) == (rest >= 0 and not beyond), (rest, beyond)

    @invariant()
    def no_pot_gives_more_than_it_has(self) -> None:
        for pot in self.store.pots.values() if hasattr(self, "store") else ():
            assert pot.spent + sum(amount for amount, _ in pot.slices.values()) <= pot.amount + pot.over

    @invariant()
    def no_cap_is_passed(self) -> None:
        if not hasattr(self, "store") or self.lowered:
            return
        for ref, cap in self.caps.items():
            held = sum(
                hold.amount
                for worker in self.workers.values()
                for hold, _ in worker.holds
                if any(own.name.ref == ref for own in hold.slices)
            )
            assert self.spent[ref] + held <= cap


Pots.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPots = Pots.TestCase
