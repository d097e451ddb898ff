"""The bytes of a request. What does not change between calls is rendered once per host and headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headgate.errors import Internal

if TYPE_CHECKING:
    from headgate.ports import Request

_PREFIXES = 256  # rendered heads per host
_PATH = re.compile(r"/[!-~]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_OWN = frozenset({"host", "content-length", "transfer-encoding", "connection", "x-client-request-id"})


class Writer:
    """Write requests to one host."""

    __slots__ = ("_authority", "_prefixes", "label")

    def __init__(self, authority: str, label: str) -> None:
        self._authority = authority
        self.label = label
        # By the headers as an object, kept with what is rendered: comparing them costs more than the rest.
        self._prefixes: dict[tuple[str, str, int], tuple[bytes, tuple[tuple[str, str], ...]]] = {}

    def head(self, request: Request, length: int, behind: bytes = b"") -> bytes:
        """Return the head of a request, its closing blank line included, and what is to follow it.

        Args:
            request: what is asked.
            length: of its whole body.
            behind: the body, if it is short.

        Raises:
            Internal: the method, the path, a header or the request id cannot stand in a head.
        """
        headers = request.headers
        known = self._prefixes.get((request.method, request.path, id(headers)))
        prefix = self._keep(request) if known is None else known[0]
        request_id = request.request_id
        if not (request_id.isascii() and request_id.isprintable()):
            raise self._refused("the request id")
        return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (prefix, request_id.encode(), length, behind)

    def _keep(self, request: Request) -> bytes:
        """Render what heads of requests like this begin with, and keep it with its headers."""
        method, path, headers = request.method, request.path, request.headers
        prefix = self._render(method, path, headers)
        if len(self._prefixes) >= _PREFIXES:
            self._prefixes.clear()
        self._prefixes[method, path, id(headers)] = (prefix, headers)
        return prefix

    def handshake(self, request: Request, key: str) -> bytes:
        """Return the head of a request for a WebSocket (RFC 6455, 4.1).

        Raises:
            Internal: the path or a header cannot stand in a head.
        """
        prefix = self._render(request.method, request.path, request.headers)
        return (
            b"%b%b\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: %b\r\n\r\n"
        ) % (prefix, request.request_id.encode(), key.encode())

    def _render(self, method: str, path: str, headers: tuple[tuple[str, str], ...]) -> bytes:
        if _NAME.fullmatch(method) is None or _PATH.fullmatch(path) is None:
            raise self._refused("the request line")
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._authority}"]
        for name, value in headers:
            if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None or name.lower() in _OWN:
                raise self._refused(f"the header {name!r}")
            lines.append(f"{name}: {value}")
        if all(name.lower() != "accept-encoding" for name, _ in headers):
            lines.append("accept-encoding: identity")
        return "\r\n".join([*lines, "x-client-request-id: "]).encode("latin-1")

    def _refused(self, what: str) -> Internal:
        message = f"The request to the provider cannot be written: {what} is not allowed in HTTP."
        return Internal(message).at(self.label)
