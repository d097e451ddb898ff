"""A PostgreSQL server of a test's own, on a free port, and a wire to it that can be slow or cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

USER = "gateway"
MOST_CONNECTIONS = 40


def binaries() -> Path | None:
    """Return where the server's programs are; None: it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    other = shutil.which("initdb")
    return Path(other).parent if other else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OwnPostgres:
    """One server; its files are gone after `remove`.

    Args:
        logging: what is logged, as its setting `log_statement` says; `all` is for `statements`.
    """

    def __init__(self, *, logging: str = "") -> None:
        self.port = free_port()
        self._logging = logging
        self._folder = Path(tempfile.mkdtemp(prefix="headgate-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, str] = {}
        if os.geteuid() == 0:  # which a server refuses to be run as
            self._as = {"user": "postgres"}
            os.chown(self._folder, pwd.getpwnam("postgres").pw_uid, -1)
        found = binaries()
        assert found is not None
        self._bin = found
        self._run(
            "initdb", "-D", "data", "-A", "trust", "-U", USER, "-E", "UTF8", "--locale", "C", "--no-sync"
        )

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [self._bin / program, *words],
            cwd=self._folder,
            check=True,
            capture_output=True,
            **self._as,  # type: ignore[call-overload]
        )

    async def start(self) -> None:
        """Start it; return when it answers."""
        settings = (
            "listen_addresses=127.0.0.1",
            f"max_connections={MOST_CONNECTIONS}",
            "unix_socket_directories=",
        )
        if self._logging:
            settings += (f"log_statement={self._logging}",)
        words = [word for setting in settings for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", "data", "-p", str(self.port), *words],
                cwd=self._folder, stdout=log, stderr=log, **self._as,  # type: ignore[call-overload]
            )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                await (await asyncpg.connect(self.url, timeout=2)).close()
            except (OSError, asyncpg.PostgresError, TimeoutError):
                assert time.monotonic() < until, (self._folder / "log").read_text()
                await asyncio.sleep(0.1)
            else:
                return

    def _all(self) -> list[int]:
        """Return the server's processes, the first one first."""
        assert self._process is not None
        pid = self._process.pid
        with contextlib.suppress(FileNotFoundError):
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        return []

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._all():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def kill(self) -> None:
        """Kill every process of it without a word."""
        assert self._process is not None
        self._signal(signal.SIGSTOP)  # so that none begins while we kill
        self._signal(signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)

    def freeze(self) -> None:
        """Stop every process of it: connections stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    @contextlib.asynccontextmanager
    async def exhausted(self) -> AsyncIterator[None]:
        """Take every connection that others leave, and throw out what there is."""
        own: list[asyncpg.Connection[asyncpg.Record]] = []
        first = await asyncpg.connect(self.url, timeout=5)
        own.append(first)
        try:
            await first.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND backend_type = 'client backend'"
            )
            with contextlib.suppress(asyncpg.PostgresError, OSError, TimeoutError):
                while True:
                    own.append(await asyncpg.connect(self.url, timeout=5))
            yield
        finally:
            for each in own:
                each.terminate()

    def log(self) -> str:
        """Return its log."""
        return (self._folder / "log").read_text(errors="replace")

    def statements(self) -> list[str]:
        """Return the statements of its log that were prepared, each once."""
        log = self.log().replace("\n\t", "\n")
        found = re.findall(r"LOG:  execute \S+: (.*?)(?=\n\d{4}-\d\d-\d\d |\Z)", log, re.DOTALL)
        return sorted({" ".join(each.split()) for each in found})

    async def __aenter__(self) -> OwnPostgres:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.remove()

    async def remove(self) -> None:
        """End it, and take its files away."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGQUIT)
            await asyncio.to_thread(self._process.wait, 30)
        shutil.rmtree(self._folder)


class Wire:
    """Passes bytes on to a server; answers can be late, and connections can be cut and refused."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.delay_s = 0.0
        self._to = port
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for each in list(self._passing):
            each.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own is not None
        self._passing.add(own)
        own.add_done_callback(self._passing.discard)
        with contextlib.suppress(OSError):
            other, to = await asyncio.open_connection("127.0.0.1", self._to)
            there = asyncio.create_task(self._one_way(reader, to, late=False))
            try:
                await self._one_way(other, writer, late=True)
            finally:
                there.cancel()
                to.close()
                writer.close()
        writer.close()

    async def _one_way(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if late and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        if not late:
            with contextlib.suppress(OSError):
                writer.write_eof()
