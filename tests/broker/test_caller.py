"""The broker against real RabbitMQ and Redis: it calls, and costs nothing but time when it is lost."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from tests.at_once import at_once
from tests.broker.hose import Hose

from headgate.stores.broker import Caller, Terms
from headgate.stores.broker.wires import open_broker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from taskiq import AsyncBroker

BROKERS = {
    "amqp": ("amqp://guest:guest@127.0.0.1:{port}/", 5672),
    "redis": ("redis://127.0.0.1:{port}/9", 6379),
}
pytestmark = pytest.mark.services("rabbitmq", "redis")


class Worker:
    """Notes which batches it was called to; a visit lasts as long as it is told."""

    def __init__(self) -> None:
        self.visits: list[str] = []
        self.busy = asyncio.Event()
        self.busy.set()

    async def visit(self, batch: str) -> None:
        """Be called."""
        self.visits.append(batch)
        await self.busy.wait()


async def until(true: Callable[[], bool], within_s: float = 10.0) -> float:
    """Wait for something; return how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within_s, "it did not come true"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@asynccontextmanager
async def connected(*callers: Caller) -> AsyncIterator[None]:
    """Run some connections."""
    tasks = [asyncio.create_task(caller.run()) for caller in callers]
    try:
        await until(lambda: all(caller.up for caller in callers))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def named() -> str:
    return f"headgate-test-{uuid.uuid4().hex[:12]}"


async def remove(kind: str, name: str) -> None:
    """Remove what a test has left at the broker."""
    url, port = BROKERS[kind]
    if kind == "amqp":
        import aio_pika

        connection = await aio_pika.connect(url.format(port=port))
        async with connection:
            channel = await connection.channel()
            for queue in (name, f"{name}.dead"):
                await channel.queue_delete(queue)
            await channel.exchange_delete(name)
        return
    from redis.asyncio import Redis

    async with Redis.from_url(url.format(port=port)) as redis:
        await redis.delete(name)


@pytest.fixture(params=BROKERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return which broker it is."""
    return str(request.param)


def terms(kind: str, port: int = 0, name: str = "") -> Terms:
    url, usual = BROKERS[kind]
    return Terms(url.format(port=port or usual), name or named())


def run(test: Callable[[], Awaitable[None]], within_s: float = 60) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(within_s):
            await test()

    asyncio.run(bounded())


def test_one_of_the_workers_is_called_for_each_message(kind: str) -> None:
    async def test() -> None:
        at, said = terms(kind), list[str]()
        first, second = Worker(), Worker()
        api = Caller(at, None, said.append)
        try:
            async with connected(api, Caller(at, first, said.append), Caller(at, second, said.append)):
                for number in range(40):
                    assert await api.call(f"batch_{number}")
                await until(lambda: len(first.visits) + len(second.visits) == 40)
                assert sorted(first.visits + second.visits) == sorted(f"batch_{n}" for n in range(40))
        finally:
            await remove(kind, at.name)
        assert not said

    run(test)


def test_what_a_dead_worker_held_is_given_to_another() -> None:
    kind = "amqp"  # a stream does it after three minutes; workers look by themselves sooner

    async def test() -> None:
        at = terms(kind)
        stuck, well = Worker(), Worker()
        stuck.busy.clear()
        api = Caller(at, None, print)
        try:
            async with connected(api):
                async with connected(Caller(at, stuck, print)):
                    assert await api.call("batch_1", 2)
                    await until(lambda: len(stuck.visits) == 2)
                async with connected(Caller(at, well, print)):
                    await until(lambda: well.visits == ["batch_1", "batch_1"])
        finally:
            await remove(kind, at.name)

    run(test)


def test_who_stops_to_listen_at_any_moment_keeps_no_connection() -> None:
    async def test() -> None:
        said = list[object]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))

        async def say(_moment: int) -> None:
            """Have no other end."""

        async def listen(broker: AsyncBroker, heard: asyncio.Event) -> None:
            async for _ in broker.listen():
                heard.set()

        for moment in range(40):
            at, heard = terms("redis"), asyncio.Event()
            broker = open_broker(*at)
            await broker.startup()
            listening = asyncio.create_task(listen(broker, heard))
            await broker.register_task(say, task_name="say").kiq(moment)
            await heard.wait()
            await asyncio.sleep(moment / 20_000)
            while not listening.done():  # as taskiq does it: `wait_for` of Python 3.11 may swallow the first
                listening.cancel()
                await asyncio.sleep(0.001)
            await broker.shutdown()
            await remove("redis", at.name)
        assert not said

    run(test)


def test_what_a_dead_worker_held_is_claimed_where_nothing_new_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.stores.broker.wires._REDELIVERED_MS", 300)
    kind = "redis"

    async def test() -> None:
        at = terms(kind)
        stuck, well = Worker(), Worker()
        stuck.busy.clear()
        api = Caller(at, None, print)
        try:
            async with connected(api):
                async with connected(Caller(at, stuck, print)):
                    assert await api.call("batch_1")
                    await until(lambda: len(stuck.visits) == 1)
                async with connected(Caller(at, well, print)):
                    await until(lambda: well.visits == ["batch_1"], 8.0)  # a sign of life comes after ten
        finally:
            await remove(kind, at.name)

    run(test)


def test_a_broker_that_is_cut_is_told_once_and_found_again(kind: str) -> None:
    async def test() -> None:
        said, worker = list[str](), Worker()
        async with Hose(BROKERS[kind][1]) as hose:
            at = terms(kind, hose.port)
            api, other = Caller(at, None, said.append), Caller(at, worker, lambda _: None)
            try:
                async with connected(api, other):
                    await hose.cut()
                    began = time.monotonic()
                    assert not await api.call("batch_1")
                    assert not await api.call("batch_1")
                    assert time.monotonic() - began < 3.0
                    assert len(said) == 1
                    assert "guest" not in said[0]
                    await hose.open()
                    await until(lambda: api.up and other.up, 30.0)
                    assert await api.call("batch_2")
                    await until(lambda: "batch_2" in worker.visits)
                    assert said[1:] == ["The broker of batches is back."]
            finally:
                await remove(kind, at.name)

    run(test)


def test_a_visit_that_outlives_its_connection_is_no_fault(kind: str) -> None:
    async def test() -> None:
        faults = list[object]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        said, worker = list[str](), Worker()
        worker.busy.clear()
        again = 2 if kind == "amqp" else 1  # a stream gives it again after three minutes
        async with Hose(BROKERS[kind][1]) as hose:
            at = terms(kind, hose.port)
            api, other = Caller(terms(kind, 0, at.name), None, print), Caller(at, worker, said.append)
            try:
                async with connected(api, other):
                    assert await api.call("batch_1")
                    await until(lambda: worker.visits == ["batch_1"])
                    await hose.cut()
                    await until(lambda: bool(said), 20.0)
                    worker.busy.set()
                    await hose.open()
                    await until(lambda: other.up and len(said) == 2, 30.0)
                    await until(lambda: worker.visits == ["batch_1"] * again)
            finally:
                await remove(kind, at.name)
            gc.collect()
            await asyncio.sleep(0)
        assert not faults
        assert said[1:] == ["The broker of batches is back."]

    run(test)


def test_a_broker_that_is_frozen_costs_a_bounded_time(kind: str) -> None:
    async def test() -> None:
        said = list[str]()
        async with Hose(BROKERS[kind][1]) as hose:
            at = terms(kind, hose.port)
            api = Caller(at, None, said.append)
            try:
                async with connected(api):
                    hose.freeze()
                    began = time.monotonic()
                    assert not await api.call("batch_1")
                    assert time.monotonic() - began < 4.0
                    assert not at_once(api.call("batch_1"))
                    hose.thaw()
                    await until(lambda: api.up, 30.0)
            finally:
                await remove(kind, at.name)
        assert "TimeoutError" in said[0]

    run(test)


def test_a_broker_that_is_away_at_the_start_is_waited_for() -> None:
    async def test() -> None:
        said = list[str]()
        async with Hose(5672) as hose:
            await hose.cut()
            api = Caller(terms("amqp", hose.port), None, said.append)
            task = asyncio.create_task(api.run())
            await until(lambda: bool(said))
            assert not await api.call("batch_1")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(test)


def test_nothing_of_a_stream_is_left_wherever_it_is_told_to_end() -> None:
    async def test() -> None:
        for moment in range(20):
            at, worker = terms("redis"), Worker()
            api, other = Caller(at, None, print), Caller(at, worker, print)
            async with connected(api, other):
                for n in range(5):
                    assert await api.call(f"batch_{n}")
                await until(lambda seen=worker.visits: bool(seen))
                await asyncio.sleep(moment / 5_000)
            assert asyncio.all_tasks() == {asyncio.current_task()}, moment
            await remove("redis", at.name)

    run(test)
