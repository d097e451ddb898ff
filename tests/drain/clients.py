"""Who reads a stream, and who asks whether a gateway is ready."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing, suppress
from dataclasses import dataclass, field

from tests.caps.callers import MODEL
from tests.faults.worker import parse


@dataclass
class Stream:
    """A stream of so many tokens, and what came of it."""

    tokens: int
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    raw: bytes = b""
    refused: bool = False  # there was no connection

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1]) if self.raw else 0

    @property
    def request_id(self) -> str:
        return parse(self.raw).request_id

    @property
    def is_whole(self) -> bool:
        """Whether it ended as it should."""
        return (
            self.status == 200
            and parse(self.raw).whole
            and self.raw.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        )

    @property
    def was_told(self) -> bool:
        """Whether it ended, in order, by an event that says why, and nothing after it."""
        reply = parse(self.raw)
        last = reply.events[-1] if reply.whole and reply.events else b""
        return last.startswith(b'{"error"') and "shutting down" in json.loads(last)["error"]["message"]

    async def read(self, port: int, key: str) -> Stream:
        """Ask for it on a connection of its own, and read it to its end."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": str(self.tokens)}], "stream": True}
        data = json.dumps({**body, "max_tokens": self.tokens}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\n"
        head += f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            self.refused = True
            return self
        with closing(writer), suppress(ConnectionError):
            writer.write(head.encode() + data)
            while piece := await reader.read(65536):
                self.raw += piece
                if b"data: " in self.raw:
                    self.begun.set()
        self.begun.set()
        return self


async def readiness(port: int) -> int:
    """Return what `/readyz` says on a new connection; 0: there is none."""
    with suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with closing(writer):
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
            line = await reader.readline()
        return int(line.split()[1]) if line else 0
    return 0
