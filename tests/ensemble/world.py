"""The processes: three gateways, a worker, the services below them, a provider, and a balancer before them."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.caps.provider import Provider
from tests.ensemble.broker import OwnRabbit
from tests.redis.server import RedisServer
from tests.replicas.rounds import World
from tests.several.asking import Reply, ask
from tests.several.database import OwnPostgres
from tests.several.gateways import Balancer, Fleet, Worker

SETTINGS = """redis = "{redis}"
queue = "{queue}"
[server]
leave_s = {leave_s}
drain_s = 15.0
[files]
storage = "{files}"
[batch]
concurrency = 8
"""


class Services:
    """What the gateways need, and how it is lost."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.postgresql: OwnPostgres
        self.redis: RedisServer
        self.rabbitmq: OwnRabbit
        self._starting: asyncio.Task[None]

    async def __aenter__(self) -> Services:
        self.rabbitmq, self.postgresql = OwnRabbit(), await asyncio.to_thread(OwnPostgres)
        self.redis = await asyncio.to_thread(RedisServer, self._folder)
        self._starting = asyncio.create_task(
            self.rabbitmq.start()
        )  # takes long, and everybody can wait for it
        try:
            await self.postgresql.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def whole(self) -> None:
        """Wait until all of them answer."""
        await self._starting

    async def __aexit__(self, *_: object) -> None:
        self.redis.kill()
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)
        await self.rabbitmq.remove()
        await self.postgresql.remove()

    async def kill(self, name: str) -> None:
        """Kill one without a word."""
        if name == "redis":
            await asyncio.to_thread(self.redis.kill)
        else:
            await self._other(name).kill()

    async def restart(self, name: str) -> None:
        """Start one that was killed."""
        if name == "redis":
            await asyncio.to_thread(self.redis.start)
        else:
            await self._other(name).start()

    def freeze(self, name: str) -> None:
        """Stop one: connections stay open, and nobody answers."""
        if name == "redis":
            self.redis.signal(signal.SIGSTOP)
        else:
            self._other(name).freeze()

    def thaw(self, name: str) -> None:
        """Let it go on."""
        if name == "redis":
            self.redis.signal(signal.SIGCONT)
        else:
            self._other(name).thaw()

    def _other(self, name: str) -> OwnPostgres | OwnRabbit:
        return {"postgresql": self.postgresql, "rabbitmq": self.rabbitmq}[name]

    @asynccontextmanager
    async def without(self, name: str, how: str) -> AsyncIterator[None]:
        """Lose one, and have it back."""
        if how == "killed":
            await self.kill(name)
        else:
            self.freeze(name)
        try:
            yield
        finally:
            if how == "killed":
                await self.restart(name)
            else:
                self.thaw(name)


class Ensemble(World):
    """All of it."""

    def __init__(self, services: Services, provider: Provider, fleet: Fleet, balancer: Balancer) -> None:
        super().__init__(fleet, balancer, random.Random(6))
        self.services, self.provider = services, provider
        self.worker: Worker
        self.boss = ""  # a key of an administrator

    async def staff(self, folder: Path, settings: str) -> None:
        """Start the worker, and make an administrator."""
        first = self.fleet.replicas[0]
        self.worker = Worker(folder / "worker", first.place.url, self.provider.port, settings)
        words = ("keys", "create", "--name", "boss", "--kind", "admin", "--json")
        made = asyncio.to_thread(first.run, *words)
        done, _ = await asyncio.gather(made, self.worker.start(first.data / "pepper"))
        self.boss = json.loads(done.stdout)["key"]

    async def manage(self, method: str, path: str, body: object = None) -> Reply:
        """Ask the first replica's admin API."""
        return await ask(self.fleet.replicas[0].port, self.boss, f"/admin/v1/{path}", body, method)

    async def gauge(self, port: int, name: str) -> float:
        """Return a metric of a replica."""
        text = (await ask(port, self.boss, "/metrics", method="GET")).body.decode()
        return float(next(line for line in text.splitlines() if line.startswith(name + " ")).split()[1])

    async def stop(self) -> list[int]:
        """Stop all gateways in order; return their exit codes."""
        return [*await self.fleet.stop(), await self.worker.stop()]


@asynccontextmanager
async def ensemble(folder: Path, leave_s: float, count: int = 3) -> AsyncIterator[Ensemble]:
    """Start all of it; at the end every process is gone."""
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(Services(folder))
        provider = await stack.enter_async_context(Provider())
        settings = SETTINGS.format(
            redis=services.redis.url, queue=services.rabbitmq.url, leave_s=leave_s, files=folder / "files"
        )
        fleet = Fleet(folder, services.postgresql.url, provider.port, count, settings)
        await stack.enter_async_context(fleet)
        balancer = await stack.enter_async_context(Balancer(fleet.replicas))
        world = Ensemble(services, provider, fleet, balancer)
        await world.staff(folder, settings)
        stack.push_async_callback(world.worker.end)
        yield world
