"""Changes are told through Redis, and found without it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.redis.server import RedisServer

from headgate.observe.log import Log
from headgate.process.background import Background
from headgate.process.replicas import Replicas
from headgate.settings.storage import Storage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]
PEPPER = b"p" * 32


class Books:
    """The number of the last change, which all replicas read."""

    def __init__(self) -> None:
        self.last = 0


class Replica:
    def __init__(self, redis: RedisServer, books: Books) -> None:
        self.books, self.seen, self.looks = books, 0, 0
        self.replicas = Replicas(Storage(redis=redis.url), PEPPER, 1, Log())
        self.background = Background(lambda *_: None)
        self.watch = self.replicas.watch(self._look, self.background)

    async def _look(self) -> int:
        self.looks += 1
        self.seen = self.books.last
        return self.seen

    async def start(self) -> None:
        await self.replicas.start(self.background)
        assert self.replicas._bus is not None
        async with asyncio.timeout(10):
            while not (self.replicas._bus.listening and self.replicas._link.up):
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        await self.background.stop()
        await self.replicas.close()


@asynccontextmanager
async def replicas(redis: RedisServer, books: Books) -> AsyncIterator[list[Replica]]:
    some = [Replica(redis, books) for _ in range(3)]
    try:
        for each in some:
            await each.start()
        await asyncio.sleep(0.5)  # the interval that was is over
        yield some
    finally:
        for each in some:
            await each.stop()


async def until(holds: Callable[[], bool], within_s: float) -> float:
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_who_finds_a_change_wakes_the_others(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.process.replicas._POLL_S", 60.0)  # what is found sooner was told
    books = Books()
    async with replicas(own_redis, books) as (first, second, third):
        for change in range(1, 4):
            books.last = change
            await first.watch.now(1)
            took = await until(lambda: second.seen == third.seen == books.last, 2)
            assert took < 1
        assert first.replicas._bus.wakes == 0  # who said it is not woken
        assert second.replicas._bus.wakes == third.replicas._bus.wakes == 3


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_without_redis_the_books_are_polled(own_redis: RedisServer, how: signal.Signals) -> None:
    books = Books()
    async with replicas(own_redis, books) as some:
        own_redis.signal(how)
        books.last = 1
        began = time.monotonic()
        await some[0].watch.now(1)
        assert time.monotonic() - began < 0.5
        assert await until(lambda: all(each.seen == 1 for each in some), 5) < 1.5
        await until(lambda: not any(each.replicas._bus.listening for each in some), 5)
        if how == signal.SIGKILL:
            own_redis.process.wait()
            own_redis.start()
        else:
            own_redis.signal(signal.SIGCONT)
        await until(lambda: all(each.replicas._bus.listening and each.replicas._link.up for each in some), 8)
        wakes = some[2].replicas._bus.wakes
        books.last = 2
        await some[0].watch.now(1)
        await until(lambda: all(each.seen == 2 for each in some), 2)
        assert some[2].replicas._bus.wakes in {wakes, wakes + 1}


async def test_gateways_on_other_books_do_not_wake_each_other(own_redis: RedisServer) -> None:
    books = Books()
    async with replicas(own_redis, books) as (first, *_):
        other = Replicas(Storage(redis=own_redis.url), b"q" * 32, 1, Log())
        mine = Replicas(Storage(redis=own_redis.url), PEPPER, 1, Log())
        assert other._link.stem != mine._link.stem == first.replicas._link.stem
