"""A TCP proxy in front of a service, which can be cut or frozen while others go on using it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
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
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def open(self) -> None:
        """Take connections, on the same port as before."""
        listener = self._listener = self._own(socket.create_server(("127.0.0.1", self.port)))
        self.port = listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def cut(self) -> None:
        """Take none, and end those that there are."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    def freeze(self) -> None:
        """Pass nothing on, and end nothing: as a process that is stopped."""
        self._flows.clear()

    def thaw(self) -> None:
        """Pass on what came meanwhile."""
        self._flows.set()

    def _own(self, made: socket.socket) -> socket.socket:
        made.setblocking(False)
        self._sockets.add(made)
        return made

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, listener: socket.socket) -> None:
        """Take a connection at once: a task that is cancelled as one comes would lose it."""
        try:
            near = self._own(listener.accept()[0])
        except BlockingIOError:
            return  # it has gone again
        self._spawn(self._join(near))

    async def _join(self, near: socket.socket) -> None:
        far = self._own(socket.socket())
        try:
            await asyncio.get_running_loop().sock_connect(far, ("127.0.0.1", self._to))
        except OSError:
            near.close()  # as the service would
            return
        self._spawn(self._pump(near, far))
        self._spawn(self._pump(far, near))

    async def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(source, 65536):
                await self._flows.wait()
                await loop.sock_sendall(sink, data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # one of the two is gone: the other one's pump finds out, too
