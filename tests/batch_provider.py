"""A provider with a batch API of its own: `/v1/files` and `/v1/batches` as OpenAI documents them, on a real socket.

It is a thread of the test, so it outlives the gateways that are killed. `answer` says what becomes of a line;
a batch ends as soon as `ends` says how (None: not yet). It refuses what OpenAI refuses: no key, a form without
the purpose, lines that are none, a file that it does not have.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.threaded import Threaded

KEY = "sk-the-providers-own"
Line = dict[str, Any]
USAGE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}


def chat(line: Line) -> tuple[int, Line]:
    """Answer a line as a model does."""
    said = {"role": "assistant", "content": f"answer to {line['body']['messages'][0]['content']}"}
    choice = {"index": 0, "message": said, "finish_reason": "stop", "logprobs": None}
    model = line["body"]["model"]
    head = {"id": "chatcmpl-x", "object": "chat.completion", "created": 1, "model": model}
    return 200, {**head, "choices": [choice], "usage": USAGE}


class BatchProvider(Threaded):
    """One provider, with its files and its batches."""

    def __init__(self) -> None:
        self.answer: Callable[[Line], tuple[int, Line] | None] = chat  # None: the line is not run
        self.ends: str | None = "completed"
        self.refuse: dict[str, tuple[int, Line]] = {}  # by what is asked: status and body
        self.refuse_line = ""  # no batch with a line of this custom_id is made
        self.spoil: Callable[[list[Line]], list[Line]] = list  # what becomes of the lines of answers
        self.lose_create = 0  # so many batches are made, and their makers hear nothing
        self.asked: list[str] = []
        self.calls = 0  # of the usual routes
        self.files: dict[str, bytes] = {}
        self.removed: set[str] = set()  # of these
        self.batches: dict[str, Line] = {}
        super().__init__(_handler(self))

    @property
    def lines(self) -> list[Line]:
        """Return the lines of the newest input."""
        batch = list(self.batches.values())[-1]
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def upload(self, kind: str, body: bytes) -> tuple[int, Line]:
        form = BytesParser().parsebytes(b"Content-Type: %b\r\n\r\n%b" % (kind.encode(), body))
        parts = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
        if set(parts) != {"purpose", "file"} or parts["purpose"].get_payload() != "batch":
            return 400, error("Invalid purpose")
        name = f"file-there{len(self.files)}"
        self.files[name] = parts["file"].get_payload(decode=True)
        return 200, {"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch"}

    def create(self, asked: Line) -> tuple[int, Line]:
        if asked["input_file_id"] not in self.files or asked["completion_window"] != "24h":
            return 400, error(f"No such file {asked['input_file_id']}")
        for line in self.files[asked["input_file_id"]].splitlines():
            if json.loads(line)["url"] != asked["endpoint"]:
                return 400, error("url mismatch")
            if json.loads(line)["custom_id"] == self.refuse_line:
                return 400, error(f"Line {self.refuse_line} is refused")
        name = f"batch_there{len(self.batches)}"
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "status": "in_progress",
            "created_at": int(time.time()),
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            **asked,
        }
        return 200, self.batches[name]

    def look(self, name: str) -> tuple[int, Line]:
        batch = self.batches.get(name)
        if batch is None:
            return 404, error("No such batch")
        if self.ends and batch["status"] in {"in_progress", "cancelling"}:
            self._end(batch, "cancelled" if batch["status"] == "cancelling" else self.ends)
        return 200, batch

    def _end(self, batch: Line, how: str) -> None:
        batch["status"] = how
        if how == "failed":
            wrong = {"code": "invalid_json_line", "message": "Line 1 is wrong", "param": None, "line": 1}
            batch["errors"] = {"object": "list", "data": [wrong]}
            return
        rows: dict[str, list[Line]] = {"output_file_id": [], "error_file_id": []}
        for line in reversed([json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]):
            said = self.answer(line)
            head = {"id": f"batch_req_{line['custom_id']}", "custom_id": line["custom_id"]}
            if said is None:
                why = {"code": f"batch_{how}", "message": "It was not executed."}
                untold = how == "completed"  # which never is so, if all is well
                rows["error_file_id"] += [] if untold else [{**head, "response": None, "error": why}]
                continue
            which = "output_file_id" if said[0] < 300 else "error_file_id"
            response = {"status_code": said[0], "request_id": "req_there", "body": said[1]}
            rows[which].append({**head, "response": response, "error": None})
        rows["output_file_id"] = self.spoil(rows["output_file_id"])
        for which, found in rows.items():
            if found:
                batch[which] = f"file-there{len(self.files)}"
                self.files[batch[which]] = "".join(f"{json.dumps(row)}\n" for row in found).encode()

    def cancel(self, name: str) -> tuple[int, Line]:
        batch = self.batches[name]
        if batch["status"] != "in_progress":
            return 409, error(f"Cannot cancel a batch with status '{batch['status']}'")
        batch["status"] = "cancelling"
        return 200, batch

    def listed(self, query: str) -> tuple[int, Line]:
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        names = list(reversed(self.batches))
        if "after" in asked:
            names = names[names.index(asked["after"]) + 1 :]
        most = int(asked.get("limit", 20))
        page = [self.batches[name] for name in names[:most]]
        return 200, {"object": "list", "data": page, "has_more": len(names) > most}


def error(message: str) -> Line:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def _handler(provider: BatchProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._answer(b"")

        def do_DELETE(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("content-length") or 0)))

        def _answer(self, body: bytes) -> None:
            url = urlsplit(self.path)
            words = url.path.removeprefix("/v1/").split("/")
            name = f"{self.command} {words[0]}{'/cancel' if words[-1] == 'cancel' else ''}"
            provider.asked.append(name)
            if self.headers["authorization"] != f"Bearer {KEY}":
                self._say(401, error("Incorrect API key"))
            elif name in provider.refuse:
                self._say(*provider.refuse[name])
            elif words[0] == "files" and words[1:2] and words[1] in provider.removed:
                self._say(404, error("No such File object"))
            elif name == "DELETE files":
                provider.removed.add(words[1])
                self._say(200, {"id": words[1], "object": "file", "deleted": True})
            elif words[-1] == "content":
                self._send(200, provider.files[words[1]])
            elif name == "POST batches" and provider.lose_create:
                provider.lose_create -= 1
                provider.create(json.loads(body))
                self.close_connection = True
                self.connection.close()
            else:
                self._say(*self._served(name, words, url.query, body))

        def _served(self, name: str, words: list[str], query: str, body: bytes) -> tuple[int, Line]:
            match name:
                case "POST files":
                    return provider.upload(self.headers["content-type"], body)
                case "POST batches":
                    return provider.create(json.loads(body))
                case "POST batches/cancel":
                    return provider.cancel(words[1])
                case "GET batches":
                    return provider.look(words[1]) if len(words) > 1 else provider.listed(query)
            provider.calls += 1
            return chat({"body": json.loads(body)})

        def _say(self, status: int, told: Line) -> None:
            self._send(status, json.dumps(told).encode())

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
