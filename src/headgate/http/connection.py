"""One client connection: requests are served one at a time and in order.

What comes while one is being answered waits, as requests (what one read held) and as raw bytes.
A request is served after the parser has returned, so an answer may end inside `Route.handle`.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

from headgate.errors import CallerError, GatewayError, Internal, RequestTimeout, Unavailable
from headgate.http.errors import render
from headgate.http.heads import CONTINUE
from headgate.http.incoming import Incoming
from headgate.http.intake import Intake
from headgate.http.sink import HttpSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.http.edge import Edge, EdgeEvents
    from headgate.http.unread import Unread
    from headgate.ports import Sink
    from headgate.values import MonotonicNs

# What a connection waits for while nothing is answered: its first request, the next one, the rest of a head,
# the rest of a body, its end.
_NEW, _IDLE, _HEAD, _BODY, _CLOSING = range(5)
_HELD = 64 * 1024  # raw bytes that may wait behind an answer before reading is paused
_FIRST_PROBE_S, _LONGEST_PROBE_S = 0.02, 5.0
_SECOND = 1_000_000_000


class Tunnel(Protocol):
    """Who reads a connection that has switched to another protocol."""

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        ...


class Connection(asyncio.Protocol):
    """The protocol object of one connection. The edge's ticker calls `check`."""

    __slots__ = (
        "_advancing", "_eof", "_held", "_intake", "_probe_s", "_reading", "_since", "_sink", "_stalled_ns",
        "_state", "_transport", "_tunnel", "_unsent", "_waiter", "alone", "edge", "write", "write_paused",
    )  # fmt: skip
    _transport: asyncio.Transport
    write: Callable[[bytes], None]  # sends bytes, at the latest when this turn of the loop ends

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.write_paused = False
        self._intake = Intake(edge)
        self._held = bytearray()  # came before its turn, not parsed yet
        self._sink: HttpSink | Unread | None = None  # the answer in progress
        self._state = _NEW
        self._since: MonotonicNs = 0  # when the state began, by the edge's coarse clock
        self._advancing = False
        self.alone = False  # the request that is answered came alone, and nothing has come behind it
        self._reading = True
        self._eof = False
        self._probe_s = _FIRST_PROBE_S
        self._waiter: asyncio.Future[None] | None = None
        self._unsent = 0
        self._stalled_ns: MonotonicNs = 0
        self._tunnel: Tunnel | None = None  # who reads in place of the parser

    # ── the transport's side ────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; beyond the limit of connections, refuse."""
        self._transport = cast("asyncio.Transport", transport)
        self.write = partial(self.edge.outbox.send, self._transport)
        self._intake.peer = transport.get_extra_info("peername")
        full = self.edge.enter(self)
        self._since = self.edge.now
        if full:
            self._refuse(Unavailable("The gateway has no connection left to take. Try again in a moment."))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Tell the call, if one is being answered."""
        self.edge.leave(self)
        self._state = _CLOSING
        self._intake.end()
        self._held.clear()
        self._release_waiter()
        sink, self._sink = self._sink, None
        if sink is not None:
            self.edge.farewells.lost(sink)

    def data_received(self, data: bytes) -> None:
        """Parse, or keep what comes before its turn."""
        if self._sink is None and not self.write_paused and not self._held:
            if self.edge.unread is not None and self.alone and self._state == _IDLE:
                refusal = self.edge.unread(self, data)
                if refusal is not None:
                    self._sink = refusal
                    return
            found = self._intake.recognise(data)
            if found is None:
                self._feed(data)
            elif found is not True:  # one request alone, as nearly all come; others may follow
                self.alone = True
                self._begin(found)
                return
            self._advance()
        elif self._tunnel is not None:
            self._tunnel.feed(data)
        elif not self._intake.ended:
            self._held += data
            self.alone = False
            if self._reading and len(self._held) > _HELD:
                self._reading = False
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the connection for what was asked before the client stopped sending."""
        self.edge.outbox.flush()
        self._eof = True
        self.alone = False
        if self._tunnel is not None:  # a WebSocket ends by its own frames: this end is early
            return False
        if self._sink is not None:
            self._probe()
            return True
        if self._intake.ready or self._held:  # they wait for the client to read
            return True
        if self._state in {_HEAD, _BODY}:
            self._refuse(CallerError("The connection ended before the request was complete."))
        return False

    def pause_writing(self) -> None:
        """Take note that the client reads slower than we write."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Let the writer, or the next request, go on."""
        self.write_paused = False
        self._release_waiter()
        if self._sink is None:
            self._advance()

    # ── requests ────────────────────────────────────────────────────────────────────────────────

    def _feed(self, data: bytes) -> None:
        intake = self._intake
        if intake.ended:
            return
        rest = intake.feed(data)
        if rest and not intake.ended:
            self._held[:0] = rest

    def _feed_held(self) -> None:
        data = bytes(self._held)
        self._held.clear()
        self._resume_reading()
        self._feed(data)

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def _advance(self) -> None:
        """Serve what has come, then wait for more."""
        if self._advancing:
            return
        self._advancing = True
        ready = self._intake.ready
        while self._sink is None and not self.write_paused and self._state != _CLOSING:
            if ready:
                self.alone = False
                self._serve(ready.pop(0))
            elif self._held:
                self._feed_held()
            else:
                self._await_input()
                break
        self._advancing = False

    def _serve(self, item: Incoming | GatewayError) -> None:
        if isinstance(item, GatewayError):
            self._refuse(item)
            return
        if not item.head.keep_alive:
            self._intake.ended = True
        self._begin(item)

    def _begin(self, item: Incoming) -> None:
        head = item.head
        sink = self._sink = HttpSink(self, head)
        self._state = _IDLE
        try:
            head.route.handle(item, sink)
        except Exception as fault:
            self.edge.events.fault(item.path, fault)
            fail(item, sink)

    def waits(self, refusal: Unread) -> bool:
        """Say whether a request that was not read is here still."""
        return self._sink is refusal

    def read(self, data: bytes, came: MonotonicNs) -> None:
        """Read the request that was not, and serve it."""
        self._sink, intake = None, self._intake
        incoming = intake.recognise(data)
        if isinstance(incoming, Incoming):
            incoming.received_ns = came
            self._begin(incoming)
        else:  # its head was forgotten meanwhile
            self.alone = False
            self._feed(data)
            self._advance()

    def refuse_unread(self, refusal: Unread, answer: bytes) -> None:
        """Send the answer to a request that was not read, unless the client has gone."""
        if self._sink is not refusal:
            return
        keep_alive = self.stays_open()
        if not keep_alive:
            answer = answer.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        self.write(answer)
        self.answered(keep_alive=keep_alive)

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """Send the whole answer to a request that is alone; the connection stays open."""
        edge = self.edge
        self._sink = None
        self._since = edge.now
        self.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (edge.heads[status], lines, len(body), body))

    def answered(self, *, keep_alive: bool) -> None:
        """Go on to the next request, or close: the answer has ended."""
        self._sink = None
        if keep_alive:
            self._since = self.edge.now
            if not self.alone:
                self._advance()
        else:
            self._close()

    def _await_input(self) -> None:
        """Wait for the rest of what has begun to come, or for the next request."""
        if self._eof:
            self._close()
            return
        intake = self._intake
        if intake.partial is not None:
            if self._state != _BODY:
                self._state = _BODY
                self._since = self.edge.now
                if intake.partial.head.expects_continue:
                    self.write(CONTINUE)
            behind = intake.behind
            if behind is not None:
                self.pause(paused=True)
                behind.on_room(partial(self.pause, paused=False))
        elif intake.in_head and self._state != _HEAD:
            self._state = _HEAD
            self._since = self.edge.now

    def stays_open(self) -> bool:
        """Say whether another request may follow the one in progress."""
        return not self.edge.draining and (not self._eof or bool(self._intake.ready or self._held))

    def switch(self, tunnel: Tunnel) -> None:
        """Give all that comes from now on, and what came behind the request, to another reader."""
        self._tunnel = tunnel
        intake = self._intake
        rest = intake.surplus + bytes(self._held)
        intake.surplus = b""
        self._held.clear()
        self._resume_reading()
        if rest:
            tunnel.feed(rest)

    def pause(self, *, paused: bool) -> None:
        """Read nothing more for now, or go on."""
        if paused:
            self._reading = False
            self._transport.pause_reading()
        else:
            self._resume_reading()

    # ── what goes out ───────────────────────────────────────────────────────────────────────────

    async def drained(self) -> None:
        """Wait until a client has read enough to be sent more."""
        if self.write_paused:
            await self.writable()

    async def writable(self) -> None:
        """Wait until the client has read most of what was written, or is gone."""
        if self._waiter is None:
            self._waiter = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._waiter)

    def _release_waiter(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _probe(self) -> None:
        """Find out whether a client that stopped sending has closed: a reset answers our bytes then."""
        sink = self._sink
        if sink is None:
            return
        data = sink.probe()
        if data:
            self.write(data)
        asyncio.get_running_loop().call_later(self._probe_s, self._probe)
        self._probe_s = min(self._probe_s * 2, _LONGEST_PROBE_S)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def _refuse(self, error: GatewayError) -> None:
        """Answer with an error and close; what the client still sends is read and thrown away.

        Closing at once would reset the connection, and the client might never see the answer.
        """
        self.edge.events.refused(error)
        status, headers, body = render(error, "req_" + self.edge.new_id().hex())
        last = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.write(self.edge.heads.make(status, headers, last) + body)
        if self._eof or not self._transport.can_write_eof():
            self._close()
            return
        self._begin_closing()
        self._transport.write_eof()

    def close(self) -> None:
        """Close a connection that has switched, after everything written has been read."""
        self._sink = None
        self._close()

    def _close(self) -> None:
        """Close after everything written has been read."""
        self._begin_closing()
        self._transport.close()

    def cut(self) -> None:
        """Close now; unsent bytes are lost."""
        self._sink = None
        self._begin_closing()
        self._transport.abort()

    def _begin_closing(self) -> None:
        self.edge.outbox.flush()
        self._state = _CLOSING
        self._since = self.edge.now
        self._intake.end()
        self._held.clear()
        self._resume_reading()

    def abort(self) -> None:
        """Close now, and tell the call, if one is being answered."""
        self.edge.outbox.flush()
        self._transport.abort()

    def close_idle(self) -> None:
        """Close if nobody waits for anything here."""
        if (
            self._sink is None
            and self._state in {_NEW, _IDLE}
            and not self._transport.get_write_buffer_size()
        ):
            self._close()

    # ── deadlines ───────────────────────────────────────────────────────────────────────────────

    def check(self, now: MonotonicNs) -> None:
        """Enforce the deadlines; called by the ticker."""
        unsent = self._transport.get_write_buffer_size()
        if unsent:
            self._check_reader(now, unsent)
        elif self._sink is None:
            self._unsent = 0
            self._check_sender(now - self._since)
        else:
            self._unsent = 0
            if self.edge.heartbeat_ns:
                self._sink.check(now, self.edge.heartbeat_ns)

    def _check_reader(self, now: MonotonicNs, unsent: int) -> None:
        if unsent != self._unsent:
            self._unsent = unsent
            self._stalled_ns = now
        elif now - self._stalled_ns >= self.edge.limits.write_stall_s * _SECOND:
            self._transport.abort()

    def _check_sender(self, waited: MonotonicNs) -> None:
        limits, state = self.edge.limits, self._state
        if state == _IDLE:
            if waited >= limits.keep_alive_s * _SECOND:
                self._close()
        elif state == _BODY:
            slow = self._intake.received * _SECOND < limits.body_bytes_per_s * waited
            if slow and waited >= limits.body_grace_s * _SECOND:
                self._refuse(RequestTimeout("The body of the request arrived too slowly."))
        elif state == _HEAD:
            if waited >= limits.head_s * _SECOND:
                self._refuse(RequestTimeout("The head of the request did not arrive in time."))
        elif waited >= (limits.head_s if state == _NEW else limits.linger_s) * _SECOND:
            self._transport.abort()


def serve(incoming: Incoming, sink: Sink, events: EdgeEvents) -> None:
    """Serve a request by its route, later than in the callback that brought it."""
    try:
        incoming.head.route.handle(incoming, sink)
    except Exception as fault:
        events.fault(incoming.path, fault)
        fail(incoming, sink)


def fail(incoming: Incoming, sink: Sink) -> None:
    """Answer a request on which our own code failed: with a 500, or by a cut where an answer has begun."""
    if sink.started:
        sink.abort()
        return
    error = Internal("The server had an error while processing your request.")
    status, headers, body = render(error, incoming.request_id)
    sink.start(status, headers, len(body))
    sink.write(body)
    sink.finish()
