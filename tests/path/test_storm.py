"""A storm of retries: a provider fails for a while at full load, and clients try again as the SDKs do.

The clients are openai-python's: two retries each, by `x-should-retry`, `retry-after-ms`, else after half a
second and then a whole one, less up to a quarter. Time is the loop's own and costs nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from random import Random
from typing import Any

import pytest
from tests.leases.simloop import SimLoop
from tests.path.fakes import WHO, Bench, FixedRoutes, ListSink, Script, target
from tests.path.test_pipeline import answer, make
from tests.routing.test_doors import LoopClock

from headgate.errors import GatewayError, UpstreamOverloaded
from headgate.http.errors import render
from headgate.ports import Request
from headgate.routing.retries import Active, RetryTerms
from headgate.values import Target

RATE = 50.0  # calls in a second
OUTAGE_S = float(os.environ.get("HEADGATE_OUTAGE_S", "8"))
CALLS = int((OUTAGE_S + 2) * RATE)  # the last of them come when it is over
LEAST = 0.6 if OUTAGE_S <= 8 else 1.9 / (OUTAGE_S + 2)  # of them are served


class Noted(Script):
    """An exchange of which the world knows when it was asked for."""

    def __init__(self, world: World) -> None:
        super().__init__(200, [answer()])
        self._world = world

    def send(self, request: Request) -> None:
        super().send(request)
        self._world.asked.append(self._world.loop.now)


class Failing(Noted):
    """An exchange that takes a while, and fails before a time."""

    async def head(self) -> Any:
        await asyncio.sleep(0.1)
        if self._world.loop.now < OUTAGE_S:
            raise self._world.error()
        return await super().head()


class World:
    """Clients, the gateway's path and a provider, in one loop."""

    def __init__(self, status: int, retry_after_s: float | None) -> None:
        self.loop = SimLoop(7)
        self.chance = Random(7)
        self.asked: list[float] = []  # when the provider was
        self.taken: list[float] = []  # when it took a call, where it keeps a limit
        self.requests = self.open = 0  # of clients
        self.ended: Counter[int] = Counter()
        self.waits: list[float] = []  # told to clients
        self._terms = (status, retry_after_s)
        self.bench = Bench(retries=RetryTerms(), cap=10**12)
        self.bench.answers.refuse = self._refuse  # type: ignore[method-assign]
        clock = LoopClock(self.loop)
        self.bench.clock.monotonic = clock.monotonic  # type: ignore[method-assign]
        attempts = self.bench.attempts
        attempts._draw = self.chance.random
        attempts._active = lambda _: Active(self.open, self.open)
        self.bench.transport.acquire = self._acquire  # type: ignore[method-assign,assignment]

    async def _acquire(self, _: Target) -> Script:
        return Failing(self)

    def error(self) -> GatewayError:
        status, retry_after_s = self._terms
        return UpstreamOverloaded(
            "busy", retry_after_s=retry_after_s, limited_by="requests" if status == 429 else ""
        )

    async def client(self) -> None:
        for left in (2, 1, 0):
            sink, call = ListSink(), make()
            call.principal = WHO
            self.requests += 1
            self.open += 1
            await self.bench.pipeline.serve(call, sink, FixedRoutes(target()))
            self.open -= 1
            pause = self._pause(sink, left) if sink.status != 200 and left else None
            if pause is None:
                break
            await asyncio.sleep(pause)
        self.ended[sink.status] += 1

    @staticmethod
    def _refuse(_: Any, error: GatewayError, sink: ListSink) -> None:
        status, headers, body = render(error, "req")
        sink.start(status, headers, len(body))
        sink.finish()

    def _pause(self, sink: ListSink, left: int) -> float | None:
        if sink.headers.get("x-should-retry") == "false":
            return None
        wait = sink.headers.get("retry-after-ms")
        if wait is not None:
            self.waits.append(float(wait) / 1000)
            return float(wait) / 1000
        return min(0.5 * 2 ** (2 - left), 8.0) * (1 - 0.25 * self.chance.random())

    async def run(self) -> None:
        clients = []
        for _ in range(CALLS):
            clients.append(asyncio.ensure_future(self.client()))
            await asyncio.sleep(self.chance.expovariate(RATE))
        await asyncio.gather(*clients)


@pytest.mark.parametrize("retry_after_s", [None, 2.0, 30.0])
@pytest.mark.parametrize("status", [503, 429])
def test_a_provider_in_trouble_gets_hardly_more_calls_than_clients_make(
    status: int, retry_after_s: float | None
) -> None:
    world = World(status, retry_after_s)
    world.loop.run(world.run())
    assert len(world.asked) <= 1.2 * world.requests
    assert world.ended[200] >= LEAST * CALLS
    assert world.bench.faults == []
    assert sum(world.ended.values()) == CALLS
    assert world.bench.cap.held == 0
    assert len(world.bench.journal.settled()) == len({each.call for each in world.bench.journal.opened()})
    if retry_after_s == 30.0 and status == 429:
        assert max(world.waits) > 20  # what it asked for is passed on,
        first = world.asked[0] + 0.1
        assert sum(first + 0.2 < at < first + 29.9 for at in world.asked) <= 1  # and kept to


class Window(Noted):
    """An exchange with a provider that serves five calls in two seconds, and says nothing before it refuses."""

    async def head(self) -> Any:
        now = self._world.loop.now
        served = sum(now - now % 2 <= at for at in self._world.taken) < 5
        self._world.taken += [now] * served
        await asyncio.sleep(0.02)
        if not served:
            raise self._world.error()
        return await super().head()


@pytest.mark.parametrize("retry_after_s", [None, 1.0])
def test_a_burst_above_a_limit_that_was_not_known_waits_for_it(retry_after_s: float | None) -> None:
    world = World(429, retry_after_s)

    async def acquire(_: Target) -> Window:
        return Window(world)

    async def burst() -> None:
        for _ in range(3):  # all are refused but a few, and come again as the limit allows
            await asyncio.gather(*(once() for _ in range(15)))
            await asyncio.sleep(120)

    async def once() -> None:
        sink, call = ListSink(), make()
        call.principal = WHO
        world.open += 1
        await world.bench.pipeline.serve(call, sink, FixedRoutes(target()))
        world.open -= 1
        world.ended[sink.status] += 1

    world.bench.transport.acquire = acquire  # type: ignore[method-assign,assignment]
    world.loop.run(burst())
    assert world.ended == {200: 45}
    assert len(world.asked) <= 3 * 45


def test_retries_do_not_come_in_waves() -> None:
    world = World(503, 2.0)
    world.loop.run(world.run())
    buckets = Counter(int(at * 10) for at in world.asked if at < OUTAGE_S)
    mean = sum(buckets.values()) / (OUTAGE_S * 10)
    assert max(buckets.values()) <= max(3 * mean, RATE / 10 * 3)
