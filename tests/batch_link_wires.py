"""SiliconFlow's batches, whose answers lie at an object store with signed addresses, as its guide documents them.

Not the live one.
"""

from __future__ import annotations

import json
import time
from typing import Any

from tests.answer_store import AnswerStore, KeepsAnswers
from tests.batch_file_wires import FileBatches
from tests.batch_wires import KEY, Row


class SiliconFlowBatches(KeepsAnswers, FileBatches):
    """SiliconFlow's jobs: files in an envelope, a list without pages, answers at the store."""

    kind = "siliconflow"
    prefix = "/v1"
    deletes = False

    def __init__(self) -> None:
        super().__init__()
        self.store = AnswerStore(self.files)
        self.names_files = False  # answers have names instead, as some of its users saw
        self.address = self.store.address  # of answers, by their name

    @property
    def more(self) -> str:  # type: ignore[override]
        return f'batch_hosts = ["{self.store.authority}"]\n'

    def gone(self, what: str) -> tuple[int, Row | bytes] | None:
        return None

    def known(self, headers: Any, query: Row) -> bool:
        return headers["authorization"] == f"Bearer {KEY}"

    def makes(self, what: str) -> bool:
        return what == "POST /v1/batches"

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        if status == 401:
            return 401, b'"Invalid token"'
        return status, {"code": 20012 if status < 500 else 50507, "message": message, "data": None}

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        method, path = what.split(" ")
        match method, path.removeprefix("/v1/").split("/"):
            case "POST", ["files"]:
                return self._file(headers["content-type"], body)
            case "GET", ["files", name, "content"] if self.names_files:
                return 200, self.files[name]
            case "POST", ["batches"]:
                return self._make(json.loads(body))
            case "GET", ["batches"]:
                data = [self._shown(each) for each in reversed(self.batches.values())]
                return 200, {"object": "list", "data": data, "has_more": False}
            case _, ["batches", name, *rest]:
                return self._one(self.batches[name], rest == ["cancel"])
        return (404, b'"404 page not found"') if "/files" in path else self.called()

    def _file(self, kind: str, body: bytes) -> tuple[int, Row | bytes]:
        name = self.upload(kind, body)
        lines = [json.loads(line) for line in self.files[name].splitlines()]
        if len(lines) > 5_000:
            return 200, {"code": 20012, "message": "Too many lines", "status": False, "data": None}
        for messages in (line["body"]["messages"] for line in lines):
            roles = [each["role"] for each in messages]
            if roles[-1] != "user" or not {"system", "user", "assistant"}.issuperset(roles):
                return self.refusal(400, "messages must end with a user's")
        file = {
            "id": name, "object": "file", "bytes": len(self.files[name]), "createdAt": 1741685396,
            "filename": "batch.jsonl", "purpose": "batch",
        }  # fmt: skip
        return 200, {"code": 20000, "message": "Ok", "status": True, "data": file}

    def _make(self, asked: Row) -> tuple[int, Row | bytes]:
        name, window = asked["input_file_id"], asked["completion_window"]
        lines = [json.loads(line) for line in self.files[name].splitlines()]
        urls = {line["url"] for line in lines} | {asked["endpoint"]}
        if urls != {"/v1/chat/completions"} or not 24 <= int(window.removesuffix("h")) <= 336:
            return self.refusal(400, "A line is wrong")
        made = f"batch_{len(self.batches)}there"
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "file": name, "metadata": asked["metadata"],
            "model": asked["replace"]["model"], "how": "", "output": None, "errors": None, "seen": 0,
        }  # fmt: skip
        return 200, self._shown(self.batches[made])

    def _one(self, batch: Row, cancel: bool) -> tuple[int, Row | bytes]:
        if cancel and batch["state"] == "ended":
            return self.refusal(400, "The batch has ended")
        batch["cancelled"] |= cancel
        if not cancel:
            batch["seen"] += 1
            self.see(batch)
        return 200, self._shown(batch)

    def see(self, batch: Row) -> None:
        before = batch["state"]
        if batch["seen"] > 1:  # it is in a queue first
            super().see(batch)
        if before == batch["state"] or batch["how"] not in {"expired", "cancelled"}:
            return
        rows = [
            self._unrun(line, batch["how"])
            for line in map(json.loads, self.files[batch["file"]].splitlines())
        ]
        told = [row for row in rows if row is not None]
        if told:
            batch["errors"] = batch["errors"] or f"file-there{len(self.files)}"
            self.files[batch["errors"]] = self.files.get(batch["errors"], b"") + b"".join(told)

    def _unrun(self, line: Row, how: str) -> bytes | None:
        if self.answer(int(line["custom_id"]), line["body"]) is not None:
            return None
        error = {"code": f"batch_{how}", "message": "This request could not be executed."}
        row = {"id": "x", "custom_id": line["custom_id"], "response": None, "error": error}
        return f"{json.dumps(row)}\n".encode()

    def told(self, model: str, status: int, text: str) -> Row:
        row = super().told(model, status, text)
        if status == 200:
            del row["response"]["status_code"]
            return row
        return {"response": None, "error": {"code": 20015 if status == 400 else 50507, "message": text}}

    def _shown(self, batch: Row) -> Row:
        status = batch["how"] or ("cancelling" if batch["cancelled"] else "in_progress")
        status = status if batch["seen"] else "in_queue"
        there = not batch["how"] or batch["seen"] > 2  # a moment after it has ended
        files = {"output_file_id": batch["output"], "error_file_id": batch["errors"]}
        at = (lambda name: name) if self.names_files else self.address
        return {
            "id": batch["id"], "object": "batch", "endpoint": "/v1/chat/completions", "status": status,
            "errors": ["Line 1 is wrong"] if batch["how"] == "failed" else None,
            "input_file_id": batch["file"], "completion_window": "24h", "created_at": int(time.time()),
            "in_progress_at": None, "expires_at": int(time.time()) + 86_400, "finalizing_at": None,
            "request_counts": None, "metadata": batch["metadata"], "file_name": "batch.jsonl",
            f"{batch['how'] or 'completed'}_at": int(time.time()) if batch["how"] else None,
            **{key: at(name) if name and there else None for key, name in files.items()},
        }  # fmt: skip
