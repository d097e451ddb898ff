"""An upstream that says back the last message, in pieces, after pauses; its count is one token for each piece."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

from tests.local import LocalProvider

PIECES = 3
PROMPT_TOKENS = 10
NOBODYS = "canary-nobody"  # what is said without being asked
SURPLUS = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{"choices":"%b"}'
    % (NOBODYS.encode())
)
_USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": PIECES, "total_tokens": PROMPT_TOKENS + PIECES}


class Echo(LocalProvider):
    """The upstream, in the loop of the test."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self.requests = 0
        self._chance = chance

    async def answer(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        self.requests += 1
        for piece in answer(asked["messages"][-1]["content"], stream=asked.get("stream", False)):
            await self._pause()
            writer.write(piece)
            await writer.drain()
        if self._chance.random() < 0.05:
            writer.write(SURPLUS)

    async def _pause(self) -> None:
        if self._chance.random() < 0.5:
            await asyncio.sleep(self._chance.random() * 0.01)


def answer(text: str, *, stream: bool) -> list[bytes]:
    """The bytes of an answer, cut where its pieces end, and within its head."""
    size = len(text) // PIECES + 1
    words = [text[at : at + size] for at in range(0, len(text), size)]
    common = {"id": "chatcmpl-1", "created": 1, "model": "m"}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        whole = {**common, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
        body = json.dumps(whole).encode()
        raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        return [raw[:20], raw[20:150], raw[150:]]
    rows = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in words]
    rows[-1]["finish_reason"] = "stop"
    chunks = [{**common, "object": "chat.completion.chunk", "choices": [row], "usage": None} for row in rows]
    chunks.append({**common, "object": "chat.completion.chunk", "choices": [], "usage": _USAGE})
    events = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks] + [b"data: [DONE]\n\n", b""]
    framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    return [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        *framed,
    ]
