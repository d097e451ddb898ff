"""What limits count in a process: in its memory, or shared with other workers; kept for the next start."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from headgate.admission.entrance import Entrance
from headgate.admission.leased import Shares
from headgate.admission.rate import Rates, Reading
from headgate.errors import Unavailable
from headgate.stores.live import SqliteMeters
from headgate.stores.sql.database import connect
from headgate.stores.sql.meters import SqlMeters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headgate.admission.limits import LimitSettings
    from headgate.background import Background
    from headgate.ports import Clock
    from headgate.values import MonotonicNs


class Metering:
    """The limits of one worker, and where they are kept.

    Args:
        data: the data folder.
        team: the slot of this worker, and how many there are.
        clock: the time.
        settings: how limits are counted.
        trouble: told what the database said when it refused.
    """

    def __init__(
        self,
        data: Path,
        team: tuple[int, int],
        clock: Clock,
        settings: LimitSettings,
        trouble: Callable[[str], None],
    ) -> None:
        self._slot, workers = team
        self._clock = clock
        self._kept = SqlMeters(partial(connect, data), clock, trouble)
        self._live = SqliteMeters(data, workers) if workers > 1 else None
        self._shares: Shares | None = None
        if self._live is not None:
            self._shares = Shares(self._slot, self._live, clock, trouble, self._live.sight(self._slot))
        self._asked_ns: MonotonicNs = 0
        self.rates = Rates(count_failed=settings.count_failed, shares=self._shares)
        self.entrance = Entrance(self.rates, clock, settings)
        if self._live is None:
            readings = [Reading(*row) for row in self._kept.load()]
            self.rates.restore(readings, clock.monotonic())

    async def start(self, background: Background) -> None:
        """Begin to count; one worker keeps for all what is shared."""
        if self._live is not None and self._shares is not None:
            await self._live.forget(self._slot, self._clock.monotonic())
            background.spawn("shared meters", self._shares.run())
        if self._slot == 0:
            background.spawn("meters", self._kept.run(self._changed))

    async def close(self) -> None:
        """Give back what is in hand, and keep everything."""
        if self._shares is not None:
            await self._shares.tell(leaving=True)
        if self._slot == 0:
            await self._kept.keep(await self._changed())
        if self._live is not None:
            await self._live.close()

    async def _changed(self) -> list[tuple[str, int]]:
        now, since = self._clock.monotonic(), self._asked_ns
        if self._live is None:
            return [(each.name, each.lacking) for each in self.rates.readings(now)]
        with suppress(Unavailable):  # the next round makes up for it
            lacks = await self._live.lacks(since, now)
            self._asked_ns = now
            return lacks
        return []
