"""A change that is made on one replica is in force on the others (R-26)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from tests.ensemble.load import chat
from tests.ensemble.table import Row, spread
from tests.ensemble.world import Ensemble
from tests.losses.rounds import CALL
from tests.several.asking import Reply, ask

PATIENCE_S = 60.0


async def told(world: Ensemble, rounds: int, most_s: float, *, bus: str) -> Row:
    """Make keys, change their limits and revoke them on the first replica; see when the others do as it says."""
    row = Row(
        f"R-26 changes, bus {bus}", f"made, limited, revoked on A: in force on B and C within {most_s:g} s"
    )
    took: dict[str, list[float]] = {"made": [], "limited": [], "revoked": []}
    for number in range(rounds):
        made = await world.manage("POST", "keys", {"name": f"told-{bus}-{number}", "kind": "live"})
        assert made.status == 201, made
        key, name = made.json()["key"], made.json()["record"]["id"]
        took["made"].append(await _everywhere(world, key, lambda reply: reply.status == 200))
        limit = 5_000 + number
        changed = await world.manage("PATCH", f"keys/{name}", {"rpm": limit})
        assert changed.status == 200, changed
        took["limited"].append(await _everywhere(world, key, partial(_limited, limit)))
        revoked = await world.manage("DELETE", f"keys/{name}")
        assert revoked.status == 200, revoked
        took["revoked"].append(await _everywhere(world, key, lambda reply: reply.status == 401))
    for what, times in took.items():
        row.expect(max(times) <= most_s, f"{what}: {spread(times)}")
    row.seen = ", ".join(f"{what} {spread(times)}" for what, times in took.items())
    return row


def _limited(limit: int, reply: Reply) -> bool:
    return reply.headers.get("x-ratelimit-limit-requests") == str(limit)


async def _everywhere(world: Ensemble, key: str, right: Callable[[Reply], bool]) -> float:
    began = time.monotonic()
    others = world.fleet.replicas[1:]
    waits: list[Awaitable[None]] = [_at(each.port, key, right) for each in others]
    await asyncio.gather(*waits)
    return time.monotonic() - began


async def _at(port: int, key: str, right: Callable[[Reply], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not right(reply := await ask(port, key, CALL, chat(1))):
        assert time.monotonic() < until, reply
        await asyncio.sleep(0.02)
