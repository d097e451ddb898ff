"""What limits count in a process: in its memory, or shared with other workers; kept for the next start."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headgate.admission.entrance import Entrance
from headgate.admission.rate import Rates, Reading
from headgate.admission.sharing import Shares
from headgate.errors import Unavailable
from headgate.process.replicas import Replicas
from headgate.stores.live import SqliteMeters
from headgate.stores.sql.database import Database, connect
from headgate.stores.sql.meters import SqlMeters

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.config import Config
    from headgate.observe.log import Log
    from headgate.ports import Clock
    from headgate.process.background import Background
    from headgate.values import MonotonicNs

_BEAT_NS: Final = 1_000_000_000
_BACKUP_EVERY_S: Final = 10.0  # Redis keeps them too


class Metering:
    """The limits of one worker, and where they are kept.

    Args:
        config: where they are kept, how many workers there are, and how limits are counted.
        pepper: of all replicas of this gateway.
        slot: of this worker.
        clock: the time.
        log: where it is said when Redis goes and comes.
        trouble: told what the database said when it refused.
    """

    def __init__(
        self, config: Config, pepper: bytes, slot: int, clock: Clock, log: Log, trouble: Callable[[str], None]
    ) -> None:
        data, workers, settings = Path(config.storage.data), config.server.workers, config.limits
        self._slot = slot
        self._clock = clock
        self.replicas = Replicas(config.storage, pepper, workers, log)
        self._common = self.replicas.meters
        self._kept = SqlMeters(partial(connect, Database(data, config.storage.database)), clock, trouble)
        self._live: SqliteMeters | None = None
        self._shares: Shares | None = None
        if self._common is not None:
            self._shares = Shares(self._slot, self._common, clock, trouble, beat_ns=_BEAT_NS)
        elif workers > 1:
            self._live = SqliteMeters(data, workers)
            self._shares = Shares(self._slot, self._live, clock, trouble, self._live.sight(self._slot))
        self._asked_ns: MonotonicNs = 0
        self.rates = Rates(count_failed=settings.count_failed, shares=self._shares)
        self.entrance = Entrance(self.rates, clock, settings)
        if self._live is None:
            readings = [Reading(*row) for row in self._kept.load()]
            self.rates.restore(readings, clock.monotonic())

    async def start(self, background: Background) -> None:
        """Begin to count; one worker keeps for all what is shared."""
        await self.replicas.start(background)
        if self._live is not None:
            await self._live.forget(self._slot, self._clock.monotonic())
        if self._shares is not None:
            background.spawn("shared meters", self._shares.run())
        if self._common is not None:  # each keeps what it asks for
            background.spawn("meters", self._kept.run(self._changed, _BACKUP_EVERY_S))
        elif self._slot == 0:
            background.spawn("meters", self._kept.run(self._changed))

    async def close(self) -> None:
        """Give back what is in hand, and keep everything."""
        if self._shares is not None:
            await self._shares.tell(leaving=True)
        if self._slot == 0 or self._common is not None:
            await self._kept.keep(await self._changed())
        if self._common is not None:
            with suppress(Unavailable):  # then it is taken for dead in a while
                await self._common.leave(self._slot, self._clock.monotonic())
        await self.replicas.close()
        if self._live is not None:
            await self._live.close()

    async def _changed(self) -> list[tuple[str, int]]:
        now, since = self._clock.monotonic(), self._asked_ns
        store = self._common or self._live
        if store is None:
            return [(each.name, each.lacking) for each in self.rates.readings(now)]
        with suppress(Unavailable):  # the next round makes up for it
            lacks = await store.lacks(since, now)
            self._asked_ns = now
            return lacks
        return []
