"""The gateway under test: `headgate serve --workers N`, or N workers in this process whose clock can be moved."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from tests.surfaces.forks import Forked, launch, run

from headgate.app import App
from headgate.config import ServeOptions, load
from headgate.identity.keys import mint_key
from headgate.ports import SystemClock
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.database import connect
from headgate.stores.sql.recovery import recover

HEADGATE = str(Path(sys.executable).with_name("headgate"))
READY_S = 30.0
CONFIG = """
[[providers]]
name = "first"
base_url = "http://127.0.0.1:{port}/a/v1"
api_key = "none"
[[providers]]
name = "second"
base_url = "http://127.0.0.1:{port}/b/v1"
api_key = "none"
[[models]]
name = "caps-model"
targets = [{{ provider = "first", model = "m" }}]
fallback = ["caps-second"]
[[models]]
name = "caps-second"
targets = [{{ provider = "second", model = "m" }}]
[[prices.rows]]
model = "m"
input = 0
output = 0.6
"""


class Gateway:
    """What the rounds need of it."""

    def __init__(self, data: Path, ports: list[int], pid: int = 0) -> None:
        self.data = data
        self.ports = ports
        self.pid = pid

    @property
    def workers(self) -> list[int]:
        """Return the worker processes."""
        return [int(word) for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    @property
    def port(self) -> int:
        return random.choice(self.ports)


def write_config(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "headgate.toml"
    path.write_text(text, encoding="utf-8")
    return path


@contextlib.asynccontextmanager
async def processes(folder: Path, upstream: int, workers: int) -> AsyncIterator[Gateway]:
    """Serve by real processes; at the end they stop in order and their books are proven."""
    process, gateway = await start(folder, CONFIG.format(port=upstream), workers)
    try:
        yield gateway
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, 60)
    assert code == 0, (folder / "server.log").read_text()
    out = run(
        [HEADGATE, "ledger", "check", "--data", str(gateway.data), "--json"], folder, _environment(), 120
    )
    assert json.loads(out.stdout)["findings"] == [], out.stdout


async def start(
    folder: Path, text: str, workers: int, command: str = "serve"
) -> tuple[Forked | subprocess.Popen[str], Gateway]:
    """Start real processes, a group of their own; return them when they are ready."""
    config, data = write_config(folder, text), folder / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ["--port", str(port), "--data", str(data), "--config", str(config), "--workers", str(workers)]
    with (folder / "server.log").open("wb") as log:
        words = [HEADGATE, command, *where]
        process = await asyncio.to_thread(launch, words, folder, _environment(), log, session=True)
    try:
        await _ready(process, port, folder)
    except BaseException:
        process.kill()
        raise
    return process, Gateway(data, [port], process.pid)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


async def _ready(process: Forked | subprocess.Popen[str], port: int, folder: Path) -> None:
    began = time.monotonic()
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
                ready = b" 200 " in await reader.readline()
            if ready:
                return
        assert process.poll() is None, (folder / "server.log").read_text()
        assert time.monotonic() - began < READY_S
        await asyncio.sleep(0.05)


class MovedClock(SystemClock):
    """The machine's clock, ahead or behind by so much."""

    __slots__ = ("ahead",)

    def __init__(self, ahead_us: int) -> None:
        self.ahead = ahead_us

    def wall(self) -> int:
        return time.time_ns() // 1000 + self.ahead


@contextlib.asynccontextmanager
async def workers_here(
    folder: Path, upstream: int, workers: int, clock: MovedClock
) -> AsyncIterator[Gateway]:
    """Serve by workers in this process, each with a port of its own, all with one clock."""
    path, data = write_config(folder, CONFIG.format(port=upstream)), folder / "data"
    options = ServeOptions(config=str(path), data=str(data), port=0)
    config = load(options)
    config = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, workers=workers))
    pepper = prepare(data, clock.wall(), mint_key).pepper
    sql = connect(data)
    recover(data, sql, clock)
    sql.close()
    apps = [App(config, pepper, simulating=False, slot=slot, clock=clock) for slot in range(workers)]
    for app in apps:
        await app.start()
    try:
        yield Gateway(data, [app.server.addresses[0][1] for app in apps])
    finally:
        for app in apps:
            await app.stop()
