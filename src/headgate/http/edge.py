"""The edge: where connections begin, and what they share.

Requests of the data plane go straight from the parser to their route; every other goes to the ASGI
app, which is imported when the first such request comes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from headgate.http.asgi import AsgiRoute
from headgate.http.connection import Connection
from headgate.http.farewells import Farewells
from headgate.http.heads import Heads
from headgate.http.incoming import Incoming, RequestHead, Route
from headgate.outbox import Outbox
from headgate.walks import Walk
from headgate.wire.known import KnownHeads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headgate.errors import GatewayError
    from headgate.http.asgi import ASGIApp
    from headgate.http.unread import Unread
    from headgate.ports import CallIds, Clock
    from headgate.values import MonotonicNs


__all__ = ["Edge", "EdgeEvents", "EdgeLimits", "Incoming", "Route"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLimits:
    """What one client may ask of the edge, and how long it may take.

    Deadlines hold to within `tick_s`, and to within a second where there are thousands of connections.
    """

    max_target_bytes: int = 16 * 1024
    max_head_bytes: int = 32 * 1024
    max_headers: int = 100
    max_body_bytes: int = 10 * 1024 * 1024  # of requests to the ASGI app; a route of ours has its own
    max_connections: int = 10_000
    spool_folder: Path | None = None  # where long forms are while they come; None: the system's own
    head_s: float = 10.0  # from the connection, or the first byte of a head, to its end
    body_grace_s: float = 10.0  # after which a body must have come at `body_bytes_per_s`
    body_bytes_per_s: int = 1024
    write_stall_s: float = 30.0  # a client that reads nothing for so long is cut off
    keep_alive_s: float = 75.0  # above the SDKs' own pools, which would else lose the race
    linger_s: float = 2.0  # how long a refused client may go on sending
    heartbeat_s: float = 15.0  # a stream on which nothing was sent for so long says that it lives; 0: never
    tick_s: float = 0.25


class EdgeEvents(Protocol):
    """Told of what no call sees."""

    def refused(self, error: GatewayError) -> None:
        """Take note of a request that was refused before it had a route."""
        ...

    def fault(self, where: str, fault: BaseException) -> None:
        """Take note of a bug of ours; the client has its 500."""
        ...


class Edge:
    """What the connections of one listener share: routes, limits, time. `connection` makes one more.

    `unread`, while it is set, looks at a request first, and returns what refuses it later.
    """

    __slots__ = (
        "_asgi",
        "_clock",
        "_connections",
        "_empty",
        "_routes",
        "_timer",
        "_walk",
        "draining",
        "events",
        "farewells",
        "heads",
        "heartbeat_ns",
        "known",
        "limits",
        "monotonic",
        "new_id",
        "now",
        "outbox",
        "unread",
    )  # fmt: skip

    def __init__(
        self,
        routes: Callable[[bytes, str], Route | None],
        asgi: Callable[[], ASGIApp],
        *,
        clock: Clock,
        ids: CallIds,
        events: EdgeEvents,
        limits: EdgeLimits,
    ) -> None:
        self.limits = limits
        self.heartbeat_ns = int(limits.heartbeat_s * 1_000_000_000)
        self.events = events
        self.heads = Heads()
        self.known = KnownHeads[RequestHead]()
        self.outbox = Outbox()
        self.farewells = Farewells()
        self.draining = False
        self.unread: Callable[[Connection, bytes], Unread | None] | None = None
        self.monotonic = clock.monotonic
        self.new_id = ids.next
        self.now: MonotonicNs = 0  # as of the last tick
        self._clock = clock
        self._routes = routes
        self._asgi = AsgiRoute(asgi, limits.max_body_bytes, events)
        self._connections: set[Connection] = set()
        self._walk = Walk[Connection]()
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event | None = None

    @property
    def open_connections(self) -> int:
        """Return how many connections are open, idle ones too."""
        return len(self._connections)

    def connection(self) -> Connection:
        """Make the protocol object of a new connection, for `loop.create_server`."""
        return Connection(self)

    def route(self, method: bytes, path: str) -> Route:
        """Return who serves a request."""
        return self._routes(method, path) or self._asgi

    def enter(self, connection: Connection) -> bool:
        """Count a connection in; return True where there are too many already."""
        if self._timer is None:
            self._tick()
        self._connections.add(connection)
        return len(self._connections) > self.limits.max_connections

    def leave(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        if self._empty is not None and not self._connections:
            self._empty.set()

    def _tick(self) -> None:
        """Look at the deadlines of connections; one timer for all, only while there are any."""
        self.now = now = self._clock.monotonic()
        self.heads.set_time(self._clock.wall())
        part = self._walk.part(self._connections)
        self._timer = asyncio.get_running_loop().call_later(
            self._walk.pause_s(self.limits.tick_s), self._next_tick
        )
        for connection in part:
            connection.check(now)

    def _next_tick(self) -> None:
        if self._connections:
            self._tick()
        else:
            self._timer = None

    # ── drain ───────────────────────────────────────────────────────────────────────────────────

    def close_idle(self) -> None:
        """Close the connections on which nobody waits."""
        for connection in tuple(self._connections):
            connection.close_idle()

    def abort(self) -> None:
        """Cut every connection; the calls on them are told."""
        for connection in tuple(self._connections):
            connection.abort()

    async def empty(self) -> None:
        """Wait until no connection is open."""
        if self._connections:
            self._empty = asyncio.Event()
            await self._empty.wait()
