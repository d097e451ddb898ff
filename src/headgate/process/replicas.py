"""What the replicas of a gateway have in common in Redis, seen from one worker; nothing where none is named.

It may all be lost at any moment: money and keys are in the books, and whoever serves goes on without it.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from headgate.process.background import Watch
from headgate.program import without_password

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.observe.log import Log
    from headgate.process.background import Background
    from headgate.settings.storage import Storage
    from headgate.stores.redis.bus import Bus
    from headgate.stores.redis.link import Link
    from headgate.stores.redis.shelter import Shelter

_POLL_S: Final = 0.2
_CALM_POLL_S: Final = (
    0.5  # of a database that replicas share, while the bus wakes us; news may be twice as old
)


class Replicas:
    """A worker's way to what is shared.

    Args:
        storage: where Redis is.
        pepper: all replicas of a gateway have the same, and no other gateway has.
        workers: how many this replica has.
        log: where it is said when Redis goes and comes.
    """

    def __init__(self, storage: Storage, pepper: bytes, workers: int, log: Log) -> None:
        self._log = log
        self._place = without_password(storage.redis)
        self._link: Link | None = None
        self._bus: Bus | None = None
        self._shared_books = bool(storage.database)
        self.meters: Shelter | None = None
        if storage.redis:
            # Loaded only here: it takes 0.2 s, and is not there where the extra is not.
            from headgate.stores.redis.bus import Bus
            from headgate.stores.redis.link import Link
            from headgate.stores.redis.meters import RedisMeters
            from headgate.stores.redis.shelter import Shelter

            self._link = Link(storage.redis, stem_of(storage.redis_prefix, pepper), self)
            self._bus = Bus(self._link, storage.redis)
            store = RedisMeters(self._link, secrets.token_hex(8))
            self.meters = Shelter(store, self._link, workers)

    async def start(self, background: Background) -> None:
        """Look for Redis; go on without where it does not answer."""
        if self._link is not None:
            await self._link.look()
            background.spawn("redis", self._link.run())

    def watch(self, look: Callable[[], Awaitable[int]], background: Background) -> Watch:
        """Look for changes from time to time, and at once where another replica has found one.

        Args:
            look: follows what has changed; returns the number of the last change.
            background: where it runs.
        """

        async def follow() -> None:
            seen = await look()
            if self._bus is not None:
                calm = self._shared_books and self._bus.listening
                watch.every_s = _CALM_POLL_S if calm else _POLL_S
                await self._bus.announce(seen)

        watch = Watch(follow, _POLL_S)
        background.spawn("changes", watch.run())
        if self._bus is not None:
            background.spawn("changes by Redis", self._bus.listen(watch.wake))
        return watch

    async def close(self) -> None:
        """Close the connections."""
        if self._link is not None:
            await self._link.close()

    def lost(self, said: str) -> None:
        """Say that Redis is out of use."""
        shared = self.meters.workers if self.meters is not None else 1
        self._log.line(
            "error",
            "Redis is out of use: each worker keeps to its share of every limit",
            redis=self._place,
            said=said,
            workers=shared,
        )

    def found(self) -> None:
        """Say that Redis is in use."""
        self._log.line("info", "Redis is in use", redis=self._place)

    def gauges(self) -> dict[str, float]:
        """Return how Redis does, for the metrics."""
        if self._link is None or self.meters is None or self._bus is None:
            return {}
        return {
            "headgate_redis_up": int(self._link.up),
            "headgate_redis_answers": self._link.calls,
            "headgate_redis_faults": self._link.faults,
            "headgate_redis_wakes": self._bus.wakes,
            "headgate_redis_workers": self.meters.workers,
        }


def stem_of(prefix: str, pepper: bytes) -> str:
    """Return with what the names of a gateway begin: gateways on other books do not meet."""
    scope = hashlib.blake2b(pepper, digest_size=8, person=b"headgate redis").hexdigest()
    return f"{prefix}:{{{scope}}}:"
