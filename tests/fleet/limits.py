"""One limit, asked for twice what it allows by a fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.fleet.loop import FleetLoop

from headgate.admission.limits import LimitRow, LimitTable
from headgate.admission.rate import Rates
from headgate.admission.sharing import Shares
from headgate.money.shares import Answer, Ask
from headgate.stores.live import MemoryMeters
from headgate.values import Limits, Principal

WHO = Principal(key=1, project=1, account=1)
LINE_S = 0.0005
MINUTE_S = 60.0


@dataclass
class Passed:
    """What came of it."""

    limit: int
    demand: int = 0
    times: list[float] = field(default_factory=list)  # when a call was let through
    exchanges: int = 0

    @property
    def overshoot(self) -> float:
        """Return by how much it passed what one bucket would let through, in calls, at the worst moment."""
        level, last, worst = 0.0, 0.0, -float(self.limit)
        for at in self.times:
            level = max(0.0, level - (at - last) * self.limit / MINUTE_S) + 1
            last = at
            worst = max(worst, level - self.limit)
        return worst

    def used(self, seconds: float) -> float:
        """Return the part of what one bucket would have let through."""
        return len(self.times) / (self.limit + self.limit * seconds / MINUTE_S)


class Line(MemoryMeters):
    """The meters, behind a line."""

    def __init__(self, replicas: int, passed: Passed) -> None:
        super().__init__(replicas)
        self._passed = passed

    async def exchange(self, slot: int, asks: Sequence[Ask], now: int) -> list[Answer]:
        await asyncio.sleep(LINE_S)
        self._passed.exchanges += 1
        answers = await super().exchange(slot, asks, now)
        await asyncio.sleep(LINE_S)
        return answers


def simulate(replicas: int, limit: int, seconds: float, seed: int = 1) -> Passed:
    """Return what comes of calls of one account, twice as many as its limit lets through for long."""
    loop, passed = FleetLoop(), Passed(limit)
    return loop.run_until(_run(loop, passed, replicas, (seconds, seed)))


async def _run(loop: FleetLoop, passed: Passed, replicas: int, how: tuple[float, int]) -> Passed:
    seconds, seed = how
    chance, store = Random(seed), Line(replicas, passed)
    table = LimitTable([LimitRow("account", 1, "", Limits(rpm=passed.limit))])
    shares = [Shares(slot, store, loop) for slot in range(replicas)]
    rates = [Rates(table, shares=each) for each in shares]
    tasks = [loop.create_task(each.run()) for each in shares]
    calls: set[asyncio.Task[Any]] = set()
    demand = 2 * (passed.limit + passed.limit * seconds / MINUTE_S) / seconds
    while loop.now < seconds:
        await asyncio.sleep(chance.expovariate(demand))
        slot = chance.randrange(replicas)
        task = loop.create_task(_call(loop, passed, shares[slot], rates[slot]))
        calls.add(task)
        task.add_done_callback(calls.discard)
    for task in (*tasks, *calls):
        task.cancel()
    await asyncio.gather(*tasks, *calls, return_exceptions=True)
    return passed


async def _call(loop: FleetLoop, passed: Passed, shares: Shares, rates: Rates) -> None:
    passed.demand += 1
    gate = rates.gate(WHO, "m", loop.monotonic())
    assert gate is not None
    ticket = gate.admit(0, loop.monotonic())
    if ticket is None:
        await shares.fetch(gate, 0)
        ticket = gate.admit(0, loop.monotonic())
    if ticket is not None:
        passed.times.append(loop.now)
