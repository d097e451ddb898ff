"""The bridge to an ASGI 3 app: the same connection, order, limits and deadlines as native routes.

Source: the ASGI specification, HTTP message format 2.4 (`send` raises once the client has gone).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from headgate.errors import Internal
from headgate.http.errors import render

if TYPE_CHECKING:
    from headgate.http.edge import EdgeEvents
    from headgate.http.incoming import Incoming
    from headgate.ports import Sink

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Ours to say, and never the app's.
_OURS = frozenset(
    {b"connection", b"content-length", b"date", b"server", b"transfer-encoding", b"x-request-id"}
)


class AsgiRoute:
    """The route of everything that has no route of its own. `make_app` runs once, in a thread."""

    __slots__ = ("_app", "_events", "_loading", "_make_app", "_tasks", "max_body_bytes")

    def __init__(self, make_app: Callable[[], ASGIApp], max_body_bytes: int, events: EdgeEvents) -> None:
        self.max_body_bytes = max_body_bytes
        self._make_app = make_app
        self._events = events
        self._app: ASGIApp | None = None
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Serve one request in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._serve(incoming, sink))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, incoming: Incoming, sink: Sink) -> None:
        exchange = AsgiExchange(incoming, sink)
        try:
            app = self._app or await self._load()
            await app(exchange.scope(), exchange.receive, exchange.send)
        except asyncio.CancelledError:
            sink.abort()
            raise
        except Exception as fault:
            if not (sink.gone and isinstance(fault, ConnectionError)):
                self._events.fault(incoming.path, fault)
        exchange.end()

    async def _load(self) -> ASGIApp:
        async with self._loading:
            if self._app is None:
                # Importing a framework takes long enough to be felt by the calls in flight.
                self._app = await asyncio.to_thread(self._make_app)
            return self._app


class AsgiExchange:
    """One request and its answer, as ASGI messages."""

    __slots__ = ("_asked", "_ended", "_gone", "_headers", "_incoming", "_sink", "_started", "_status")

    def __init__(self, incoming: Incoming, sink: Sink) -> None:
        self._incoming = incoming
        self._sink = sink
        self._asked = False
        self._started = False
        self._ended = False
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._gone = asyncio.Event()
        sink.on_gone(self._gone.set)

    def scope(self) -> dict[str, Any]:
        """Return the connection scope."""
        incoming = self._incoming
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": incoming.head.version,
            "method": incoming.method.decode("ascii"),
            "scheme": "http",
            "path": incoming.path,
            "raw_path": incoming.head.target.partition(b"?")[0],
            "query_string": incoming.query,
            "root_path": "",
            "headers": incoming.headers,
            "client": incoming.peer[:2] if incoming.peer else None,
            "server": None,  # the Host header says it
        }

    async def receive(self) -> Message:
        """Return the whole body, then wait for the end of the exchange."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._incoming.body, "more_body": False}
        if not self._ended:
            await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take one message of the app.

        Raises:
            ConnectionError: the client has gone.
            RuntimeError: the message is out of order.
        """
        if self._sink.gone:
            raise ConnectionResetError("The client has gone.")
        kind = message["type"]
        if kind == "http.response.start" and not self._status:
            self._status = message["status"]
            rows = message.get("headers", ())
            self._headers = [(bytes(name).lower(), bytes(value)) for name, value in rows]
        elif kind == "http.response.body" and self._status and not self._ended:
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"ASGI message out of order: {kind}")

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        sink = self._sink
        if not self._started:
            self._started = True
            headers = [row for row in self._headers if row[0] not in _OURS]
            headers.append((b"x-request-id", self._incoming.request_id.encode()))
            sink.start(self._status, headers, self._length(body, more=more))
        sink.write(bytes(body))
        if more:
            await sink.drained()
        else:
            self._ended = True
            sink.finish()
            self._gone.set()

    def _length(self, body: bytes, *, more: bool) -> int | None:
        said = next((value for name, value in self._headers if name == b"content-length"), None)
        if said is not None:
            return int(said)
        return None if more else len(body)

    def end(self) -> None:
        """Close what the app left open: a 500 if it said nothing, a cut if it stopped half-way."""
        if self._ended:
            return
        if self._started:
            self._sink.abort()
            return
        error = Internal("The server had an error while processing your request.")
        status, headers, body = render(error, self._incoming.request_id)
        self._sink.start(status, headers, len(body))
        self._sink.write(body)
        self._sink.finish()
