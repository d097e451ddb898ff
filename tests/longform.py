"""Say how far a long form that pytest runs is, and what came of it: `pytest -p tests.longform`.

A line every 15 s with what has run, what failed and what runs now, a line for each failure as it comes, and at the
end the figures that the tests noted and a verdict, with the command that runs what failed alone.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Generator, Sequence

import pytest

EVERY_S = 15.0
ALONE = 3  # failures whose command is written out
KNOBS = ("HEADGATE_", "ADMIN_CASES", "BOUND_CASES")
_figures: dict[str, list[float]] = {}


def note(what: str, value: float) -> None:
    """Note a figure, whose median, p99 and largest are said at the end; `what` names its unit."""
    _figures.setdefault(what, []).append(value)


def figures() -> list[str]:
    """Say what was noted."""
    lines = []
    for what, values in sorted(_figures.items()):
        values.sort()
        p50, p99 = (values[min(len(values) - 1, int(len(values) * share))] for share in (0.5, 0.99))
        lines.append(f"{what}: {p50:.1f} p50, {p99:.1f} p99, {values[-1]:.1f} at most, of {len(values)}")
    return lines


class Progress:
    """Counts what a session runs; a thread tells of it.

    Args:
        terminal: where it is told when no test runs.
        out: a descriptor of the same, for while one runs: what tests print themselves is captured.
    """

    def __init__(self, terminal: pytest.TerminalReporter, out: int) -> None:
        self.total = self.ran = 0
        self.failed: list[str] = []
        self._terminal, self._out = terminal, out
        self._now, self._since = "", time.monotonic()
        self._began = time.monotonic()
        self._over = threading.Event()
        self._teller = threading.Thread(target=self._run, name="progress", daemon=True)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._begin(len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Do the same where tests run in processes beside each other."""
        self._begin(len(ids))

    def _begin(self, total: int) -> None:
        if not total or self.total:
            return
        self.total, self._began = total, time.monotonic()
        self._terminal.write_line(f"{self.total} tests")
        self._terminal.flush()
        self._teller.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._now, self._since = nodeid, time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += report.when == "teardown"
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)
            self._terminal.write_line(f"FAILED {report.nodeid}", red=True)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Let what passes take no place: its number is in the lines."""
        return ("passed", "", "") if report.passed and report.when == "call" else None

    def line(self) -> str:
        """Say how far it is."""
        took_s = time.monotonic() - self._began
        left = f", about {took_s / self.ran * (self.total - self.ran):.0f} s left" if self.ran else ""
        text = f"{self.ran} of {self.total} run, {len(self.failed)} failed, {took_s:.0f} s{left}"
        waiting_s = time.monotonic() - self._since
        return f"{text}; for {waiting_s:.0f} s in {self._now}" if waiting_s > EVERY_S else text

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            os.write(self._out, f"{self.line()}\n".encode())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        self._over.set()
        took_s = time.monotonic() - self._began
        for line in figures():
            terminalreporter.write_line(line)
        if not exitstatus and self.ran == self.total and self.ran:
            terminalreporter.write_line(
                f"PASS: none of {self.total} tests failed, in {took_s:.0f} s", green=True
            )
            return
        terminalreporter.write_line(
            f"FAIL: {len(self.failed)} of {self.ran} tests failed, of {self.total}, in {took_s:.0f} s. What they "
            "saw is above; mend it, and run them alone:",
            red=True,
        )
        for name in self.failed[:ALONE]:
            terminalreporter.write_line(f"  {alone(name)}")


def verdict(wrong: int, seed: int | None = None) -> int:
    """Say what came of a long form that is a program of its own, and how to play it again; return its exit code."""
    if not wrong:
        print("PASS: nothing is wrong")
        return 0
    spec = sys.modules["__main__"].__spec__
    words = [".venv/bin/python", "-m", spec.parent if spec is not None else "tests", *sys.argv[1:]]
    if seed is not None and "--seed" not in words:
        words += ["--seed", str(seed)]
    print(f"FAIL: {wrong} wrong, as said above. Mend it, and play the same again: {shlex.join(words)}")
    return 1


def alone(name: str) -> str:
    """Return the command that runs one test as it was run."""
    knobs = [f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith(KNOBS)]
    return shlex.join([*knobs, ".venv/bin/python", "-m", "pytest", "-o", "timeout=0", name])


_out = pytest.StashKey[int]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Keep where the terminal is, before what is written there is captured."""
    early_config.stash[_out] = os.dup(1)
    return (yield)


@pytest.hookimpl(trylast=True)  # when the terminal is there
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None:  # one of several processes, whose reports go to the first
        return
    assert isinstance(terminal, pytest.TerminalReporter)
    config.pluginmanager.register(Progress(terminal, config.stash[_out]), "progress of a long form")


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_out])
