"""What becomes due by itself while a server runs: grants expire, tiers are earned, all else grows old."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

from headgate.stores.sql.ages import Ages, note_ages
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.connection import LockedError
from headgate.stores.sql.postings import expirable, expire, promote_due
from headgate.stores.sql.pots import prune
from headgate.stores.sql.retention import drop_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.money.tiers import Tier
    from headgate.ports import Clock, Failpoints
    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

_EVERY_S: Final = 1.0
_RARELY: Final = 600  # rounds
_STEPS: Final = 10  # of dropping calls, in a round
_KEPT_US: Final = 86_400_000_000  # how long the pot of a period is kept after its end


class Upkeep:
    """Look for what is due, in a thread, each second. One worker does it for all.

    Args:
        connect: opens the database.
        clock: wall time.
        tiers: that accounts are promoted to.
        failpoints: `expiry-before-commit`, `expiry-after-commit`.
        trouble: told what the database said when it refused; it is tried again.
        keep_calls_days: how long calls are kept; 0: for ever.
    """

    __slots__ = ("_clock", "_connect", "_failpoints", "_keep_days", "_rounds", "_tiers", "_trouble", "ages")

    def __init__(
        self,
        connect: Callable[[], Connection],
        clock: Clock,
        tiers: Sequence[Tier],
        failpoints: Failpoints,
        trouble: Callable[[str], None],
        keep_calls_days: int = 0,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._tiers = tiers
        self._failpoints = failpoints
        self._trouble = trouble
        self._keep_days = keep_calls_days
        self._rounds = 0
        self.ages = Ages()  # of the keys, as they were last looked at

    async def run(self) -> None:
        """Look for as long as the process lives."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except sqlite3.Error as fault:
                self._trouble(str(fault))
            await asyncio.sleep(_EVERY_S)

    def look(self) -> int:
        """Book what is due now; return how many grants expired.

        Raises:
            sqlite3.Error: nothing of the last transaction was booked.
        """
        now, booked = self._clock.wall(), 0
        with closing(self._connect()) as sql:
            while expirable(sql, now) and (count := expire(sql, now, self._failpoints)):
                booked += count
            if self._rounds % _RARELY == 0:
                self._look_rarely(sql, now)
            if self._keep_days:
                with suppress(LockedError):  # by a backup, perhaps
                    drop_calls(sql, now, self._keep_days, _STEPS)
        self._rounds += 1
        return booked

    def _look_rarely(self, sql: Connection, now: WallMicros) -> None:
        promote_due(sql, self._tiers, now)
        self.ages = note_ages(sql, now)
        with writing(sql):
            prune(sql, now - _KEPT_US)
        if sql.months is not None:
            with suppress(LockedError):  # they are made long before they are needed
                sql.months.ahead(now)
