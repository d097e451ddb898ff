"""A WebSocket to a provider: our own way out (addresses, proxies, TLS), a handshake, then messages."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import TYPE_CHECKING, cast

from headgate.channels import Socket, SocketLimits, accept_key
from headgate.ports import Declined
from headgate.transport.faults import Malformed, describe
from headgate.transport.framing import Answer

if TYPE_CHECKING:
    from headgate.ports import Request
    from headgate.transport.framing import Bounds
    from headgate.transport.request import Writer

LIMITS = SocketLimits(max_message_bytes=64 * 1024 * 1024)
_END = b"\r\n\r\n"


class NoSocket(Exception):
    """What came is no answer to the handshake; the text says in a few words why."""


class Line(asyncio.Protocol):
    """The bytes of one connection that is never kept. Implements `channels.Pipe`."""

    __slots__ = ("_arrived", "_changed", "_writable", "fault", "lost", "socket", "spoilt", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.spoilt = False
        self.lost = False
        self.fault: Exception | None = None
        self.socket: Socket | None = None
        self._arrived = bytearray()
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # ── the transport's side ────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand bytes on, or keep what comes during the handshake."""
        if self.socket is not None:
            self.socket.feed(data)
            return
        self._arrived += data
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whom it concerns."""
        self.lost = self.spoilt = True
        self.fault = exc
        self._changed.set()
        self._writable.set()
        if self.socket is not None:
            self.socket.lost()

    def pause_writing(self) -> None:
        """Take note that the provider reads slower than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let the writer go on."""
        self._writable.set()

    # ── the pipe ────────────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)

    async def drained(self) -> None:
        """Wait until the provider has read most of what was sent, or is gone."""
        await self._writable.wait()

    def pause(self, *, paused: bool) -> None:
        """Read nothing more for now, or go on."""
        if paused:
            self.transport.pause_reading()
        elif not self.lost:
            self.transport.resume_reading()

    def close(self) -> None:
        """Close after everything written has been sent."""
        self.transport.close()

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    # ── the handshake ───────────────────────────────────────────────────────────────────────────

    def switch(self, rest: bytes) -> Socket:
        """Go on as a WebSocket, beginning with what came behind the answer to the handshake."""
        self.socket = socket = Socket(self, masked=True, limits=LIMITS)
        rest += bytes(self._arrived)
        self._arrived.clear()
        if rest:
            socket.feed(rest)
        if self.lost:
            socket.lost()
        return socket

    async def arrived(self) -> bytes:
        """Wait for bytes, and take all; b"" when the provider has closed."""
        while not self._arrived and not self.lost:
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._arrived)
        self._arrived.clear()
        return data


async def shake_hands(line: Line, writer: Writer, request: Request, bounds: Bounds) -> Socket | Declined:
    """Ask for a WebSocket on a fresh connection; return it open, or the plain answer that came instead.

    The caller bounds the time.

    Raises:
        NoSocket: it is no answer, or the connection broke.
    """
    key = base64.b64encode(os.urandom(16)).decode()
    line.write(writer.handshake(request, key))
    raw = b""
    while _END not in raw:
        data = await line.arrived()
        raw += data
        if not data:
            why = describe(line.fault) if line.fault is not None else "it closed the connection"
            raise NoSocket(why)
        if len(raw) > bounds.head_bytes:
            raise NoSocket("its head is too long")
    head, _, rest = raw.partition(_END)
    if not head.startswith(b"HTTP/1.1 101"):
        return await _plain_answer(line, raw, bounds)
    _check(head, key)
    return line.switch(rest)


def _check(head: bytes, key: str) -> None:
    """Hold an answer of 101 against RFC 6455, 4.1."""
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    upgraded = fields.get(b"upgrade", b"").lower() == b"websocket"
    if not upgraded or fields.get(b"sec-websocket-accept", b"").decode("latin-1") != accept_key(key):
        raise NoSocket("it answered 101 to something else")
    if b"sec-websocket-extensions" in fields or b"sec-websocket-protocol" in fields:
        raise NoSocket("it chose what was not offered")


async def _plain_answer(line: Line, raw: bytes, bounds: Bounds) -> Declined:
    """Read the answer that came in place of a WebSocket."""
    answer = Answer(bounds)
    try:
        answer.feed(raw)
        while not answer.complete:
            data = await line.arrived()
            if not data:
                answer.end()
                break
            answer.feed(data)
    except Malformed as error:
        raise NoSocket(str(error)) from None
    assert answer.head is not None
    return Declined(answer.head, answer.take())
