"""All of it, one thing after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.ensemble.changes import told
from tests.ensemble.limits import Size, poured
from tests.ensemble.load import Load
from tests.ensemble.outages import lost, restarted
from tests.ensemble.reconciler import Reconciler
from tests.ensemble.table import Row, heading, tell
from tests.ensemble.world import Ensemble, ensemble
from tests.replicas.rounds import CHANGED_S, caps


@dataclass(frozen=True)
class Terms:
    """How long everything takes."""

    seconds: float  # of each outage
    losses: Sequence[tuple[str, str]]  # a service, and how it is lost
    rounds: int  # of money for k calls
    calls: int  # at once, in each of them
    changes: int
    pour: Size  # on limits
    lines: int  # of a batch
    tight: int = 400  # calls that the caller with little money can pay
    leave_s: float = 1.0
    callers: int = 8  # beside the load, while all is restarted
    changed_s: float = CHANGED_S  # within which a change is in force everywhere


async def play(folder: Path, terms: Terms) -> list[Row]:
    """Play all of it; return the table."""
    print(heading(), flush=True)
    rows: list[Row] = []

    def add(*more: Row) -> None:
        rows.extend(map(tell, more))

    async with ensemble(folder, terms.leave_s) as world:
        load = Load(world, folder, terms.lines, terms.tight)
        await load.begin()
        add(await told(world, terms.changes, terms.changed_s, bus="up"))
        add(await _money(world, terms))
        add(*await poured(world, terms.pour))
        await world.services.whole()
        for service, how in terms.losses:
            add(*await lost(load, service, how, terms.seconds))
        add(await restarted(load, terms.callers))
        await load.end()
        await _spend_the_rest(load)
        losses = sum(service == "redis" for service, _ in terms.losses)
        add(*await Reconciler(load, losses).rows())
    return rows


async def _money(world: Ensemble, terms: Terms) -> Row:
    """Let many callers at once spend money for k calls; exactly k are granted (R-02)."""
    row = Row("R-02 money for k calls", "k granted, 0 overspent, each round")
    outcome = await caps(world, terms.rounds, terms.calls)
    row.wrong += outcome.wrong
    row.seen = (
        f"{terms.rounds} rounds of {terms.calls} calls at once, {outcome.figures['granted']:,.0f} granted"
    )
    return row


async def _spend_the_rest(load: Load) -> None:
    """Let the caller with little money spend it, so that it can be seen that none is missing."""
    refused = 0
    for _ in range(load.tight):
        if refused == 3:  # a call may be refused while another's hold is freed
            break
        seen = await asyncio.gather(*(load.once("tight") for _ in range(4)))
        refused = refused + 1 if all(each.status == 429 for each in seen) else 0
