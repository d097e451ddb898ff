"""What the replicas of a gateway have in common in Redis, seen from one worker; nothing where none is named.

It may all be lost at any moment: money and keys are in the books, and whoever serves goes on without it.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from headgate.storage import shown_url

if TYPE_CHECKING:
    from headgate.background import Background
    from headgate.observe.log import Log
    from headgate.storage import Storage
    from headgate.stores.redis.link import Link
    from headgate.stores.redis.shelter import Shelter


class Commons:
    """A worker's way to what is shared.

    Args:
        storage: where Redis is.
        pepper: all replicas of a gateway have the same, and no other gateway has.
        workers: how many this replica has.
        log: where it is said when Redis goes and comes.
    """

    def __init__(self, storage: Storage, pepper: bytes, workers: int, log: Log) -> None:
        self._log = log
        self._place = shown_url(storage.redis)
        self._link: Link | None = None
        self.meters: Shelter | None = None
        if storage.redis:
            # Loaded only here: it takes 0.2 s, and is not there where the extra is not.
            from headgate.stores.redis.link import Link
            from headgate.stores.redis.meters import RedisMeters
            from headgate.stores.redis.shelter import Shelter

            self._link = Link(storage.redis, stem_of(storage.redis_prefix, pepper), self)
            store = RedisMeters(self._link, secrets.token_hex(8))
            self.meters = Shelter(store, self._link, workers)

    async def start(self, background: Background) -> None:
        """Look for Redis; go on without where it does not answer."""
        if self._link is not None:
            await self._link.look()
            background.spawn("redis", self._link.run())

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
        if self._link is None or self.meters is None:
            return {}
        return {
            "headgate_redis_up": int(self._link.up),
            "headgate_redis_answers": self._link.calls,
            "headgate_redis_faults": self._link.faults,
            "headgate_redis_workers": self.meters.workers,
        }


def stem_of(prefix: str, pepper: bytes) -> str:
    """Return with what the names of a gateway begin: gateways on other books do not meet."""
    scope = hashlib.blake2b(pepper, digest_size=8, person=b"headgate redis").hexdigest()
    return f"{prefix}:{{{scope}}}:"
