"""Limits while Redis is away: each worker has its share, and what was used meanwhile is told afterwards."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.at_once import Beside
from tests.redis.heard import opened
from tests.redis.server import RedisServer

from headgate.admission.limits import LimitRow, LimitTable
from headgate.admission.rate import Rates, Reading
from headgate.admission.sharing import Shares
from headgate.ports import SystemClock
from headgate.stores.redis.link import BOUND_S, Link
from headgate.stores.redis.meters import RedisMeters
from headgate.stores.redis.shelter import Shelter
from headgate.values import Limits, Principal

pytestmark = [pytest.mark.anyio, pytest.mark.redis]
WHO = Principal(key=1, project=1, account=1)
DAY = 86_400


class Replica:
    """One worker of one replica."""

    def __init__(self, link: Link, number: int, limits: Limits) -> None:
        self.link = link
        self.clock = SystemClock()
        self.shelter = Shelter(RedisMeters(link, f"node-{number}"), link, 1)
        self.shares = Shares(0, self.shelter, self.clock, beat_ns=200_000_000)
        self.rates = Rates(LimitTable([LimitRow("account", 1, "", limits)]), shares=self.shares)
        self.tasks = [asyncio.create_task(self.shares.run()), asyncio.create_task(link.run())]

    @classmethod
    async def start(cls, redis: RedisServer, number: int, limits: Limits) -> Replica:
        return cls(await opened(redis), number, limits)

    async def call(self):
        """Return the ticket of a call, or None when it is refused."""
        gate = self.rates.gate(WHO, "m", self.clock.monotonic())
        ticket = gate.admit(0, self.clock.monotonic())
        if ticket is None:
            await self.shares.fetch(gate, 0)
            ticket = gate.admit(0, self.clock.monotonic())
        return ticket

    async def calls(self, count: int) -> int:
        return sum([await self.call() is not None for _ in range(count)])

    @property
    def left(self) -> int:
        lines = self.rates.lines(WHO, "m", self.clock.monotonic())
        return int(lines.split(b"remaining-requests: ")[1].split(b"\r")[0])

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.link.close()


@asynccontextmanager
async def fleet(redis: RedisServer, limits: Limits, count: int = 3) -> AsyncIterator[list[Replica]]:
    replicas = [await Replica.start(redis, number, limits) for number in range(count)]
    try:
        async with asyncio.timeout(5):
            while any(replica.shelter.workers != count for replica in replicas):
                await asyncio.sleep(0.02)
        yield replicas
    finally:
        for replica in replicas:
            await replica.stop()


async def test_replicas_together_let_through_what_one_would(own_redis: RedisServer) -> None:
    async with fleet(own_redis, Limits(rpd=60)) as replicas:
        assert sum([await each.calls(60) for each in replicas]) == 60
        assert [await each.call() for each in replicas] == [None] * 3


async def test_what_is_left_is_told_alike_everywhere(own_redis: RedisServer) -> None:
    async with fleet(own_redis, Limits(rpd=1000)) as replicas:
        for turn in range(30):
            assert await replicas[turn % 3].call() is not None
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        for each in replicas:
            await each.call()
        assert all(abs(967 - each.left) <= 3 for each in replicas), [each.left for each in replicas]


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_without_redis_what_is_left_is_shared_out(own_redis: RedisServer, how: str) -> None:
    async with fleet(own_redis, Limits(rpd=90)) as replicas:
        assert sum([await each.calls(10) for each in replicas]) == 30
        await asyncio.sleep(0.3)
        for each in replicas:  # each knows how it stands
            await each.calls(1)
        await asyncio.sleep(0.3)
        if how == "kill":
            own_redis.kill()
        else:
            own_redis.signal(signal.SIGSTOP)
        plain = Beside(BOUND_S)
        assert await replicas[0].call() is not None
        took = plain.so_far()
        assert took < await plain.took() + 0.1
        passed = 34 + sum([await each.calls(60) for each in replicas])
        assert 80 <= passed <= 90 + 3, passed
        if how == "kill":
            own_redis.start()  # it has forgotten everything
        else:
            own_redis.signal(signal.SIGCONT)
        until = time.monotonic() + 5
        while not all(each.link.up and not each.shelter.alone for each in replicas):
            await asyncio.sleep(0.02)
            assert time.monotonic() < until
        passed += sum([await each.calls(30) for each in replicas])
        assert passed <= 90 + 9, passed


async def test_calls_that_are_open_are_told_to_a_redis_that_forgot_them(own_redis: RedisServer) -> None:
    async with fleet(own_redis, Limits(concurrency=4), 2) as (first, second):
        tickets = [await first.call() for _ in range(3)]
        assert None not in tickets
        own_redis.ask("FLUSHALL")
        await asyncio.sleep(0.6)  # two signs of life
        assert await second.call() is not None
        assert await second.call() is None
        for ticket in tickets:
            first.rates.settle(ticket, 0, first.clock.monotonic())
        await asyncio.sleep(0.5)
        assert await second.call() is not None


async def test_a_flush_gives_nobody_a_new_window(own_redis: RedisServer) -> None:
    async with fleet(own_redis, Limits(rpd=60)) as replicas:
        passed = sum([await each.calls(18) for each in replicas])
        own_redis.ask("FLUSHALL")
        passed += sum([await each.calls(40) for each in replicas])
        assert 55 <= passed <= 60 + 20, passed


async def test_what_was_kept_before_a_start_is_known_to_a_redis_that_does_not(own_redis: RedisServer) -> None:
    async with fleet(own_redis, Limits(rpd=60), 1) as (replica,):
        kept = [Reading("account:1::rpd", 50_000_000, 0)]
        replica.rates.restore(kept, replica.clock.monotonic())
        assert await replica.calls(60) == 10
        assert replica.rates.readings(replica.clock.monotonic())[0].lacking == 60_000_000
