"""A running gateway in a folder of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import pytest
from tests.surfaces.forks import FORKS, Forked, run as run_forked

HEADGATE = str(Path(sys.executable).with_name("headgate"))
ROOT = Path(__file__).parents[2]
Process: TypeAlias = subprocess.Popen[str] | Forked


def plain_environment(**extra: str) -> dict[str, str]:
    """Return an environment in which no provider is configured."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def complaints(err: str) -> list[str]:
    """Return the lines that a gateway logged, but for those about providers that refuse it: tests let them."""
    return [
        line for line in err.splitlines() if json.loads(line)["event"] != "a provider refuses this gateway"
    ]


class Gateway:
    """`headgate serve` as a process.

    Args:
        folder: where it is started; its `.env` gets the text of `dotenv`.
        args: further options.
        command: another command that serves.
        patience: with batch APIs of providers, where processes are forked.
        program: how an `InstalledGateway` is started, if not as the installed program.
        environment: further variables.
    """

    def __init__(
        self,
        folder: Path,
        *args: str,
        dotenv: str = "",
        command: str = "serve",
        program: Sequence[str] = (HEADGATE,),
        patience: Mapping[str, float] = MappingProxyType({}),
        **environment: str,
    ) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        if dotenv:
            (folder / ".env").write_text(dotenv)
        self.data = folder / "data"
        self._patience = patience
        words = [*program, command, "--port", "0", "--data", str(self.data), *args]
        self.process = self.started(words, plain_environment(**environment))
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        else:
            raise AssertionError(f"the gateway did not start:\n{self.said}\n{self.process.stderr.read()}")  # type: ignore[union-attr]
        self.base = re.search(r"http://\S+/v1", self.said)[0]  # type: ignore[index]
        found = re.search(r"sk-hg-live-\w+", self.said)
        self.key = found[0] if found else ""

    def started(self, words: Sequence[str], environment: dict[str, str]) -> Process:
        """Start the process, without its imports: that it starts as it is installed is tested where it says so."""
        if not FORKS:
            return _installed(words, self.folder, environment)
        return Forked(words, self.folder, environment, self._patience)

    def client_environment(self) -> dict[str, str]:
        """Return what the guide's programs need."""
        return plain_environment(OPENAI_BASE_URL=self.base, OPENAI_API_KEY=self.key)

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the same data."""
        return run_forked(
            [HEADGATE, *args, "--data", str(self.data)], self.folder, plain_environment(), timeout=60
        )

    def stop(self, how: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Stop it; return exit code and what it said."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        out, err = self.process.communicate(timeout=40)
        return self.process.returncode, out, err


class InstalledGateway(Gateway):
    """The same, with everything that a start is."""

    def started(self, words: Sequence[str], environment: dict[str, str]) -> Process:
        return _installed(words, self.folder, environment)


def _installed(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a command as it is installed."""
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> Iterator[Gateway]:
    """A gateway with no provider: the simulator answers."""
    gateway = InstalledGateway(tmp_path_factory.mktemp("simulated"))
    yield gateway
    code, _, err = gateway.stop()
    assert (code, err) == (0, "")
