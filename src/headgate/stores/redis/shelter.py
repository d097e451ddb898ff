"""Shared meters that go on while Redis is away: each worker then has its share of every limit.

How many workers share is what Redis said last. A meter begins as far used as it was then, shared out alike,
so whole they let through what one would; what a worker did not know of it costs one share at most. When
Redis is there again it is told what was used meanwhile, and the shares end once the others have told it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.errors import Unavailable
from headgate.money.shares import MICRO, Answer, Ask, Pool, begun, exchange, refilled
from headgate.ports import Forgotten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.stores.redis.link import Link
    from headgate.stores.redis.meters import RedisMeters
    from headgate.values import MonotonicNs

_OTHERS_NS: Final = 2_500_000_000  # by then every replica that lives has found Redis, too
_AT_ONCE: Final = 256


class _Alone(NamedTuple):
    """A meter while Redis is away."""

    share: Pool  # this worker's
    known: Pool  # the whole, as it was when Redis went
    held: int = 0  # in this worker's hand
    untold: int = 0  # units that Redis does not know of
    news: bool = True  # there is something to tell

    def own(self, workers: int, now: MonotonicNs) -> int:
        """Return the units that this worker has used since Redis went and that are not refilled yet."""
        ours = refilled(self.share, now).used - refilled(self.known, now).used // workers
        return max(0, -(-ours // MICRO))

    def tell(self, name: str, now: MonotonicNs) -> Ask:
        """Return what Redis is told of it."""
        known = refilled(self.known, now)
        kept = 0 if known.window_ns else self.held
        return Ask(name, known.limit, known.window_ns, self.untold, kept, 0, known.used)


class Shelter:
    """Redis's meters, and a share of them without it, for one worker. Implements `ports.SharedMeters`.

    Args:
        store: the meters in Redis.
        link: says whether it can be asked.
        workers: how many there are of this replica, until Redis has said how many there are of all.
    """

    def __init__(self, store: RedisMeters, link: Link, workers: int) -> None:
        self._store = store
        self._link = link
        self.workers = workers
        self.alone = False
        self._back_ns: MonotonicNs = 0  # until when the others are waited for; 0: Redis is away
        self._meters: dict[str, _Alone] = {}

    async def exchange(self, slot: int, asks: Sequence[Ask], now: MonotonicNs) -> list[Answer]:
        """Take and give. Raises nothing but `Forgotten`. See the port."""
        whole = False
        if self._link.up:
            try:
                if not self.alone:
                    answers = await self._store.exchange(slot, asks, now)
                    self.workers = self._store.workers
                    return answers
                whole = await self._rejoin(slot, asks, now)
            except Forgotten:  # what every worker knows makes it whole again
                self._begin_return(now)
                raise
            except Unavailable:
                self._back_ns = 0
        if whole:
            raise Forgotten("Redis knows again what was used.")
        self.alone = True
        return [self._give(ask, now) for ask in asks]

    async def forget(self, slot: int, now: MonotonicNs) -> None:
        """Bury a dead worker, where Redis is there."""
        if self._link.up:
            await self._store.forget(slot, now)

    async def lacks(self, since: MonotonicNs, now: MonotonicNs) -> list[tuple[str, int]]:
        """Return what the meters lack, as Redis has it. See the port."""
        return await self._store.lacks(since, now)

    async def leave(self, slot: int, now: MonotonicNs) -> None:
        """Go: others need not wait until this worker is taken for dead."""
        await self._store.leave(slot, now)

    def _begin_return(self, now: MonotonicNs) -> None:
        self.alone, self._back_ns = True, now + _OTHERS_NS
        self._meters = {
            name: meter._replace(untold=meter.own(self.workers, now), news=True)
            for name, meter in self._meters.items()
        }

    async def _rejoin(self, slot: int, asks: Sequence[Ask], now: MonotonicNs) -> bool:
        """Tell Redis what this worker knows and has used; say whether all have done so."""
        if not self._back_ns:  # what it has in this worker's hand is not what is there by now
            await self._store.leave(slot, now)
            raise Forgotten("Redis may have lost what it knew.")
        for ask in asks:
            self._meet(ask, now)
        all_told = await self._tell(slot, now)
        if not all_told or (self._store.workers < self.workers and now < self._back_ns):
            return False
        self.alone, self._back_ns = False, 0
        self._meters.clear()
        return True

    async def _tell(self, slot: int, now: MonotonicNs) -> bool:
        """Tell Redis what it does not know, so much as it takes at once; say whether that was all."""
        news = [(name, meter) for name, meter in self._meters.items() if meter.news]
        told = news[:_AT_ONCE]
        await self._store.exchange(slot, [meter.tell(name, now) for name, meter in told], now)
        self._meters.update((name, meter._replace(untold=0, news=False)) for name, meter in told)
        return len(told) == len(news)

    def _meet(self, ask: Ask, now: MonotonicNs) -> _Alone:
        """Return a meter, as far used as this worker knew it when Redis went."""
        meter = self._meters.get(ask.name)
        if meter is None:
            known, limit = begun(ask, now), max(1, ask.limit // self.workers)
            share = Pool(known.used // self.workers, now, limit, ask.window_ns)
            meter = self._meters[ask.name] = _Alone(share, known)
        return meter

    def _give(self, ask: Ask, now: MonotonicNs) -> Answer:
        """Give of this worker's share."""
        meter = self._meet(ask, now)
        own = ask._replace(limit=max(1, ask.limit // self.workers))
        share, held, answer = exchange(meter.share, own, 0, now, 1)
        news = meter.news or bool(ask.spent) or held != meter.held
        self._meters[ask.name] = _Alone(share, meter.known, held, meter.untold + ask.spent, news)
        return answer._replace(left=None)
