"""The real server and the other commands of its package, each a process of its own, forked without its imports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.surfaces.forks import Forked, launch, run

from headgate.stores.sql.database import Database, Place

HEADGATE = str(Path(sys.executable).with_name("headgate"))
READY_S = 30.0
ASKED_S = 300.0
CONFIG = """
[storage]
journal_segment_kb = 64
[[providers]]
name = "oracle"
base_url = "http://127.0.0.1:{port}/v1"
api_key = "oracle-key"
models = ["crash-model"]
[[prices.rows]]
provider = "oracle"
model = "crash-model"
input = "3"
output = "6"
"""


def cost(given: int, made: int) -> int:
    """Return what a call costs in nano-USD, by the prices above."""
    return given * 3_000 + made * 6_000


class Server:
    """One data folder and the processes that serve it, one after another."""

    words: tuple[str, ...] = ("serve", "--cap", "1000/month")

    def __init__(self, folder: Path, oracle_port: int, database: str = "") -> None:
        self.folder = folder
        self.data = folder / "data"
        self.place: Place = Database(self.data, database) if database else self.data
        self._environment = {**_environment(), "HEADGATE_DATABASE": database}
        self.port = _free_port()
        self.slowest_start_s = 0.0
        self._config = folder / "headgate.toml"
        self._config.write_text(CONFIG.format(port=oracle_port), encoding="utf-8")
        self._log = (folder / "server.log").open("ab")
        self._process: Forked | subprocess.Popen[str] | None = None

    async def start(self, failpoints: str = "") -> None:
        began = time.monotonic()
        where = ["--port", str(self.port), "--data", str(self.data), "--config", str(self._config)]
        command = [HEADGATE, *self.words, *where]
        environment = {**self._environment, "HEADGATE_FAILPOINTS": failpoints}
        self._process = await asyncio.to_thread(launch, command, self.folder, environment, self._log)
        while not await self._ready():
            if self._process.poll() is not None or time.monotonic() - began > READY_S:
                raise SystemExit(f"the server does not start; see {self.folder / 'server.log'}")
            await asyncio.sleep(0.01)
        self.slowest_start_s = max(self.slowest_start_s, time.monotonic() - began)

    async def _ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        try:
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
        except ConnectionError:
            return False
        finally:
            writer.close()

    @property
    def pid(self) -> int:
        """Of the process that serves."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def kill(self) -> None:
        """Kill it without a word."""
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def died(self, seconds: float) -> bool:
        """Wait for a failpoint to kill it; say whether one did."""
        assert self._process is not None
        for _ in range(int(seconds / 0.005)):
            if self._process.poll() is not None:
                return self._process.returncode == -signal.SIGKILL
            await asyncio.sleep(0.005)
        return False

    async def stop(self) -> int:
        """End it in order; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self._process.wait, 60)
        self._log.close()
        return code

    async def ask(self, *words: str) -> Any:
        """Run a command with --json on the data folder; return what it printed."""
        command = [HEADGATE, *words, "--data", str(self.data), "--json"]
        done = await asyncio.to_thread(run, command, self.folder, self._environment, ASKED_S)
        sys.stderr.write(done.stderr)
        return json.loads(done.stdout)


def _environment() -> dict[str, str]:
    """Return an environment in which no provider is configured by accident."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "PYTHONDONTWRITEBYTECODE")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
