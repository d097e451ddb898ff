"""Redis lost under load, in every way (R-10): what became of the calls of three replicas."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.redis.fleet import RPM, Delay, Fleet, Pace, Reply, at, port_of
from tests.redis.server import RedisServer

FAULTS: Final = ("killed", "frozen", "slow", "read-only", "full", "flushed")
_BEFORE_S: Final = 2.0
_AFTER_S: Final = 6.0  # 5 s to recover


@dataclass
class Outcome:
    """What is wrong, and the figures."""

    fault: str
    wrong: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(f"{self.fault}: {what}")

    def report(self) -> str:
        return f"{self.fault:10} " + ", ".join(self.figures)


class Lost:
    """One way to lose a Redis, and how it comes back."""

    def __init__(self, fault: str, redis: RedisServer, delay: Delay) -> None:
        self._redis = redis
        self._delay = delay
        steps = {
            "killed": (redis.kill, redis.start),
            "frozen": (lambda: redis.signal(signal.SIGSTOP), lambda: redis.signal(signal.SIGCONT)),
            "slow": (lambda: self._slow(0.5), lambda: self._slow(0.0)),
            "read-only": (
                lambda: redis.ask("REPLICAOF", "127.0.0.1", "1"),
                lambda: redis.ask("REPLICAOF", "NO", "ONE"),
            ),
            "full": (
                lambda: redis.ask("CONFIG", "SET", "maxmemory", "1"),
                lambda: redis.ask("CONFIG", "SET", "maxmemory", "0"),
            ),
            "flushed": (lambda: redis.ask("FLUSHALL"), lambda: None),
        }
        self.begin, self.end = steps[fault]

    def _slow(self, delay_s: float) -> None:
        self._delay.delay_s = delay_s


def play(folder: Path, fault: str, lost_s: float) -> Outcome:
    """Lose Redis for so long under load; return what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    redis, outcome = RedisServer(folder), Outcome(fault)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    delay = Delay(redis.port)
    asyncio.run_coroutine_threadsafe(delay.start(), loop).result(5)
    try:
        fleet = Fleet(folder, f"redis://127.0.0.1:{delay.port}/0")
        fleet.wait_until("headgate_redis_workers", 3, 10)
        fleet.warm()
        asyncio.run(_load(fleet, Lost(fault, redis, delay), outcome, lost_s))
        logs = fleet.stop()
    finally:
        redis.kill()
        asyncio.run_coroutine_threadsafe(delay.stop(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    if fault != "flushed":
        said = [log.count("Redis is out of use") for log in logs]
        # Once, and perhaps again while a busy machine lets a Redis that is there be late: never once a call.
        outcome.expect(all(1 <= count <= 6 for count in said), f"log lines: {said}")
    return outcome


async def _load(fleet: Fleet, lost: Lost, outcome: Outcome, lost_s: float) -> None:
    began = time.monotonic()
    begun, ended = began + _BEFORE_S, began + _BEFORE_S + lost_s
    until = ended + _AFTER_S
    ports = [port_of(replica) for replica in fleet.replicas]
    paces = {
        name: [Pace(port, fleet.keys[name], per_s) for port in ports]
        for name, per_s in {"tight": 20, "wide": 6, "free": 6}.items()
    }
    runs = [asyncio.create_task(pace.run(until)) for some in paces.values() for pace in some]
    await asyncio.sleep(begun - time.monotonic())
    await asyncio.to_thread(lost.begin)
    if outcome.fault != "flushed":
        await asyncio.to_thread(fleet.wait_until, "headgate_redis_up", 0, 3)
    await asyncio.sleep(ended - time.monotonic())
    await asyncio.to_thread(lost.end)
    back_s = await asyncio.to_thread(fleet.wait_until, "headgate_redis_up", 1, 5)
    await asyncio.gather(*runs)
    _judge(paces, (begun, ended), back_s, outcome)


def _judge(paces: dict[str, list[Pace]], when: tuple[float, float], back_s: float, outcome: Outcome) -> None:
    begun, ended = when
    everything = [pace for some in paces.values() for pace in some]
    replies = {name: [one for pace in some for one in pace.replies] for name, some in paces.items()}
    failed = [one for some in replies.values() for one in some if one.status not in {200, 429}]
    failed += [one for name in ("wide", "free") for one in replies[name] if one.status == 429]
    broken = sum(pace.broken for pace in everything)
    outcome.expect(
        not failed and not broken, f"failed: {[one.status for one in failed]}, {broken} unanswered"
    )
    served = sorted(one.began for one in replies["tight"] if one.status == 200)
    allowed = RPM + RPM * (served[-1] - served[0]) / 60
    outcome.expect(len(served) <= allowed + RPM / 3, f"served {len(served)} of {allowed:.0f}")
    outcome.expect(back_s <= 5, f"found again after {back_s:.1f} s")

    # Beside calls that need no Redis at the same time: this machine has other work, too.
    seconds = {"before": (begun - 1, begun), "first second": (begun, begun + 1), "later": (begun + 1, ended)}
    for name, (since, until) in seconds.items():
        wide, free = (_took(replies[which], since, until) for which in ("wide", "free"))
        outcome.figures.append(
            f"{name}: median {at(wide, 0.5):.1f} beside {at(free, 0.5):.1f} ms, "
            f"p99 {at(wide, 0.99):.0f} beside {at(free, 0.99):.0f}"
        )
        added = at(wide, 0.9) - at(free, 0.9) if name == "first second" else at(wide, 0.5) - at(free, 0.5)
        outcome.expect(added <= (100 if name == "first second" else 5), f"{name}: {added:.1f} ms more")
    outcome.figures[:0] = [
        f"{sum(map(len, replies.values()))} calls, {len(failed) + broken} failed",
        f"served {len(served)} of {allowed:.0f} by the tight limit",
        f"found again after {back_s:.1f} s",
    ]


def _took(replies: list[Reply], since: float, until: float) -> list[float]:
    return [one.took_s for one in replies if since <= one.began < until]
