"""Hold many streams open that say something each half minute, and see what they cost.

The exit status says whether all of them were opened, stayed open and are in the books, once each; a missed
goal is printed and is no failure.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import books
import machine
import servers
from load import Generator, Load, Outcome, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP_MS = 30_000
MOST = 10_000
SPARE_FILES = 400  # that the gateway needs besides two for each stream
KB_GOAL, MB_GOAL, CPU_GOAL, SLOWER_GOAL = 40.0, 400.0, 20.0, 2.0
OPEN_CALLS = "headgate_open_calls"


class Plan(NamedTuple):
    """How many, and how long it takes."""

    streams: int = MOST
    opened_per_s: int = 250
    watched_s: float = 60.0
    calls_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs."""

    generator: Path
    server: servers.Server
    key: str
    layout: machine.Layout
    plan: Plan

    def calls(self) -> Outcome:
        """Make some calls, a hundred in a second."""
        load = Load(self.plan.calls_s, 16, 100.0)
        return Generator(self.generator, self.layout.load).run(load, self.server.port, self.key)


def possible(wanted: int) -> tuple[int, str]:
    """Return how many streams this machine lets us open, and what is in the way of more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= 2 * wanted + SPARE_FILES:
        return wanted, ""
    return (most - SPARE_FILES) // 2, f"a process may have {most} open files here (ulimit -Hn)"


def opened(setting: Setting, folder: Path) -> subprocess.Popen[bytes]:
    """Begin to open the streams, evenly."""
    plan = setting.plan
    seconds = plan.streams / plan.opened_per_s
    load = Load(seconds + 600, plan.streams, plan.opened_per_s, most=plan.streams, stream=True)
    argv = [str(setting.generator), *load.arguments(setting.server.port, setting.key)]
    argv += ["-t", f"gap{GAP_MS}ms"]
    with machine.pinned(setting.layout.load), (folder / "streams.log").open("wb") as out:
        return subprocess.Popen(argv, stdout=out, stderr=out)


def measure(binary: Path, plan: Plan, folder: Path) -> list[str]:
    """Do it all, print what was seen, and return what was wrong."""
    streams, why = possible(plan.streams)
    if why:
        print(f"{streams} streams, not {plan.streams}: {why}")
    plan = plan._replace(streams=streams)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # what is started from here has it, too
    layout = machine.choose_layout()
    mock_binary, generator = servers.build_tools()
    mock = servers.start_mock(mock_binary, folder, layout.load)
    headgate = servers.Headgate(binary, folder / "main", mock.port, (layout.gateway, layout.load))
    running = [mock]
    try:
        server, _ = headgate.start()
        running.append(server)
        setting = Setting(generator, server, headgate.create_key(), layout, plan)
        failures, made = watch(setting, folder)
        if server.stop():
            failures.append(f"the gateway ended badly: {server.last_words()}")
        status, said = headgate.check()
        if status:
            failures.append(f"`ledger check`: {said}")
        counted = books.total(headgate.calls(), "calls")
        if counted != made:
            failures.append(f"the books count {counted} calls of {made}")
        return failures
    finally:
        for process in running:
            process.kill()


class Seen(NamedTuple):
    """What was seen of the streams."""

    idle_mb: float
    full_mb: float
    cpu_percent: float
    others_percent: float  # of a core, that processes of others had meanwhile
    before: Outcome  # calls without the streams,
    during: Outcome  # and beside them

    def lines(self, streams: int) -> list[str]:
        """Return the figures and their goals."""
        alone_ms, beside_ms = (each.us("svc", "p99") / 1000 for each in (self.before, self.during))
        return [
            f"  {self.idle_mb:.0f} MB without, {self.full_mb:.0f} MB with {streams} streams",
            line("memory of a stream", (self.full_mb - self.idle_mb) * 1000 / streams, "KB", KB_GOAL),
            line("memory in all", self.full_mb, "MB", MB_GOAL),
            line("CPU of the gateway", self.cpu_percent, "% of a core", CPU_GOAL),
            line(
                "p99 of a new call, to that without", beside_ms / max(0.001, alone_ms), "times", SLOWER_GOAL
            ),
            f"  ({alone_ms:.2f} and {beside_ms:.2f} ms; others had {self.others_percent:.0f} % of a core)",
        ]


def watch(setting: Setting, folder: Path) -> tuple[list[str], int]:
    """Open the streams and look at them; return what was wrong, and how many calls were made."""
    plan, server = setting.plan, setting.server
    failures: list[str] = []
    before = setting.calls()
    idle_mb = machine.tree_rss_mb(server.pid)
    process = opened(setting, folder)
    try:
        limit_s = plan.streams / plan.opened_per_s * 3 + 30
        if wait_for(lambda: _open(server) >= plan.streams, limit_s, 0.5) is None:
            failures.append(f"only {_open(server)} of {plan.streams} streams were opened in {limit_s:.0f} s")
        time.sleep(min(5.0, plan.watched_s))
        seen = _look(setting, idle_mb, before)
        if _open(server) < plan.streams:
            failures.append(f"{plan.streams - _open(server)} of the streams have ended")
    finally:
        process.kill()
        process.wait()
    print("\n".join(seen.lines(plan.streams)))
    for name, outcome in (("before", before), ("beside the streams", seen.during)):
        if not outcome.right:
            failures.append(f"calls {name}: {outcome.verdict}")
    if wait_for(lambda: _open(server) == 0, 60.0, 0.2) is None:
        failures.append(f"{_open(server)} calls are open a minute after their callers have gone")
    print(f"  {machine.tree_rss_mb(server.pid):.0f} MB when they have gone")
    return failures, before.sent + seen.during.sent + plan.streams


def _look(setting: Setting, idle_mb: float, before: Outcome) -> Seen:
    """Look at the streams for a while, then make calls beside them."""
    pids = {"gateway": setting.server.pid}
    began = machine.read(pids)
    time.sleep(setting.plan.watched_s)
    window = machine.between(began, machine.read(pids), setting.layout, frozenset())
    full_mb = machine.tree_rss_mb(setting.server.pid)
    cpu = 100 * window.cpu["gateway"] / window.seconds
    return Seen(idle_mb, full_mb, cpu, 100 * window.others, before, setting.calls())


def _open(server: servers.Server) -> int:
    return int(servers.metrics(server.port).get(OPEN_CALLS, 0))


def line(what: str, value: float, unit: str, goal: float) -> str:
    """Return a line with a figure and its goal."""
    return f"  {what:<36} {value:8.1f} {unit:<11}  <= {goal:g}  {'met' if value <= goal else 'MISSED'}"


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 where everything was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=MOST)
    parser.add_argument("--seconds", type=float, default=60.0, help="to watch their CPU")
    parser.add_argument("--headgate", type=Path, default=servers.OWN, help="the command to measure")
    options = parser.parse_args(argv)
    plan = Plan(options.streams, watched_s=options.seconds, calls_s=min(20.0, options.seconds))
    return servers.conclude("idle", lambda folder: measure(options.headgate, plan, folder))


if __name__ == "__main__":
    sys.exit(main())
