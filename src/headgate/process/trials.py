"""What is tried out beside the targets of models, put together for one process: canaries and shadows."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from headgate.errors import Unavailable
from headgate.money.amounts import parse_cap
from headgate.routing.trials import ROLLBACKS
from headgate.stores.sql.canaries import RollBacks
from headgate.stores.sql.database import connect
from headgate.stores.sql.shadows import put_shadows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.config import Config
    from headgate.money.amounts import Unit
    from headgate.observe.log import Log
    from headgate.observe.metrics import Metrics
    from headgate.pipeline import Stages
    from headgate.process.background import Background
    from headgate.routing.routes import Routes
    from headgate.routing.trials import RolledBack, Trials
    from headgate.shadows import Shadows
    from headgate.stores.sql.database import Place
    from headgate.values import NanoUSD, Principal


class TrialParts:
    """Follow the settings of canaries and shadows, and keep what becomes of them.

    Args:
        place: of the books.
        trials: the canaries here.
        shadows: who casts them.
        metrics: counts roll-backs.
        log: hears of them.
        reload: takes over the budgets that the database has now.
    """

    def __init__(
        self,
        place: Place,
        stages: Stages,
        shadows: Shadows,
        metrics: Metrics,
        log: Log,
        reload: Callable[[], Awaitable[None]],
    ) -> None:
        clock, connection = stages.ledger.clock, partial(connect, place)
        self._connect = connection
        self._clock = clock
        self._shadows = shadows
        self._metrics = metrics
        self._log = log
        self._reload = reload
        self._trials: Trials = stages.steering.trials
        self.rollbacks = RollBacks(self._trials, connection, clock, self._kept, self._trouble)

    async def start(self, config: Config, routes: Routes, background: Background) -> None:
        """Begin with what the settings say, and with what was rolled back before."""
        await self.follow(config, routes)
        await self.rollbacks.step()
        background.spawn("canaries", self.rollbacks.run())

    async def follow(self, config: Config, routes: Routes) -> None:
        """Go on with other settings. A shadow is cast once its budget is in force, and not before."""
        self._trials.follow(routes.trials)
        budgets = {
            route.name: parse_cap(route.shadow.budget)
            for route in config.routes.values()
            if route.shadow is not None
        }
        self._shadows.payers = {}
        if not budgets:
            return
        try:
            payers = await asyncio.to_thread(self._put, budgets, config.budget.timezone)
            await self._reload()
        except (sqlite3.Error, Unavailable) as fault:
            self._trouble(str(fault))
            return
        self._shadows.payers = payers

    def _put(self, budgets: dict[str, tuple[NanoUSD, Unit]], tz: str) -> dict[str, Principal]:
        with closing(self._connect()) as sql:
            return put_shadows(sql, budgets, tz, self._clock.wall())

    async def close(self) -> None:
        """Cut the shadows that are under way."""
        await self._shadows.close()

    def _kept(self, each: RolledBack) -> None:
        trial = each.trial
        self._metrics.count(ROLLBACKS, trial.model, trial.id)
        self._log.line("error", "a canary is rolled back", model=trial.model, trial=trial.id, why=each.why)

    def _trouble(self, said: str) -> None:
        self._log.line("error", "the database refuses what is tried out beside targets", said=said)
