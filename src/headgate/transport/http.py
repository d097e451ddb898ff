"""Our upstream client: a pool of HTTP/1.1 connections per origin and way, and one ticker for deadlines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headgate.errors import UpstreamInterrupted, UpstreamTimeout
from headgate.outbox import Outbox
from headgate.transport.dial import Dialer, system_resolve, system_tls
from headgate.transport.egress import parse_origin
from headgate.transport.exchange import AT_ONCE, Connection, HttpExchange
from headgate.transport.faults import Unreached, not_in_time
from headgate.transport.framing import Bounds, Proven
from headgate.transport.line import Line
from headgate.transport.proxy import ProxySettings, choose
from headgate.transport.request import Writer
from headgate.waits import own_task
from headgate.walks import Walk
from headgate.wire.known import KnownHeads

if TYPE_CHECKING:
    from headgate.channels import Channel
    from headgate.ports import Clock, Declined, Request
    from headgate.transport.dial import TLS, Resolve
    from headgate.transport.egress import Origin
    from headgate.transport.proxy import Proxy
    from headgate.values import Host, MonotonicNs, Target

_NS = 1_000_000_000
_FOREVER = 1 << 62
_CLOSING_S = 1.0
_TOGETHER = 16 * 1024  # bytes of requests that leave together


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How the gateway goes out."""

    proxies: ProxySettings = field(default_factory=ProxySettings)
    ca_file: str = ""  # PEM certificates trusted instead of the system's
    bounds: Bounds = field(default_factory=Bounds)
    idle_s: float = 30.0  # an unused connection is closed after this
    max_idle: int = 256  # unused connections kept per origin
    tick_s: float = 0.1  # how often deadlines are looked at; those of thousands are in parts


class Pool:
    """The connections to one origin by one way."""

    __slots__ = (
        "_idle_ns",
        "_most_idle",
        "_owner",
        "bounds",
        "buffer",
        "clock",
        "idle",
        "known",
        "label",
        "line",
        "open",
        "origin",
        "outbox",
        "proxy",
        "writer",
    )

    def __init__(self, owner: HttpTransport, origin: Origin, proxy: Proxy | None) -> None:
        self._owner = owner
        self.origin = origin
        self.proxy = proxy
        self.label = origin.label
        self.writer = Writer(origin.authority, origin.label)
        self.bounds = owner.settings.bounds
        self.known = KnownHeads[Proven]()
        self.outbox = owner.outbox
        self.buffer = owner.buffer
        self.clock = owner.clock
        self._idle_ns = int(owner.settings.idle_s * _NS)
        self._most_idle = owner.settings.max_idle
        self.idle: list[Connection] = []
        self.line = Line(self.idle, owner.outbox.crowded)
        self.open: set[Connection] = set()  # idle ones included

    def take(self) -> Connection | None:
        """Return the connection that was used last, if one is idle."""
        idle = self.idle
        while idle:
            connection = idle.pop()  # it was quiet when it was put back, and nothing was written since
            if not connection.transport.is_closing():
                return connection
        return None

    def put_back(self, connection: Connection, keep_alive: bytes | None) -> None:
        """Keep an idle connection; the newest are used first, the oldest give way."""
        idle, idle_ns = self.idle, self._idle_ns
        if keep_alive is not None:
            idle_ns = min(idle_ns, _promised_ns(keep_alive))
        connection.expires_at = self._owner.now + idle_ns
        idle.append(connection)
        if len(idle) > self._most_idle:
            idle.pop(-1 if connection.transport.is_closing() else 0).close()

    def distrust(self) -> None:
        """Drop every idle connection."""
        idle = self.idle.copy()
        self.idle.clear()
        for connection in idle:
            connection.close()

    def expire(self, now: MonotonicNs) -> None:
        """Close the connections that were idle too long."""
        for connection in [c for c in self.idle if c.expires_at <= now]:
            self.idle.remove(connection)
            connection.close()

    def opened(self, connection: Connection) -> None:
        """Count an open connection."""
        self.open.add(connection)
        self._owner.connections.add(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        self._owner.lost(connection)


class HttpTransport:
    """Exchanges with providers over HTTP/1.1. One per event loop.

    Args:
        clock: for deadlines and idle times.
        settings: proxies, bounds, times.
        resolve: names to addresses; the system's resolver unless given.
        tls: makes the TLS context, once, in a thread; the system's certificates unless given.
    """

    __slots__ = (
        "_closed",
        "_dialer",
        "_drained",
        "_pools",
        "_ticking",
        "_timer",
        "_walk",
        "_ways",
        "buffer",
        "clock",
        "connections",
        "now",
        "outbox",
        "settings",
    )

    def __init__(
        self,
        clock: Clock,
        settings: HttpSettings | None = None,
        *,
        resolve: Resolve = system_resolve,
        tls: TLS | None = None,
    ) -> None:
        self.clock = clock
        self.settings = settings = settings or HttpSettings()
        self._walk = Walk[Connection]()
        self.outbox = Outbox(_TOGETHER)
        self.buffer = memoryview(bytearray(AT_ONCE))
        self.now: MonotonicNs = 0  # as of the last tick
        self._dialer = Dialer(resolve, tls or (lambda: system_tls(settings.ca_file)))
        self._pools: dict[tuple[Origin, Proxy | None], Pool] = {}
        self._ways: dict[tuple[str, str], Pool] = {}  # by base URL and own proxy, as configured
        self.connections: set[Connection] = set()
        self._ticking = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._drained: asyncio.Event | None = None

    async def acquire(self, target: Target) -> HttpExchange:
        """Return an exchange on an idle connection, without waiting, or on a new one."""
        host = target.host
        pool = self._ways.get((host.base_url, host.proxy)) or self._way(host)
        connection = None if pool.line.waiting else pool.take()
        reused = True
        if connection is None:
            await pool.line.stand()
            connection = pool.take()
            if connection is None:
                reused = False
                connection = await self._connect(pool, target)
        exchange = connection.exchange = HttpExchange(pool, connection, connection.wait, target, reused)
        if not self._ticking:
            self._start_ticking()
        return exchange

    async def converse(self, target: Target, request: Request) -> Channel | Declined:
        """Open a WebSocket on a connection of its own, which is never kept."""
        from headgate.transport.websocket import Line, NoSocket, shake_hands

        await own_task()
        name, limits, pool, line = target.host.name, target.deadlines, self._way(target.host), Line()
        try:
            async with asyncio.timeout(limits.connect_s):
                await self._dialer.open(line, pool.origin, pool.proxy)
        except TimeoutError:
            raise not_in_time(name, limits.connect_s, pool.label) from None
        except Unreached as fault:
            raise fault.told(name) from fault
        try:
            async with asyncio.timeout(limits.first_byte_s):
                return await shake_hands(line, pool.writer, request, pool.bounds)
        except TimeoutError:
            line.abort()
            what = f"did not open a WebSocket within {limits.first_byte_s:g} s (first_byte_s)"
            raise UpstreamTimeout(f"Provider {name!r} {what}.").at(pool.label) from None
        except NoSocket as fault:
            line.abort()
            message = f"Provider {name!r} did not open a WebSocket: {fault}."
            raise UpstreamInterrupted(message).at(pool.label) from fault
        except BaseException:
            line.abort()
            raise

    async def close(self) -> None:
        """Close every connection and wait until they are."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for exchange in self.watched:
            exchange.interrupt("the gateway is closing")
        for connection in tuple(self.connections):
            connection.close()
        await self._dialer.close()
        if self.connections:
            self._drained = asyncio.Event()
            async with asyncio.timeout(_CLOSING_S):
                await self._drained.wait()

    @property
    def open(self) -> int:
        """Return the number of open connections, idle ones included."""
        return len(self.connections)

    @property
    def watched(self) -> list[HttpExchange]:
        """Return the exchanges that have a connection: their deadlines are looked at."""
        return [each.exchange for each in self.connections if each.exchange is not None]

    def busy(self, host: Host) -> int:
        """Return how many connections to a host serve a call now."""
        pool = self._ways.get((host.base_url, host.proxy))
        return len(pool.open) - len(pool.idle) if pool is not None else 0

    def held_up_s(self, now_s: float) -> float:
        """Return how long somebody has waited already for a connection that is not there yet."""
        return max((pool.line.age_s(now_s) for pool in self._pools.values()), default=0.0)

    @property
    def idle(self) -> int:
        """Return the number of idle connections."""
        return sum(len(pool.idle) for pool in self._pools.values())

    def lost(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.connections.discard(connection)
        if self._drained is not None and not self.connections:
            self._drained.set()

    def _way(self, host: Host) -> Pool:
        try:
            origin = parse_origin(host.base_url)
        except ValueError as error:
            raise UpstreamInterrupted(f"The base_url of provider {host.name!r} is wrong: {error}.") from error
        try:
            proxy = choose(origin, host.proxy, self.settings.proxies)
        except ValueError as error:
            raise UpstreamInterrupted(f"The proxy of provider {host.name!r} is wrong: {error}.") from error
        pool = self._pools.get((origin, proxy))
        if pool is None:
            pool = self._pools[origin, proxy] = Pool(self, origin, proxy)
        self._ways[host.base_url, host.proxy] = pool
        return pool

    async def _connect(self, pool: Pool, target: Target) -> Connection:
        await own_task()
        connection, name, limit_s = Connection(pool), target.host.name, target.deadlines.connect_s
        try:
            async with asyncio.timeout(limit_s):
                await self._dialer.open(connection, pool.origin, pool.proxy)
        except TimeoutError:
            pool.lost(connection)
            raise not_in_time(name, limit_s, pool.label) from None
        except Unreached as fault:
            pool.lost(connection)
            raise fault.told(name) from fault
        except BaseException:
            pool.lost(connection)  # uvloop closes a half-made transport without a word to its protocol
            raise
        if self._closed:
            connection.close()
            raise Unreached("the gateway is closing", pool.label).told(name)
        return connection

    # ── the ticker ──────────────────────────────────────────────────────────────────────────────

    def _start_ticking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._ticking = True
        self.now = self.clock.monotonic()
        self._tick_in(self.settings.tick_s)

    def _tick(self) -> None:
        self._timer = None
        self.now = now = self.clock.monotonic()
        for connection in self._walk.part(self.connections):
            if connection.exchange is not None:
                connection.exchange.check(now)
        for pool in self._pools.values():
            if pool.idle:
                pool.expire(now)
        idle = self.idle
        self._ticking = self.open > idle
        if self._ticking:
            self._tick_in(self._walk.pause_s(self.settings.tick_s))
        elif idle:
            self._tick_in(max(self.settings.tick_s, self.settings.idle_s / 8))

    def _tick_in(self, delay_s: float) -> None:
        if not self._closed:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)


def _promised_ns(keep_alive: bytes) -> int:
    """Return how long a `keep-alive` header lets a connection rest, a second less for the way there."""
    for part in keep_alive.split(b","):
        name, _, number = part.strip().partition(b"=")
        if name.lower() == b"timeout" and number.isdigit() and len(number) < 7:
            return (int(number) - 1) * _NS
    return _FOREVER
