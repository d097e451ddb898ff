"""Bytes to requests: what the parser calls back, and the limits that hold while it reads.

Per request the parser calls for the target, each header, the end of the head, the body and the end.
A request whose head is known (`wire/known.py`), alone in one read or in two cut behind the head, never
meets the parser, which is then between two requests before and after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import httptools

from headgate.errors import CallerError, GatewayError, Internal
from headgate.http.incoming import FileRoute, Growing, Incoming, RequestHead, head_too_large, too_large
from headgate.http.spool import Spool
from headgate.wire.forms import is_form

if TYPE_CHECKING:
    from headgate.http.edge import Edge

_SLICE = 64 * 1024  # parsed at once: bounds how many requests one read can hold
_SPOOLED = 256 * 1024  # a longer form goes into a file
_CHUNK_OVERHEAD = 8  # bytes on the wire per byte of a chunked body, beyond two slices
_ONCE = frozenset({b"upgrade", b"idempotency-key", b"last-event-id"})  # in heads that do not come again
_GARBLED = "We could not parse this as an HTTP/1.1 request. {}."


class Intake:
    """The reading half of a connection.

    `ready` holds what is complete, in order; an error in it is the last entry, and nothing is parsed
    after it (`ended`). `partial` is a request whose head is complete and whose body is not.
    """

    __slots__ = (
        "_begun", "_body", "_edge", "_fed", "_head_bytes", "_headers", "_parser", "_target", "_unparsed",
        "ended", "partial", "peer", "ready", "received", "surplus",
    )  # fmt: skip

    def __init__(self, edge: Edge) -> None:
        self.ready: list[Incoming | GatewayError] = []
        self.partial: Incoming | None = None
        self.ended = False
        self.received = 0  # bytes read since the head of `partial` was complete
        self.peer: tuple[str, int] | None = None
        self._edge = edge
        self._parser: httptools.HttpRequestParser | None = None  # made when bytes come that need it
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: bytes | bytearray | Spool | Growing = b""
        self._head_bytes = 0
        self._fed = 0  # bytes that the parser has had since it was last between two requests
        self._begun = b""  # the first of them
        self._unparsed = b""  # the known head of `partial`, as it came
        self.surplus = b""  # what came behind a request to switch protocols

    @property
    def in_head(self) -> bool:
        """Say whether a head has begun and is not complete."""
        return self._head_bytes > 0 or bool(self._target)

    def feed(self, data: bytes) -> bytes:
        """Parse bytes; return those of a long read that were left for later."""
        if not self._fed:
            # A part of a body behind a known head is not looked at by itself: it may be a request, too.
            found = None if self._unparsed and self.partial is None else self.recognise(data)
            if found is not None:
                if found is not True:
                    self.ready.append(found)
                return b""
            data = self._unparsed + data
            self._unparsed = b""
            self._begun = data
        rest = b""
        if len(data) > _SLICE and self._missing() < len(data):
            rest = data[_SLICE:]
            data = data[:_SLICE]
        before = self.partial
        self._head_bytes += len(data)
        self.received += len(data)
        self._fed += len(data)
        self._parse(data)
        if self.ready:
            self._head_bytes = 0
            self._learn()
        elif self.partial is None:
            self._check_partial_head(data)
        elif self.partial is before:
            self._check_overhead()
        else:
            self._head_bytes = 0
        return rest

    def recognise(self, data: bytes) -> Incoming | Literal[True] | None:
        """Take a request, a head or a body that needs no parser.

        Returns:
            The request where it is complete, which is then not `ready`; True: it was a head; None: neither.
        """
        if self._fed or self.ended:
            return None
        if self.partial is not None:  # its head was known
            return self._complete(self.partial, data)
        edge = self._edge
        known = edge.known.find(data)
        if known is None:
            return None
        head, size, length = known
        if length > head.route.max_body_bytes:
            return None
        body = data[size:]
        incoming = Incoming(head, length, edge.monotonic(), edge.new_id, self.peer, body)
        if len(body) == length:
            return incoming
        return None if body else self._begin(incoming, data)

    def _begin(self, incoming: Incoming, head: bytes) -> Literal[True]:
        """Wait for the body behind a known head."""
        self.partial = incoming
        self._unparsed = head
        self.received = 0
        return True

    def _complete(self, incoming: Incoming, body: bytes) -> Incoming | None:
        self.partial = None
        if len(body) != incoming.length:
            return None
        self._unparsed = b""
        incoming.body = body
        return incoming

    def _finish(self, incoming: Incoming, body: bytes) -> None:
        incoming.body = body
        self.partial = None
        self._unparsed = b""
        self.ready.append(incoming)

    def _learn(self) -> None:
        """Keep the head of a request that came alone; the parser is then between two requests."""
        only = self.ready[0]
        if len(self.ready) > 1 or not isinstance(only, Incoming) or self.partial is not None:
            return
        end = self._begun.find(b"\r\n\r\n")
        head = only.head
        if end >= 0 and end + 4 + only.length == self._fed and not head.chunked:
            self._fed = 0
            again = _ONCE.isdisjoint(head.fields)
            if again and head.keep_alive and not head.expects_continue:
                self._edge.known.learn(self._begun, head)
        self._begun = b""

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        while self._parser is not None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                end_of_head = upgrade.args[0]
            except httptools.HttpParserError as error:
                self._break(error)
                return
            else:
                return
            # Outside the `except`, where it would become the context of the next error.
            data = data[end_of_head:]
            if self.partial is not None and self.partial.head.switches:
                self._switch(self.partial, data)
            else:
                self._ignore_upgrade()

    def end(self) -> None:
        """Parse nothing more; drop what has not been served."""
        self.ended = True
        self.partial = None
        self._parser = None  # it refers back to us
        if not isinstance(self._body, (bytes, bytearray)):
            self._body.close()
        self._body = b""
        for item in self.ready:
            if isinstance(item, Incoming) and item.spooled is not None:
                item.spooled.close()
        self.ready.clear()

    @property
    def behind(self) -> Growing | None:
        """Return what the body grows in, where that is full."""
        body = self._body
        if isinstance(body, (bytes, bytearray, Spool)):
            return None
        return body if body.full else None

    # ── called by the parser ────────────────────────────────────────────────────────────────────

    def on_url(self, url: bytes) -> None:
        """Take the request target, or a part of it."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those of a trailer are dropped when the message ends."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head and find its route, before the body is read.

        Raises:
            GatewayError: the request is refused; httptools hands it on as the context of its own error.
        """
        headers, self._headers = self._headers, []
        target, self._target = self._target, b""
        if self.partial is not None:  # the head that `_ignore_upgrade` made up
            return
        parser = self._parser
        assert parser is not None
        edge = self._edge
        self._check_size(target, headers)
        head = RequestHead(parser.get_method(), target, parser.get_http_version(), headers)
        head.check()
        head.keep_alive = parser.should_keep_alive()
        head.usual = head.keep_alive and head.version == "1.1" and head.method == b"POST"
        route = head.route = edge.route(head.method, head.path)
        if parser.should_upgrade():
            head.check_upgrade()
        if head.length > route.max_body_bytes:
            raise too_large(route.max_body_bytes)
        incoming = Incoming(head, head.length, edge.monotonic(), edge.new_id, self.peer)
        self.partial = incoming
        self.received = 0
        self._body = b""

    def on_body(self, data: bytes) -> None:
        """Take a part of the body.

        Raises:
            GatewayError: it grows beyond its route's limit, is refused by it, or cannot be kept.
        """
        body, incoming = self._body, self.partial
        if not body:
            self._body = body = data
        elif isinstance(body, bytes):
            longer = self._begin_long(incoming)
            longer.extend(body)
            longer.extend(data)
            self._body = body = longer
        else:
            body.extend(data)
        if incoming is not None and len(body) > incoming.head.route.max_body_bytes:
            raise too_large(incoming.head.route.max_body_bytes)

    def _begin_long(self, incoming: Incoming | None) -> bytearray | Spool | Growing:
        """Return what a body grows in that comes in parts: of a long form a file, or its route's own."""
        if incoming is not None:
            head = incoming.head
            long = head.chunked or head.length > _SPOOLED
            if long and is_form(head.header(b"content-type") or b"") and isinstance(head.route, FileRoute):
                own = head.route.begin(incoming)
                return own if own is not None else Spool(self._edge.limits.spool_folder)
        return bytearray()

    def on_message_complete(self) -> None:
        """Put the request in line."""
        parser, incoming = self._parser, self.partial
        assert parser is not None
        assert incoming is not None
        if self._headers:
            self._headers = []
        if parser.should_upgrade():  # the parser stops here, before any body
            return
        self.partial = None
        body, self._body = self._body, b""
        if isinstance(body, (bytes, bytearray)):
            incoming.body = bytes(body)
        else:
            incoming.spooled = body.whole() if isinstance(body, Spool) else body
        self.ready.append(incoming)

    # ── limits and refusals ─────────────────────────────────────────────────────────────────────

    def _missing(self) -> int:
        """Return how many bytes of the body are still to come, 0 where that is not known."""
        return self.partial.length - len(self._body) if self.partial is not None else 0

    def _check_size(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        limits = self._edge.limits
        if len(target) > limits.max_target_bytes:
            raise head_too_large(limits.max_target_bytes)
        if len(headers) > limits.max_headers:
            raise head_too_large(limits.max_head_bytes, limits.max_headers)
        # The sum is only needed where so much came at all.
        if self._head_bytes > limits.max_head_bytes:
            size = sum(len(name) + len(value) + 4 for name, value in headers)
            if size > limits.max_head_bytes:
                raise head_too_large(limits.max_head_bytes)

    def _check_partial_head(self, data: bytes) -> None:
        if self._head_bytes == len(data) and not data.strip():
            self._head_bytes = 0  # an empty line before a request means nothing
        limits = self._edge.limits
        if self._head_bytes > limits.max_head_bytes + limits.max_target_bytes:
            self._refuse(head_too_large(limits.max_head_bytes))

    def _check_overhead(self) -> None:
        """Refuse chunks that are nearly all framing, and trailers without end."""
        if self.received > 2 * _SLICE + _CHUNK_OVERHEAD * len(self._body):
            self._refuse(CallerError(_GARBLED.format("Its chunks are too small or its trailer is too long")))

    def _refuse(self, error: GatewayError) -> None:
        self.ended = True
        self.ready.append(error)

    def _break(self, error: httptools.HttpParserError) -> None:
        """Put the refusal of what broke the parser in line."""
        last = self.ready[-1] if self.ready else None
        cause = error.__context__
        if isinstance(last, Incoming) and not last.head.keep_alive:
            self.ended = True  # the client said that nothing would follow
        elif isinstance(cause, GatewayError):
            self._refuse(cause)
        elif cause is not None:
            self._edge.events.fault("edge", cause)
            self._refuse(Internal("The server had an error while processing your request."))
        else:
            self._refuse(CallerError(_GARBLED.format(error)))

    def _switch(self, incoming: Incoming, rest: bytes) -> None:
        """Put a request for another protocol in line: no request follows it, but what its route reads."""
        self._parser = None
        self.surplus = rest
        self._finish(incoming, b"")

    def _ignore_upgrade(self) -> None:
        """Go on as if no upgrade had been asked for (h2c): the parser left the body to somebody else.

        A new parser is given a head of the same framing, which `on_headers_complete` drops.
        """
        incoming = self.partial
        assert incoming is not None
        self._parser = httptools.HttpRequestParser(self)
        framing = b"content-length: %d" % incoming.length
        if incoming.head.chunked:
            framing = b"transfer-encoding: chunked"
        self._parser.feed_data(b"POST / HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % framing)
