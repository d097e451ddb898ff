"""A process whose loop is simulated: what each step costs is given, and time passes as it works.

Callers ask in an open loop on a limited number of connections, as `bench/lg.c` does. A turn of the loop takes the
timers that are due, writes answers, begins calls from the lobby and writes what they ask, and gives refusals; then it
reads, in the order in which it came, all that can be read. What comes meanwhile waits for the next turn.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from headgate.admission.lobby import Lobby
from headgate.admission.refusals import Refusals
from headgate.admission.shedding import Place, Shedder
from headgate.values import Principal

CALL_S, REFUSAL_S, TICK_S, TURN_S = 180e-6, 27e-6, 20e-6, 30e-6  # of CPU
MANY = 25  # calls begun in one turn are noticed
READ_S, UNREAD_S = 15e-6, 7e-6  # of a refusal, before it waits
UPSTREAM_S = 0.001
CAPACITY = 1 / CALL_S


@dataclass
class Caller:
    """Who asks so many times a second, on so many connections."""

    name: str
    per_s: float
    connections: int = 256
    calls: int = 10**9  # at most
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
    turns_s: list[float] = field(default_factory=list)

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
        self.lobby = Lobby[tuple[Caller, float, int]]()
        self.shedder = Shedder(self.calls, self.lobby, most)
        self.now_s = 0.0
        self.seen = Seen()
        self._random = Random(seed)
        self._stolen = stolen  # of the core, by others
        self._upstream_s = upstream_s
        self._worked_s = self._idle_s = 0.0
        self._tick = (0.05, 0.0, 0.0, 0.0)  # due; when, work and idleness at the last one
        self._sent: list[tuple[int, Caller, float]] = []  # when this turn ends
        self._given: list[tuple[Caller, float, bool]] = []  # served or not
        self._answers: list[tuple[float, int, Caller, float]] = []
        self._refusals = Refusals[tuple[Caller, float]]()
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
        while self._answers or self._refusals or self.lobby or self._sent or self._given:
            self._turn(())
        return self.seen

    def _turn(self, callers: tuple[Caller, ...]) -> None:
        worked_s = self._worked_s
        self._work(TURN_S)
        if self.now_s >= self._tick[0]:
            self._look()
        self._write()
        self._begin_some()
        self._write()
        self._give()
        came = sorted(
            (sent_s, number, caller) for number, caller in enumerate(callers) for sent_s in self._came(caller)
        )
        done = []
        while self._answers and self._answers[0][0] <= self.now_s:
            done.append(heapq.heappop(self._answers))
        if not (came or done or self.lobby):
            self._rest(callers)
        while came or done:
            if done and (not came or done[0][0] <= came[0][0]):
                _, number, caller, sent_s = done.pop(0)
                self._work(CALL_S / 2)
                self.calls.discard(number)
                self._given.append((caller, sent_s, True))
            else:
                sent_s, _, caller = came.pop(0)
                self._ask(caller, sent_s)
        self.seen.turns_s.append(self._worked_s - worked_s)

    def _work(self, seconds: float) -> None:
        self._worked_s += seconds
        self.now_s += seconds
        if self._stolen and self._random.random() < seconds / 0.003 * self._stolen:
            self.now_s += 0.003  # a slice of somebody else's

    def _look(self) -> None:
        due_s, at_s, worked_s, idle_s = self._tick
        late_s, took_s = self.now_s - due_s, self.now_s - at_s
        late_s = max(late_s, self.lobby.age_ns(self._now) / 1e9)
        busy = (self._worked_s - worked_s) / took_s
        pause_s = self.shedder.tick(late_s, busy, 1 - (self._idle_s - idle_s) / took_s, took_s)
        self.seen.late_s.append(late_s)
        self._tick = (self.now_s + pause_s, self.now_s, self._worked_s, self._idle_s)
        self._work(TICK_S)

    def _came(self, caller: Caller) -> list[float]:
        """Return when calls were sent that can be read now."""
        sent = []
        while caller.idle and caller.calls and caller.next_s <= self.now_s:
            caller.calls -= 1
            sent.append(max(caller.next_s, caller.idle.pop()))
            caller.next_s += self._random.expovariate(caller.per_s)
        caller.next_s = max(caller.next_s, self.now_s - 0.1)  # else it asks the faster later
        return sent

    @property
    def _now(self) -> int:
        return int(self.now_s * 1e9)

    def _ask(self, caller: Caller, sent_s: float) -> None:
        self.seen.asked[caller.name] += 1
        if not self.shedder.active:
            self._begin(caller, sent_s)
            return
        key = caller.principal.key
        if self.shedder.full and self.shedder.refuses(key, self._now):
            self._work(UNREAD_S)
            self._refuse(caller, sent_s, self._now)
            return
        self._work(READ_S)
        place = self.shedder.place(caller.principal, self._now)
        if place is Place.OUT:
            self._refuse(caller, sent_s, self._now)
        else:
            first = place is Place.FIRST
            self.lobby.enter((caller, sent_s, self._now), key, self._now, first=first, last=caller.batch)

    def _begin(self, caller: Caller, sent_s: float) -> None:
        self._work(CALL_S / 2)
        self._number += 1
        self.calls.add(self._number)
        self._sent.append((self._number, caller, sent_s))
        if len(self._sent) > MANY:
            self.shedder.watch()

    def _begin_some(self) -> None:
        turn_s = self._worked_s
        turn_ns = self.shedder.turn_ns
        self.lobby.turn(self._now, refuses=not self.shedder.in_order)
        while (entry := self.lobby.next(int((self._worked_s - turn_s) * 1e9), turn_ns)) is not None:
            self.shedder.begun()
            self._begin(*entry[:2])
        if self.shedder.full and not self.shedder.few:
            until = self._now - self.shedder.leeway_ns
            while (entry := self.lobby.late(until)) is not None:
                self.shedder.refused(batch=entry[0].batch)
                self._refuse(*entry)

    def _refuse(self, caller: Caller, sent_s: float, came: int) -> None:
        self._refusals.enter((caller, sent_s), self._now, came)

    def _give(self) -> None:
        self._refusals.turn(self._now)
        while (entry := self._refusals.next()) is not None:
            self._work(REFUSAL_S - READ_S)
            self._given.append((*entry, False))

    def _write(self) -> None:
        for number, caller, sent_s in self._sent:
            heapq.heappush(self._answers, (self.now_s + self._upstream_s, number, caller, sent_s))
        for caller, sent_s, served in self._given:
            caller.idle.append(self.now_s)
            if served:
                self.seen.served[caller.name] += 1
                self.seen.took_s[caller.name].append(self.now_s - sent_s)
            else:
                self.seen.refused_s.append(self.now_s - sent_s)
        self._sent, self._given = [], []

    def _rest(self, callers: tuple[Caller, ...]) -> None:
        """Wait for the next thing to do."""
        waits = [self._tick[0]]
        waits += [self.now_s + self._refusals.pause_ns / 1e9] if self._refusals else []
        waits += [self._answers[0][0]] if self._answers else []
        waits += [caller.next_s for caller in callers if caller.idle and caller.calls]
        until_s = max(self.now_s + 1e-6, min(waits))
        self._idle_s += until_s - self.now_s
        self.now_s = until_s
