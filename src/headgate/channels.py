"""Messages both ways: what a WebSocket is to those who use it, on a caller's side and on a provider's.

The framing (RFC 6455) is the library's, sans-I/O, and imported when the first WebSocket comes. There is no
compression: what flows is JSON around base64 audio, and a deflate bomb costs memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from websockets.frames import Frame

NORMAL, GOING_AWAY, NOT_TEXT, GARBLED, REFUSED, TOO_BIG, FAULT = 1000, 1001, 1003, 1007, 1008, 1009, 1011
LOST = 1006  # without a word: what stands for a close frame that never came
_NO_CODE = 1005  # what stands for a close frame without one; never sent
_LONGEST_REASON = 120  # bytes; a close frame holds 123
_HIGH_WATER = 256 * 1024  # unread bytes above which no more is taken from the other side


class Channel(Protocol):
    """Text messages both ways, in order. `gone`: nothing can be said any more, and nothing will come."""

    gone: bool
    ending: tuple[int, str]  # how the other side closed: a code and its words; LOST where it said nothing

    async def receive(self) -> bytes | None:
        """Wait for the next message, valid UTF-8; None once the other side has closed or is lost."""
        ...

    def send(self, message: bytes) -> None:
        """Say something; after the end it does nothing."""
        ...

    async def drained(self) -> None:
        """Wait until the other side has taken most of what was said, or is gone."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """End in order, after what was said."""
        ...

    def abort(self) -> None:
        """End now."""
        ...


class Pipe(Protocol):
    """The bytes below a `Socket`."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    async def drained(self) -> None:
        """Wait until the other side has read most of what was sent, or is gone."""
        ...

    def pause(self, *, paused: bool) -> None:
        """Read nothing more for now, or go on."""
        ...

    def close(self) -> None:
        """Close after everything written has been read."""
        ...

    def abort(self) -> None:
        """Close now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketLimits:
    """What the other side of a WebSocket may do, and how long it may be silent."""

    max_message_bytes: int = 16 * 1024 * 1024
    ping_s: float = 20.0  # after so long a silence it is asked whether it lives
    silence_s: float = 60.0  # after so long a silence it is given up
    closing_s: float = 2.0  # how long an orderly end may take


class Socket:
    """One side of an open WebSocket over a pipe. Implements `Channel`.

    Args:
        pipe: the bytes; whoever owns them calls `feed` and `lost`.
        masked: this is the client's side, whose frames are masked.
        limits: of the other side.
    """

    __slots__ = (
        "_bytes", "_ended", "_frames", "_heard", "_limits", "_loop", "_parts", "_paused", "_pipe", "_ready",
        "_timer", "_waiter", "ending", "gone",
    )  # fmt: skip

    def __init__(self, pipe: Pipe, *, masked: bool, limits: SocketLimits) -> None:
        from websockets.protocol import CLIENT, SERVER, Protocol as Frames

        self.gone = False
        self.ending = (LOST, "")
        self._pipe = pipe
        self._limits = limits
        self._frames = Frames(CLIENT if masked else SERVER, max_size=limits.max_message_bytes)
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._ready: deque[bytes] = deque()
        self._bytes = 0  # of what is ready
        self._parts: list[bytes] = []  # of a message that is not complete
        self._paused = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer = self._loop.call_later(limits.ping_s, self._beat)

    # ── the channel ─────────────────────────────────────────────────────────────────────────────

    async def receive(self) -> bytes | None:
        """Wait for the next message; what came before the end is still given out."""
        while not self._ready:
            if self.gone:
                return None
            self._waiter = self._loop.create_future()
            await self._waiter
        message = self._ready.popleft()
        self._bytes -= len(message)
        if self._paused and self._bytes < _HIGH_WATER:
            self._paused = False
            self._heard = self._loop.time()
            self._pipe.pause(paused=False)
        return message

    def send(self, message: bytes) -> None:
        """Say something; after the end it does nothing."""
        if not self.gone:
            self._frames.send_text(message)
            self._flush()

    async def drained(self) -> None:
        """Wait until the other side has taken most of what was said, or is gone."""
        if not self.gone:
            await self._pipe.drained()

    def close(self, code: int, reason: str = "") -> None:
        """End in order, after what was said; within `closing_s` also where the other side says nothing."""
        if self.gone:
            return
        self.gone = True
        self._frames.send_close(code, reason.encode()[:_LONGEST_REASON].decode(errors="ignore"))
        self._flush()
        self._close_within(self._limits.closing_s)
        self._wake()

    def abort(self) -> None:
        """End now."""
        self._end()
        self._pipe.abort()

    # ── the pipe's side ─────────────────────────────────────────────────────────────────────────

    def feed(self, data: bytes) -> None:
        """Take bytes from the other side."""
        if self._ended:
            return
        self._heard = self._loop.time()
        frames = self._frames
        frames.receive_data(data)
        for frame in frames.events_received():
            self._take(cast("Frame", frame))  # the handshake was ours
        self._flush()
        if frames.close_expected():  # either side has begun the end, or broke the rules
            self.gone = True
            said = frames.close_rcvd
            if said is not None:
                self.ending = (NORMAL if said.code == _NO_CODE else said.code, said.reason)
            self._close_within(0 if said is not None else self._limits.closing_s)
        elif self._bytes > _HIGH_WATER and not self._paused:
            self._paused = True
            self._pipe.pause(paused=True)
        self._wake()

    def lost(self) -> None:
        """Take note that the other side has gone."""
        self._end()

    # ── steps ───────────────────────────────────────────────────────────────────────────────────

    def _take(self, frame: Frame) -> None:
        """Take a frame: pings are answered by the library, messages are put together here."""
        from websockets.frames import OP_BINARY, OP_CONT, OP_TEXT

        if frame.opcode is OP_BINARY:
            self.close(NOT_TEXT, "Messages are JSON texts.")
        if frame.opcode not in {OP_TEXT, OP_CONT} or self.gone:
            return
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return
        message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                self.close(GARBLED, "The message is not UTF-8.")
                return
        self._ready.append(message)
        self._bytes += len(message)

    def _flush(self) -> None:
        for data in self._frames.data_to_send():
            if data:
                self._pipe.write(data)

    def _beat(self) -> None:
        """Ask whether the other side lives, and give up one that is silent."""
        now = self._loop.time()
        if self._paused:
            self._heard = now  # the silence is ours
        silent_s = now - self._heard
        if silent_s >= self._limits.silence_s:
            self.abort()
            return
        if silent_s >= self._limits.ping_s / 2 and not self.gone:
            self._frames.send_ping(b"")
            self._flush()
        self._timer = self._loop.call_later(self._limits.ping_s / 2, self._beat)

    def _close_within(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._close)

    def _close(self) -> None:
        self._end()
        self._pipe.close()

    def _end(self) -> None:
        self.gone = self._ended = True
        self._timer.cancel()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def accept_key(key: str) -> str:
    """Return the answer to a client's key (RFC 6455, 4.2.2)."""
    from websockets.utils import accept_key as accept

    return accept(key)
