"""Writes of one turn of the loop, sent together at its end.

A write to a local socket wakes its reader at once, which in a virtual machine costs more than the write:
many connections answered in one turn wake it once. Who waits alone waits no longer, since nothing lies
between the turn's last callback and this.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MANY = 64 * 1024  # bytes that may wait, unseen by the transports' own marks
_PIECES = 6  # that are too many for one turn of the loop


class Outbox:
    """What several transports of one loop have to write. Order is kept, and nothing waits for long.

    Before anything else is done to a transport (half-closing, closing) its writer calls `flush`.

    Args:
        most: bytes that may wait; a longer piece is written at once.
    """

    __slots__ = ("_call_soon", "_most", "_room", "_waiting", "on_many")

    def __init__(self, most: int = _MANY) -> None:
        self._call_soon: Callable[[Callable[[], None]], object] | None = None
        self._most = most
        self._room = most  # for more that may wait
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []
        self.on_many: Callable[[], None] | None = None  # called where many pieces come in one turn

    def send(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of this turn of the loop; a long piece, or one of many, at once."""
        room = self._room - len(data)
        waiting = self._waiting
        if room < 0:
            if len(waiting) >= _PIECES:
                self.crowded()
            self.flush()
            transport.write(data)
            return
        self._room = room
        if not waiting:
            if self._call_soon is None:
                self._call_soon = asyncio.get_running_loop().call_soon
            self._call_soon(self.flush)
        waiting.append((transport, data))

    def crowded(self) -> None:
        """Say that a turn of the loop has more to send than is good."""
        if self.on_many is not None:
            self.on_many()

    def flush(self) -> None:
        """Write what waits; what a closed transport should have written is dropped."""
        if not self._waiting:
            return
        waiting, self._waiting, self._room = self._waiting, [], self._most
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)
