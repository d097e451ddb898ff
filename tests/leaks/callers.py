"""Callers who leave at a drawn place: while they ask, before the head, or after some tokens.

Each looks at the gateway's health after it has left, so that not more are on their way than there are callers.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from random import Random

PLACES = ("while it asks", "before the head", "after some tokens", "in a JSON answer")
MOST_SILENT_S = 0.01
MOST_TOKENS = 5
OK = b'{"status":"ok"}'


class Callers:
    """Many at once, each with one call after the other, on a connection of its own."""

    def __init__(self, port: int, key: str, chance: Random) -> None:
        self.left = Counter[str]()
        self.refused = 0  # were told something else before they could leave
        self._port, self._key, self._chance = port, key, chance

    async def leave(self, calls: int, at_once: int) -> None:
        """Make so many calls, and leave each."""
        numbers = iter(range(calls))
        await asyncio.gather(*(self._work(numbers) for _ in range(at_once)))

    async def _work(self, numbers: Iterator[int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for _ in numbers:
            await self._call(self._chance.choice(PLACES))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(OK))
        writer.close()

    async def _call(self, place: str) -> None:
        chance = self._chance
        raw = self._request(chance.random() * MOST_SILENT_S, stream=place != PLACES[3])
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(raw[: chance.randrange(len(raw))] if place == PLACES[0] else raw)
        await writer.drain()
        if place == PLACES[2]:
            try:
                for _ in range(chance.randint(1, MOST_TOKENS)):
                    await reader.readuntil(b'" on"')
            except asyncio.IncompleteReadError:
                self.refused += 1
        else:
            await asyncio.sleep(chance.random() * 2 * MOST_SILENT_S)
        if chance.random() < 0.5:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()
        self.left[place] += 1

    def _request(self, silent_s: float, *, stream: bool) -> bytes:
        message = {"role": "user", "content": f"{silent_s:.4f}"}
        body = json.dumps(
            {"model": "crash-model", "messages": [message], "max_tokens": 500, "stream": stream}
        )
        return (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self._key}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
