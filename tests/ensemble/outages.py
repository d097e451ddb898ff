"""A service is away under load, or all of ours are restarted: who was answered how, and when all was as before."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.ensemble.changes import told
from tests.ensemble.load import BATCH_TOKENS, Load, Seen
from tests.ensemble.table import Row
from tests.losses.table import BACK_S, WAIT_S, Bounds, allowed
from tests.replicas.rounds import SILENT_S, rolling_restart

SERVICES = ("postgresql", "redis", "rabbitmq")
WAYS = ("killed", "frozen")
BOUNDS = Bounds(journal_s=30.0, keys_s=60.0)  # as the settings have them
BACK = {"postgresql": BACK_S, "redis": 5.0, "rabbitmq": 15.0}
_CAPPED = ("budget", "credit", "tight")
_OPEN = "no call fails"
_GOALS = {"postgresql": "200, or 503 as docs/database.md says; never 401", "redis": _OPEN, "rabbitmq": _OPEN}


async def lost(load: Load, service: str, how: str, seconds: float) -> list[Row]:
    """Let a service be away for so long."""
    world, rows = load.world, []
    goal = f"{_GOALS[service]}; back {BACK[service]:g} s"
    row = Row(f"{service} {how} {seconds:g} s", goal)
    lines, began = _lines(load), time.monotonic()
    async with world.services.without(service, how):
        if service == "redis" and how == "frozen":
            rows.append(await told(world, 1, SILENT_S, bus="down"))
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        lines = _lines(load) - lines
    ended = time.monotonic()
    back_s = await _back(load, service)
    row.expect(back_s <= BACK[service], f"back after {back_s:.1f} s")
    during = load.within(began, ended + back_s)
    for each in during:
        row.expect(
            each.status in right(service, each, began, ended),
            f"{each.who} at {each.at - began:.1f} s: {each.status} {each.said}",
        )
        row.expect(each.status != 200 or each.whole, f"{each.who}: an answer that ends early")
        row.expect(each.took_s <= WAIT_S, f"{each.who} at {each.at - began:.1f} s waited {each.took_s:.1f} s")
    refused = [each for each in load.refused if each.at + each.took_s >= began]
    for each in refused:
        row.expect(service == "postgresql" and each.status == 503, f"{each.who}: {each.status} {each.said}")
    counts = {status: sum(each.status == status for each in during) for status in (200, 429, 503)}
    told_of = ", ".join(f"{status}: {count}" for status, count in counts.items())
    if closed := Counter(each.who for each in during if each.status == 503):
        told_of += f" ({', '.join(f'{who} {count}' for who, count in closed.items())})"
        capped = [
            each
            for each in during
            if each.who in _CAPPED[:2] and each.at - began < min(seconds, BOUNDS.journal_s)
        ]
        told_of += f"; {sum(each.status == 200 for each in capped)} of {len(capped)} calls on money in hand served before the bound"
    slowest = max(each.took_s for each in during)
    row.seen = f"{told_of}; slowest {slowest:.2f} s; {lines} lines of batches meanwhile; back {back_s:.1f} s"
    return [row, *rows]


def _lines(load: Load) -> int:
    return sum(note.tokens == BATCH_TOKENS for note in load.world.provider.notes.values())


def right(service: str, seen: Seen, began: float, ended: float) -> set[int]:
    """Return which statuses are right: an answer is of a moment between its question and its end."""
    limited = {429} if seen.who in {"tight", "limited"} else set()
    if service != "postgresql":
        return {200} | limited
    if seen.who in _CAPPED or seen.at + seen.took_s > ended:  # what a replica has in hand may be too little
        return {200, 503} | limited
    moments = (seen.at - began, seen.at + seen.took_s - began)
    return {status for at in moments for status in allowed("post-paid", at, BOUNDS, works=False)} | limited


async def _back(load: Load, service: str) -> float:
    began = time.monotonic()
    await asyncio.gather(*(load.until_served(who) for who in ("free", "budget", "credit")))
    known: dict[str, Callable[[Load], Awaitable[bool]]] = {
        "postgresql": _manages, "redis": _shares, "rabbitmq": _is_called,
    }  # fmt: skip
    while not await known[service](load):
        assert time.monotonic() - began < 60, service
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def _manages(load: Load) -> bool:
    made = await load.world.manage("POST", "projects", {"name": "afterwards"})
    return made.status == 201


async def _shares(load: Load) -> bool:
    world = load.world
    return all([await world.gauge(each.port, "headgate_redis_up") == 1 for each in world.fleet.replicas])


async def _is_called(load: Load) -> bool:
    logs = [each.log() for each in (*load.world.fleet.replicas, load.world.worker)]
    return all(
        log.count("broker of batches is away") == log.count("broker of batches is back") for log in logs
    )


async def restarted(load: Load, callers: int) -> Row:
    """Restart the gateways one after the other, and the worker meanwhile."""
    world = load.world
    row = Row("rolling restart, 3 + worker", "0 failed calls, each booked once")
    began = time.monotonic()

    async def the_worker() -> None:
        row.expect(await world.worker.stop() == 0, f"exit code of the worker: {world.worker.say()}")
        await world.worker.start()

    outcome, _ = await asyncio.gather(rolling_restart(world, callers), the_worker())
    row.wrong += outcome.wrong
    during = load.within(began, time.monotonic())
    for each in during:
        limited = {429} if each.who in {"tight", "limited"} else set()
        row.expect(each.status in {200} | limited, f"{each.who}: {each.status} {each.said}")
        row.expect(each.status != 200 or each.whole, f"{each.who}: an answer that ends early")
    for each in load.refused:
        row.expect(each.at + each.took_s < began, f"about batches: {each.status} {each.said}")
    calls = int(outcome.figures["calls"]) + len(during)
    row.seen = f"{calls} calls in {time.monotonic() - began:.1f} s, {len(row.wrong)} failed"
    return row
