"""A session: the running candidates, and windows of load measured over them in turn."""

from __future__ import annotations

import http.client
import json
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import machine
import servers
from books import Sent
from load import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from load import Generator, Load, Outcome
    from servers import Headgate, Server

DIRECT, NGINX, HEADGATE = "direct", "nginx", "headgate"
ON_LOAD_CORE = frozenset({DIRECT})
STRANGER = "sk-1234"
KEY_LIMIT_S = 3.0
DRAIN_LIMIT_S = 60.0
REST_SLICE_S = 0.1
REST_CPU_S = 0.004
REST_SLICES, REST_SLICES_BLIND = 3, 10
STEADY = 0.05
IN_ORDER = (0, -signal.SIGTERM, 128 + signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure. `scale` multiplies seconds; quick runs are for smoke only."""

    rounds: int
    scale: float
    warm_rounds: int
    cold_starts: int
    streams: int
    journal_calls: int
    slow_gap_ms: int
    rest_s: float
    quick: bool

    def count(self, rounds: int) -> int:
        """Return how many rounds a lane gets that wants `rounds` in a full run."""
        return min(rounds, self.rounds)

    def seconds(self, full: float) -> float:
        """Return the length of a window that lasts `full` seconds in a full run."""
        return full * self.scale


FULL = Plan(7, 1.0, 6, 5, 1_000, 50_000, 100, 3.0, quick=False)
QUICK = Plan(1, 0.2, 1, 2, 200, 2_000, 50, 1.0, quick=True)


@dataclass(frozen=True, slots=True)
class Target:
    """One candidate as the generator sees it."""

    name: str
    server: Server
    key: str = STRANGER


@dataclass(frozen=True, slots=True)
class Sample:
    """One window of one target. CPU is that of its tree until its journal was drained."""

    outcome: Outcome
    window: machine.Window
    cpu_s: float
    served_cpu_s: float
    load: Load

    @property
    def cpu_us(self) -> float:
        """Return CPU microseconds per request."""
        return self.cpu_s / max(1, self.outcome.sent) * 1e6

    @property
    def served_cpu_us(self) -> float:
        """Return CPU microseconds per request spent before the last answer."""
        return self.served_cpu_s / max(1, self.outcome.sent) * 1e6

    @property
    def event_us(self) -> float:
        """Return CPU microseconds per event of a stream."""
        return self.cpu_s / max(1, int(self.outcome.raw["events"])) * 1e6


Round = dict[str, Sample]


@dataclass(slots=True)
class Session:
    """Everything that lives as long as one run of the bench."""

    folder: Path
    layout: machine.Layout
    generator: Generator
    plan: Plan
    targets: dict[str, Target] = field(default_factory=dict)
    headgate: Headgate | None = None
    sent: Sent = field(default_factory=Sent)
    upstream_calls: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused_windows: list[str] = field(default_factory=list)
    windows: int = 0
    worst_stall_s: float | None = None

    def fail(self, text: str) -> None:
        """Record that something was not correct; the run will end with a failure."""
        self.failures.append(text)
        print(f"  FAILED: {text}", flush=True)

    def note(self, text: str) -> None:
        """Record what a reader of the figures must know."""
        self.notes.append(text)
        print(f"  note: {text}", flush=True)

    def pids(self) -> dict[str, int]:
        """Return the root process of every candidate."""
        return {name: target.server.pid for name, target in self.targets.items()}

    def read(self) -> machine.Reading:
        """Read all counters now."""
        return machine.read(self.pids())

    def between(self, a: machine.Reading, b: machine.Reading) -> machine.Window:
        """Compare two readings."""
        return machine.between(a, b, self.layout, ON_LOAD_CORE)

    def measure(self, name: str, load: Load, sample: Callable[[], object] | None = None) -> Sample | None:
        """Put a load on one target; None when an answer was wrong, which is recorded."""
        target = self.targets[name]
        before = self.read()
        outcome = self.generator.run(load, target.server.port, target.key, sample=sample)
        after = self.read()
        self._count(name, load, outcome)
        served = self.between(before, after)
        whole = served
        if name == HEADGATE:
            whole = self.between(before, self.at_rest(target))
        if not outcome.right:
            self.fail(f"{name}: {outcome.verdict}")
            self._bury(target)
            return None
        self._gate(name, served)
        return Sample(outcome, served, whole.cpu[name], served.cpu[name], load)

    def _count(self, name: str, load: Load, outcome: Outcome) -> None:
        if load.status != 200:
            return
        self.upstream_calls += outcome.sent
        if name == HEADGATE and load.stream:
            self.sent.streams += outcome.sent
        elif name == HEADGATE:
            self.sent.json += outcome.sent

    def _bury(self, target: Target) -> None:
        if not target.server.alive:
            self.fail(f"{target.name} has died: {target.server.last_words()[-600:]}")
            del self.targets[target.name]

    def _gate(self, name: str, window: machine.Window) -> None:
        self.windows += 1
        if not window.quiet:
            others, steal = window.others * 100, window.steal * 100
            self.refused_windows.append(f"{name}: others {others:.0f} %, steal {steal:.1f} %")

    def at_rest(self, target: Target) -> machine.Reading:
        """Wait until the target has nothing left to do; return the counters of that moment.

        Asking it would cost CPU on its own account, so its CPU clock is watched instead, and the
        gauge of undrained records has the last word.
        """
        deadline = time.monotonic() + DRAIN_LIMIT_S
        slices, blind = 0, False
        rested = last = self.read()
        while time.monotonic() < deadline and target.server.alive:
            time.sleep(REST_SLICE_S)
            reading = self.read()
            slices += 1
            if reading.trees[target.name] - last.trees[target.name] >= REST_CPU_S:
                rested, slices = reading, 0
            last = reading
            if slices < (REST_SLICES_BLIND if blind else REST_SLICES):
                continue
            undrained = servers.metrics(target.server.port).get(servers.UNDRAINED)
            if undrained == 0 or (undrained is None and blind):
                return rested
            blind, slices = undrained is None, 0
            last = self.read()
            rested = rested if blind else last
        if target.server.alive:
            self.fail(f"{target.name} did not drain its journal within {DRAIN_LIMIT_S:.0f} s")
        return last

    def warm_up(self, load: Load) -> None:
        """Load every target until its CPU per request is steady."""
        for name in list(self.targets):
            last = 0.0
            for _ in range(self.plan.warm_rounds):
                sample = self.measure(name, load)
                if sample is None or abs(sample.cpu_us - last) <= STEADY * sample.cpu_us:
                    break
                last = sample.cpu_us

    def rounds(
        self, load: Load, wanted: int, names: Sequence[str] = (DIRECT, NGINX, HEADGATE)
    ) -> list[Round]:
        """Measure the targets in turn, forth and back, until enough rounds were quiet.

        Half as many rounds again are tried. When too few were quiet, the noisy ones are returned
        with them: `is_quiet` tells.
        """
        quiet: list[Round] = []
        noisy: list[Round] = []
        limit = wanted + (0 if self.plan.quick else (wanted + 1) // 2)
        for index in range(limit):
            done = self._round(load, names if index % 2 == 0 else tuple(reversed(names)))
            if done:
                (quiet if is_quiet([done]) else noisy).append(done)
            if len(quiet) >= wanted:
                return quiet
        return quiet if len(quiet) * 2 > wanted else quiet + noisy

    def _round(self, load: Load, names: Iterable[str]) -> Round:
        done: Round = {}
        for name in names:
            if name in self.targets:
                sample = self.measure(name, load)
                if sample is not None:
                    done[name] = sample
        return done

    def probe(self, target: Target) -> None:
        """Call the gateway until it knows its new key."""
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
        said = ""

        def known() -> bool:
            nonlocal said
            status, said = _post(target, json.dumps(body))
            if status == 200:
                self.sent.json += 1
                self.upstream_calls += 1
            return status == 200

        if wait_for(known, KEY_LIMIT_S, pause_s=0.1) is None:
            raise servers.Unusable(f"headgate did not answer a first call: {said[:500]}")

    def start_headgate(self, key: str | None = None) -> tuple[str, float]:
        """Start the gateway as a target; return its key and the seconds to readiness."""
        headgate = self.headgate
        if headgate is None:
            raise servers.Unusable("headgate is not part of this run")
        server, took = headgate.start()
        try:
            known = headgate.create_key() if key is None else key
            target = Target(HEADGATE, server, known)
            if key is None:
                self.probe(target)
        except servers.Unusable:
            server.kill()
            raise
        self.targets[HEADGATE] = target
        return known, took

    def stop_headgate(self) -> None:
        """Stop the gateway; leave it out of the targets."""
        target = self.targets.pop(HEADGATE, None)
        if target is None:
            return
        stall = servers.metrics(target.server.port).get(servers.LOOP_STALL)
        if stall is not None:
            self.worst_stall_s = max(stall, self.worst_stall_s or 0.0)
        self.ended(target.server)

    def ended(self, server: Server) -> None:
        """Stop a gateway and record when it did not end in order."""
        status = server.stop()
        if status not in IN_ORDER:
            self.fail(f"headgate ended with status {status}: {server.last_words()[-400:]}")


def is_quiet(rounds: Iterable[Round]) -> bool:
    """Say whether every window of these rounds passed the noise gate."""
    return all(sample.window.quiet for done in rounds for sample in done.values())


def _post(target: Target, body: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", target.server.port, timeout=10.0)
    head = {"Content-Type": "application/json", "Authorization": f"Bearer {target.key}"}
    try:
        connection.request("POST", "/v1/chat/completions", body, head)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as failure:
        return 0, str(failure)
    finally:
        connection.close()
