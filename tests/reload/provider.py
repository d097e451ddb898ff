"""A provider that says which version of the settings it was asked by."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from tests.caps.provider import envelope

_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


class Provider:
    """The upstream, in the loop of the test; `halves` counts the requests of a version that is none."""

    def __init__(self) -> None:
        self.port = 0
        self.halves = 0
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
                version = head.split()[1].split("/")[1]
                same = (
                    f"m-{version}" == asked["model"] and headers["authorization"] == f"bearer key-{version}"
                )
                self.halves += not same
                message = {"role": "assistant", "content": version}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                body = json.dumps(envelope("chat.completion", choices=[choice], usage=_USAGE)).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(body), body)
                )
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
