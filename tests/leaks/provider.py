"""A provider that begins every answer and ends none: it goes on until it is let go."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.answers import chat_frames, chunk, http_head
from tests.local import LocalProvider

HEAD = http_head(200, [("content-type", "text/event-stream")])
FIRST, TOKEN = (chunk(frame) for frame in chat_frames((" on",))[:2])
PART = http_head(200, [("content-type", "application/json")], length=999_999) + b'{"id":'
GAP_S = 0.004


class Endless(LocalProvider):
    """The provider, in the loop of the callers; a message says how long it shall be silent first, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = self.open = 0

    async def answer(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        self.requests += 1
        self.open += 1
        try:
            await asyncio.sleep(float(asked["messages"][0]["content"]))
            await _go_on(writer, *((HEAD + FIRST, TOKEN) if asked.get("stream") else (PART, b" ")))
        finally:
            self.open -= 1


async def _go_on(writer: asyncio.StreamWriter, first: bytes, more: bytes) -> None:
    writer.write(first)
    while not writer.is_closing():
        await writer.drain()
        await asyncio.sleep(GAP_S)
        writer.write(more)
