"""Volcengine's batch endpoint as it documents it: calls at `/batch`, which wait for their answers.

Not the live one. It refuses what that refuses: another key, streams, a model that is no endpoint for batches.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.threaded import Threaded

KEY = "ark-key"
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
Row = dict[str, Any]
Said = tuple[int, Row, dict[str, str]]


def chat(body: Row) -> Said:
    """Answer as a model does."""
    said = {"role": "assistant", "content": f"answer to {body['messages'][0]['content']}"}
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": "doubao-seed-1-6-250615"}
    choice = {"index": 0, "message": said, "finish_reason": "stop", "logprobs": None}
    return 200, {**head, "service_tier": "default", "choices": [choice], "usage": USAGE}, {}


def vectors(body: Row) -> Said:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    rows = [{"object": "embedding", "index": n, "embedding": [0.5, len(t)]} for n, t in enumerate(texts)]
    usage = {"prompt_tokens": 20, "total_tokens": 20}
    return 200, {"id": "x", "object": "list", "created": 1, "model": "d", "data": rows, "usage": usage}, {}


def error(status: int, code: str, message: str, **headers: str) -> Said:
    shown = {"error": {"code": code, "message": message, "param": "", "type": "BadRequest"}}
    return status, shown, {key.replace("_", "-"): value for key, value in headers.items()}


class BatchEndpoint(Threaded):
    """One provider."""

    def __init__(self) -> None:
        self.answer: Callable[[Row], Said] = chat
        self.hold = threading.Event()  # answers wait for this
        self.hold.set()
        self.bodies: list[Row] = []  # of the calls at the batch endpoint, in their order
        self.times: list[float] = []
        self.calls = 0  # of the usual routes
        self.open = self.most = 0  # calls that wait
        self.gone = 0  # callers who did not wait for their answer
        self.keys = {KEY}
        self.by: set[str] = set()  # whose calls came
        self._lock = threading.Lock()
        super().__init__(_handler(self), "/api/v3")

    def said(self, path: str, body: Row) -> Said:
        if not path.startswith("/api/v3/batch/"):
            self.calls += 1
            return error(400, "Unexpected", "That is no batch")
        with self._lock:
            self.bodies.append(body)
            self.times.append(time.monotonic())
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            self.hold.wait(60)
            if body.get("stream") or not body["model"].startswith("ep-bi-"):
                return error(
                    404, "InvalidEndpointOrModel.NotFound", f"The model {body['model']} does not exist"
                )
            return vectors(body) if path.endswith("/embeddings") else self.answer(body)
        finally:
            with self._lock:
                self.open -= 1


def _handler(endpoint: BatchEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            key = self.headers["authorization"].removeprefix("Bearer ")
            endpoint.by.add(key)
            if key not in endpoint.keys:
                self._say(*error(401, "AuthenticationError", "The API key format is incorrect"))
                return
            said = endpoint.said(self.path, body)
            try:
                self._say(*said)
            except OSError:
                endpoint.gone += 1

        def _say(self, status: int, told: Row, headers: dict[str, str]) -> None:
            data = json.dumps(told).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()

    return Handler
