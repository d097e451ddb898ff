"""One HTTP/1.1 answer, parsed as its bytes arrive. No I/O.

llhttp (through httptools) is strict about lines, chunk sizes, and length beside chunked; it bounds
nothing, so the bounds are here. Headers are split from the raw head once llhttp has accepted it, which
costs half of a callback for each. An answer has a parser of its own: nothing of it can reach the next
answer on the same connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from headgate.callstate import CallState, set_at_once
from headgate.ports import Head
from headgate.transport.decoding import Inflater
from headgate.transport.faults import Malformed

if TYPE_CHECKING:
    from headgate.wire.known import KnownHeads

_BODILESS = (204, 304)
_INFLATED = (b"content-encoding", b"content-length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of an answer is taken."""

    head_bytes: int = 64 * 1024
    headers: int = 200
    interim: int = 10  # 1xx answers before the final one
    body_bytes: int = 64 * 1024 * 1024  # of anything but an event stream


@dataclass(frozen=True, slots=True)
class Proven:
    """What a head means that was accepted with its whole body, on a connection that stayed open."""

    head: Head  # without its length: that is each answer's own
    keep_alive: bytes | None


@set_at_once
class Answer(CallState):
    """What has arrived of one answer: `head`, unread bytes of the body, whether it is `complete`.

    `reusable` says, once complete, that the connection may carry another exchange: the body ended by
    its framing, nothing followed it, and neither side wants to close.

    Args:
        bounds: how much is taken.
        known: heads of the same host, for `recognised`; one that is accepted is added to them.
    """

    _bounds: Bounds
    _known: KnownHeads[Proven] | None = None
    head: Head | None = None
    keep_alive: bytes | None = None  # the header, as it came
    _first: bytes = b""  # unread
    unread: int = 0
    received: int = 0
    complete: bool = False
    reusable: bool = False
    _closed: bool = False  # nothing more is expected
    _more: list[bytes] | None = None  # unread, behind the first
    until_close: bool = False
    _parser: HttpResponseParser | None = None
    # While there is a parser:
    _raw: bytes = b""  # what arrived until the head was complete
    _start: int = 0  # where in it the head begins, behind interim ones
    _inflater: Inflater | None = None
    _interim: int = 0
    _body: int = 0
    _room: int = 0
    _silent: int = 0  # bytes since the body last grew
    _sized: bool = False
    _tail: bytes = b""  # the last bytes of a sized body, as they came

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection, cut anywhere.

        Raises:
            Malformed: they are no answer, or exceed a bound. What was read of the body before stays.
        """
        if self._parser is not None:
            self.received += len(data)
            self._parse(data, self._parser)
        elif self._closed:
            self.received += len(data)
            self.reusable = False
        else:
            self.received = len(data)
            self._parse(data, self._begin())

    def _learn(self, data: bytes) -> None:
        """Keep the head of an answer that came in one piece and left its connection usable."""
        head = self.head
        if self._known is None or head is None or head.status != 200 or self.received != len(data):
            return
        if self.reusable and self._sized and not self._interim and self._inflater is None:
            rest = tuple(pair for pair in head.headers if pair[0] != b"content-length")
            self._known.learn(data, Proven(Head(200, rest, head.rated), self.keep_alive))

    def _begin(self) -> HttpResponseParser:
        self._room = self._bounds.body_bytes
        self._parser = HttpResponseParser(self)
        return self._parser

    def _parse(self, data: bytes, parser: HttpResponseParser) -> None:
        if self.head is None:
            self._raw += data
        before = self._body
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.complete:
                raise _reason(error) from None
            self.reusable = False
        if self._body > self._room:
            raise Malformed(f"its body is longer than {self._room} bytes")
        if self.complete:
            self._close(data)
        elif self._body != before:
            self._silent = 0
        else:
            self._silent += len(data)
            if self._silent > self._bounds.head_bytes:
                raise Malformed("its head or trailer is too long")

    def _close(self, last: bytes) -> None:
        self._closed = True
        self._parser = None  # it refers back to this object
        # The parser skips line ends between answers; they too are surplus.
        if last.endswith(b"\r\n\r\n\r\n") or not last.endswith(self._tail):
            self.reusable = False
        self._learn(last)

    def end(self) -> None:
        """Take the end of the connection, closed in order by the other side.

        Raises:
            Malformed: the answer was not complete.
        """
        if self.complete:
            return
        if not self.until_close:
            raise Malformed("it closed the connection in mid-answer")
        if self._inflater is not None:
            self._inflater.finish()
        self.complete = self._closed = True
        self._parser = None

    def take(self) -> bytes:
        """Return the unread bytes of the body."""
        first, self._first, self.unread = self._first, b"", 0
        if self._more is None:
            return first
        more, self._more = self._more, None
        return b"".join((first, *more))

    def drop(self) -> None:
        """Forget everything: nobody will read it."""
        self._first = b""
        self._more = self._parser = self.head = None
        self._closed = True
        self.unread = 0
        self.complete = self.reusable = False

    # ── called by the parser ────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self.complete:
            raise Malformed("bytes follow its answer")

    def on_headers_complete(self) -> None:
        """Read the head and settle the framing, or skip an interim answer."""
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        start = self._start
        end = self._raw.find(b"\r\n\r\n", start)
        if not self._raw.startswith(b"HTTP/1.", start):  # the parser would skip empty lines before it
            raise Malformed("it is not HTTP/1")
        if end - start > self._bounds.head_bytes:
            raise Malformed(f"its head is longer than {self._bounds.head_bytes} bytes")
        raw = self._raw[start:end]
        lines = raw.split(b"\r\n")
        if len(lines) - 1 > self._bounds.headers:
            raise Malformed(f"it has more than {self._bounds.headers} headers")
        if not 200 <= status < 600:
            self._skip(status, end + 4)
            return
        self._raw = b""
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers.append((name.lower(), value.strip()))
        self._frame(status, dict(headers))
        if self._inflater is not None:
            headers = [pair for pair in headers if pair[0] not in _INFLATED]
        self.head = Head(status, tuple(headers), b"atelimit-r" in raw or b"ateLimit-R" in raw)

    def _frame(self, status: int, fields: dict[bytes, bytes]) -> None:
        coding = fields.get(b"transfer-encoding")
        length = fields.get(b"content-length")
        if coding is not None and coding.strip().lower() != b"chunked":
            raise Malformed("it uses a transfer coding other than chunked")
        if fields.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            self._room = 1 << 62  # read as it comes, so back-pressure and time bound it
        elif length is not None and int(length) > self._room:
            raise Malformed(f"its body is longer than {self._room} bytes")
        self._sized = length is not None
        self.until_close = coding is None and length is None and status not in _BODILESS
        content = fields.get(b"content-encoding")
        if content is not None and content.strip().lower() != b"identity":
            self._inflater = Inflater(content, self._bounds.body_bytes)
        self.keep_alive = fields.get(b"keep-alive")

    def _skip(self, status: int, end: int) -> None:
        self._start = end
        self._interim += 1
        if not 100 <= status < 200:
            raise Malformed("its status is none of HTTP")
        if self._interim > self._bounds.interim:
            raise Malformed("it sends interim answers without end")

    def on_body(self, data: bytes) -> None:
        """Keep bytes of the body."""
        if self._sized:
            self._tail = data
        if self._inflater is not None:
            data = self._inflater.feed(data)
        size = len(data)
        if not size:
            return
        if not self.unread:
            self._first = data
        elif self._more is None:
            self._more = [data]
        else:
            self._more.append(data)
        self._body += size
        self.unread += size

    def on_message_complete(self) -> None:
        """Mark the end of the body, or of an interim answer."""
        parser = self._parser
        assert parser is not None
        if self.head is None:
            self._silent = 0
            return
        if self._inflater is not None:
            self._inflater.finish()
        self.complete = True
        self.reusable = parser.should_keep_alive()


def recognised(data: bytes, bounds: Bounds, known: KnownHeads[Proven]) -> Answer | None:
    """Return the whole answer that some bytes are, if its head is known: it needs no parser."""
    found = known.find(data)
    if found is None:
        return None
    proven, size, length = found
    received = len(data)
    if size + length != received or length > bounds.body_bytes:
        return None
    return Answer(
        bounds, known, proven.head, proven.keep_alive, data[size:], length, received, True, True, True
    )


def _reason(error: Exception) -> Malformed:
    """Return what stopped the parser; one of our own bounds is the context of its error."""
    if isinstance(error, HttpParserUpgrade):
        return Malformed("it switches to another protocol")
    if isinstance(error, HttpParserCallbackError):
        own = error.__context__
        if isinstance(own, Malformed):
            return own
    return Malformed(f"its framing is broken ({str(error).lower()})")
