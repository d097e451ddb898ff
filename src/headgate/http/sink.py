"""Where an answer goes: one request's turn on its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.callstate import CallState, set_at_once
from headgate.channels import Socket
from headgate.errors import CallerGone
from headgate.http.heads import CONTINUE
from headgate.wire.headers import lines_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.channels import Channel, SocketLimits
    from headgate.http.connection import Connection
    from headgate.http.incoming import RequestHead
    from headgate.ports import Headers
    from headgate.values import MonotonicNs

# How the end of a body is told; nothing of it before the head.
_UNSTARTED, _SIZED, _CHUNKED, _UNTIL_CLOSE, _NONE = range(5)
_LAST_CHUNK = b"0\r\n\r\n"
_COMMENT = b"3\r\n:\n\n\r\n"  # a chunk with an SSE comment
_WITHOUT_BODY = frozenset({204, 304})


@set_at_once
class HttpSink(CallState):
    """Implements `ports.Sink`. After `finish`, or once the caller has gone, its methods do nothing.

    The head waits for the first bytes of the body, so that a JSON answer leaves in one write.
    """

    _connection: Connection | None
    _asked: RequestHead
    gone: bool = False
    started: bool = False
    _keep_alive: bool = True
    _framing: int = _UNSTARTED
    _headers: Headers = ()
    _head: bytes = b""
    _left: int = 0
    _callback: Callable[[], None] | None = None
    _quiet: Callable[[], None] | None = None
    _quiet_since: MonotonicNs = 0  # 0: not since the last look

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Take the head. `length` is the body's length in bytes, None for a stream."""
        connection = self._connection
        if connection is None:
            return
        assert self._framing == _UNSTARTED, "an answer has one head"
        self.started = True
        last = self._frame(status, length)
        if self._keep_alive:
            self._keep_alive = self._asked.keep_alive and connection.stays_open()
        if not self._keep_alive:
            last = b"connection: close\r\n" + last
        elif self._asked.version == "1.0":
            last = b"connection: keep-alive\r\n" + last
        self._headers = headers
        self._head = connection.edge.heads.make(status, headers, last)

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole answer."""
        connection = self._connection
        if (
            connection is None
            or not (connection.alone and self._asked.usual)
            or connection.edge.draining
            or status in _WITHOUT_BODY
            or self._framing
        ):
            self.start(status, lines, len(body))
            self.write(body)
            self.finish()
            return
        self.started = True
        self._connection = self._callback = self._quiet = None
        connection.answer(status, lines, body)

    def _frame(self, status: int, length: int | None) -> bytes:
        """Choose how the end of the body is told; return the lines that say so."""
        if status in _WITHOUT_BODY:
            self._framing = _NONE
            return b"\r\n"
        if length is not None:
            self._framing = _SIZED
            self._left = length
            last = b"content-length: %d\r\n\r\n" % length
        elif self._asked.version == "1.1":
            self._framing = _CHUNKED
            last = b"transfer-encoding: chunked\r\n\r\n"
        else:
            self._framing = _UNTIL_CLOSE
            self._keep_alive = False
            last = b"\r\n"
        if self._asked.method == b"HEAD":
            self._framing = _NONE
            self._left = 0
        return last

    def write(self, data: bytes) -> None:
        """Send bytes of the body: whole frames of a stream, or a part of a sized body."""
        connection = self._connection
        if connection is None or not data:
            return
        self._quiet_since = 0
        framing = self._framing
        if framing == _SIZED:
            self._left -= len(data)
            if self._left < 0:
                self.abort()
                raise ValueError("The body is longer than its head says.")
        elif framing == _CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif framing != _UNTIL_CLOSE:
            assert framing == _NONE, "the head comes before the body"
            return
        if self._head:
            data = self._head + data
            self._head = b""
        connection.write(data)

    def finish(self) -> None:
        """End the answer; the connection serves its next request."""
        connection = self._connection
        if connection is None:
            self._callback = None
            return
        if self._left or self._framing == _UNSTARTED:
            self.abort()
            raise ValueError("The body is shorter than its head says.")
        rest = self._head + _LAST_CHUNK if self._framing == _CHUNKED else self._head
        if rest:
            connection.write(rest)
        self._connection = self._callback = self._quiet = None
        connection.answered(keep_alive=self._keep_alive)

    async def drained(self) -> None:
        """Wait until the caller has read enough to send more. Returns at once if it has, or is gone."""
        connection = self._connection
        if connection is None:
            return
        if self._head:
            connection.write(self._head)
            self._head = b""
        if connection.write_paused:
            await connection.writable()

    def switch(self, headers: Headers, limits: SocketLimits) -> Channel:
        """Answer 101 and go on as a WebSocket.

        Raises:
            CallerGone: nobody is left.
        """
        connection = self._connection
        if connection is None:
            raise CallerGone
        self._framing = _UNTIL_CLOSE
        connection.write(connection.edge.heads.make(101, headers, b"\r\n"))
        socket = Socket(connection, masked=False, limits=limits)
        self._callback = socket.lost
        connection.switch(socket)
        return socket

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back once when the caller goes before `finish`; a later callback takes the place."""
        if self.gone:
            self._callback = None
            callback()
        elif self._connection is not None:
            self._callback = callback

    def on_quiet(self, callback: Callable[[], None]) -> None:
        """Call back each time the caller was sent nothing for the heartbeat's interval."""
        self._quiet = callback

    def check(self, now: MonotonicNs, heartbeat_ns: MonotonicNs) -> None:
        """Call back if it is time; called by the edge's ticker while everything written has left."""
        if self._quiet is None:
            return
        if not self._quiet_since:
            self._quiet_since = now
        elif now - self._quiet_since >= heartbeat_ns:
            self._quiet_since = now
            self._quiet()

    def abort(self) -> None:
        """Cut the connection without ending the answer; nobody is called back."""
        connection = self._connection
        if connection is None:
            return
        self.gone = True
        self._connection = self._callback = self._quiet = None
        connection.cut()

    def leave(self) -> None:
        """Take note that the caller has gone; whoever waits for that hears it by `tell`."""
        self.gone = True
        self._connection = self._quiet = None

    def tell(self) -> None:
        """Call back that the caller has gone."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def probe(self) -> bytes:
        """Return bytes that mean nothing to a caller and show whether it is still there; b"" if none do.

        A closed socket answers them with a reset, one that was only shut down for sending does not.
        """
        if self._framing == _UNSTARTED:
            return CONTINUE if self._asked.version == "1.1" else b""
        if self._framing == _CHUNKED and not self._head and self._streams_events():
            return _COMMENT
        return b""

    def _streams_events(self) -> bool:
        headers = self._headers
        lines = headers if isinstance(headers, bytes) else lines_of(headers)
        return b"content-type: text/event-stream" in lines
