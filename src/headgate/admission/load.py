"""How many bytes those who run may have in hand together: each carries its own to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from headgate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_AGAIN_S: Final = 0.5  # a stop is seen so soon


class Load:
    """What calls carry, of files or of answers.

    Args:
        most: bytes of all; one that is alone may have more.
        stopping: says whether the process begins nothing any more.
    """

    __slots__ = ("_changed", "_most", "_stopping", "_turn", "taken")

    def __init__(self, most: int, stopping: Callable[[], bool] = lambda: False) -> None:
        self.taken = 0
        self._most = most
        self._stopping = stopping
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()  # of the one that waits: small ones would pass a large one for ever

    async def take(self, size: int) -> None:
        """Wait until there is room for so many bytes, and for those that came before; take it.

        Raises:
            Unavailable: we stop.
        """
        async with self._turn:
            while self.taken and self.taken + size > self._most:
                if self._stopping():
                    raise Unavailable("The gateway is shutting down.")
                self._changed.clear()
                await _within(self._changed, _AGAIN_S)
            self.taken += size

    def give(self, size: int) -> None:
        """Give room back; of less than nothing, take more than there may be room for."""
        self.taken -= size
        self._changed.set()


async def _within(event: asyncio.Event, longest_s: float) -> None:
    try:
        async with asyncio.timeout(longest_s):
            await event.wait()
    except TimeoutError:
        return
