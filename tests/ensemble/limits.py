"""A limit over all replicas lets through what one bucket would (R-27)."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from tests.caps.provider import GIVEN
from tests.ensemble.load import chat
from tests.ensemble.table import Row
from tests.ensemble.world import Ensemble
from tests.losses.rounds import CALL
from tests.several.asking import ask

DAY_S = 86_400
MOST, LEAST = 40, 10  # tokens of a call: what it may, and may make
LIMITS = {"rpm": 30, "tpm": 800, "rpd": 24, "tpd": 600}  # requests or tokens, times the size of a pour
OVERSHOOT = 0.01  # of requests
USED = 0.85  # of what a limit allows, at least


class Pour:
    """Calls of one key to every replica at an even pace, and what passed of them."""

    def __init__(self, world: Ensemble, kind: str, limit: int, key: str) -> None:
        self.kind, self.limit, self._world, self._key = kind, limit, world, key
        self._chance = random.Random(kind)
        self.passed: list[tuple[float, float, str]] = []  # began, ended, id
        self.asked = 0
        self.odd: list[int] = []

    async def run(self, per_s: float, seconds: float) -> None:
        """Pour for so long, so many a second into each replica."""
        tasks: set[asyncio.Task[None]] = set()
        began = due = time.monotonic()
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for replica in self._world.fleet.replicas:
                task = asyncio.create_task(self._one(replica.port))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            due += 1 / per_s
        await asyncio.gather(*tasks)

    async def _one(self, port: int) -> None:
        self.asked += 1
        made = self._chance.randrange(LEAST, MOST + 1)
        body = chat(made) | {"max_tokens": MOST}
        began = time.monotonic()
        reply = await ask(port, self._key, CALL, body)
        if reply.status == 200:
            self.passed.append((began, time.monotonic(), reply.request_id))
        elif reply.status != 429:
            self.odd.append(reply.status)

    def judge(self) -> Row:
        """Compare what passed with what one bucket lets through in that time."""
        limit, by_tokens = self.limit, self.kind.startswith("tp")
        goal = "at most one request's estimate over" if by_tokens else "at most 1 % over"
        row = Row(f"R-27 {self.kind.upper()} {limit:,}, 3 replicas", f"{goal}, 85 % of it used")
        if not self.passed:
            row.expect(False, "nothing passed")
            return row
        elapsed_s = max(ended for _, ended, _ in self.passed) - min(began for began, _, _ in self.passed)
        allowed = limit * (1 + elapsed_s / (60 if self.kind.endswith("m") else DAY_S))
        notes = self._world.provider.notes
        used = sum(GIVEN + notes[name].tokens for *_, name in self.passed) if by_tokens else len(self.passed)
        slack = self.estimate() if by_tokens else max(1.0, OVERSHOOT * allowed)
        row.expect(not self.odd, f"statuses {self.odd[:5]}")
        row.expect(used <= allowed + slack, f"{used} used, {allowed:.1f} allowed")
        row.expect(used >= USED * allowed - slack, f"only {used} used of {allowed:.1f}")
        over = 100 * (used / allowed - 1)
        row.seen = (
            f"{used:,} of {allowed:,.1f} in {elapsed_s:.1f} s ({over:+.1f} %), {self.asked} calls asked"
        )
        return row

    def estimate(self) -> float:
        """Return what one call reserves at most: a token for a byte of its message, and what it may make."""
        return float(MOST + len(str(chat(MOST))))


@dataclass(frozen=True)
class Size:
    """How much is poured."""

    seconds: float
    per_s: float  # calls into each replica, for each limit

    @property
    def times(self) -> int:
        """Return how often the limits are taken, so that about half of what is poured passes."""
        return max(1, int(1.5 * self.per_s * self.seconds / (LIMITS["rpm"] * (1 + self.seconds / 60))))


async def poured(world: Ensemble, size: Size) -> list[Row]:
    """Pour on a key of each kind of limit at the same time."""
    pours = []
    for kind, units in LIMITS.items():
        limit = units * size.times
        made = await world.manage("POST", "keys", {"name": f"limit {kind}", "kind": "live", kind: limit})
        assert made.status == 201, made
        pours.append(Pour(world, kind, limit, made.json()["key"]))
    await asyncio.sleep(1.5)  # until every replica knows them
    await asyncio.gather(*(each.run(size.per_s, size.seconds) for each in pours))
    return [each.judge() for each in pours]
