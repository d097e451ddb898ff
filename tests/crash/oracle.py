"""An upstream with its own record of what it produced: the oracle. Shares no code with the gateway."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field

PROMPT_TOKENS = 20


@dataclass
class Served:
    """One call as the upstream saw it."""

    request_id: str
    written: int = 0  # tokens that went to the socket
    planned: int = 0
    finished: bool = False


@dataclass
class Oracle:
    """An OpenAI-like server on loopback."""

    seed: int
    calls: list[Served] = field(default_factory=list)
    port: int = 0

    async def start(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._server = server

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = json.loads(await reader.readexactly(int(fields["content-length"])))
                served = Served(fields.get("x-client-request-id", ""))
                self.calls.append(served)
                await self._answer(writer, served, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the gateway was killed, or closed the connection
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, served: Served, body: dict) -> None:
        chance = random.Random(f"{self.seed}{served.request_id}")
        served.planned = chance.randint(1, 60)
        usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": served.planned, "total_tokens": 0}
        if not body.get("stream"):
            await asyncio.sleep(chance.random() * 0.2)
            message = {"role": "assistant", "content": "w " * served.planned}
            text = json.dumps({"id": "c", "choices": [{"index": 0, "message": message}], "usage": usage})
            served.written = served.planned
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
            served.finished = True
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(served.planned):
            self._event(
                writer, {"choices": [{"index": 0, "delta": {"content": "w "}, "finish_reason": None}]}
            )
            served.written += 1
            await writer.drain()
            await asyncio.sleep(0.01)
        self._event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event(writer, {"choices": [], "usage": usage})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        served.finished = True

    @staticmethod
    def _event(writer: asyncio.StreamWriter, value: dict) -> None:
        data = b"data: " + json.dumps(value).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
