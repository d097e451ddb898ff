"""Providers whose batch APIs take OpenAI's files: Azure's, Mistral's, Together's and xAI's, as these document them.

None of them is the live one.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from email.parser import BytesParser
from typing import Any, ClassVar

from tests.batch_wires import KEY, Row, Wire


class FileBatches(Wire):
    """What Azure's, Mistral's and Together's have in common: OpenAI's files and lines."""

    fields: ClassVar = {"purpose": "batch"}  # of the form that brings a file
    deletes = True  # files, where it is asked to

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        return status, {"error": {"message": message, "type": "invalid_request_error", "code": None}}

    def upload(self, kind: str, body: bytes) -> str:
        form = BytesParser().parsebytes(b"Content-Type: %b\r\n\r\n%b" % (kind.encode(), body))
        parts = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}
        assert {key: part.get_payload() for key, part in parts.items() if key != "file"} == self.fields
        name = f"file-there{len(self.files)}"
        self.files[name] = parts["file"].get_payload(decode=True)
        return name

    def see(self, batch: Row) -> None:
        how = self.ending(batch)
        if how is None:
            return
        batch |= {"state": "ended", "how": how}
        if how == "failed":
            return
        rows: dict[str, list[Row]] = {"output": [], "errors": []}
        for line in map(json.loads, self.files[batch["file"]].splitlines()):
            said, head = self.answer(int(line["custom_id"]), line["body"]), {"custom_id": line["custom_id"]}
            if said is None:
                continue
            which = "output" if said[0] == 200 else "errors"
            rows[which].append({"id": "x", **head, **self.told(batch["model"], *said)})
        rows["output"] = self.spoil(rows["output"])
        for which, found in rows.items():
            if found:
                batch[which] = f"file-there{len(self.files)}"
                self.files[batch[which]] = "".join(f"{json.dumps(row)}\n" for row in found).encode()

    def told(self, model: str, status: int, text: str) -> Row:
        """Return what a file tells of a request that was run."""
        body = _chat(model, text) if status == 200 else self.refusal(status, text)[1]
        response = {"status_code": status, "request_id": "req_there", "body": body}
        return {"response": response, "error": None}


class AzureBatches(FileBatches):
    """Microsoft's, of a dated version."""

    kind = "azure"
    more = 'api_version = "2024-10-21"\n'
    _ROUTE = "/openai"

    def known(self, headers: Any, query: Row) -> bool:
        return headers["api-key"] == KEY and query.get("api-version") == "2024-10-21"

    def makes(self, what: str) -> bool:
        return what == "POST /openai/batches"

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        method, path = what.split(" ")
        match method, path.removeprefix("/openai/").split("/"):
            case "POST", ["batches"]:
                return self._make(json.loads(body))
            case "GET", ["batches"]:
                return self._list(query)
            case _, ["files", *rest]:
                return self._file(what, rest, headers, body)
            case _, ["batches", name, *rest]:
                batch = self.batches[name]
                batch["cancelled"] |= rest == ["cancel"]
                if not rest:
                    self.see(batch)
                return 200, self._shown(batch)
        return self.called()

    def _file(self, what: str, rest: list[str], headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        if not rest:
            name = self.upload(headers["content-type"], body)
            return 201, {"id": name, "object": "file", "status": "pending", "purpose": "batch"}
        if rest[1:] == ["content"]:
            return 200, self.files[rest[0]]
        first = f"{what} seen" not in self.asked
        self.asked.append(f"{what} seen")
        return 200, {"id": rest[0], "status": "running" if first else "processed"}

    def _make(self, asked: Row) -> tuple[int, Row | bytes]:
        name = asked["input_file_id"]
        if f"GET /openai/files/{name} seen" not in self.asked:
            return self.refusal(400, "The file is not processed yet")
        lines = [json.loads(line) for line in self.files[name].splitlines()]
        if asked["endpoint"] != "/chat/completions" or {line["url"] for line in lines} != {
            "/chat/completions"
        }:
            return self.refusal(400, "url mismatch")
        made = f"batch_{len(self.batches)}"
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "file": name, "metadata": asked["metadata"],
            "model": lines[0]["body"]["model"], "how": "in_progress", "output": None, "errors": None,
        }  # fmt: skip
        return 200, self._shown(self.batches[made])

    def _list(self, query: Row) -> tuple[int, Row]:
        names = list(reversed(self.batches))
        if "after" in query:
            names = names[names.index(query["after"]) + 1 :]
        page = [self._shown(self.batches[name]) for name in names[: int(query["limit"])]]
        return 200, {"data": page, "has_more": len(names) > len(page)}

    def _shown(self, batch: Row) -> Row:
        failed = {
            "object": "list",
            "data": [{"code": "invalid_json_line", "message": "Line 1 is wrong", "line": 1}],
        }
        return {
            "id": batch["id"], "object": "batch", "status": batch["how"].title(), "metadata": batch["metadata"],
            "created_at": datetime.now(UTC).isoformat(), "output_file_id": batch["output"] or "",
            "error_file_id": batch["errors"] or "", "errors": failed if batch["how"] == "failed" else None,
        }  # fmt: skip


class MistralJobs(FileBatches):
    """Mistral's jobs."""

    kind = "mistral"
    prefix = "/v1"
    _STATES: ClassVar = {
        "completed": "SUCCESS", "failed": "FAILED", "cancelled": "CANCELLED", "expired": "TIMEOUT_EXCEEDED",
    }  # fmt: skip

    def known(self, headers: Any, query: Row) -> bool:
        return headers["authorization"] == f"Bearer {KEY}"

    def makes(self, what: str) -> bool:
        return what == "POST /v1/batch/jobs"

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        method, path = what.split(" ")
        match method, path.removeprefix("/v1/").split("/"):
            case "POST", ["files"]:
                return 200, {"id": self.upload(headers["content-type"], body), "object": "file"}
            case "GET", ["files", name, "content"]:
                return 200, self.files[name]
            case "POST", ["batch", "jobs"]:
                return self._make(json.loads(body))
            case "GET", ["batch", "jobs"]:
                at, size = int(query["page"]), int(query["page_size"])
                since = datetime.fromisoformat(query["created_after"]).timestamp()
                made = [each for each in self.batches.values() if each["made"] > since]
                made.sort(key=lambda each: each["made"], reverse=query["order_by"] == "-created")
                found = [self._shown(each) for each in made]
                return 200, {
                    "object": "list",
                    "data": found[at * size : (at + 1) * size],
                    "total": len(found),
                }
            case _, ["batch", "jobs", name, *rest]:
                batch = self.batches[name]
                batch["cancelled"] |= rest == ["cancel"]
                if not rest:
                    self.see(batch)
                return 200, self._shown(batch)
        return self.called()

    def _make(self, asked: Row) -> tuple[int, Row | bytes]:
        (name,) = asked["input_files"]
        lines = [json.loads(line) for line in self.files[name].splitlines()]
        if not all(set(line) == {"custom_id", "body"} for line in lines) or asked["timeout_hours"] != 24:
            return self.refusal(422, "A line is wrong")
        made = f"0000-{len(self.batches)}"
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "file": name, "model": asked["model"],
            "metadata": asked["metadata"], "how": "", "output": None, "errors": None, "made": time.time(),
        }  # fmt: skip
        return 200, self._shown(self.batches[made])

    def _shown(self, batch: Row) -> Row:
        status = self._STATES.get(batch["how"], "CANCELLATION_REQUESTED" if batch["cancelled"] else "RUNNING")
        failed = [{"message": "Line 1 is wrong", "count": 1}] if status == "FAILED" else []
        return {
            "id": batch["id"], "object": "batch", "status": status, "created_at": int(batch["made"]),
            "metadata": batch["metadata"], "output_file": batch["output"], "error_file": batch["errors"],
            "errors": failed, "model": batch["model"],
        }  # fmt: skip


class TogetherBatches(FileBatches):
    """Together's jobs, of which a list has no pages."""

    kind = "together"
    prefix = "/v1"
    fields: ClassVar = {"purpose": "batch-api", "file_name": "batch.jsonl"}

    def known(self, headers: Any, query: Row) -> bool:
        return headers["authorization"] == f"Bearer {KEY}"

    def makes(self, what: str) -> bool:
        return what == "POST /v1/batches"

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        return status, {"error": message, "request_id": "req_there"}

    def told(self, model: str, status: int, text: str) -> Row:
        if status == 200:
            return {"response": {"status_code": 200, "body": _chat(model, text)}}
        return {"error": {"code": "batch_client_error" if status == 400 else "timeout", "message": text}}

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        method, path = what.split(" ")
        match method, path.removeprefix("/v1/").split("/"):
            case "POST", ["files", "upload"]:
                name = self.upload(headers["content-type"], body)
                return 200, {"id": name, "object": "file", "purpose": "batch-api", "FileType": "jsonl"}
            case "GET", ["files", name, "content"]:
                return 200, self.files[name]
            case "POST", ["batches"]:
                return self._make(json.loads(body))
            case "GET", ["batches"] if not query:
                return 200, json.dumps([self._shown(each) for each in self.batches.values()]).encode()
            case _, ["batches", name, *rest]:
                return self._one(self.batches[name], rest == ["cancel"])
        return self.called()

    def _one(self, batch: Row, cancel: bool) -> tuple[int, Row | bytes]:
        if cancel and batch["state"] == "ended":
            return self.refusal(409, "Cannot cancel job - already in terminal state")
        batch["cancelled"] |= cancel
        if not cancel:
            self.see(batch)
        return 200, self._shown(batch)

    def _make(self, asked: Row) -> tuple[int, Row | bytes]:
        name = asked["input_file_id"]
        lines = [json.loads(line) for line in self.files[name].splitlines()]
        right = all(set(line) == {"custom_id", "body"} for line in lines)
        if not right or asked["endpoint"] != "/v1/chat/completions" or asked["completion_window"] != "24h":
            return self.refusal(400, "A line is wrong")
        made = f"0000-{len(self.batches)}"
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "file": name, "model": lines[0]["body"]["model"],
            "how": "", "output": None, "errors": None,
        }  # fmt: skip
        return 201, {"job": self._shown(self.batches[made])}

    def _shown(self, batch: Row) -> Row:
        status = batch["how"].upper() or ("CANCELING" if batch["cancelled"] else "IN_PROGRESS")
        shown = {
            "id": batch["id"], "user_id": "u", "input_file_id": batch["file"], "file_size_bytes": 1,
            "status": status, "created_at": "2026-11-27T12:00:00.1Z", "job_deadline": "2026-11-28T12:00:00.1Z",
            "endpoint": "/v1/chat/completions", "progress": 100 if batch["how"] else 0, "model_id": batch["model"],
        }  # fmt: skip
        files = {"output_file_id": batch["output"], "error_file_id": batch["errors"]}
        shown |= {key: name for key, name in files.items() if name}
        return shown | ({"error": "Line 1 is wrong"} if batch["how"] == "failed" else {})


class XaiBatches(FileBatches):
    """xAI's, which count requests, and give answers page by page."""

    kind = "x-ai"
    key = "batch_request_id"
    prefix = "/v1"

    def known(self, headers: Any, query: Row) -> bool:
        return headers["authorization"] == f"Bearer {KEY}"

    def makes(self, what: str) -> bool:
        return what == "POST /v1/batches"

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        return status, {"code": "Client specified an invalid argument", "error": message}

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        method, path = what.split(" ")
        match method, path.removeprefix("/v1/").split("/"):
            case "POST", ["files"]:
                return 200, {"id": self._file(headers["content-type"], body), "object": "file", "purpose": ""}
            case "POST", ["batches"]:
                return self._make(json.loads(body))
            case "GET", ["batches"]:
                return self._page([self._shown(each) for each in self.batches.values()], "batches", query)
            case _, ["batches", name]:
                batch = self.batches[name.removesuffix(":cancel")]
                batch["cancelled"] |= method == "POST"
                if method == "GET":
                    self.see(batch)
                return 200, self._shown(batch)
            case "GET", ["batches", name, "results"]:
                return self._page(self.batches[name]["rows"], "results", query)
        return self.called()

    def _file(self, kind: str, body: bytes) -> str:
        form = BytesParser().parsebytes(b"Content-Type: %b\r\n\r\n%b" % (kind.encode(), body))
        [file] = form.get_payload()
        assert file.get_param("name", header="content-disposition") == "file"
        name = f"file_{len(self.files)}"
        self.files[name] = file.get_payload(decode=True)
        return name

    def _page(self, rows: list[Row], what: str, query: Row) -> tuple[int, Row]:
        at = int(query.get("pagination_token", 0))
        size = min(10, int(query["limit"]))
        more = str(at + size) if at + size < len(rows) else None
        return 200, {what: rows[at : at + size], "pagination_token": more}

    def _make(self, asked: Row) -> tuple[int, Row | bytes]:
        made = f"batch_x{len(self.batches)}"
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        if {(line["method"], line["url"]) for line in lines} != {("POST", "/v1/chat/completions")}:
            return self.refusal(400, "A line is wrong")
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "name": asked["name"], "lines": lines, "rows": [],
            "how": "", "seen": False,
        }  # fmt: skip
        return 200, self._shown(self.batches[made])

    def see(self, batch: Row) -> None:
        if not batch["seen"]:  # its file has not been read yet: all its counts are 0
            batch["seen"] = True
            return
        how = self.ending(batch)
        if how is None:
            return
        batch |= {"state": "ended", "how": how}
        rows = [self._row(line) for line in batch["lines"]] if how != "failed" else []
        batch["rows"] = self.spoil(rows) if rows else []

    def _row(self, line: Row) -> Row:
        said, head = (
            self.answer(int(line["custom_id"]), line["body"]),
            {"batch_request_id": line["custom_id"]},
        )
        if said is None:
            return {**head, "batch_result": {"error": {"code": 1, "message": "Cancelled"}}}
        if said[0] != 200:
            code = 3 if said[0] == 400 else 13
            return {**head, "batch_result": {"error": {"code": code, "message": said[1]}}}
        answer = {"chat_get_completion": _chat(line["body"]["model"], said[1])}
        return {**head, "batch_result": {"response": answer, "error": {"code": 0, "message": ""}}}

    def _shown(self, batch: Row) -> Row:
        count = len(batch["lines"]) if batch["seen"] and batch["how"] != "failed" else 0
        late = batch["how"] == "expired"  # then some of them are pending for ever
        pending = 1 if late else 0 if batch["how"] else count
        state = {"num_requests": count, "num_pending": pending, "num_success": 0, "num_error": 0}
        ended_by_us = "Line 1 is wrong" if batch["how"] == "failed" else None
        return {
            "batch_id": batch["id"], "name": batch["name"], "create_time": "2026-11-27",
            "expire_time": "2026-11-20" if late else "2099-12-27", "state": state,
            "cancel_time": "2026-11-27" if batch["cancelled"] or ended_by_us else None,
            "cancel_by_xai_message": ended_by_us,
        }  # fmt: skip


def _chat(model: str, text: str) -> Row:
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-x", "object": "chat.completion", "created": 1, "model": model}
    return {**head, "choices": [choice], "usage": usage}
