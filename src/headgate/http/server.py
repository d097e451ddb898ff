"""Listening sockets of one edge, from the first bind to the last connection."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from headgate.http.edge import Edge

_BACKLOG = 2048
_TWINS = 7  # of a listener: uvloop takes one connection in each turn of the loop, of each
_CALL_BYTES = 256 * 1024  # of an open call: what may wait for a slow reader
_FEWEST_CALLS = 64
_UNKNOWN_BYTES = 4 << 30
_DESCRIPTORS = 32_768  # for the most connections, on either side
_ARRIVING_S = 0.1  # for requests that were on their way when the listener closed


class Server:
    """Serve an edge on one or more sockets.

    A second edge with a server of its own (health, metrics) has its own limit of connections, so it
    answers when this one is full.
    """

    __slots__ = ("_listeners", "_twins", "edge")

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self._listeners: list[asyncio.Server] = []
        self._twins: list[asyncio.Server] = []  # on the same sockets

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Return host and port of each socket."""
        return [sock.getsockname()[:2] for listener in self._listeners for sock in listener.sockets]

    async def bind(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Bind and listen; connections are accepted after `start`. Port 0 takes a free one.

        Raises:
            OSError: the address is taken or not ours.
        """
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            self.edge.connection,
            host,
            port,
            backlog=_BACKLOG,
            reuse_port=reuse_port or None,  # False is refused where the option is unknown
            start_serving=False,
        )
        await self._listen(listener)

    async def adopt(self, sock: socket.socket) -> None:
        """Serve on a socket that is already bound."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            self.edge.connection, sock=sock, backlog=_BACKLOG, start_serving=False
        )
        await self._listen(listener)

    async def _listen(self, listener: asyncio.Server) -> None:
        """Keep a listener, and make twins of it where that lets more clients in.

        While turns are long, a probe of health would else wait behind all who connect.
        """
        self._listeners.append(listener)
        loop = asyncio.get_running_loop()
        if not type(loop).__module__.startswith("uvloop"):
            return
        import socket

        for sock in listener.sockets:
            for _ in range(_TWINS):
                twin = socket.socket(fileno=os.dup(sock.fileno()))
                made = loop.create_server(
                    self.edge.connection, sock=twin, backlog=_BACKLOG, start_serving=False
                )
                self._twins.append(await made)

    async def start(self) -> None:
        """Accept connections."""
        for listener in (*self._listeners, *self._twins):
            await listener.start_serving()

    async def drain(self, grace_s: float) -> bool:
        """Take no more connections, let the open answers end; cut what is left after `grace_s`.

        Answers say `connection: close` from now on; whether a new request is still served is for its
        route to say. Returns True when nothing had to be cut.
        """
        self.edge.draining = True
        if not self._listeners and not self.edge.open_connections:
            return True
        for listener in (*self._listeners, *self._twins):
            listener.close()
        self._listeners.clear()
        self._twins.clear()
        try:
            async with asyncio.timeout(grace_s):
                await asyncio.sleep(min(_ARRIVING_S, grace_s / 2))
                self.edge.close_idle()
                await self.edge.empty()
        except TimeoutError:
            self.edge.abort()
            await self.edge.empty()
            return False
        return True


@contextmanager
def reserve_address(host: str, port: int) -> Iterator[int]:
    """Hold an address for several processes that bind it with `reuse_port`; yield its port.

    Nothing listens on it here. Port 0 takes a free one.

    Raises:
        OSError: the address is taken, also by others that share it, or is not ours.
    """
    import socket

    family, address = try_address(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        yield int(address[1])


def try_address(host: str, port: int) -> tuple[int, tuple[Any, ...]]:
    """Return the family and the address of a port that nobody has.

    Raises:
        OSError: the address is taken, also by others that share it, or is not ours; `filename` is HOST:PORT.
    """
    import socket

    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":  # there it would share the address
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as fault:
            raise OSError(fault.errno, fault.strerror, f"{host}:{port}") from fault
        return family, (address[0], probe.getsockname()[1], *address[2:])


def connection_limit(most: int = 10_000) -> int:
    """Return how many connections may be open: under half of what the process may have of descriptors."""
    if sys.platform == "win32":
        return most
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else max(16, min(most, soft // 2 - 16))


def widen_descriptors() -> None:
    """Have the kernel make its table of our descriptors as large as it may become: before there are threads.

    With threads it waits at each doubling until every core has let go of the old one, some 10 to 30 ms,
    in whatever opens a connection then: on the loop.
    """
    if sys.platform == "win32":
        return
    import fcntl
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if soft == resource.RLIM_INFINITY else min(_DESCRIPTORS, soft)
    with open(os.devnull, "rb") as nothing, suppress(OSError):  # then somebody has the last one
        os.close(fcntl.fcntl(nothing, fcntl.F_DUPFD_CLOEXEC, most - 1))


def call_limit(most: int, workers: int) -> int:
    """Return how many calls a worker may have open: its share of what is said, else of half of the memory."""
    if most:
        return max(1, most // workers)
    return max(_FEWEST_CALLS, _memory_bytes() // 2 // workers // _CALL_BYTES)


def _memory_bytes() -> int:
    """Return the memory that the process may have: the machine's, or less where its group has a limit."""
    if sys.platform == "win32":
        return _UNKNOWN_BYTES
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such group, or `max`
            found.append(int(Path(name).read_text(encoding="ascii")))
    return min(found)
