"""An object store with signed addresses, at which providers keep answers: a server of its own that speaks TLS.

It is asked by nobody without a signature of the last minute, nor with a credential. It keeps what it was asked,
and `odd` says what it does instead.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import ClassVar, Self
from urllib.parse import parse_qs, urlsplit

from tests.threaded import Threaded
from tests.transport.asking import CA, served_as

_SECRET = b"of the store"


class AnswerStore(Threaded):
    """Where answers lie: `https`, on a port of its own.

    Args:
        files: by their names.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[str, dict[str, str]]] = []  # paths with queries, and headers
        self.odd: Callable[[BaseHTTPRequestHandler], bool] = lambda _: False  # it has answered
        super().__init__(_store(self), "")
        self._server.socket = served_as("local").wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.authority = urlsplit(self.base).netloc

    def address(self, name: str) -> str:
        """Return a signed address, which is another each time."""
        ends = f"{time.time() + 60:.6f}"
        query = f"Expires={ends}&OSSAccessKeyId=LTAIexample&Signature={_signature(name, ends)}"
        return f"https://{self.authority}/outputs/{name}.jsonl?{query}"

    def serve(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Answer a request."""
        self.asked.append((path, headers))
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        name, ends = url.path.removeprefix("/outputs/").removesuffix(".jsonl"), query.get("Expires", "0")
        if {"authorization", "x-api-key", "cookie", "x-headgate-hop"} & set(headers):
            return 400, b"<Error><Code>InvalidArgument</Code></Error>"
        if query.get("Signature") != _signature(name, ends) or float(ends) < time.time():
            return 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        if name not in self.files:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"
        return 200, self.files[name]


def _signature(name: str, ends: str) -> str:
    return hmac.new(_SECRET, f"{name} {ends}".encode(), hashlib.sha256).hexdigest()


def _store(store: AnswerStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            try:
                super().handle()
            except ssl.SSLError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            if store.odd(self):
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, data = store.serve(self.path, headers)
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


class KeepsAnswers:
    """What a provider has whose answers lie at such a store; before its other bases."""

    environment: ClassVar = {"SSL_CERT_FILE": CA}
    store: AnswerStore

    def __enter__(self) -> Self:
        self.store.__enter__()
        return super().__enter__()  # type: ignore[misc]

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[misc]
        self.store.__exit__(*error)
