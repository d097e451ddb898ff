"""One request as it came in, and what the edge refuses of it before anything else looks at it.

The parser (llhttp, strict) has refused what is not HTTP: bare LF, folded lines, spaces before colons,
doubled or odd lengths, length together with chunks. What it lets pass and we do not is here.
"""

from __future__ import annotations

from mmap import mmap
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from headgate.callstate import CallState, set_at_once
from headgate.errors import BodyTooLarge, CallerError, HeadersTooLarge, MediaTypeRefused, MethodRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.channels import SocketLimits
    from headgate.http.callers import Caller
    from headgate.http.unread import Unread
    from headgate.ports import Sink
    from headgate.values import MonotonicNs

# A second one of these lets two readers of one request see two requests.
_SINGLE = (
    b"api-key", b"authorization", b"content-encoding", b"content-length", b"content-type", b"host",
    b"x-api-key",
)  # fmt: skip


class Route(Protocol):
    """Who serves a request. `max_body_bytes` holds before and while the body is read."""

    max_body_bytes: int

    def handle(self, incoming: Incoming, sink: Sink) -> None:
        """Serve one request: answer at once, or start a task that does. Must not block."""
        ...


@runtime_checkable
class SocketRoute(Route, Protocol):
    """A route that serves WebSockets, and so may ask its sink to switch."""

    sockets: SocketLimits


@runtime_checkable
class FileRoute(Route, Protocol):
    """A route that takes forms with files, and reads them through `Incoming.form`."""

    brings_files: Literal[True]

    def begin(self, incoming: Incoming) -> Growing | None:
        """Look at a head before its long form is kept; return what shall keep it, None for a file.

        Raises:
            GatewayError: the request is refused; no more of it is read.
        """
        ...


class Growing(Protocol):
    """What takes a long form as it comes, in place of a file. Its `extend` raises `GatewayError`."""

    @property
    def full(self) -> bool:
        """Say whether nothing more should be read for now."""
        ...

    def __len__(self) -> int:
        """Return how many bytes it was given."""
        ...

    def extend(self, data: bytes) -> None:
        """Take more of the body."""
        ...

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when more can be read."""
        ...

    def close(self) -> None:
        """Forget it: the request was not completed, or nobody will serve it."""
        ...


class RequestHead:
    """The head of a request: shared by all requests of a client that repeats it.

    `path` is decoded and not normalised, so an odd path matches no route; `query` is raw.
    `headers` are in order with lower-case names; `length` is what they announce, 0 if nothing.
    `memo` is who calls, as its route worked it out from this head alone. `unread` refuses calls with it that
    are not looked at, where that was worked out.
    """

    __slots__ = (
        "fields", "headers", "keep_alive", "length", "memo", "method", "path", "query", "route", "switches",
        "target", "unread", "usual", "version",
    )  # fmt: skip
    route: Route

    def __init__(
        self, method: bytes, target: bytes, version: str, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.path, self.query = split_target(target)
        self.keep_alive = False
        self.usual = False  # a POST of HTTP/1.1 whose connection stays open
        self.fields = fields = dict(headers)
        announced = fields.get(b"content-length")
        self.length = int(announced) if announced is not None else 0
        self.memo: Caller | None = None
        self.unread: Unread | None = None
        self.switches = False  # to a WebSocket, which its route serves

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header by its lower-case name; the last one if it came more than once."""
        value = self.fields.get(name)
        return value.rstrip() if value is not None else None  # the parser leaves white space at the end

    @property
    def chunked(self) -> bool:
        """Say whether the body comes in chunks."""
        return b"transfer-encoding" in self.fields

    @property
    def expects_continue(self) -> bool:
        """Say whether the client waits for our word before it sends the body."""
        expect = self.fields.get(b"expect")
        return expect is not None and expect.lower() == b"100-continue" and self.version == "1.1"

    def check(self) -> None:
        """Refuse a head that could be read in two ways, or asks for what is not served here.

        Raises:
            CallerError: not HTTP/1.0 or 1.1, no host, a doubled or odd header.
            MediaTypeRefused: the body is compressed.
        """
        fields = self.fields
        if len(fields) != len(self.headers):
            self._check_doubles()
        if self.version != "1.1":
            self._check_version()
        elif b"host" not in fields:
            raise CallerError("The request has no Host header, which HTTP/1.1 requires.")
        coding = fields.get(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != b"chunked":
            raise CallerError("The Transfer-Encoding of a request can only be `chunked`.")
        coding = fields.get(b"content-encoding")
        if coding is not None and coding.strip().lower() != b"identity":
            raise MediaTypeRefused("Compressed request bodies are not accepted. Send the body as it is.")

    def _check_doubles(self) -> None:
        names = [name for name, _ in self.headers]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise CallerError(f"The request has more than one {name.decode()} header.")
        if len({value.rstrip() for name, value in self.headers if name == b"idempotency-key"}) > 1:
            raise CallerError(
                "The request has more than one 'Idempotency-Key' header, with different values: which of "
                "them names it cannot be known. Send one.",
                param="Idempotency-Key",
                code="invalid_value",
            )

    def _check_version(self) -> None:
        if self.version != "1.0":
            raise CallerError("This port speaks HTTP/1.1.")
        if self.chunked:
            raise CallerError("HTTP/1.0 has no Transfer-Encoding.")

    def check_upgrade(self) -> None:
        """Take an upgrade to WebSocket where the route serves it; others (h2c) are ignored, as HTTP allows.

        Raises:
            CallerError: a WebSocket handshake for another route, or with a body.
            MethodRefused: CONNECT.
        """
        if self.method == b"CONNECT":
            raise MethodRefused("Not allowed to CONNECT. (HINT: this is an API gateway, not a proxy.)")
        if self.fields.get(b"upgrade", b"").strip().lower() != b"websocket":
            return
        if not isinstance(self.route, SocketRoute):
            raise CallerError(
                "WebSocket is served at /v1/realtime alone. Send this request over HTTP; `stream: true` "
                "streams the answer as server-sent events.",
                code="websocket_not_supported",
            )
        if self.length or self.chunked:
            raise CallerError("The request for a WebSocket has a body. Send the first message after the 101.")
        self.switches = True
        self.keep_alive = False  # where it is refused, nothing else follows


@set_at_once
class Incoming(CallState):
    """One request, complete when a route sees it. `length` is what its head announced.

    `spooled` holds the body in place of `body` where it is a long form for a `FileRoute`: mapped, or in
    what the route keeps it in.
    """

    head: RequestHead
    length: int
    received_ns: MonotonicNs
    _new_id: Callable[[], bytes]
    peer: tuple[str, int] | None = None
    body: bytes = b""
    spooled: mmap | Growing | None = None
    _request_id: str = ""

    @property
    def request_id(self) -> str:
        """Return the id of an answer that is not a call's: made when first asked for."""
        if not self._request_id:
            self._request_id = "req_" + self._new_id().hex()
        return self._request_id

    @property
    def form(self) -> bytes | mmap:
        """Return the body, wherever it is."""
        spooled = self.spooled
        return spooled if isinstance(spooled, mmap) else self.body

    @property
    def method(self) -> bytes:
        """Return the method, in upper case."""
        return self.head.method

    @property
    def path(self) -> str:
        """Return the decoded path."""
        return self.head.path

    @property
    def query(self) -> bytes:
        """Return the raw query."""
        return self.head.query

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers; the length is this request's own."""
        rows = self.head.headers
        if self.length == self.head.length:
            return rows
        return [(name, b"%d" % self.length if name == b"content-length" else value) for name, value in rows]


def split_target(target: bytes) -> tuple[str, bytes]:
    """Return the decoded path and the raw query of a request target, in origin or absolute form."""
    path, _, query = target.partition(b"?")
    if not path.startswith(b"/") and b"://" in path:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    if b"%" in path:
        from urllib.parse import unquote_to_bytes

        path = unquote_to_bytes(path)
    return path.decode("utf-8", "replace"), query


def too_large(limit: int) -> BodyTooLarge:
    """Return the refusal of a body above its route's limit."""
    return BodyTooLarge(f"The request body is too large: this route takes at most {limit:,} bytes.")


def head_too_large(limit: int, headers: int = 0) -> HeadersTooLarge:
    """Return the refusal of a request line or headers above the limit."""
    what = f"{headers} headers" if headers else f"{limit:,} bytes"
    return HeadersTooLarge(f"The request line or the headers are too large: at most {what} are taken.")
