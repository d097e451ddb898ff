"""The provider of a runner: a server in the loop of the test, which a subclass lets answer."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any, Self


class LocalProvider(ABC):
    """Serves one request after the other on each connection, until the gateway closes it."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        talks = self._talks.copy()  # of gateways that have just gone
        for writer in talks.values():
            writer.close()
        if talks:
            await asyncio.wait(talks)

    @abstractmethod
    async def answer(
        self, path: str, headers: dict[str, str], asked: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        """Answer a request; names and values of its headers are in lower case."""

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        talk = asyncio.current_task()
        assert talk is not None
        self._talks[talk] = writer
        talk.add_done_callback(self._talks.pop)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                asked = json.loads(await reader.readexactly(int(headers["content-length"])))
                await self.answer(head.split()[1], headers, asked, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def send_json(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK") -> None:
    """Send a whole answer."""
    head = "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    writer.write((head % (status, len(body))).encode() + body)
