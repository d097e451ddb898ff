"""Call a gateway at 2, 5 and 10 times what it can serve, and see what becomes of the calls.

Its capacity C is the highest rate at which the 99th percentile is at most twice that of a quiet gateway, all
in open loops, with a provider that answers at once: so it is the gateway's own. Beyond it the provider takes
20 ms, less than any model does, and a call is judged as its caller sees it: by what it took on a quiet
gateway with that provider. `--provider-ms 0` judges what the gateway alone takes. What else runs on a machine
only ever makes a window worse: at each rate the best of some counts, and the ramp ends where some rates in a
row failed, not at the first one. Of each load 99 % come from one key and 1 % from another, which should not
notice. The first second of the first load is a figure of its own: what is too much is noticed in it, and a
step of seconds would speak of little else. The latency of the admitted is that of both keys together; that of
the small one is printed beside. Then a key whose calls are batch asks for more than there is, beside one
whose calls are interactive. The exit status says whether every answer, every probe of health and the books
were right; a missed speed goal is printed and is no failure.
Beside each figure stands `met`, `MISSED` or, of a latency at most a quarter above its goal, `near`:
on a machine that has other work a 99th percentile differs by that much from run to run.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import books
import machine
import servers
from load import Generator, Load, Outcome, together_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STEPS = {2: 0.95, 5: 0.85, 10: 0.75}  # times the capacity; the goal for what is served of it
QUIET = 0.1  # of what it serves in a closed loop
RAMP_FROM, RAMP_BY, RAMP_TO = 0.3, 1.07, 1.3  # of the same
DOUBLED, TRIES, MISSES = 2.0, 3, 3  # times the quiet percentile; windows at a rate; rates in a row
CONNS, FEW_CONNS = 480, 32
SMALL = 0.01  # of a load
OF_SMALL = "1 % of load: admitted p99"  # a part of all that are admitted, whose goal is judged
PEOPLE, BATCH = 0.7, 1.3  # of the capacity
PROBE_EVERY_S = 0.05
PROBE_LIMIT_S = 5.0
REFUSAL_GOAL_MS, HEALTH_GOAL_MS, LOST_GOAL, PEOPLE_GOAL = 50.0, 100.0, 5.0, 90.0
REST_S, ONSET, ONSET_GOAL_MS = (
    2.0,
    2,
    100.0,
)  # between the ramp and its first overload, which is so many times
NEAR = 1.25  # times the goal: a latency up to that is printed as near, not as met


class Plan(NamedTuple):
    """How long it takes."""

    step_s: float = 60.0
    ramp_s: float = 5.0
    recovery_s: float = 5.0
    after_s: float = 5.0
    onset_s: float = 1.0
    provider_ms: int = 20


QUICK = Plan(4.0, 1.5, 5.0, 2.0)


@dataclass
class Probes:
    """Probes of `/healthz` meanwhile, each on a connection of its own."""

    name: str
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


class Keys(NamedTuple):
    """Whose calls are sent."""

    heavy: str
    small: str
    batch: str


class Trial:
    """One gateway under load, what was sent to it, and what was wrong."""

    def __init__(
        self, generator: Generator, server: servers.Server, monitor: int, keys: Keys, plan: Plan
    ) -> None:
        self.plan = plan
        self.unloaded_ms = 0.0  # the 99th percentile of a quiet gateway, with the provider's time
        self.failures: list[str] = []
        self.served = 0  # answered with 200
        self.keys = keys
        self._generator = generator
        self._server = server
        self._monitor = monitor

    def run(self, what: str, load: Load, key: str = "") -> Outcome:
        """Put a load on the gateway, and keep account."""
        return self.together(what, (load, key or self.keys.heavy))[0]

    def together(self, what: str, *loads: tuple[Load, str]) -> list[Outcome]:
        """Put several loads on the gateway at once."""
        with ThreadPoolExecutor(len(loads)) as pool:
            outcomes = list(
                pool.map(lambda each: self._generator.run(each[0], self._server.port, each[1]), loads)
            )
        for outcome in outcomes:
            self.served += int(outcome.raw.get("served_total", outcome.raw["answered_total"]))
            if not outcome.right:
                self.failures.append(f"{what}: {outcome.verdict}")
        return outcomes

    def capacity(self) -> tuple[float, float]:
        """Return requests a second until the 99th percentile doubles, and that of a quiet gateway in ms."""
        most = float(self.run("closed loop", Load(self.plan.ramp_s, 64, refusals=True)).raw["rps"])
        rate = RAMP_FROM * most
        quiet_ms = min(self._p99_ms(QUIET * most) for _ in range(TRIES))
        best, missed = QUIET * most, 0
        while rate <= RAMP_TO * most and missed < MISSES:
            if any(self._p99_ms(rate) <= DOUBLED * quiet_ms for _ in range(TRIES)):
                best, missed = rate, 0
            else:
                missed += 1
            rate *= RAMP_BY
        self.unloaded_ms = min(self._p99_ms(QUIET * most, self.plan.provider_ms) for _ in range(TRIES))
        return best, quiet_ms

    def _p99_ms(self, rate: float, wait_ms: int = 0) -> float:
        """Return what the slowest hundredth took at a rate."""
        load = Load(self.plan.ramp_s, CONNS, rate, wait_ms=wait_ms, refusals=True)
        outcome = self.run(f"{rate:.0f}/s", load)
        return outcome.us("lat", "p99") / 1000

    def overload(self, times: int, capacity: float, seconds: float) -> tuple[Outcome, Outcome, list[Probes]]:
        """Call at a multiple of the capacity, and probe health: the heavy key, the small one, the probes."""
        rate = times * capacity
        wait_ms = self.plan.provider_ms
        heavy = Load(seconds, CONNS, (1 - SMALL) * rate, wait_ms=wait_ms, refusals=True)
        small = Load(seconds, FEW_CONNS, SMALL * rate, wait_ms=wait_ms, refusals=True)
        own = Probes("health", self._monitor)
        with Probes("health, main listener", self._server.port) as probes, own:
            done, other = self.together(f"{times}x", (heavy, self.keys.heavy), (small, self.keys.small))
        for each in (own, probes):
            if each.missed:
                self.failures.append(
                    f"{times}x: {each.missed} of {len(each.took_ms)} probes of {each.name} failed"
                )
        return done, other, [own, probes]

    def onset(self, capacity: float) -> Iterator[str]:
        """Call at a multiple of the capacity after a rest, for a moment; yield what was seen."""
        time.sleep(REST_S)
        done, other, probes = self.overload(ONSET, capacity, self.plan.onset_s)
        yield f"  the first {self.plan.onset_s:g} s at {ONSET}x, {done.raw['ok']} served"
        yield judged("admitted p99", together_us((done, other), "svc", 0.99) / 1000, "ms", ONSET_GOAL_MS)
        yield f"       {OF_SMALL:<38} {other.us('svc', 'p99') / 1000:9.1f} ms"
        for each in probes:
            yield judged(
                f"{each.name}: longest of {len(each.took_ms)}", max(each.took_ms), "ms", HEALTH_GOAL_MS
            )

    def step(self, times: int, capacity: float) -> Iterator[str]:
        """Call at a multiple of the capacity; yield what was seen."""
        done, other, probes = self.overload(times, capacity, self.plan.step_s)
        good = (float(done.raw["rps"]) + float(other.raw["rps"])) / capacity
        refused, secs = int(done.raw["refused"]), float(done.raw["secs"])
        came = (done.sent + other.sent) / secs
        sent = f"{came:.0f}/s came ({came / capacity:.1f} C)"
        yield f"  {times:2}x  {sent}, {done.raw['ok']} served, {refused} refused"
        yield judged("goodput of C", 100 * good, "%", 100 * STEPS[times], least=True)
        p99_ms = together_us((done, other), "svc", 0.99) / 1000
        yield judged("admitted p99", p99_ms, "ms", 2 * self.unloaded_ms)
        yield f"       {'  without the provider':<38} {p99_ms - self.plan.provider_ms:9.1f} ms"
        if refused:
            yield judged("refusal p99", done.us("refusal", "p99") / 1000, "ms", REFUSAL_GOAL_MS)
        yield judged("1 % of load: lost", lost(other), "%", LOST_GOAL)
        yield f"       {OF_SMALL:<38} {other.us('svc', 'p99') / 1000:9.1f} ms"
        for each in probes:
            yield judged(f"{each.name}: p99 of {len(each.took_ms)}", each.p99_ms, "ms", HEALTH_GOAL_MS)

    def classes(self, capacity: float) -> Iterator[str]:
        """Call for people and in a batch; yield what was seen."""
        seconds = self.plan.step_s
        people, batch = self.together(
            "batch",
            (Load(seconds, CONNS // 2, PEOPLE * capacity, refusals=True), self.keys.heavy),
            (Load(seconds, CONNS // 2, BATCH * capacity, refusals=True), self.keys.batch),
        )
        yield f"  {PEOPLE:g} C interactive, {BATCH:g} C batch: {100 - lost(batch):.0f} % of batch served"
        yield judged("interactive served", 100 - lost(people), "%", PEOPLE_GOAL, least=True)

    def recovery(self, capacity: float) -> Iterator[str]:
        """Call as much as it can serve again; yield what was seen."""
        rate = 0.95 * capacity
        self.run("recovering", Load(self.plan.recovery_s, 128, rate, refusals=True))
        outcome = self.run("recovered", Load(self.plan.after_s, 128, rate, refusals=True))
        share = 100 * float(outcome.raw["rps"]) / rate
        yield judged(f"served {self.plan.recovery_s:g} s later of 0.95 C", share, "%", 95.0, least=True)


def lost(outcome: Outcome) -> float:
    """Return the share of requests that were refused, in percent."""
    return 100.0 * int(outcome.raw.get("refused", 0)) / max(1, outcome.sent)


def judged(what: str, value: float, unit: str, goal: float, *, least: bool = False) -> str:
    """Return a line with a figure and its goal."""
    met = value >= goal if least else value <= goal
    sign = ">=" if least else "<="
    near = unit == "ms" and value <= goal * NEAR
    verdict = "met" if met else "near" if near else "MISSED"
    return f"       {what:<38} {value:9.1f} {unit:<2}  {sign} {goal:.1f}  {verdict}"


def reconcile(headgate: servers.Headgate, trial: Trial) -> list[str]:
    """Return what is wrong in the books: each served call is there once, and nothing of a refused one."""
    return books.compare(headgate, books.Sent(json=trial.served))


def measure(binary: Path, plan: Plan, folder: Path) -> list[str]:
    """Do it all, print what was seen, and return what was wrong."""
    layout = machine.choose_layout()
    mock_binary, generator_binary = servers.build_tools()
    mock = servers.start_mock(mock_binary, folder, layout.load)
    cores = (layout.gateway, layout.load)
    headgate = servers.Headgate(binary, folder / "main", mock.port, cores, monitor=servers.free_port())
    running = [mock]
    try:
        server, _ = headgate.start()
        running.append(server)
        keys = Keys(
            headgate.create_key(), headgate.add_key("small"), headgate.add_key("batch", "--priority", "batch")
        )
        trial = Trial(Generator(generator_binary, layout.load), server, headgate.monitor, keys, plan)
        pids, before = {"gateway": server.pid, "mock": mock.pid}, os.getloadavg()[0]
        began = machine.read(pids)
        failures = _play(trial)
        window = machine.between(began, machine.read(pids), layout, frozenset({"mock"}))
        others, steal = 100 * window.others, 100 * window.steal
        print(f"machine: load {before:.1f} before; others had {others:.0f} % of a core, {steal:.0f} % stolen")
        if not window.quiet:
            print("         so latencies are not to be trusted")
        if server.stop():
            failures.append(f"the gateway ended badly: {server.last_words()}")
        failures += reconcile(headgate, trial)
        print(f"books: {trial.served} served calls{'' if failures else ', each booked once'}")
        return failures
    finally:
        for process in running:
            process.kill()


def _play(trial: Trial) -> list[str]:
    """Measure the capacity, and what becomes of loads beyond it."""
    capacity, quiet_ms = trial.capacity()
    print(f"capacity C: {capacity:.0f} requests/s, where the quiet p99 of {quiet_ms:.2f} ms has doubled")
    provider = f"a provider that takes {trial.plan.provider_ms} ms"
    print(f"with {provider} the quiet p99 is {trial.unloaded_ms:.2f} ms")
    for line in trial.onset(capacity):
        print(line)
    for times in STEPS:
        for line in trial.step(times, capacity):
            print(line)
    for line in (*trial.recovery(capacity), *trial.classes(capacity)):
        print(line)
    return trial.failures


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 where everything was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half a minute; for smoke only")
    parser.add_argument("--provider-ms", type=int, default=Plan().provider_ms, help="that the provider takes")
    parser.add_argument("--headgate", type=Path, default=servers.OWN, help="the command to measure")
    options = parser.parse_args(argv)
    plan = (QUICK if options.quick else Plan())._replace(provider_ms=options.provider_ms)
    return servers.conclude("overload", lambda folder: measure(options.headgate, plan, folder))


if __name__ == "__main__":
    sys.exit(main())
