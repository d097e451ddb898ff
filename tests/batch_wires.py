"""Providers whose batch APIs have wires of their own, each as its maker documents it, on a real socket.

None of them is the live one. Each refuses what its maker refuses: another key, another version, an id that it
does not take, a file that is not there or not ready. `answer` says what becomes of a request, by its number
among ours and its body: status and text; None: it is not run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.threaded import Threaded

KEY = "the-providers-own-key"
Row = dict[str, Any]
Answer = tuple[int, str] | None


class Wire(Threaded):
    """One provider. A thread of the test, so it outlives the gateways that are killed."""

    kind = ""
    credential = f'api_key = "{KEY}"'  # how the settings say it
    more = ""  # lines of its row in the settings
    key = "custom_id"  # the member of an answer that says whose it is
    bucket = False  # lines and answers lie in a bucket
    prefix = ""  # of its paths
    environment: ClassVar[dict[str, str]] = {}  # of a gateway that asks it

    def __init__(self) -> None:
        self.answer: Callable[[int, Row], Answer] = lambda n, body: (200, f"answer to {n}")
        self.ends: str | None = "completed"  # None: not yet
        self.refuse: dict[str, tuple[int, str]] = {}  # by what is asked: a status and a message
        self.spoil: Callable[[list[Row]], list[Row]] = lambda rows: list(reversed(rows))
        self.refuse_line = 0  # no batch with our line of this number is made
        self.lose_create = 0  # so many batches are made, and their makers hear nothing
        self.asked: list[str] = []
        self.calls = 0  # of the usual routes
        self.files: dict[str, bytes] = {}
        self.removed: set[str] = set()  # of these, where it keeps them
        self.batches: dict[str, Row] = {}
        super().__init__(_handler(self), self.prefix)

    def known(self, headers: Any, query: Row) -> bool:
        """Say whether who asks may."""
        raise NotImplementedError

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        """Answer a request."""
        raise NotImplementedError

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        """Refuse as this one does."""
        raise NotImplementedError

    def refused(self, what: str, status: int, message: str) -> tuple[int, Row | bytes]:
        """Refuse what was asked for, where kinds of it are refused in kinds of ways."""
        del what
        return self.refusal(status, message)

    def makes(self, what: str) -> bool:
        """Say whether a request makes a batch."""
        raise NotImplementedError

    def owned(self, row: Row, key: str) -> Row:
        """Return an answer as if it were another's."""
        return {**row, self.key: key}

    def called(self) -> tuple[int, Row]:
        self.calls += 1
        return 200, {}

    def ending(self, batch: Row) -> str | None:
        """Return how a batch ends now."""
        if batch["state"] != "open" or self.ends is None:
            return None
        return "cancelled" if batch["cancelled"] else self.ends

    def gone(self, what: str) -> tuple[int, Row | bytes] | None:
        """Answer what is asked of a file that is removed, or is to be; None: something else is asked."""
        method, path = what.split(" ")
        name = path.removesuffix("/content").rpartition("/")[2]
        if self.bucket or "/files/" not in path or (method != "DELETE" and name not in self.removed):
            return None
        if name not in self.files.keys() - self.removed:
            return self.refusal(404, "No such file")
        self.removed.add(name)
        return 200, {"id": name, "object": "file", "deleted": True}

    def cancelled(self) -> int:
        return sum(each["cancelled"] for each in self.batches.values())


def message(model: str, text: str) -> Row:
    """Return what Claude says."""
    usage = {"input_tokens": 20, "output_tokens": 10, "service_tier": "batch"}
    return {
        "id": "msg_there", "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {**usage, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }  # fmt: skip


def error(status: int, text: str) -> Row:
    """Return how Claude refuses."""
    kinds = {401: "authentication_error", 404: "not_found_error", 413: "request_too_large"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": text}}


class MessageBatches(Wire):
    """Anthropic's: a batch is made with its requests."""

    kind = "anthropic"
    prefix = "/v1"
    _ROUTE = "/v1/messages/batches"

    def known(self, headers: Any, query: Row) -> bool:
        return headers["x-api-key"] == KEY

    def makes(self, what: str) -> bool:
        return what == f"POST {self._ROUTE}"

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        return status, {**error(status, message), "request_id": "req_there"}

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        if headers["anthropic-version"] not in {"2023-06-01", "2026-10-21"}:
            return self.refusal(400, "anthropic-version: header is required")
        method, path = what.split(" ")
        words = path.removeprefix(self._ROUTE).strip("/").split("/")
        if not path.startswith(self._ROUTE):
            return self.called()
        if words == [""]:
            version = headers["anthropic-version"]
            return self._make(json.loads(body), version) if method == "POST" else self._list(query)
        return self._one(self.batches[words[0]], words)

    def _one(self, batch: Row, words: list[str]) -> tuple[int, Row | bytes]:
        if words[1:] == ["cancel"]:
            batch["cancelled"] = True
        elif words[1:] == ["results"]:
            return 200, "".join(f"{json.dumps(row)}\n" for row in batch["results"]).encode()
        else:
            self._see(batch)
        return 200, self._shown(batch)

    def _make(self, asked: Row, version: str) -> tuple[int, Row | bytes]:
        names = [each["custom_id"] for each in asked["requests"]]
        if not all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names) or len(set(names)) < len(
            names
        ):
            return self.refusal(400, "requests.0.custom_id: it is none")
        if any(name.endswith(f"-{self.refuse_line}") for name in names):
            return self.refusal(400, f"Line {self.refuse_line} is refused")
        name = f"msgbatch_{len(self.batches):03}"
        made = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.batches[name] = {
            "id": name, "state": "open", "cancelled": False, "made": made, "requests": asked["requests"],
            "results": [], "version": version,
        }  # fmt: skip
        return 200, self._shown(self.batches[name])

    def _list(self, query: Row) -> tuple[int, Row]:
        names = list(reversed(self.batches))
        if "after_id" in query:
            names = names[names.index(query["after_id"]) + 1 :]
        page = names[: int(query.get("limit", 20))]
        for name in page:
            self._see(self.batches[name])
        data = [self._shown(self.batches[name]) for name in page]
        ends = {"first_id": page[0], "last_id": page[-1]} if page else {"first_id": None, "last_id": None}
        return 200, {"data": data, "has_more": len(names) > len(page), **ends}

    def _see(self, batch: Row) -> None:
        how = self.ending(batch)
        if how is None:
            return
        batch["state"] = "ended"
        rows = [
            {"custom_id": each["custom_id"], "result": self._result(each, how)} for each in batch["requests"]
        ]
        batch["results"] = self.spoil(rows)

    def _result(self, request: Row, how: str) -> Row:
        params = request["params"]
        samples = {"temperature", "top_p", "top_k"} & set(params)
        said = self.answer(int(request["custom_id"].rpartition("-")[2]), params)
        if said is None:
            return {"type": "canceled" if how == "cancelled" else "expired"}
        if said[0] != 200:
            return {"type": "errored", "error": error(*said)}
        assert not samples or "max_tokens" in params
        return {"type": "succeeded", "message": message(params["model"], said[1])}

    def _shown(self, batch: Row) -> Row:
        kinds = {"succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        ended = batch["state"] == "ended"
        results = batch["results"] if ended else []
        for row in results[: len(batch["requests"])]:
            kinds[row["result"]["type"]] += 1
        left = len(batch["requests"]) - sum(kinds.values())
        if ended:
            kinds["succeeded"] += left
        status = "ended" if ended else "canceling" if batch["cancelled"] else "in_progress"
        return {
            "id": batch["id"], "type": "message_batch", "processing_status": status,
            "request_counts": {"processing": 0 if ended else left, **kinds},
            "created_at": batch["made"], "expires_at": batch["made"], "archived_at": None,
            "ended_at": batch["made"] if ended else None, "cancel_initiated_at": None,
            "results_url": f"http://elsewhere.invalid/v1/messages/batches/{batch['id']}/results" if ended else None,
        }  # fmt: skip


class ContentBatches(Wire):
    """Google's: a file, an operation, a file."""

    kind = "gemini"
    key = "key"
    prefix = "/v1beta"
    _ENDS: ClassVar = {
        "completed": "SUCCEEDED",
        "failed": "FAILED",
        "cancelled": "CANCELLED",
        "expired": "EXPIRED",
    }

    def known(self, headers: Any, query: Row) -> bool:
        return headers["x-goog-api-key"] == KEY

    def makes(self, what: str) -> bool:
        return what.endswith((":batchGenerateContent", ":asyncBatchEmbedContent"))

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        return status, {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        if what == "POST /upload/v1beta/files":
            return self._upload(headers, body)
        if self.makes(what):
            return self._make(what, json.loads(body)["batch"])
        name = what.rpartition("/")[2]
        if what.startswith("GET /download/v1beta/files/") and query == {"alt": "media"}:
            return 200, self.files[name.removesuffix(":download")]
        if what == "GET /v1beta/batches":
            return self._list(query)
        return (
            self._one(what, self.batches[name.removesuffix(":cancel")])
            if "/batches/" in what
            else self.called()
        )

    def _one(self, what: str, batch: Row) -> tuple[int, Row | bytes]:
        if what.endswith(":cancel"):
            batch["cancelled"] = True
            return 200, {}
        self._see(batch)
        return 200, self._shown(batch)

    def _upload(self, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        kind = headers["content-type"]
        if headers["x-goog-upload-protocol"] != "multipart" or not kind.startswith("multipart/related;"):
            return self.refusal(400, "No upload protocol")
        told, data = (
            BytesParser().parsebytes(b"Content-Type: %b\r\n\r\n%b" % (kind.encode(), body)).get_payload()
        )
        assert (
            json.loads(told.get_payload())["file"]["mimeType"]
            == data.get_content_type()
            == "application/jsonl"
        )
        name = f"in{len(self.files)}"
        self.files[name] = data.get_payload(decode=True)
        return 200, {"file": {"name": f"files/{name}", "mimeType": "application/jsonl", "state": "ACTIVE"}}

    def _make(self, what: str, asked: Row) -> tuple[int, Row | bytes]:
        name = asked["input_config"]["file_name"].removeprefix("files/")
        if name not in self.files:
            return self.refusal(404, f"File files/{name} was not found")
        requests = [json.loads(line) for line in self.files[name].splitlines()]
        if not all(set(row) == {"key", "request"} for row in requests):
            return self.refusal(400, "A line is wrong")
        made = f"b{len(self.batches)}"
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "name": asked["display_name"], "requests": requests,
            "verb": what.rpartition(":")[2], "output": "", "how": "RUNNING",
        }  # fmt: skip
        return 200, self._shown(self.batches[made])

    def _list(self, query: Row) -> tuple[int, Row]:
        names = list(self.batches)[int(query.get("pageToken", 0)) :]
        page = names[: min(2, int(query["pageSize"]))]
        more = {"nextPageToken": str(int(query.get("pageToken", 0)) + 2)} if len(names) > 2 else {}
        return 200, {"operations": [self._shown(self.batches[name]) for name in page], **more}

    def _see(self, batch: Row) -> None:
        how = self.ending(batch)
        if how is None:
            return
        batch |= {"state": "ended", "how": self._ENDS[how]}
        if how == "failed":
            return
        rows = self.spoil([self._row(each) for each in batch["requests"]])
        batch["output"] = f"batch-{batch['id']}"
        self.files[batch["output"]] = "".join(f"{json.dumps(row)}\n" for row in rows).encode()

    def _row(self, line: Row) -> Row:
        said = self.answer(int(line["key"].partition(".")[0]), line["request"])
        if said is None:
            return {"key": line["key"], "error": {"code": 1, "message": "The operation was cancelled."}}
        if said[0] != 200:
            return {"key": line["key"], "error": {"code": 3 if said[0] < 500 else 13, "message": said[1]}}
        if "content" in line["request"]:
            text = line["request"]["content"]["parts"][0]["text"]
            return {
                "key": line["key"],
                "response": {"embedding": {"values": [0.5, len(text)]}, "tokenCount": "5"},
            }
        usage = {"promptTokenCount": 20, "candidatesTokenCount": 10, "totalTokenCount": 30}
        content = {"role": "model", "parts": [{"text": said[1]}]}
        candidates = [{"content": content, "finishReason": "STOP", "index": 0}]
        return {"key": line["key"], "response": {"candidates": candidates, "usageMetadata": usage}}

    def _shown(self, batch: Row) -> Row:
        kind = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"
        metadata = {"@type": kind, "displayName": batch["name"], "state": f"BATCH_STATE_{batch['how']}"}
        shown: Row = {"name": f"batches/{batch['id']}", "metadata": metadata}
        if batch["state"] == "ended":
            shown["done"] = True
        if batch["how"] == "FAILED":
            shown["error"] = {"code": 3, "message": "Line 1 is wrong"}
        if batch["output"]:
            shown["response"] = {"responsesFile": f"files/{batch['output']}"}
        return shown


def _handler(wire: Wire) -> type[BaseHTTPRequestHandler]:
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

        def do_PUT(self) -> None:
            self.do_POST()

        def _answer(self, body: bytes) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            what = f"{self.command} {url.path}"
            self.headers["x-asked"] = self.path  # as it came, which is signed
            wire.asked.append(what)
            refused = next((said for name, said in wire.refuse.items() if what.endswith(name)), None)
            gone = wire.gone(what)
            if not wire.known(self.headers, query):
                self._say(*wire.refusal(401, "Wrong key"))
            elif refused is not None:
                self._say(*wire.refused(what, *refused))
            elif gone is not None:
                self._say(*gone)
            elif wire.lose_create and wire.makes(what):
                wire.lose_create -= 1
                wire.serve(what, query, self.headers, body)
                self.close_connection = True
                self.connection.close()
            else:
                self._say(*wire.serve(what, query, self.headers, body))

        def _say(self, status: int, told: Row | bytes) -> None:
            data = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
