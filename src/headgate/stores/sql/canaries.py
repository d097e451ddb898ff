"""The roll-backs of canaries, as events: kept once, and followed by every worker and after a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.postings import Event, add_event

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from headgate.ports import Clock
    from headgate.routing.trials import RolledBack, Trials
    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

_EVERY_S: Final = 1.0
_KIND: Final = "canary.rolled_back"


class RollBacks:
    """Keep what is rolled back here, and follow what others have rolled back. One per process.

    Args:
        trials: the canaries here.
        connect: opens the database.
        clock: wall time.
        kept: told of a roll-back that nobody had kept before.
        trouble: told what the database said when it refused; it is tried again.
    """

    def __init__(
        self,
        trials: Trials,
        connect: Callable[[], Connection],
        clock: Clock,
        kept: Callable[[RolledBack], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._trials = trials
        self._connect = connect
        self._clock = clock
        self._kept = kept
        self._trouble = trouble

    async def run(self) -> None:
        """Do so each second for as long as the process lives."""
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.step()

    async def step(self) -> None:
        """Do so once, where there is a canary."""
        trials = self._trials
        if not (trials.running or trials.ended):
            return
        ended = dict(trials.ended)
        try:
            new, over = await asyncio.to_thread(self._exchange, ended, tuple(trials.running))
        except sqlite3.Error as fault:
            self._trouble(str(fault))
            return
        for each in new:
            self._kept(each)
        for trial in ended:
            del trials.ended[trial]
        trials.over |= over

    def _exchange(
        self, ended: Mapping[str, RolledBack], running: Collection[str]
    ) -> tuple[list[RolledBack], set[str]]:
        with closing(self._connect()) as sql:
            new = _keep(sql, ended, self._clock.wall()) if ended else []
            return new, set(rolled_back(sql, running))


def _keep(sql: Connection, ended: Mapping[str, RolledBack], now: WallMicros) -> list[RolledBack]:
    """Write what is not known yet; return that."""
    with writing(sql):
        known = rolled_back(sql, ended)
        new = [each for trial, each in ended.items() if trial not in known]
        for each in new:
            add_event(sql, _event(each, now))
    return new


def rolled_back(sql: Connection, trials: Collection[str]) -> dict[str, str]:
    """Return which of some trials are rolled back, and why."""
    names = {f"{_KIND}:{trial}": trial for trial in trials}
    marks = ", ".join("?" * len(names))
    query = f"SELECT name, detail FROM events WHERE name IN ({marks})"
    rows = sql.execute(query, tuple(names))
    return {names[name]: str(msgspec.json.decode(detail)["why"]) for name, detail in rows}


def _event(each: RolledBack, now: WallMicros) -> Event:
    trial = each.trial
    canary = trial.canary
    detail = {
        "why": each.why,
        "target": f"{canary.target.provider}/{canary.target.model}",
        "share_percent": canary.share_percent,
    }
    return Event(0, _KIND, trial.model, trial.id, now, detail)
