"""A provider on a real socket, in a thread of the test: it outlives the gateways that are killed."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Listener(ThreadingHTTPServer):
    """A thread for each connection. One that its client resets is nothing to tell of."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Threaded:
    """Serves as long as the block lasts.

    Args:
        handler: what answers.
        prefix: of its paths.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], prefix: str = "/v1") -> None:
        self._server = Listener(("127.0.0.1", 0), handler)
        self.base = f"http://127.0.0.1:{self._server.server_port}{prefix}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
