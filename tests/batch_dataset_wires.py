"""Cohere's batches as its reference documents them: datasets, batches of them, and answers in Avro.

Not the live one. What a line may have is what others have found who speak to that one.
"""

from __future__ import annotations

import json
from email.parser import BytesParser
from typing import Any, ClassVar

from tests.avro import written
from tests.batch_wires import KEY, Row, Wire

_TEXT = ["null", "string"]


def _record(name: str, **fields: Any) -> Row:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


_UNITS = _record("units", input_tokens=["null", "double"], output_tokens=["null", "double"])
_CHAT = _record(
    "chat",
    id="string",
    finish_reason="string",
    message=_record(
        "message",
        role="string",
        content=["null", {"type": "array", "items": _record("piece", type="string", text=_TEXT)}],
        tool_calls=["null", {"type": "array", "items": "string"}],
    ),
    usage=["null", _record("usage", billed_units=["null", _UNITS])],
)
_VECTORS = {"type": "array", "items": {"type": "array", "items": "float"}}
_EMBED = _record(
    "embed",
    embeddings=_record("vectors", float=["null", _VECTORS]),
    meta=["null", _record("meta", billed_units=["null", _UNITS])],
)
_HAS = {
    "batch-chat-v2-input": {
        *("messages", "tools", "temperature", "p", "k", "frequency_penalty", "presence_penalty", "seed"),
        *("max_tokens", "logprobs", "reasoning", "thinking_budget"),
    },
    "batch-embed-v2-input": {"texts", "input_type", "embedding_types", "truncate"},
}


class DatasetBatches(Wire):
    """Cohere's."""

    kind = "cohere"
    prefix = "/v2"
    _STATES: ClassVar = {"completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELED"}

    def __init__(self) -> None:
        self.datasets: dict[str, Row] = {}
        super().__init__()

    def known(self, headers: Any, query: Row) -> bool:
        if headers["x-asked"].startswith("/storage/"):  # signed: whoever has the address may
            return headers["authorization"] is None and query == {"signature": "a/b+c"}
        return headers["authorization"] == f"Bearer {KEY}"

    def makes(self, what: str) -> bool:
        return what == "POST /v2/batches"

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        return status, {"id": "x", "message": message}

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        method, path = what.split(" ")
        match method, path.strip("/").split("/"):
            case "POST", ["v1", "datasets"]:
                return self._dataset(query, headers["content-type"], body)
            case _, ["v1", "datasets", name]:
                return self._delete(name) if method == "DELETE" else self._shown_dataset(name)
            case "GET", ["storage", name]:
                return 200, self.files[name]
            case _, ["v2", "batches", *rest]:
                return self._batch(method, rest, query, body)
        return self.called()

    def _batch(self, method: str, rest: list[str], query: Row, body: bytes) -> tuple[int, Row | bytes]:
        if rest:
            return self._one(method, rest[0])
        return self._make(json.loads(body)) if method == "POST" else self._list(query)

    def _dataset(self, query: Row, kind: str, body: bytes) -> tuple[int, Row | bytes]:
        form = BytesParser().parsebytes(b"Content-Type: %b\r\n\r\n%b" % (kind.encode(), body))
        [file] = form.get_payload()
        assert file.get_param("name", header="content-disposition") == "data"
        lines = [json.loads(line) for line in file.get_payload(decode=True).splitlines() if line]
        name = f"{query['name']}-in{len(self.datasets)}"
        self.datasets[name] = {"type": query["type"], "lines": lines, "looks": 0, "parts": []}
        return 200, {"id": name}

    def _delete(self, name: str) -> tuple[int, Row | bytes]:
        if self.datasets.pop(name, None) is None:
            return self.refusal(404, "dataset not found")
        return 200, {}

    def _shown_dataset(self, name: str) -> tuple[int, Row | bytes]:
        dataset = self.datasets.get(name)
        if dataset is None:
            return self.refusal(404, "dataset not found")
        dataset["looks"] += 1
        wrong = next(filter(None, (self._wrong(line, dataset["type"]) for line in dataset["lines"])), "")
        origin = self.base.removesuffix(self.prefix)
        status = "processing" if dataset["looks"] < 2 else "failed" if wrong else "validated"
        parts = [
            {"id": part, "name": part, "index": n, "url": f"{origin}/storage/{part}?signature=a%2Fb%2Bc"}
            for n, part in enumerate(dataset["parts"])
        ]
        shown = {
            "id": name, "name": name, "created_at": "2026-11-27T12:00:00Z", "updated_at": "2026-11-27T12:00:00Z",
            "dataset_type": dataset["type"], "validation_status": status, "validation_error": wrong,
            "dataset_parts": list(reversed(parts)) if status == "validated" else [],
        }  # fmt: skip
        return 200, {"dataset": shown}

    def _wrong(self, line: Row, kind: str) -> str:
        """Return what is wrong with a line, as the schema of its dataset has it."""
        if set(line) != {"custom_id", "body"} or not set(line["body"]) <= _HAS[kind]:
            return f"unknown field in {sorted(line['body'])}"
        if int(line["custom_id"]) == self.refuse_line:
            return f"Line {self.refuse_line} is refused"
        contents = [message.get("content", []) for message in line["body"].get("messages", [])]
        return "" if all(isinstance(each, list) for each in contents) else "content is no list"

    def _make(self, asked: Row) -> tuple[int, Row | bytes]:
        dataset = self.datasets.get(asked["input_dataset_id"])
        if dataset is None or dataset["looks"] < 2 or set(asked) != {"name", "input_dataset_id", "model"}:
            return self.refusal(400, "dataset is not validated")
        made = f"9439e0e3-{len(self.batches)}"
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "name": asked["name"], "how": "", "done": 0,
            "file": asked["input_dataset_id"], "model": asked["model"],
        }  # fmt: skip
        return 200, {"batch": self._shown(self.batches[made])}

    def _list(self, query: Row) -> tuple[int, Row]:
        at, names = int(query.get("page_token", 0)), list(self.batches)
        page = [self._shown(self.batches[name]) for name in names[at : at + 1]]
        more = {"next_page_token": str(at + 1)} if at + 1 < len(names) else {}
        return 200, {"batches": page, **more}

    def _one(self, method: str, name: str) -> tuple[int, Row | bytes]:
        batch = self.batches[name.removesuffix(":cancel")]
        if method == "POST":
            batch["cancelled"] = True
            return 200, {}
        self._see(batch)
        return 200, {"batch": self._shown(batch)}

    def _see(self, batch: Row) -> None:
        how = self.ending(batch)
        if how is None:
            return
        batch |= {"state": "ended", "how": how}
        if how == "failed":
            return
        dataset = self.datasets[batch["file"]]
        rows = [row for line in dataset["lines"] if (row := self._row(line, batch["model"])) is not None]
        rows = [{"error": "", **row} for row in self.spoil(rows) if row]
        batch["done"] = len(rows)
        body = _EMBED if dataset["type"] == "batch-embed-v2-input" else _CHAT
        schema = _record("answer", custom_id="string", error="string", body=["null", body])
        parts = {
            f"{batch['id']}-{n}.avro": written(schema, piece, codec)
            for n, (piece, codec) in enumerate(((rows[:20], "null"), (rows[20:], "deflate")))
        }
        self.files |= parts
        self.datasets[f"{batch['id']}-out"] = {"type": "x", "lines": [], "looks": 0, "parts": list(parts)}

    def _row(self, line: Row, model: str) -> Row | None:
        said = self.answer(int(line["custom_id"]), line["body"])
        head = {"custom_id": line["custom_id"], "error": ""}
        if said is None or said[0] != 200:
            return None if said is None else {**head, "error": said[1], "body": None}
        billed = {"input_tokens": 20.0, "output_tokens": 10.0}
        if "texts" in line["body"]:
            vectors = [[0.5, float(len(each))] for each in line["body"]["texts"]]
            meta = {"billed_units": {"input_tokens": 5.0 * len(vectors)}}
            return {**head, "body": {"embeddings": {"float": vectors}, "meta": meta}}
        message = {"role": "assistant", "content": [{"type": "text", "text": said[1]}]}
        body = {"id": "c", "finish_reason": "COMPLETE", "message": message, "usage": {"billed_units": billed}}
        return {**head, "body": body}

    def _shown(self, batch: Row) -> Row:
        state = self._STATES.get(batch["how"], "CANCELING" if batch["cancelled"] else "IN_PROGRESS")
        return {
            "id": batch["id"], "name": batch["name"], "creator_id": "u", "org_id": "o",
            "status": f"BATCH_STATUS_{state}", "created_at": "2026-11-27T12:00:00Z",
            "updated_at": "2026-11-27T12:00:00Z", "input_dataset_id": batch["file"],
            "output_dataset_id": f"{batch['id']}-out", "input_tokens": "0", "output_tokens": "0", "model": batch["model"],
            "num_records": 1, "num_successful_records": batch["done"], "num_failed_records": 0,
            "status_reason": "Line 1 is wrong" if batch["how"] == "failed" else "",
        }  # fmt: skip
