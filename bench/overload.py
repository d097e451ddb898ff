"""Call a gateway at 2, 5 and 10 times what it can serve, and see what becomes of the calls.

Its capacity is the highest rate of an open loop at which the 99th percentile is not twice that of a quiet
one. The exit status says whether every answer, every probe of health and the books were right; a missed speed
goal is printed and is no failure.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import books
import machine
import servers
from load import Generator, Load, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STEPS = {2: 0.95, 5: 0.85, 10: 0.75}  # times the capacity; the goal for what is served of it
QUIET = 0.3  # of what a closed loop gets
RAMP = (0.6, 0.7, 0.8, 0.9, 1.0)
CONNS = 512
PROBE_EVERY_S = 0.05
PROBE_LIMIT_S = 5.0
REFUSAL_GOAL_MS, HEALTH_GOAL_MS = 50.0, 100.0


class Plan(NamedTuple):
    """How long it takes."""

    step_s: float = 60.0
    ramp_s: float = 8.0
    recovery_s: float = 5.0
    after_s: float = 3.0


QUICK = Plan(3.0, 0.7, 5.0, 1.0)


@dataclass
class Probes:
    """Probes of `/healthz` meanwhile, each on a connection of its own."""

    port: int
    took_ms: list[float] = field(default_factory=list)
    missed: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Probes:
        """Begin."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """End after the probe that is under way."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(PROBE_EVERY_S):
            began = time.monotonic()
            status, _ = servers.fetch(self.port, "/healthz", PROBE_LIMIT_S)
            self.took_ms.append((time.monotonic() - began) * 1000)
            self.missed += status != 200

    @property
    def p99_ms(self) -> float:
        """Return the 99th percentile."""
        ordered = sorted(self.took_ms)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0


class Trial:
    """One gateway under load, what was sent to it, and what was wrong."""

    def __init__(self, generator: Generator, server: servers.Server, key: str, plan: Plan) -> None:
        self.plan = plan
        self.failures: list[str] = []
        self.served = 0  # answered with 200
        self._generator = generator
        self._server = server
        self._key = key

    def run(self, what: str, load: Load) -> Outcome:
        """Put a load on the gateway, and keep account."""
        outcome = self._generator.run(load, self._server.port, self._key)
        self.served += int(outcome.raw.get("served_total", outcome.raw["answered_total"]))
        if not outcome.right:
            self.failures.append(f"{what}: {outcome.verdict}")
        return outcome

    def capacity(self) -> tuple[float, float]:
        """Return requests a second that it can serve, and the quiet 99th percentile in ms."""
        seconds = self.plan.ramp_s
        closed = float(self.run("closed loop", Load(seconds, 64)).raw["rps"])
        quiet = self.run("quiet", Load(seconds, 128, QUIET * closed)).us("svc", "p99") / 1000
        found = QUIET * closed
        for share in RAMP:
            rate = share * closed
            if (
                self.run(f"{rate:.0f}/s", Load(seconds, 128, rate, refusals=True)).us("svc", "p99")
                > 2000 * quiet
            ):
                break
            found = rate
        return found, quiet

    def step(self, times: int, capacity: float, quiet_ms: float) -> Iterator[str]:
        """Call at a multiple of the capacity; yield what was seen."""
        load = Load(self.plan.step_s, CONNS, times * capacity, refusals=True)
        with Probes(self._server.port) as probes:
            outcome = self.run(f"{times}x", load)
        if probes.missed:
            self.failures.append(
                f"{times}x: {probes.missed} of {len(probes.took_ms)} probes of health failed"
            )
        good = float(outcome.raw["rps"]) / capacity
        refused = int(outcome.raw["refused"])
        yield f"  {times:2}x  sent {outcome.sent}, served {outcome.raw['ok']}, refused {refused}"
        yield judged("goodput of C", 100 * good, "%", 100 * STEPS[times], least=True)
        yield judged("admitted p99", outcome.us("svc", "p99") / 1000, "ms", 2 * quiet_ms)
        if refused:
            yield judged("refusal p99", outcome.us("refusal", "p99") / 1000, "ms", REFUSAL_GOAL_MS)
        yield judged(f"health p99 of {len(probes.took_ms)}", probes.p99_ms, "ms", HEALTH_GOAL_MS)

    def recovery(self, capacity: float) -> Iterator[str]:
        """Call as much as it can serve again; yield what was seen."""
        rate = 0.95 * capacity
        self.run("recovering", Load(self.plan.recovery_s, 128, rate, refusals=True))
        outcome = self.run("recovered", Load(self.plan.after_s, 128, rate, refusals=True))
        share = 100 * float(outcome.raw["rps"]) / rate
        yield judged(f"served {self.plan.recovery_s:g} s later of 0.95 C", share, "%", 95.0, least=True)


def judged(what: str, value: float, unit: str, goal: float, *, least: bool = False) -> str:
    """Return a line with a figure and its goal."""
    met = value >= goal if least else value <= goal
    sign = ">=" if least else "<="
    return f"       {what:<32} {value:9.1f} {unit:<2}  {sign} {goal:.1f}  {'met' if met else 'MISSED'}"


def reconcile(headgate: servers.Headgate, trial: Trial) -> list[str]:
    """Return what is wrong in the books: each served call is there once, and nothing of a refused one."""
    return books.compare(headgate, books.Sent(json=trial.served))


def measure(binary: Path, plan: Plan, folder: Path) -> list[str]:
    """Do it all, print what was seen, and return what was wrong."""
    layout = machine.choose_layout()
    mock_binary, generator_binary = servers.build_tools()
    mock = servers.start_mock(mock_binary, folder, layout.load)
    headgate = servers.Headgate(binary, folder / "main", mock.port, (layout.gateway, layout.load))
    running = [mock]
    try:
        server, _ = headgate.start()
        running.append(server)
        trial = Trial(Generator(generator_binary, layout.load), server, headgate.create_key(), plan)
        capacity, quiet_ms = trial.capacity()
        print(f"capacity C: {capacity:.0f} requests/s; p99 in quiet {quiet_ms:.2f} ms")
        for times in STEPS:
            for line in trial.step(times, capacity, quiet_ms):
                print(line)
        for line in trial.recovery(capacity):
            print(line)
        failures = trial.failures
        if server.stop():
            failures.append(f"the gateway ended badly: {server.last_words()}")
        failures += reconcile(headgate, trial)
        print(f"books: {trial.served} served calls{'' if failures else ', each booked once'}")
        return failures
    finally:
        for process in running:
            process.kill()


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 where everything was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = servers.HERE.parent / ".venv" / "bin" / "headgate"
    parser.add_argument("--quick", action="store_true", help="a few seconds; for smoke only")
    parser.add_argument("--headgate", type=Path, default=default, help="the command to measure")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="headgate-overload-") as folder:
        try:
            failures = measure(options.headgate, QUICK if options.quick else Plan(), Path(folder))
        except servers.Unusable as failure:
            failures = [str(failure)]
    for text in failures:
        print(f"WRONG: {text}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
