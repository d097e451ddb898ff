"""An upstream that says back the last message, in pieces, after pauses; its count is one token for each piece."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from random import Random

PIECES = 3
PROMPT_TOKENS = 10
NOBODYS = "canary-nobody"  # what is said without being asked
SURPLUS = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{"choices":"%b"}'
    % (NOBODYS.encode())
)
_USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": PIECES, "total_tokens": PROMPT_TOKENS + PIECES}


class Echo:
    """The upstream, in the loop of the test."""

    def __init__(self, chance: Random) -> None:
        self.port = 0
        self.connections = self.requests = 0
        self._chance = chance
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Echo:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                asked = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.requests += 1
                for piece in answer(asked["messages"][-1]["content"], stream=asked.get("stream", False)):
                    await self._pause()
                    writer.write(piece)
                    await writer.drain()
                if self._chance.random() < 0.05:
                    writer.write(SURPLUS)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

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
