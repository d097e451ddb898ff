"""A process whose loop is simulated: what each step costs is given, and time passes as it works.

Callers ask in an open loop on a limited number of connections, as `bench/lg.c` does. A turn of the loop takes the
timers that are due, then all that can be read; what was read meanwhile waits for the next turn.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from headgate.admission.shedding import Shedder, wait_ns
from headgate.values import Principal

CALL_S, REFUSAL_S, TICK_S = 180e-6, 27e-6, 20e-6  # of CPU
UPSTREAM_S = 0.001
CAPACITY = 1 / CALL_S


@dataclass
class Caller:
    """Who asks so many times a second, on so many connections."""

    name: str
    per_s: float
    connections: int = 256
    batch: bool = False
    idle: list[float] = field(default_factory=list)  # since when, of each connection
    next_s: float = 0.0

    @property
    def principal(self) -> Principal:
        """The key."""
        priority = "batch" if self.batch else "interactive"
        return Principal(key=crc32(self.name.encode()), project=1, account=1, priority=priority)  # type: ignore[arg-type]


@dataclass
class Seen:
    """What became of the calls."""

    asked: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    took_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)

    def p99_s(self, name: str) -> float:
        """The 99th percentile of what was served."""
        ordered = sorted(self.took_s[name])
        return ordered[int(0.99 * len(ordered))] if ordered else 0.0

    @property
    def goodput(self) -> float:
        """Calls that were served."""
        return float(self.served.total())


class Busy:
    """The process, its callers, and the time."""

    def __init__(
        self, most: int = 10**9, *, stolen: float = 0.0, upstream_s: float = UPSTREAM_S, seed: int = 1
    ) -> None:
        self.calls: set[object] = set()
        self.shedder = Shedder(self.calls, most)
        self.now_s = 0.0
        self.seen = Seen()
        self._random = Random(seed)
        self._stolen = stolen  # of the core, by others
        self._upstream_s = upstream_s
        self._worked_s = self._idle_s = 0.0
        self._tick = (0.05, 0.0, 0.0, 0.0)  # due; when, work and idleness at the last one
        self._answers: list[tuple[float, int, Caller, float]] = []
        self._held: deque[tuple[float, Caller, float]] = deque()
        self._number = 0

    def play(self, seconds: float, *callers: Caller, unseen_s: float = 0.0) -> Seen:
        """Let callers ask for some time; what came in the first `unseen_s` is not counted."""
        for caller in callers:
            caller.idle, caller.next_s = [self.now_s] * caller.connections, self.now_s
        begun, until = self.now_s, self.now_s + seconds
        self.seen = Seen()
        while self.now_s < until:
            if self.seen.asked and self.now_s < begun + unseen_s:
                self.seen = Seen()
            self._turn(callers)
        while self._answers or self._held:
            self._turn(())
        return self.seen

    def _turn(self, callers: tuple[Caller, ...]) -> None:
        if self.now_s >= self._tick[0]:
            self._look()
        while self._held and self._held[0][0] <= self.now_s + 0.002:
            _, caller, sent_s = self._held.popleft()
            self._refused(caller, sent_s)
        done = self._read_answers()
        came = [(caller, sent_s) for caller in callers for sent_s in self._came(caller)]
        self._random.shuffle(came)
        turn_s = self._worked_s
        for caller, sent_s in came:
            self._ask(caller, sent_s, turn_s)
        for caller, sent_s in done:
            caller.idle.append(self.now_s)
            self.seen.served[caller.name] += 1
            self.seen.took_s[caller.name].append(self.now_s - sent_s)
        if not came and not done:
            self._rest(callers)

    def _work(self, seconds: float) -> None:
        self._worked_s += seconds
        self.now_s += seconds
        if self._stolen and self._random.random() < seconds / 0.003 * self._stolen:
            self.now_s += 0.003  # a slice of somebody else's

    def _look(self) -> None:
        due_s, at_s, worked_s, idle_s = self._tick
        late_s, took_s = self.now_s - due_s, self.now_s - at_s
        busy = (self._worked_s - worked_s) / took_s
        pause_s = self.shedder.tick(late_s, busy, 1 - (self._idle_s - idle_s) / took_s, took_s)
        self.seen.late_s.append(late_s)
        self._tick = (self.now_s + pause_s, self.now_s, self._worked_s, self._idle_s)
        self._work(TICK_S)

    def _came(self, caller: Caller) -> list[float]:
        """Return when calls were sent that can be read now."""
        sent = []
        while caller.idle and caller.next_s <= self.now_s:
            sent.append(max(caller.next_s, caller.idle.pop()))
            caller.next_s += self._random.expovariate(caller.per_s)
        caller.next_s = max(caller.next_s, self.now_s - 0.1)  # else it asks the faster later
        return sent

    def _ask(self, caller: Caller, sent_s: float, turn_s: float) -> None:
        self.seen.asked[caller.name] += 1
        now = int(self.now_s * 1e9)
        if not self.shedder.active or self.shedder.admits(
            caller.principal, now, int((self._worked_s - turn_s) * 1e9)
        ):
            self._work(CALL_S / 2)
            self._number += 1
            self.calls.add(self._number)
            heapq.heappush(self._answers, (self.now_s + self._upstream_s, self._number, caller, sent_s))
        else:
            self._work(REFUSAL_S)
            self._held.append((self.now_s + wait_ns(len(self._held)) / 1e9, caller, sent_s))

    def _read_answers(self) -> list[tuple[Caller, float]]:
        done, at_s = [], self.now_s
        while self._answers and self._answers[0][0] <= at_s:
            _, number, caller, sent_s = heapq.heappop(self._answers)
            self._work(CALL_S / 2)
            self.calls.discard(number)
            done.append((caller, sent_s))
        return done

    def _refused(self, caller: Caller, sent_s: float) -> None:
        caller.idle.append(self.now_s)
        self.seen.refused_s.append(self.now_s - sent_s)

    def _rest(self, callers: tuple[Caller, ...]) -> None:
        """Wait for the next thing to do."""
        waits = [self._tick[0]]
        waits += [self._held[0][0] - 0.002] if self._held else []
        waits += [self._answers[0][0]] if self._answers else []
        waits += [caller.next_s for caller in callers if caller.idle]
        until_s = max(self.now_s + 1e-6, min(waits))
        self._idle_s += until_s - self.now_s
        self.now_s = until_s
