"""Meters that the workers of all replicas share, in Redis. One script for each exchange.

The time is Redis's own, so clocks of replicas need not agree. All names begin with one stem, whose braces
keep them in one slot of a cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from headgate.errors import Unavailable
from headgate.money.shares import Answer
from headgate.ports import Forgotten
from headgate.stores.redis.link import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.money.shares import Ask
    from headgate.stores.redis.link import Link, Word
    from headgate.values import MonotonicNs

SILENT_US: Final = 5_000_000
_WIDTH: Final = 5
_AT_ONCE: Final = 256


class RedisMeters:
    """The shared meters of a gateway in Redis. Implements `ports.SharedMeters`.

    Args:
        link: the way to Redis.
        node: tells the workers of this store from others; new at each start.
        by_hand: the time is the taker's, as tests move it; else Redis's own.
        silent_us: a worker that says nothing for so long is dead.
    """

    def __init__(self, link: Link, node: str, *, by_hand: bool = False, silent_us: int = SILENT_US) -> None:
        self._link = link
        self._silent_us = silent_us
        self._node = node
        self._by_hand = by_hand
        self._entered: set[int] = set()
        self._told: set[str] = set()  # of which meters, since Redis has lost what it knew
        self._asked: dict[str, MonotonicNs] = {}  # when each meter was asked for last, since `lacks`
        self._exchange, self._leave, self._lacks = map(Script, ("exchange", "leave", "lacks"))
        self.workers = 0  # of all replicas, as Redis last said

    async def exchange(self, slot: int, asks: Sequence[Ask], now: MonotonicNs) -> list[Answer]:
        """Take and give. See the port."""
        stem, me = self._link.stem, self._name(slot)
        keys = [f"{stem}workers", f"{stem}hand:{me}", *(f"{stem}pool:{ask.name}" for ask in asks)]
        words: list[Word] = [me, stem, int(slot in self._entered), self._silent_us, self._time(now)]
        for name, limit, window_ns, spent, keep, want, known in asks:
            words += [name, limit, window_ns // 1000, spent, keep, want, -1 if name in self._told else known]
            self._asked[name] = now
        told = await self._run(self._exchange, keys, words)
        self._entered.add(slot)
        if told[0] < 0:
            self._told.clear()
            raise Forgotten("Redis does not know this worker any more.")
        self.workers = told[0]
        self._told.update(ask.name for ask in asks)
        rows = (told[at : at + _WIDTH] for at in range(1, len(told), _WIDTH))
        return [
            Answer(granted, free, others, wait * 1000, left) for granted, free, others, wait, left in rows
        ]

    async def forget(self, slot: int, now: MonotonicNs) -> None:
        """Bury a dead worker."""
        await self._go(slot, now, died=True)
        self._entered.discard(slot)

    async def leave(self, slot: int, now: MonotonicNs) -> None:
        """Give back what is in a worker's hand."""
        await self._go(slot, now, died=False)
        self._entered.discard(slot)
        self._told.clear()

    async def _go(self, slot: int, now: MonotonicNs, *, died: bool) -> None:
        words = (self._name(slot), self._link.stem, int(died), self._time(now))
        await self._link.run_script(self._leave, [f"{self._link.stem}workers"], words)

    async def lacks(self, since: MonotonicNs, now: MonotonicNs) -> list[tuple[str, int]]:
        """Return what the meters lack that this process asked for since. See the port."""
        names = [name for name, at in self._asked.items() if at >= since]
        found: list[tuple[str, int]] = []
        for first in range(0, len(names), _AT_ONCE):
            some = names[first : first + _AT_ONCE]
            keys = [f"{self._link.stem}pool:{name}" for name in some]
            told = await self._link.run_script(self._lacks, keys, [self._time(now)])
            lacks = cast("list[bytes]", told)
            found += [(name, int(lack)) for name, lack in zip(some, lacks, strict=True) if lack]
        self._asked = {name: at for name, at in self._asked.items() if at >= now}
        return found

    def _name(self, slot: int) -> str:
        return f"{self._node}:{slot}"

    def _time(self, now: MonotonicNs) -> int:
        return now // 1000 if self._by_hand else -1

    async def _run(self, script: Script, keys: list[str], words: list[Word]) -> list[int]:
        told = await self._link.run_script(script, keys, words)
        if not isinstance(told, list) or not all(isinstance(number, int) for number in told):
            raise Unavailable("Redis gave an answer that is not ours.")
        return told
