"""A TCP proxy in front of a service, which can be cut or frozen while others go on using it."""

from __future__ import annotations

import asyncio
from typing import Self


class Hose:
    """Passes bytes on to a port of this machine.

    Args:
        port: of the service.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self._to = port
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def open(self) -> None:
        """Take connections, on the same port as before."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Take none, and end those that there are."""
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0.05)  # those that were just taken begin
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        await asyncio.sleep(0.05)  # the closed ones go

    def freeze(self) -> None:
        """Pass nothing on, and end nothing: as a process that is stopped."""
        self._flows.clear()

    def thaw(self) -> None:
        """Pass on what came meanwhile."""
        self._flows.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = asyncio.current_task()
        assert own is not None
        self._pumps.add(own)
        own.add_done_callback(self._pumps.discard)
        self._writers.add(writer)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers.add(there_writer)
        if writer not in self._writers:  # it was cut meanwhile
            writer.close()
            there_writer.close()
            return
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            pump = asyncio.get_running_loop().create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            return
        finally:
            sink.close()
