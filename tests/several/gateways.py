"""Gateways on one database, each with a data folder of its own, and a plain TCP balancer before them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.caps.money import Money
from tests.caps.serving import CONFIG, HEADGATE, start
from tests.drain.clients import readiness
from tests.surfaces.forks import Forked, run

from headgate.stores.sql.database import Database

STOP_S = 120


class Replica:
    """One gateway: its data folder, and the processes that serve it one after another."""

    command = "serve"

    def __init__(self, folder: Path, url: str, upstream: int, more: str = "", workers: int = 1) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.place = Database(self.data, url)
        self.port = 0
        self.ready = False
        self._text = f'{CONFIG.format(port=upstream)}\n[storage]\ndatabase = "{url}"\n{more}'
        self._workers = workers
        self.process: Forked | subprocess.Popen[str] | None = None

    async def start(self, pepper: Path | None = None) -> None:
        """Start it; return when it is ready. Another folder's pepper makes its keys known here."""
        if pepper is not None and not (self.data / "pepper").exists():
            self.data.mkdir(parents=True, exist_ok=True)
            shutil.copy(pepper, self.data / "pepper")
        self.process, gateway = await start(self.folder, self._text, self._workers, self.command)
        self.port = gateway.ports[0]

    async def stop(self) -> int:
        """Stop it in order; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOP_S)

    def kill(self) -> None:
        """Kill it without a word."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def end(self) -> None:
        """Stop it where it runs, in whatever way it takes."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await self.stop()
            if self.process.poll() is None:
                self.kill()

    def log(self) -> str:
        """Return what it has printed since its last start."""
        return (self.folder / "server.log").read_text(errors="replace")

    def say(self) -> str:
        """Return the end of that."""
        return self.log()[-4000:]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on its folder."""
        command = [HEADGATE, *words, "--data", str(self.data), "--database", self.place.url]
        return run(command, self.folder, dict(os.environ), 120)

    def findings(self) -> Any:
        """Return what `ledger check` finds here."""
        done = self.run("ledger", "check", "--json")
        try:
            return json.loads(done.stdout)["findings"]
        except (ValueError, KeyError):
            return [done.stdout + done.stderr]


class Worker(Replica):
    """One that runs batches and takes no calls."""

    command = "worker"


class Fleet:
    """Several replicas; the first one makes the database."""

    def __init__(self, folder: Path, url: str, upstream: int, count: int, more: str = "") -> None:
        self.replicas = [Replica(folder / f"replica-{n}", url, upstream, more) for n in range(count)]
        self.money: Money

    async def __aenter__(self) -> Fleet:
        first, *others = self.replicas
        await first.start()
        self.money = Money(first.place)
        await asyncio.gather(*(each.start(first.data / "pepper") for each in others))
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.replicas:
            await each.end()

    async def stop(self) -> list[int]:
        """Stop all of them in order."""
        return list(await asyncio.gather(*(each.stop() for each in self.replicas)))


class Balancer:
    """Passes each connection on to the next replica that was ready when it was last asked."""

    def __init__(self, replicas: list[Replica]) -> None:
        self.port = 0
        self._replicas = replicas
        self._next = 0
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._passing: set[asyncio.Task[None]] = set()  # a task that nothing holds may end in the middle

    async def __aenter__(self) -> Balancer:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        self._watch = asyncio.create_task(self._look())
        await self.all_ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._watch is not None
        self._server.close()
        tasks = [self._watch, *self._passing]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def all_ready(self, within_s: float = 60.0) -> float:
        """Wait until every replica is ready; return how long that took."""
        began = time.monotonic()
        while not all(each.ready for each in self._replicas):
            assert time.monotonic() - began < within_s, [each.ready for each in self._replicas]
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def _look(self) -> None:
        while True:
            for each in self._replicas:
                each.ready = await readiness(each.port) == 200
            await asyncio.sleep(0.1)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own is not None
        self._passing.add(own)
        own.add_done_callback(self._passing.discard)
        ready = [each for each in self._replicas if each.ready] or self._replicas
        self._next += 1
        with contextlib.closing(writer), contextlib.suppress(OSError):
            other, to = await asyncio.open_connection("127.0.0.1", ready[self._next % len(ready)].port)
            there = asyncio.create_task(_one_way(reader, to))
            try:
                await _one_way(other, writer)
            finally:
                there.cancel()
                to.close()


async def _one_way(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
