"""One budget, spent by a fleet until nothing is left."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fleet.loop import FleetLoop
from tests.leases.memory import MemoryLeases

from headgate.admission.budget import Budgets, Hold
from headgate.admission.purse import Purse
from headgate.admission.reserve import Reservations
from headgate.admission.teller import Teller
from headgate.errors import QuotaExceeded
from headgate.money.pots import Batch, BudgetTerms, Outcome, PotName
from headgate.values import Book, Call, Host, Model, Prices, Principal, Target

PRICES = Prices(0, 1_000, 0, 0, 1_000, 0, 1_000)  # one nano-USD per token of output
TARGET = Target(host=Host(name="h", base_url="http://h"), model=Model(name="m"), prices=PRICES)
WHO = Principal(key=1, project=1, account=1)
LINE_S = 0.0005  # to the store, one way
DRAIN_S = 0.2  # until a settled call is in the books
HOLDS = (400, 4_000)  # nano-USD: what a call may cost at most, evenly drawn
HOLD = sum(HOLDS) / 2
SHARE = (0.05, 0.75)  # of its hold: what it costs
TAKES_S = (0.3, 3.0)


@dataclass(frozen=True)
class Terms:
    """What is simulated."""

    replicas: int
    calls: int  # a second, of the whole fleet, on one budget
    seconds: float
    seed: int = 1
    lasts: float = 0.6  # the part of the time after which the budget is spent, about


@dataclass
class Figures:
    """What came of it."""

    served: int = 0
    refused: int = 0
    hasty: int = 0  # refused while what nobody held or had spent would have covered the call
    overshoot: int = 0  # nano-USD above the cap, at the worst moment; below zero: never reached
    left_first: float = (
        0.0  # at the first refusal: what nobody held or had spent, in holds of the middle size
    )
    left_last: float = 0.0  # and when the last call came
    idle: list[float] = field(default_factory=list)  # parts of what is left that lie unused in slices
    waits: list[float] = field(default_factory=list)  # seconds, of the calls that asked the store and got it
    asked: int = 0  # calls that had to
    exchanges: int = 0
    rows: int = 0  # of other replicas that the store's answers carried
    late: int = 0  # exchanges after the first refusal
    late_s: float = 0.0

    @property
    def total(self) -> int:
        return self.served + self.refused

    def wait_ms(self, part: float) -> float:
        """Return how long so many of the calls waited at most that asked the store and were served."""
        ordered = sorted(self.waits)
        return 1000 * ordered[int(part * (len(ordered) - 1))] if ordered else 0.0


class NoCount:
    """There is nothing to count."""

    async def input_bound(self, call: Call, target: Target) -> int:
        raise AssertionError("no tokenizer is known")


class Line:
    """A replica's line to the store. Implements `ports.Leases`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def join(self, slot: str, now: int) -> int:
        return self._fleet.store.enter(slot, now)

    async def exchange(self, batch: Batch) -> Outcome:
        await asyncio.sleep(LINE_S)
        outcome = self._fleet.store.apply(batch)
        figures = self._fleet.figures
        figures.exchanges += 1
        figures.late += figures.refused > 0
        figures.rows += len(outcome.slots)
        await asyncio.sleep(LINE_S)
        return outcome


class Store(MemoryLeases):
    """The same, without counting all replicas anew for each of them."""

    def __init__(self) -> None:
        super().__init__()
        self._serving: tuple[dict[str, tuple[int, int, bool]], dict[str, int]] = ({}, {})

    def serving(self) -> dict[str, int]:
        if self.slots != self._serving[0]:
            self._serving = (dict(self.slots), super().serving())
        return self._serving[1]


class Replica:
    """What a process has of money."""

    def __init__(self, fleet: Fleet, number: int, terms: BudgetTerms) -> None:
        self.slot = f"replica-{number}"
        self.purse = Purse(self.slot, fleet.loop.monotonic)
        self.budgets = Budgets(self.purse, guarded=fleet.terms.replicas > 1)
        self.teller = Teller(self.purse, Line(fleet), fleet.loop, self.budgets)
        self.reservations = Reservations(self.budgets, self.teller, fleet.loop, NoCount())
        self.budgets.replace([terms])
        self.purse.epoch = fleet.store.enter(self.slot, fleet.loop.wall())
        self.found = self.budgets.in_force(WHO, fleet.loop.wall())

    @property
    def idle(self) -> int:
        return self.found.slices[0].unused


class Fleet:
    """The replicas, their store, and who knows the truth."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.loop = FleetLoop()
        self.chance = Random(terms.seed)
        self.figures = Figures()
        mean = HOLD * sum(SHARE) / 2
        self.cap = int(terms.calls * terms.seconds * terms.lasts * mean)
        self.spent = self.held = self._calls = 0
        self._first = 0.0
        self.store = Store()
        budget = BudgetTerms(1, "account", 1, Book.REAL, self.cap, "total")
        self.replicas: list[Replica] = []
        # The store knows the pot by the name that the replicas give it.
        probe = Budgets(Purse("probe", self.loop.monotonic))
        probe.replace([budget])
        name: PotName = probe.in_force(WHO, self.loop.wall()).slices[0].name
        self.store._add(name, self.cap, 0)
        self.pot = self.store.pots[name]
        self.replicas = [Replica(self, number, budget) for number in range(terms.replicas)]

    def run(self) -> Figures:
        return self.loop.run_until(self._run())

    async def _run(self) -> Figures:
        tasks = [self.loop.create_task(replica.teller.run()) for replica in self.replicas]
        tasks.append(self.loop.create_task(self._look()))
        await asyncio.sleep(0.5)  # everybody has seen everybody
        began, counted = self.loop.now, self.figures.exchanges
        calls: set[asyncio.Task[Any]] = set()
        while self.loop.now < began + self.terms.seconds:
            await asyncio.sleep(self.chance.expovariate(self.terms.calls))
            task = self.loop.create_task(self._serve(self.chance.choice(self.replicas)))
            calls.add(task)
            task.add_done_callback(calls.discard)
        self.figures.exchanges -= counted
        self.figures.late_s = self.loop.now - self._first if self._first else 0.0
        self.figures.left_last = (self.cap - self.spent - self.held) / HOLD
        exchanges, late = self.figures.exchanges, self.figures.late
        await asyncio.gather(*calls)
        self.figures.exchanges, self.figures.late = exchanges, late
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return self.figures

    async def _look(self) -> None:
        """Note ten times a second how much of what is left lies in slices."""
        while True:
            await asyncio.sleep(0.1)
            left = self.cap - self.spent - self.held
            if left > 0 and not self.figures.refused:
                self.figures.idle.append(sum(replica.idle for replica in self.replicas) / left)

    async def _serve(self, replica: Replica) -> None:
        figures, chance = self.figures, self.chance
        amount = chance.randint(*HOLDS)
        charge, takes_s = int(amount * chance.uniform(*SHARE)), chance.uniform(*TAKES_S)
        self._calls += 1
        call = Call(self._calls.to_bytes(16), "chat", 0)
        call.model, call.principal, call.max_output = "m", WHO, amount
        began = self.loop.now
        hold = replica.reservations.at_once(call, (TARGET,))
        if hold is None:
            figures.asked += 1
            try:
                hold = await replica.reservations.wait(call, (TARGET,))
            except QuotaExceeded:
                self._refused(amount)
                return
            figures.waits.append(self.loop.now - began)
        figures.served += 1
        self.held += hold.amount
        figures.overshoot = max(figures.overshoot, self.spent + self.held - self.cap)
        await asyncio.sleep(takes_s)
        self._settle(replica, hold, charge)

    def _refused(self, amount: int) -> None:
        left = self.cap - self.spent - self.held
        if not self.figures.refused:
            self.figures.left_first, self._first = left / HOLD, self.loop.now
        self.figures.refused += 1
        self.figures.hasty += left >= amount

    def _settle(self, replica: Replica, hold: Hold, charge: int) -> None:
        replica.budgets.close(hold, charge)
        self.held -= hold.amount
        self.spent += charge
        self.loop.call_later(DRAIN_S, self.store.spend, replica.slot, self.pot.number, charge)


def simulate(terms: Terms) -> Figures:
    """Return what comes of it."""
    return Fleet(terms).run()
