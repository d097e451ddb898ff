"""A connection, and one request and its answer on it.

The exchange holds everything of one answer and lets go of the connection when it ends, so that a late
call on an old exchange cannot touch the next one. A connection goes back only when the answer ended
cleanly, was read to its end, and no wait on it was cancelled.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from types import coroutine
from typing import TYPE_CHECKING, Protocol, cast

from headgate.callstate import CallState, set_at_once
from headgate.errors import CallerGone, GatewayError, UpstreamInterrupted, UpstreamTimeout
from headgate.ports import Head
from headgate.transport.faults import Malformed, Redirected, StaleConnection, describe
from headgate.transport.framing import Answer, recognised
from headgate.waits import Wait
from headgate.wire.forms import forget

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from headgate.outbox import Outbox
    from headgate.ports import Clock, Request
    from headgate.transport.framing import Bounds, Proven
    from headgate.transport.request import Writer
    from headgate.values import MonotonicNs, Target
    from headgate.wire.forms import Buffer
    from headgate.wire.known import KnownHeads

AT_ONCE = 64 * 1024  # bytes that are taken from a connection in one go
_HIGH_WATER = 16 * 1024  # unread bytes above which no more is taken
_JOINED = 16 * 1024  # a longer body is not copied behind its head
_SLICE = 64 * 1024  # of a long body, written at once
_STALE_NS = 1_000_000_000  # closed later than this after the request: it was seen
_NS = 1e9


class Lane(Protocol):
    """All connections to one origin by one way: what an exchange needs of its pool."""

    label: str
    writer: Writer
    bounds: Bounds
    known: KnownHeads[Proven]
    outbox: Outbox
    buffer: memoryview  # of `AT_ONCE` bytes
    clock: Clock

    def put_back(self, connection: Connection, keep_alive: bytes | None) -> None:
        """Keep an idle connection for later."""
        ...

    def distrust(self) -> None:
        """Drop every idle connection: one of them turned out to be dead."""
        ...

    def opened(self, connection: Connection) -> None:
        """Count an open connection."""
        ...

    def lost(self, connection: Connection) -> None:
        """Forget a closed connection."""
        ...


class Connection(asyncio.BufferedProtocol):
    """One connection. Bytes that arrive while it is idle belong to nobody and close it.

    All of them read into one buffer, so that what is taken in one go is bounded: the loop's own way takes a
    quarter of a megabyte, which a caller who does not read would make us keep.
    """

    __slots__ = ("closed", "exchange", "expires_at", "full", "lane", "spoilt", "transport", "wait")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.exchange: HttpExchange | None = None
        self.expires_at: MonotonicNs = 0
        self.wait = Wait(asyncio.get_running_loop())  # its exchanges' own: being woken early harms none
        self.closed = True  # until it is made
        self.spoilt = False  # broke, or spoke to nobody
        self.full = False  # more is written than the other side has taken
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; with TLS, the handshake is done."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.closed = False
        self.lane.opened(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Say where the next bytes go; they are taken from there before anybody else reads."""
        return self.lane.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand bytes to the exchange."""
        exchange = self.exchange
        if exchange is None:
            self.spoilt = True
            self.close()
        else:
            exchange.receive(self.lane.buffer[:nbytes].tobytes())

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whom it concerns; `exc` is None when the other side closed in order."""
        exchange, self.exchange = self.exchange, None
        self.closed = self.spoilt = True
        self.lane.lost(self)
        if exchange is not None:
            exchange.lose(exc)

    def pause_writing(self) -> None:
        """Take note that the provider takes no more for now."""
        self.full = True

    def resume_writing(self) -> None:
        """Send on."""
        self.full = False
        if self.exchange is not None:
            self.exchange.push()

    def close(self) -> None:
        """Close at once, without the courtesies of TLS."""
        if not self.closed:
            self.closed = True
            self.lane.outbox.flush()  # what was said to be sent is sent
            self.transport.abort()


@set_at_once
class HttpExchange(CallState):
    """One request and its answer; see `ports.Exchange`."""

    _lane: Lane
    _connection: Connection | None
    _wait: Wait
    _target: Target
    reused: bool
    sent: bool = False
    _answer: Answer | None = None  # before its first bytes
    _error: GatewayError | CallerGone | None = None
    _paused: bool = False
    _left: bool = False  # by who waited for it
    _sent_at: MonotonicNs = 0
    _quiet_since: MonotonicNs = 0
    _rest: Iterator[memoryview] | None = None  # of a long body that is being sent
    _seen: int = 0

    # ── the port ────────────────────────────────────────────────────────────────────────────────

    def send(self, request: Request) -> None:
        """Write the request. On a connection that broke since, nothing is sent and `head` raises."""
        connection = self._connection
        if connection is None or self.sent:
            return
        lane, body = self._lane, request.body
        length = len(body)
        if length > _JOINED or request.tail:
            self._send_long(request, connection)
            return
        data = lane.writer.head(request, length, body)
        self._sent_at = lane.clock.monotonic()
        self.sent = True
        lane.outbox.send(connection.transport, data)

    def _send_long(self, request: Request, connection: Connection) -> None:
        lane, body, tail = self._lane, request.body, request.tail
        head = lane.writer.head(request, len(body) + sum(map(len, tail)))
        self._sent_at = lane.clock.monotonic()
        self.sent = True
        connection.transport.writelines((head, body) if body else (head,))
        if tail:
            self._rest = _slices(tail)
            self.push()

    @coroutine
    def head(self) -> Generator[Wait, None, Head]:
        """Wait for the head of the final answer."""
        while self._answer is None or self._answer.head is None:
            if self._error is not None:
                raise self._error
            try:
                yield self._wait
            except BaseException:
                self._left = True
                raise
        head = self._answer.head
        return head if head.status < 300 else self._refused(head)

    def _refused(self, head: Head) -> Head:
        """Return the head of a refusal, with a date if it has none: the time at which it came.

        A wait may be until a date, by the clock of who says it; RFC 9110, 6.6.1, lets ours stand in.

        Raises:
            Redirected: it is a redirect.
        """
        if head.status < 400:
            error = Redirected(
                f"{self._named} answered {head.status}, a redirect; redirects are never followed. "
                "Check the provider's base_url.",
                (head.get(b"location") or b"").decode("latin-1"),
            )
            self._break(error.at(self._lane.label))
            try:
                raise error
            finally:
                del error  # a name for it were a cycle, which would hold the request
        if head.get(b"date") is not None:
            return head
        now = formatdate(self._lane.clock.wall() // 1_000_000, usegmt=True).encode()
        return Head(head.status, (*head.headers, (b"date", now)), head.rated)

    @coroutine
    def read(self) -> Generator[Wait, None, bytes]:
        """Wait for more of the body; b"" at its end."""
        while (answer := self._answer) is None or not answer.unread:
            if answer is not None and answer.complete:
                return b""
            if self._error is not None:
                raise self._error
            try:
                yield self._wait
            except BaseException:
                self._left = True
                raise
        if self._paused:
            self._resume()
        return answer.take()

    def whole(self) -> bytes | None:
        """Return the body if all of it is here; None: it is to be read."""
        answer = self._answer
        if answer is None or not answer.complete:
            return None
        return answer.take()

    def abort(self) -> None:
        """Close the connection now and wake a pending wait with `CallerGone`."""
        if self._answer is not None:
            self._answer.drop()
        self._error = None
        self._break(CallerGone())

    def release(self) -> None:
        """Give the connection back if the answer ended cleanly and was read, else close it."""
        answer, connection = self._answer, self._connection
        if connection is not None:
            self._connection = connection.exchange = None
            if (
                answer is not None and answer.reusable and not answer.unread and not self._left
                and self._rest is None and not connection.transport.get_write_buffer_size()
            ):  # fmt: skip
                self._lane.put_back(connection, answer.keep_alive)
                return
            connection.close()
        self._error = None  # its traceback knows us, and so would keep all of the call for the collector
        if answer is not None:
            answer.drop()

    # ── what happens to it ──────────────────────────────────────────────────────────────────────

    def push(self) -> None:
        """Send of a long body what the provider takes now; its connection calls again when it takes more."""
        connection = self._connection
        if self._rest is None or connection is None:
            return
        self._quiet_since = self._lane.clock.monotonic()
        while not connection.full:
            piece = next(self._rest, None)
            if piece is None:
                self._rest = None
                return
            connection.transport.write(piece)

    def receive(self, data: bytes) -> None:
        """Take bytes from the connection."""
        if not self.sent:
            self._break(self._interrupted("it spoke before it was asked"))
            return
        answer = self._answer
        if answer is None:
            lane = self._lane
            answer = self._answer = recognised(data, lane.bounds, lane.known)
            if answer is not None:  # as nearly all come
                self._wait.wake()
                return
            answer = self._begun()
        try:
            answer.feed(data)
        except Malformed as error:
            self._break(self._interrupted(str(error)))
            return
        if answer.complete:
            if self._paused:
                self._resume()
        elif answer.unread > _HIGH_WATER and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.transport.pause_reading()
        self._wait.wake()

    def lose(self, error: Exception | None) -> None:
        """Take note that the connection has closed."""
        self._connection = None
        answer = self._answer or self._begun()
        if answer.complete:
            return
        why = None if error is None else describe(error)
        if why is None:
            try:
                answer.end()
            except Malformed as malformed:
                why = str(malformed)
        if why is not None:
            self._fail(self._cut_off(why))
        self._wait.wake()

    def check(self, now: MonotonicNs) -> None:
        """End the exchange if a deadline has passed. Called by the ticker, so late by up to two ticks."""
        answer = self._answer
        if not self.sent or (answer is not None and answer.complete):
            return
        limits = self._target.deadlines
        elapsed_s = (now - self._sent_at) / _NS
        if elapsed_s >= limits.total_s:
            self._expire(f"had not finished after {limits.total_s:g} s (total_s)")
        elif answer is None or answer.head is None:
            if (now - max(self._sent_at, self._quiet_since)) / _NS >= limits.first_byte_s:
                self._expire(f"did not answer within {limits.first_byte_s:g} s (first_byte_s)")
        elif self._wait.resume is None or answer.received != self._seen:
            # While nobody waits, the silence is ours: the caller has not taken what came before.
            self._seen, self._quiet_since = answer.received, now
        elif (now - self._quiet_since) / _NS >= limits.between_frames_s:
            self._expire(f"sent nothing for {limits.between_frames_s:g} s (between_frames_s)")

    def interrupt(self, why: str) -> None:
        """End the exchange for a reason of ours."""
        self._break(self._interrupted(why))

    # ── steps ───────────────────────────────────────────────────────────────────────────────────

    def _begun(self) -> Answer:
        """Return the answer, of which nothing has come."""
        self._answer = answer = Answer(self._lane.bounds, self._lane.known)
        return answer

    def _resume(self) -> None:
        self._paused = False
        if self._connection is not None:
            self._connection.transport.resume_reading()

    @property
    def _named(self) -> str:
        return f"Provider {self._target.host.name!r}"

    def _expire(self, what: str) -> None:
        self._break(UpstreamTimeout(f"{self._named} {what}.").at(self._lane.label))

    def _break(self, error: GatewayError | CallerGone) -> None:
        """Close the connection; what was read before is still given out, then the error."""
        self._fail(error)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.exchange = None
            connection.close()
        self._wait.wake()

    def _fail(self, error: GatewayError | CallerGone) -> None:
        if self._error is None:
            self._error = error

    def _interrupted(self, why: str) -> UpstreamInterrupted:
        message = f"The answer of provider {self._target.host.name!r} broke off: {why}."
        return UpstreamInterrupted(message).at(self._lane.label)

    def _cut_off(self, why: str) -> UpstreamInterrupted:
        """Return what a lost connection means; before the first byte it may just have been too old."""
        if self._answer is not None and self._answer.received:
            return self._interrupted(why)
        label = self._lane.label
        soon = not self.sent or self._lane.clock.monotonic() - self._sent_at < _STALE_NS
        if self.reused and soon:
            self._lane.distrust()
            message = f"{self._named} closed an idle connection before it saw the request."
            return StaleConnection(message).at(label)
        return UpstreamInterrupted(f"{self._named} closed the connection before it answered.").at(label)


def _slices(pieces: Iterable[Buffer]) -> Iterator[memoryview]:
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), _SLICE):
            yield view[at : at + _SLICE]
            forget(view.obj)
