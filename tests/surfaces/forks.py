"""`headgate` in processes of their own, forked from one that has imported what its commands need.

A command is a process as ever: it has its own folder, environment and output, can be killed, and its locks are its own.
Only the imports are not made again for each. Whatever is said of starting a process is tested on the installed program.
Elsewhere than on Linux, where such sockets keep no messages apart, each is the installed program.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from pkgutil import walk_packages
from threading import Lock
from types import MappingProxyType
from typing import IO, Any

FORKS = sys.platform == "linux"
_MOST = 1 << 16  # bytes of an order


class _Parent:
    """The process that is forked, one for each process of tests."""

    def __init__(self, program: str) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
        with closing(theirs):
            self._process = subprocess.Popen(
                [sys.executable, __file__, program], stdin=theirs, env=environment, cwd="/"
            )

    def order(self, order: Mapping[str, Any], *files: int) -> None:
        """Ask for a process: its first file is told how it ended, the others are its output and its errors."""
        self._orders.sendmsg(
            [json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
        )

    def close(self) -> None:
        self._orders.close()
        self._process.wait()


@cache
def _parent(program: str) -> _Parent:
    made = _Parent(program)
    atexit.register(made.close)
    return made


class Forked:
    """A process of the installed program, or of Python, with what tests use of `subprocess.Popen`.

    Args:
        command: `headgate` and what it is told, or `python` and a file that uses OpenAI's SDK.
        folder: where it runs.
        environment: all of it.
        patience: how long it waits for batch APIs of providers, if not as ever: fields of `Patience`.
        output: a file for all that it says; without one it is read from `stdout` and `stderr`.
        session: it leads a session and a group of processes.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        patience: Mapping[str, float] = MappingProxyType({}),
        *,
        output: IO[bytes] | None = None,
        session: bool = False,
    ) -> None:
        self._command = command
        self.returncode: int | None = None
        self._turn = Lock()  # one thread reads how it ended
        order = {
            "command": command,
            "folder": str(folder),
            "environment": dict(environment),
            "patience": dict(patience),
            "session": session,
        }
        self.stdout: IO[str] = StringIO()
        self.stderr: IO[str] = StringIO()
        self._ends, told = socket.socketpair()
        parent = _parent(Path(command[0]).name)
        with told:
            if output is not None:
                parent.order(order, told.fileno(), output.fileno(), output.fileno())
            else:
                out, err = os.pipe(), os.pipe()
                self.stdout, self.stderr = (os.fdopen(pipe[0], encoding="utf-8") for pipe in (out, err))
                parent.order(order, told.fileno(), out[1], err[1])
                os.close(out[1])
                os.close(err[1])
        self.pid = int(self._line())

    def _line(self) -> bytes:
        """Return a line of the two that `_fork` tells."""
        line = b""
        while not line.endswith(b"\n"):
            more = self._ends.recv(1)
            if not more:
                raise AssertionError("the process that is forked has ended; what it said is above")
            line += more
        return line

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended, as `Popen.wait` does.

        Raises:
            subprocess.TimeoutExpired: it has not within so many seconds.
        """
        with self._turn:
            if self.returncode is None:
                self._ends.settimeout(timeout)
                try:
                    self.returncode = int(self._line())
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired(self._command, timeout or 0) from None
                self._ends.close()
            return self.returncode

    def poll(self) -> int | None:
        """Return how it ended; None while it runs."""
        if self._turn.locked():  # another thread waits, and will know
            return self.returncode
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, how: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended since, and we are about to be told how
                os.kill(self.pid, how)

    def terminate(self) -> None:
        """Ask it to stop."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return the rest of what it said and complained of once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not within so many seconds.
        """
        if self.stdout.closed:
            self.wait(timeout)
            return "", ""
        with ThreadPoolExecutor(2) as threads:
            said = [threads.submit(file.read) for file in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()  # else the threads would read on
                raise
            out, err = (each.result() for each in said)
        self.stdout.close()
        self.stderr.close()
        return out, err


def launch(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    output: IO[bytes],
    *,
    session: bool = False,
) -> Forked | subprocess.Popen[str]:
    """Start a command that writes all it says to a file."""
    if FORKS:
        return Forked(command, folder, environment, output=output, session=session)
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=output,
        stderr=output,
        text=True,
        start_new_session=session,
    )


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command as in `Forked`; return what `subprocess.run` would.

    Raises:
        subprocess.TimeoutExpired: it took more than so many seconds, and was killed.
    """
    if not FORKS:
        return subprocess.run(
            command, cwd=folder, env=environment, timeout=timeout, capture_output=True, text=True
        )
    process = Forked(command, folder, environment)
    out, err = process.communicate(timeout)
    return subprocess.CompletedProcess(list(command), process.wait(), out, err)


# ── in the process that is forked ────────────────────────────────────────────────────────────────


def _serve() -> None:
    """Fork for each order; return in the process that runs it, or when nobody asks any more."""
    orders = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while True:
        order, files, _, _ = socket.recv_fds(orders, _MOST, 3)
        if not order:
            os._exit(0)
        if not os.fork():
            orders.close()
            _fork(json.loads(order), *files)
            return
        for file in files:
            os.close(file)


def _fork(order: dict[str, Any], told: int, out: int, err: int) -> None:
    """Return in the process that runs the command; its parent tells which it is, and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        os.write(told, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.close(told)
    if order["session"]:
        os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for file, place in ((out, 1), (err, 2)):
        os.dup2(file, place)
        os.close(file)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[:] = order["command"]
    if order["patience"]:
        parts = import_module("headgate.batch.parts")
        parts.PATIENCE = parts.Patience(**order["patience"])


def _headgate() -> Callable[[], object]:
    """Import what the commands of Headgate need; return what runs one."""
    from headgate.__main__ import main
    from headgate.cli.root import COMMANDS

    for module, _ in COMMANDS.values():
        import_module(module)
    for module in (
        "serving",
        "observe.prometheus",
        "process.outward",
        "stores.sql.admin",
        "stores.sql.check",
        "transport.simulator",
    ):
        import_module(f"headgate.{module}")
    for package in (
        "admin",
        "batch",
        "dashboard",
        "files",
        "live",
        "ops",
        "providers",
        "recordings",
        "videos",
    ):
        paths = import_module(f"headgate.{package}").__path__
        for found in walk_packages(paths, f"headgate.{package}."):
            import_module(found.name)
    for module in ("encodings.idna", "uvloop"):
        with suppress(ImportError):
            import_module(module)
    import_module("headgate.providers.registry").known_hosts()
    return main


def _python() -> Callable[[], object]:
    """Import what examples need; return what runs one."""
    import_module("openai")

    def run() -> None:
        sys.argv.pop(0)
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")

    return run


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    run_it = _headgate() if sys.argv[1] == "headgate" else _python()
    gc.freeze()
    _serve()
    run_it()
