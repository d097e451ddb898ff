"""An edge on a real socket, and a client that sends and reads bytes.

    async with Served({"/v1/echo": Echo()}) as served:
        client = await served.connect()
        answer = await client.ask(get("/v1/echo"))

Time is moved by hand (`served.clock.advance(s)`); the ticker looks at it every 5 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from headgate.errors import GatewayError
from headgate.http.asgi import ASGIApp
from headgate.http.connection import Connection
from headgate.http.edge import Edge, EdgeLimits, Incoming, Route
from headgate.http.server import Server
from headgate.ports import CallIds, Sink

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
PATIENCE_S = 5.0


class HandClock:
    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def wall(self) -> int:
        return 1_700_000_000_000_000 + self.ns // 1000

    def monotonic(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += int(seconds * 1_000_000_000)


@dataclass
class Log:
    refusals: list[GatewayError] = field(default_factory=list)
    faults: list[tuple[str, BaseException]] = field(default_factory=list)

    def refused(self, error: GatewayError) -> None:
        self.refusals.append(error)

    def fault(self, where: str, fault: BaseException) -> None:
        self.faults.append((where, fault))


class Echo:
    """Answers at once with what it was asked."""

    def __init__(self, max_body_bytes: int = 1_000_000) -> None:
        self.max_body_bytes = max_body_bytes
        self.seen: list[Incoming] = []

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        self.seen.append(incoming)
        send_echo(incoming, sink)


def send_echo(incoming: Incoming, sink: Sink) -> None:
    body = json.dumps(
        {
            "method": incoming.method.decode(),
            "path": incoming.path,
            "query": incoming.query.decode(),
            "body": incoming.body.decode("latin-1"),
        }
    ).encode()
    sink.start(200, JSON, len(body))
    sink.write(body)
    sink.finish()


class Scripted:
    """Runs a coroutine of the test for each request."""

    max_body_bytes = 1_000_000

    def __init__(self, serve: Callable[[Incoming, Sink], Awaitable[None]]) -> None:
        self.serve = serve
        self.tasks: list[asyncio.Task[None]] = []
        self.sinks: list[Sink] = []
        self.gone = asyncio.Event()

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        self.sinks.append(sink)
        sink.on_gone(self.gone.set)
        self.tasks.append(asyncio.ensure_future(self.serve(incoming, sink)))  # type: ignore[arg-type]


class Gated(Scripted):
    """Answers like `Echo` once the gate is open."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()

    async def _wait(self, incoming: Incoming, sink: Sink) -> None:
        self.begun.set()
        await self.gate.wait()
        send_echo(incoming, sink)


def no_app() -> ASGIApp:
    raise AssertionError("no ASGI app in this test")


class Served:
    def __init__(
        self, routes: dict[str, Route], *, asgi: Callable[[], ASGIApp] = no_app, **limits: Any
    ) -> None:
        self.clock = HandClock()
        self.log = Log()
        self.edge = Edge(
            lambda _method, path: routes.get(path),
            asgi,
            clock=self.clock,
            ids=CallIds(self.clock),
            events=self.log,
            limits=replace(EdgeLimits(tick_s=0.005), **limits),
        )
        self.server = Server(self.edge)
        self.clients: list[Client] = []

    async def __aenter__(self) -> Served:
        await self.server.bind("127.0.0.1", 0)
        await self.server.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for client in self.clients:
            await client.close()
        await self.server.drain(0.001)

    @property
    def port(self) -> int:
        return self.server.addresses[0][1]

    async def only_connection(self) -> Connection:
        await until(lambda: self.edge.open_connections == 1)
        (connection,) = self.edge._connections
        return connection

    async def connect(self, receive_buffer: int = 0) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
        client = Client(reader, writer)
        self.clients.append(client)
        return client


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    interim: int = 0  # how many 100s came before it

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"].startswith("req_")
        assert len(self.headers["x-request-id"]) == 36
        return error


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, data: bytes, *, head: bool = False) -> Answer:
        self.send(data)
        return await self.answer(head=head)

    async def answer(self, *, head: bool = False) -> Answer:
        """Read the next answer."""
        async with asyncio.timeout(PATIENCE_S):
            interim = 0
            while True:
                status, headers = await self.head()
                if status != 100:
                    break
                interim += 1
            body = b"" if head or status in {204, 304} else await self._body(headers)
            return Answer(status, headers, body, interim)

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} comes twice"
            headers[name] = value
        return int(status), headers

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.read()
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return b"".join(parts)

    async def chunk(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
            assert data[-2:] == b"\r\n"
            return data[:-2]

    async def rest(self) -> bytes:
        """Read to the end of the connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read()

    async def ends(self) -> bool:
        """Wait for the end of the connection, in order or by a reset; True when nothing came before it."""
        try:
            return await self.rest() == b""
        except ConnectionError:
            return True

    def shut_down(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: gate", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def post(path: str, body: bytes = b"{}", *headers: str, version: str = "1.1") -> bytes:
    length = f"Content-Length: {len(body)}"
    return get(path, length, *headers, method="POST", version=version) + body


def post_chunked(path: str, *parts: bytes) -> bytes:
    head = get(path, "Transfer-Encoding: chunked", method="POST")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


async def until(condition: Callable[[], object]) -> None:
    """Wait until something has become true; other tasks run in between."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)
