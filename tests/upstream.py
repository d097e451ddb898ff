"""A provider that does exactly what a test says, on a real socket.

    async with ScriptedUpstream(chat_json("hi"), [http_head(200), b"par", RESET]) as upstream:
        ...  # point a provider at upstream.base_url; answer n serves request n, the last one repeats

An answer is one of
- bytes: sent as they are;
- a list of steps, done in order:
  bytes (send) · `Split(data, cuts|every)` (send in pieces) · `Drip(data, gap_s)` (one byte per gap) ·
  an `asyncio.Event` (wait for it; a client that goes ends the wait) · `HANG` (until the client closes) ·
  `FIN` (close in order) · `RESET` (close with RST) · `SERVE` (nothing: the connection serves on);
- a coroutine function `(peer, request)` for anything else: `peer.send`, `peer.fin`, `peer.reset`.
With no answer at all it is a well-behaved model: JSON, or SSE when the request says `"stream": true`.

What it records: `requests` (each `Received`: head, headers, body, connection number) and
`connections` (each `Peer`: `opened_s`, `closed_s`, `how` the client went: "fin", "reset" or None);
`await upstream.received(n)` waits for n requests, `await upstream.closed(k)` until the client has
closed connection k (from 0). `greeting` is sent on accept. Times are `time.monotonic()` seconds.

`with ScriptedUpstream(...) as upstream` does the same in a thread of its own, for synchronous tests.
Canned answers (`tests/answers.py`): `chat_json`, `chat_stream`, `chat_frames`, `stream_steps` (one step
per frame), `error_json`, `json_answer`, `http_answer`, `http_head`, `chunk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from tests.answers import (
    chat_frames,
    chat_json,
    chat_stream,
    chunk,
    default_answer,
    error_json,
    http_answer,
    http_head,
    json_answer,
    stream_steps,
)

if TYPE_CHECKING:
    import ssl

__all__ = [
    "FIN",
    "HANG",
    "RESET",
    "SERVE",
    "Answer",
    "Drip",
    "Peer",
    "Received",
    "ScriptedUpstream",
    "Split",
    "Step",
    "chat_frames",
    "chat_json",
    "chat_stream",
    "chunk",
    "error_json",
    "http_answer",
    "http_head",
    "json_answer",
    "stream_steps",
]


class End(enum.Enum):
    """Steps without data."""

    HANG = "hang"
    FIN = "fin"
    RESET = "reset"
    SERVE = "serve"


HANG, FIN, RESET, SERVE = End.HANG, End.FIN, End.RESET, End.SERVE


@dataclass(frozen=True, slots=True)
class Split:
    """Send `data` cut at the given offsets, or every `every` bytes; each piece arrives on its own."""

    data: bytes
    cuts: tuple[int, ...] = ()
    every: int = 0

    def pieces(self) -> list[bytes]:
        whole = len(self.data)
        cuts = self.cuts or range(self.every or whole, whole, self.every or whole or 1)
        return [self.data[a:b] for a, b in itertools.pairwise([0, *cuts, whole]) if b > a]


@dataclass(frozen=True, slots=True)
class Drip:
    """Send one byte per gap."""

    data: bytes
    gap_s: float


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came: names of headers in lower case, in order."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    connection: int
    at_s: float

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)


Step: TypeAlias = bytes | Split | Drip | End | asyncio.Event
Custom: TypeAlias = Callable[["Peer", Received], Awaitable[None]]
Answer: TypeAlias = bytes | Sequence[Step] | Custom


@dataclass(eq=False)
class Peer(asyncio.Protocol):
    """One connection of the client."""

    upstream: ScriptedUpstream
    number: int = 0
    opened_s: float = 0.0
    closed_s: float | None = None
    how: str | None = None
    served: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _transport: asyncio.Transport | None = None
    _task: asyncio.Task[None] | None = None
    _gone: asyncio.Event = field(default_factory=asyncio.Event)
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _writable: asyncio.Event = field(default_factory=asyncio.Event)

    # ── what an answer may do ───────────────────────────────────────────────────────────────────

    async def send(self, data: bytes) -> None:
        """Write, and let the client read it before anything else is written."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        await self._writable.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def wait(self, event: asyncio.Event) -> None:
        """Wait for the event, or until the client has gone."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._gone.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def hang(self) -> None:
        """Say nothing until the client closes."""
        await self._gone.wait()

    def fin(self) -> None:
        """Close in order."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def reset(self) -> None:
        """Close with RST."""
        if self._transport is None or self._transport.is_closing():
            return
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # ── the protocol ────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._writable.set()
        self.upstream.opened(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._more.set()

    def eof_received(self) -> None:
        self._left("fin")

    def connection_lost(self, exc: Exception | None) -> None:
        self._left("reset" if exc is not None else "fin")
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _left(self, how: str) -> None:
        if self.closed_s is not None:
            return
        self.closed_s, self.how = time.monotonic(), how
        self._gone.set()
        self._more.set()
        self.upstream.changed()

    async def _serve(self) -> None:
        if self.upstream.greeting:
            await self.send(self.upstream.greeting)
        while (request := await self._request()) is not None:
            self.served += 1
            await self._answer(self.upstream.next_answer(request), request)
        self.fin()

    async def _answer(self, answer: Answer, request: Received) -> None:
        if isinstance(answer, bytes):
            await self.send(answer)
        elif callable(answer):
            await answer(self, request)
        else:
            for step in answer:
                await self._step(step)

    async def _step(self, step: Step) -> None:
        match step:
            case bytes():
                await self.send(step)
            case Split():
                for piece in step.pieces():
                    await self.send(piece)
            case Drip():
                for i in range(len(step.data)):
                    await self.send(step.data[i : i + 1])
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._gone.wait(), step.gap_s)
            case asyncio.Event():
                await self.wait(step)
            case End.HANG:
                await self.hang()
            case End.FIN:
                self.fin()
            case End.RESET:
                self.reset()

    async def _request(self) -> Received | None:
        end = await self._until(lambda: self._buffer.find(b"\r\n\r\n"))
        if end < 0:
            return None
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        headers = tuple((k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines[1:]))
        length = int(next((v for k, v in headers if k == "content-length"), "0"))
        whole = end + 4 + length
        if await self._until(lambda: len(self._buffer) - whole) < 0:
            return None
        method, path, _ = lines[0].split(" ", 2)
        body = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        request = Received(method, path, headers, body, self.number, time.monotonic())
        self.upstream.requests.append(request)
        self.upstream.changed()
        return request

    async def _until(self, measure: Callable[[], int]) -> int:
        while (found := measure()) < 0 and not self._gone.is_set():
            self._more.clear()
            await self._more.wait()
        return found

    async def stop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                raise error


class ScriptedUpstream:
    """See the module's text."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None, greeting: bytes = b"") -> None:
        self.answers: list[Answer] = list(answers)
        self.requests: list[Received] = []
        self.connections: list[Peer] = []
        self.greeting = greeting
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._changed: list[asyncio.Future[None]] = []
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return self.url + "/v1"

    @property
    def open(self) -> int:
        """How many connections the client holds open."""
        return sum(peer.closed_s is None for peer in self.connections)

    async def received(self, count: int, within_s: float = 5.0) -> Received:
        """Wait for `count` requests in all; return the last of them."""
        await self._wait(lambda: len(self.requests) >= count, within_s)
        return self.requests[count - 1]

    async def closed(self, connection: int = 0, within_s: float = 5.0) -> Peer:
        """Wait until the client has closed a connection."""
        await self._wait(
            lambda: len(self.connections) > connection and self.connections[connection].closed_s is not None,
            within_s,
        )
        return self.connections[connection]

    async def _wait(self, done: Callable[[], bool], within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not done():
                changed = asyncio.get_running_loop().create_future()
                self._changed.append(changed)
                await changed

    # ── called by the peers ─────────────────────────────────────────────────────────────────────

    def opened(self, peer: Peer) -> None:
        peer.number, peer.opened_s = len(self.connections), time.monotonic()
        self.connections.append(peer)
        self.changed()

    def changed(self) -> None:
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def next_answer(self, request: Received) -> Answer:
        if not self.answers:
            return default_answer(request)
        return self.answers[min(len(self.requests), len(self.answers)) - 1]

    # ── its life ────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> ScriptedUpstream:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self), "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self.connections:
            await peer.stop()
        await asyncio.sleep(0)
        await self._server.wait_closed()

    def __enter__(self) -> ScriptedUpstream:
        started = threading.Event()

        async def run() -> None:
            stopping, loop = asyncio.Event(), asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(stopping.set)
            async with self:
                started.set()
                await stopping.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        self._thread.start()
        assert started.wait(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()
        assert self._thread is not None
        self._thread.join(5)
