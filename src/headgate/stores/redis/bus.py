"""Wake-ups by Redis. What has changed is in the books; that it has is said here, before anybody looks.

Nothing depends on it: who hears nothing finds out when the books are looked at next.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from headgate.errors import Unavailable
from headgate.stores.redis.link import connection_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

    from headgate.stores.redis.link import Link

_QUIET_S: Final = 1.0  # after so long it is asked whether it is still there, and has as long to answer
_AGAIN_S: Final = 1.0


class Bus:
    """The channel of one gateway's changes.

    Args:
        link: says a change; hearing has a connection of its own.
        url: where Redis is.
    """

    def __init__(self, link: Link, url: str) -> None:
        self._link = link
        self._url = url
        self._channel = f"{link.stem}changes"
        self._heard = 0  # the last change that somebody has said
        self.listening = False
        self.wakes = 0

    async def announce(self, change: int) -> None:
        """Say the number of a change, unless it was said; where Redis is away nobody hears it."""
        if change > self._heard and self._link.up:
            self._heard = change
            with suppress(Unavailable):
                await self._link.call("PUBLISH", self._channel, change)

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` at each change, for as long as the process lives."""
        while True:
            connection = connection_to(self._url)
            try:
                with suppress(RedisError, OSError, TimeoutError):
                    await self._hear(connection, wake)
            finally:
                self.listening = False
                with suppress(RedisError, OSError):
                    await connection.disconnect(nowait=True)
            await asyncio.sleep(_AGAIN_S)

    async def _hear(self, connection: AbstractConnection, wake: Callable[[], None]) -> None:
        async with asyncio.timeout(_QUIET_S):
            await connection.send_command("SUBSCRIBE", self._channel, check_health=False)
            await connection.read_response()
        self.listening = True
        wake()  # of what was said before nothing was heard
        asked = False
        while True:
            try:
                async with asyncio.timeout(_QUIET_S):
                    said = await connection.read_response(disconnect_on_error=False)
            except TimeoutError:
                if asked:
                    raise
                asked = True
                await connection.send_command("PING", check_health=False)
                continue
            asked = False
            if isinstance(said, list) and said[0] == b"message" and said[2].isdigit():
                self._wake(int(said[2]), wake)

    def _wake(self, change: int, wake: Callable[[], None]) -> None:
        if change > self._heard:  # else this worker said it, or has heard it
            self._heard = change
            self.wakes += 1
            wake()
