"""When Python looks for cycles of objects that nobody holds any more.

Calls leave none: what they hold goes with them. Left to itself the collector looks whenever so many more
objects were made than have gone, and then at all that are not old: with thousands of open streams it kept
the loop from its work for some hundredths of a second, again and again, and found nothing. So it looks only
where there are more objects than what is open explains, and not while thousands of connections end.
"""

from __future__ import annotations

import asyncio
import gc
from time import thread_time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_EVERY_S: Final = 1.0
_RESTS: Final = 100  # times as long as a look took: it has a hundredth of a core at most
_SPARE: Final = 10_000  # objects that have come since the last look, beside
_OF_EACH: Final = 50  # for each call and each connection, which have some thirty


class Collector:
    """Collect cycles, seldom. One per process.

    Args:
        opened: returns how many calls and connections are open.
    """

    __slots__ = ("_opened", "_over")

    def __init__(self, opened: Callable[[], int]) -> None:
        self._opened = opened
        self._over = False  # there were too many at the last look

    async def run(self) -> None:
        """Take the place of Python's own rule, until it is cancelled."""
        gc.disable()
        try:
            took_s = 0.0
            while True:
                await asyncio.sleep(max(_EVERY_S, _RESTS * took_s))
                took_s = self.look()
        finally:
            gc.enable()

    def look(self) -> float:
        """Collect if there is reason to, as there was at the last look; return the seconds that it took."""
        grown = gc.get_count()[0]  # objects made since the last time, less those that have gone
        if grown < _SPARE + _OF_EACH * self._opened():
            self._over = False
            return 0.0
        self._over = not self._over
        if self._over:
            return 0.0
        began_s = thread_time()
        gc.collect()
        return thread_time() - began_s
