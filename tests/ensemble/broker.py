"""A RabbitMQ node of a test's own, on free ports, with a port mapper of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.several.database import free_port

START_S = 90.0
_SCRIPT = Path(
    "/usr/lib/rabbitmq/bin/rabbitmq-server"
)  # Debian's; what is in PATH there starts the machine's node
_HELLO = b"AMQP\x00\x00\x09\x01"


def script() -> Path | None:
    """Return what starts a node; None: it is not installed."""
    if _SCRIPT.exists():
        return _SCRIPT
    other = shutil.which("rabbitmq-server")
    return Path(other) if other else None


class OwnRabbit:
    """One node; its files are gone after `remove`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="headgate-rabbitmq-"))
        self._mapper: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._mapper_port = free_port()
        for name in ("rabbitmq.conf", "rabbitmq-env.conf", "plugins"):
            (self._folder / name).touch()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # of the cookie
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the node, so that its process is what we signal
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_NODENAME": f"headgate-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
        }

    async def start(self) -> None:
        """Start it; return when it answers."""
        found = script()
        assert found is not None
        environment = self._environment()
        with (self._folder / "out").open("ab") as out:
            if self._mapper is None:
                words = ["epmd", "-port", str(self._mapper_port), "-address", "127.0.0.1"]
                self._mapper = subprocess.Popen(words, env=environment, stdout=out, stderr=out)
            self._process = subprocess.Popen(
                [found, "-noinput"],
                env=environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        until = time.monotonic() + START_S
        while not await self._answers():
            assert self._process.poll() is None, self._said()
            assert time.monotonic() < until, self._said()
            await asyncio.sleep(0.1)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(_HELLO)
            try:
                return bool(await reader.read(1))
            finally:
                writer.close()
                await writer.wait_closed()
        return False

    def _said(self) -> str:
        return (self._folder / "out").read_text(errors="replace")[-4000:]

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it without a word."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        await asyncio.to_thread(self._process.wait)

    def freeze(self) -> None:
        """Stop it: connections stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def remove(self) -> None:
        """End it, and take its files away."""
        for each in (self._process, self._mapper):
            if each is not None and each.poll() is None:
                each.kill()
                await asyncio.to_thread(each.wait)
        shutil.rmtree(self._folder, ignore_errors=True)  # a child of the node may write its last line
