"""A provider on a real socket, in a thread of the test: it outlives the gateways that are killed."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Threaded:
    """Serves as long as the block lasts.

    Args:
        handler: what answers.
        prefix: of its paths.
    """

    def __init__(self, handler: type[BaseHTTPRequestHandler], prefix: str = "/v1") -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_port}{prefix}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
