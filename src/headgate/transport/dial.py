"""Open connections: resolve, check every address, connect, tunnel, TLS. Only here does the gateway dial."""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from headgate.transport.egress import literal, refusal
from headgate.transport.faults import Forbidden, Unreached, describe
from headgate.transport.proxy import connect_http, connect_socks, unreachable_proxy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from headgate.transport.egress import Origin
    from headgate.transport.exchange import Connection
    from headgate.transport.proxy import Proxy
    from headgate.transport.websocket import Line

    Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
    TLS: TypeAlias = Callable[[], ssl.SSLContext]

_T = TypeVar("_T")
_TRIES = 4  # addresses of one host
# How long a connection is silent until its other side is asked, how often, and until it counts as gone.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 3}
_NEXT_ADDRESS_S = 1.0  # a silent address holds up the next one this long


def system_tls(ca_file: str = "") -> ssl.SSLContext:
    """Return a context that verifies against the system's certificates, or against `ca_file` alone."""
    import ssl

    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    return context


async def system_resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver, off the loop, for the addresses of a name, best first.

    Raises:
        OSError: no such name, or no resolver.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _kept_alive(transport: asyncio.Transport) -> asyncio.Transport:
    """Let the system ask now and then whether the other side of a connection is there.

    An answer may take hours, on a connection over which nothing goes meanwhile: what stands between forgets
    it after minutes, and nobody would hear of that.
    """
    sock = transport.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):  # not on every system
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:  # its system does not do that, or it was closed meanwhile, of which its protocol hears
        return transport
    return transport


class Dialer:
    """Open connections to origins, directly or through a proxy."""

    __slots__ = ("_context", "_good", "_lookups", "_resolve", "_tls")

    def __init__(self, resolve: Resolve, tls: TLS) -> None:
        self._resolve = resolve
        self._tls = tls
        self._context: asyncio.Future[ssl.SSLContext] | None = None
        self._lookups: dict[tuple[str, int], asyncio.Task[Sequence[str]]] = {}
        self._good: dict[str, str] = {}  # the address that answered last, by host

    async def open(self, protocol: Connection | Line, origin: Origin, proxy: Proxy | None) -> None:
        """Connect a protocol. The caller bounds the time.

        Raises:
            Unreached: the name does not resolve, the address is never connected to, nobody listens, the
                proxy refuses, or TLS fails.
        """
        try:
            context = await self._tls_context() if origin.scheme == "https" else None
            if context is None:
                await self._plain(protocol, origin, proxy)
            else:
                await self._secure(protocol, origin, proxy, context)
        except OSError as error:
            raise Unreached(describe(error), origin.label) from error

    async def close(self) -> None:
        """End the look-ups that still run."""
        tasks = list(self._lookups.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _secure(
        self, protocol: Connection | Line, origin: Origin, proxy: Proxy | None, context: ssl.SSLContext
    ) -> None:
        """Connect a protocol through TLS.

        In two steps: asyncio leaks the socket when `create_connection` is cancelled before its handshake
        has begun, while here the plain transport is ours to abort.
        """
        import ssl

        first = _Unsecured()
        plain = await self._plain(first, origin, proxy)
        secured = None
        try:
            if not first.spoke:
                loop = asyncio.get_running_loop()
                secured = await loop.start_tls(plain, protocol, context, server_hostname=origin.host)
        except BaseException:
            plain.abort()
            raise
        if secured is None or protocol.spoilt:
            plain.abort()
            raise ssl.SSLError
        protocol.connection_made(secured)

    async def _plain(
        self, protocol: asyncio.BaseProtocol, origin: Origin, proxy: Proxy | None
    ) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        if proxy is not None:
            sock = await self._tunnel(origin, proxy)
            try:
                transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            except BaseException:
                sock.close()
                raise
            return _kept_alive(transport)

        async def connect(address: str) -> asyncio.Transport:
            transport, _ = await loop.create_connection(lambda: protocol, address, origin.port)
            return transport

        addresses = await self._addresses(origin.host, origin.port)
        return _kept_alive(await self._first(addresses, origin.host, connect))

    async def _tunnel(self, origin: Origin, proxy: Proxy) -> socket.socket:
        destination = origin.host
        if proxy.kind == "socks4" or literal(destination) is not None:
            addresses = await self._addresses(origin.host, origin.port)
            destination = next((a for a in addresses if ":" not in a), addresses[0])
        try:
            addresses = await self._addresses(proxy.host, proxy.port)
            if proxy.kind != "http":
                return await connect_socks(proxy, addresses, origin, destination)
            sock = await self._first(addresses, proxy.host, lambda address: _socket(address, proxy.port))
            try:
                await connect_http(sock, proxy, origin)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            raise unreachable_proxy(proxy, origin, error) from error
        return sock

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Return the checked addresses of a host: one refused address refuses the host."""
        if literal(host) is not None:
            found: Sequence[str] = [host]
        else:
            found = await self._looked_up(host, port)
        for address in found:
            why = refusal(address)
            if why is not None:
                raise Forbidden(f"its address is {why}, where it is never connected to")
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        good = self._good.get(host)
        return sorted(_alternating(found), key=lambda address: address != good)

    async def _looked_up(self, host: str, port: int) -> Sequence[str]:
        """Resolve a name once for everybody who waits for it; a resolver that hangs holds one thread."""
        task = self._lookups.get((host, port))
        if task is None:
            task = asyncio.ensure_future(self._resolve(host, port))
            self._lookups[host, port] = task
            task.add_done_callback(lambda done: self._forget(host, port, done))
        return await asyncio.shield(task)

    def _forget(self, host: str, port: int, task: asyncio.Task[Sequence[str]]) -> None:
        del self._lookups[host, port]
        _retrieved(task)

    async def _first(
        self, addresses: list[str], host: str, connect: Callable[[str], Coroutine[Any, Any, _T]]
    ) -> _T:
        """Return what `connect` makes of the first address that answers, and remember the address."""
        failure: OSError = ConnectionRefusedError()
        tries = addresses[:_TRIES]
        for number, address in enumerate(tries, 1):
            try:
                async with asyncio.timeout(None if number == len(tries) else _NEXT_ADDRESS_S):
                    made = await connect(address)
            except OSError as error:  # TimeoutError is one
                failure = error
            else:
                self._good[host] = address
                return made
        raise failure

    async def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:  # reading the system's certificates takes tens of milliseconds
            self._context = asyncio.get_running_loop().run_in_executor(None, self._tls)
            self._context.add_done_callback(_retrieved)
        try:
            return await asyncio.shield(self._context)
        except OSError:
            self._context = None  # the file may be there next time
            raise


async def _socket(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


class _Unsecured(asyncio.Protocol):
    """What holds a connection until TLS begins; a TLS server says nothing then."""

    spoke = False

    def data_received(self, data: bytes) -> None:
        """Take note."""
        self.spoke = bool(data)


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Mark an error as seen: whoever still waited has it."""
    if not future.cancelled():
        future.exception()


def _alternating(addresses: Sequence[str]) -> list[str]:
    """Return the addresses in order, the families taking turns, so that a dead one costs one try."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    other = [a for a in addresses if (":" in a) != (":" in addresses[0])]
    pairs = itertools.zip_longest(dict.fromkeys(first), dict.fromkeys(other))
    return [address for pair in pairs for address in pair if address is not None]
