"""Three replicas on one Redis, and calls to all of them at an even pace."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import urllib.request
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.surfaces.conftest import Gateway

RPM = 300  # of the key `tight`: 5 a second, after 300 at once


@dataclass
class Reply:
    """What became of a call."""

    began: float
    took_s: float
    status: int
    left: int = -1  # x-ratelimit-remaining-requests


class Fleet:
    """Replicas of one gateway: copies of one data folder, so all know the same keys.

    Each has books of its own; together they have Redis alone.
    """

    def __init__(self, folder: Path, redis_url: str, count: int = 3) -> None:
        first = Gateway(folder / "first")
        self.keys = {
            name: json.loads(
                first.command("keys", "create", "--name", name, "--kind", "test", "--json", *limits).stdout
            )["key"]
            for name, limits in {
                "tight": ("--rpm", str(RPM)),
                "wide": ("--rpm", "1000000"),
                "free": (),
                "few": ("--concurrency", "6"),
            }.items()
        }
        first.stop()
        self.replicas: list[Gateway] = []
        for number in range(count):
            place = folder / f"replica-{number}"
            place.mkdir()
            shutil.copytree(first.data, place / "data")
            (place / "headgate.toml").write_text(f'[storage]\nredis = "{redis_url}"\n')
            self.replicas.append(Gateway(place, "--config", "headgate.toml"))

    def gauge(self, number: int, name: str) -> float:
        """Return a metric of a replica."""
        url = self.replicas[number].base.removesuffix("/v1") + "/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line for line in lines if line.startswith(name + " ")).split()[1])

    def wait_until(self, name: str, value: float, within_s: float) -> float:
        """Wait until a metric has a value at every replica; return how long that took."""
        began = time.monotonic()
        while any(self.gauge(number, name) != value for number in range(len(self.replicas))):
            assert time.monotonic() - began < within_s, name
            time.sleep(0.05)
        return time.monotonic() - began

    def warm(self) -> None:
        """Make the first calls of each replica, which load what later ones find loaded."""
        for replica in self.replicas:
            pace = Pace(port_of(replica), self.keys["free"], 10)
            asyncio.run(pace.run(time.monotonic() + 0.5))
            assert {reply.status for reply in pace.replies} == {200}

    def stop(self) -> list[str]:
        """Stop all; return what each has logged."""
        return [replica.stop()[2] for replica in self.replicas]


@dataclass
class Pace:
    """Calls of one key to one replica, so many in a second, whatever becomes of those before."""

    port: int
    key: str
    per_s: float
    replies: list[Reply] = field(default_factory=list)
    broken: int = 0  # calls without an answer

    async def run(self, until: float) -> None:
        tasks: set[asyncio.Task[None]] = set()
        idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        due = time.monotonic()
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._call(idle))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += 1 / self.per_s
        await asyncio.gather(*tasks)
        for _, writer in idle:
            writer.close()

    async def _call(self, idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(20):
                reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(request(self.key))
                head = await reader.readuntil(b"\r\n\r\n")
                lines = dict(
                    line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
                )
                await reader.readexactly(int(lines[b"content-length"]))
        except (OSError, EOFError, TimeoutError):
            self.broken += 1
            return
        left = int(lines.get(b"x-ratelimit-remaining-requests", -1))
        self.replies.append(Reply(began, time.monotonic() - began, int(head.split()[1]), left))
        idle.append((reader, writer))


def port_of(replica: Gateway) -> int:
    return int(replica.base.split(":")[2].split("/")[0])


def request(key: str) -> bytes:
    body = json.dumps(
        {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    )
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def at(times: list[float], share: float) -> float:
    """Return a percentile in milliseconds."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000 if times else 0.0


class Delay:
    """A way to a Redis that is as slow as it is told to be."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.delay_s = 0.0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End every way; nothing else may run on its loop."""
        assert self._server is not None
        self._server.close()
        ways = asyncio.all_tasks() - {asyncio.current_task()}
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed goes

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s / 2)
                writer.write(data)
