"""A provider that streams a token each tenth of a second, for as many tokens as the last message says."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from tests.caps.provider import TOKEN, chunk, envelope, event

GAP_S = 0.1
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Provider:
    """The upstream, in the loop of the test; it keeps how many tokens each call was sent."""

    def __init__(self) -> None:
        self.port = 0
        self.sent: dict[str, int] = {}
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Provider:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                asked = json.loads(await reader.readexactly(int(headers["content-length"])))
                await self._stream(
                    headers["x-client-request-id"], int(asked["messages"][-1]["content"]), writer
                )
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _stream(self, name: str, tokens: int, writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD)
        for number in range(1, tokens + 1):
            reason = "stop" if number == tokens else None
            choice = {"index": 0, "delta": {"content": TOKEN}, "finish_reason": reason}
            event(writer, envelope("chat.completion.chunk", choices=[choice]))
            self.sent[name] = number
            await writer.drain()
            await asyncio.sleep(GAP_S if number < tokens else 0)
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        event(writer, envelope("chat.completion.chunk", choices=[], usage=usage))
        chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
