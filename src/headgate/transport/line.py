"""Who needs a connection and found none idle: a few dial in each turn of the loop, the others wait.

To dial costs more than to serve a call, so many at once would stop the loop just when it has the most to do.
Whoever waits takes a connection that comes back before it dials one; where there is nothing else to do the
turns are so short that nobody waits long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from headgate.waits import Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

_EACH: Final = 4  # dials begun in a turn, if fewer connections came back


class Line:
    """Those who wait for a connection to one origin, the first first.

    Args:
        idle: the connections that nobody uses.
        crowded: told when somebody has to wait.
    """

    __slots__ = ("_begun", "_crowded", "_idle", "waiting")

    def __init__(self, idle: Sized, crowded: Callable[[], None]) -> None:
        self.waiting: deque[tuple[float, Wait]] = deque()  # and since when, by the loop's clock
        self._begun = 0  # in this turn
        self._idle = idle
        self._crowded = crowded

    def age_s(self, now_s: float) -> float:
        """Return how long the first one has waited; 0 where nobody does."""
        return now_s - self.waiting[0][0] if self.waiting else 0.0

    async def stand(self) -> None:
        """Wait until a connection may be idle, or else until it is one's turn to dial."""
        loop = asyncio.get_running_loop()
        if self._begun < _EACH and not self.waiting:
            if not self._begun:
                loop.call_soon(self._next)
            self._begun += 1
            return
        place = (loop.time(), Wait(loop))
        self.waiting.append(place)
        self._crowded()
        try:
            await place[1]
        except BaseException:
            with suppress(ValueError):  # it was let go already
                self.waiting.remove(place)
            raise

    def _next(self) -> None:
        """Let go on whom there is a connection for, and some in any case."""
        waiting = self.waiting
        go = min(len(waiting), max(_EACH, len(self._idle)))
        try:
            for _ in range(go):
                if waiting:  # one that goes on may end another
                    waiting.popleft()[1].wake()
        finally:  # one that breaks, by a bug, stops nobody behind it
            self._begun = go
            if go:
                asyncio.get_running_loop().call_soon(self._next)
