"""Fireworks' batches: datasets and jobs in an account, answers at an object store, as its guide and its users tell.

Not the live one. Like that it wants to know how many lines a dataset has, knows no way to cancel but to delete,
forgets what was deleted, and keeps no answers of a job that failed.
"""

from __future__ import annotations

import json
import re
from email.parser import BytesParser
from typing import Any

from tests.answer_store import AnswerStore, KeepsAnswers
from tests.batch_wires import KEY, Row, Wire

ACCOUNT = "our-account"
_PLACE = f"/v1/accounts/{ACCOUNT}"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_CODES = {400: 3, 404: 5, 409: 6, 403: 7, 429: 8, 500: 13, 503: 14}  # gRPC's
_STATES = {"completed": "COMPLETED", "failed": "FAILED", "expired": "EXPIRED"}


class FireworksJobs(KeepsAnswers, Wire):
    """Fireworks' jobs."""

    kind = "fireworks"
    prefix = "/inference/v1"

    def __init__(self) -> None:
        super().__init__()
        self.store = AnswerStore(self.files)
        self.address = self.store.address  # of a file
        self.datasets: dict[str, Row] = {}
        self.late = 0  # so many looks at jobs do not find them yet

    @property
    def more(self) -> str:  # type: ignore[override]
        return f'batch_account = "{ACCOUNT}"\nbatch_hosts = ["{self.store.authority}"]\n'

    def known(self, headers: Any, query: Row) -> bool:
        return headers["authorization"] == f"Bearer {KEY}"

    def makes(self, what: str) -> bool:
        return what == f"POST {_PLACE}/batchInferenceJobs"

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        if status == 401:
            error = {"message": message, "param": None, "code": "UNAUTHORIZED", "type": "error"}
            return 403, {"error": error, "request_id": "req_there"}
        return status, {"code": _CODES[status], "message": message, "details": []}

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        method, path = what.split(" ")
        if path.startswith(self.prefix):
            return self.called()
        if not path.startswith(f"{_PLACE}/"):
            return self.refusal(403, "permission denied")
        if method != "POST" and body:
            return 400, b"<html>Your client has issued a malformed or illegal request.</html>"
        words = re.split("[/:]", path.removeprefix(f"{_PLACE}/"))
        if words[0] == "datasets":
            return self._of_datasets(method, words[1:], headers["content-type"], body)
        return self._of_jobs(method, words, query, body)

    def _of_datasets(self, method: str, words: list[str], kind: str, body: bytes) -> tuple[int, Row | bytes]:
        match method, words:
            case "POST", []:
                return self._open(json.loads(body))
            case "POST", [name, "upload"] if name in self.datasets:
                return self._upload(name, kind, body)
            case "GET", [name, "getDownloadEndpoint"] if name in self.datasets:
                return 200, {"filenameToSignedUrls": self._links(name)}
            case "GET", [name] if name in self.datasets:
                return 200, self._dataset(name)
        return self.refusal(404, "resource not found")

    def _of_jobs(self, method: str, words: list[str], query: Row, body: bytes) -> tuple[int, Row | bytes]:
        match method, words:
            case "POST", ["batchInferenceJobs"]:
                return self._make(query["batchInferenceJobId"], json.loads(body))
            case "GET", ["batchInferenceJobs"] if query == {"pageSize": "1"}:
                jobs = [self._shown(each) for each in self.batches.values()][:1]
                return 200, {"batchInferenceJobs": jobs, "nextPageToken": "", "totalSize": len(self.batches)}
            case _, ["batchInferenceJobs", name] if name in self.batches:
                return self._one(self.batches[name], method)
        return self.refusal(404, "resource not found")

    def _open(self, asked: Row) -> tuple[int, Row | bytes]:
        name, told = asked["datasetId"], asked["dataset"]
        if not _NAME.fullmatch(name) or len(told.get("displayName", "")) > 63:
            return self.refusal(400, f"invalid resource id {name}")
        if not told.get("exampleCount"):
            return self.refusal(400, "example_count is required for uploaded datasets")
        if name in self.datasets:
            return self.refusal(409, f"accounts/{ACCOUNT}/datasets/{name} already exists")
        self.datasets[name] = {
            "state": "UPLOADING",
            "count": int(told["exampleCount"]),
            "files": [],
            "looks": 0,
        }
        return 200, self._dataset(name)

    def _upload(self, name: str, kind: str, body: bytes) -> tuple[int, Row]:
        form = BytesParser().parsebytes(b"Content-Type: %b\r\n\r\n%b" % (kind.encode(), body))
        [file] = form.get_payload()
        assert file.get_param("name", header="content-disposition") == "file"
        data = file.get_payload(decode=True)
        self.datasets[name] |= {"state": "READY", "input": data, "looks": 0}
        told = {"bytes": len(data), "created_at": 1788061722, "filename": "batch.jsonl", "object": "file"}
        return 200, {**told, "id": f"accounts/{ACCOUNT}/datasets/{name}", "purpose": "dataset"}

    def _dataset(self, name: str) -> Row:
        found = self.datasets[name]
        found["looks"] += 1
        state = found["state"] if found["looks"] > 1 else "UPLOADING"  # it is looked at first
        return {
            "name": f"accounts/{ACCOUNT}/datasets/{name}", "state": state, "exampleCount": str(found["count"]),
            "status": {"code": "OK", "message": ""}, "userUploaded": {}, "format": "FORMAT_UNSPECIFIED",
        }  # fmt: skip

    def _links(self, name: str) -> dict[str, str]:
        return {file: self.address(file) for file in self.datasets[name]["files"]}

    def _make(self, name: str, asked: Row) -> tuple[int, Row | bytes]:
        if name in self.batches:
            return self.refusal(409, f"accounts/{ACCOUNT}/batchInferenceJobs/{name} already exists")
        place = f"accounts/{ACCOUNT}/datasets/"
        file, output = (asked[key].removeprefix(place) for key in ("inputDatasetId", "outputDatasetId"))
        if self.datasets.get(file, {}).get("state") != "READY" or output in self.datasets:
            return self.refusal(400, f"{place}{file} cannot be used")
        lines = [json.loads(line) for line in self.datasets[file]["input"].splitlines()]
        assert len(lines) == self.datasets[file]["count"] == len({line["custom_id"] for line in lines})
        if not all(set(line) == {"custom_id", "body"} and "model" not in line["body"] for line in lines):
            return self.refusal(400, "A line is wrong")
        assert all(_NAME.fullmatch(each) for each in (name, output))
        assert len(asked["displayName"]) < 64
        self.batches[name] = {
            "id": name, "name": name, "state": "open", "cancelled": False, "lines": lines, "output": output,
            "model": asked["model"], "how": "", "gone": False, "input": asked["inputDatasetId"],
        }  # fmt: skip
        return 200, self._shown(self.batches[name])

    def _one(self, batch: Row, method: str) -> tuple[int, Row | bytes]:
        self.late -= bool(self.late)
        if batch["gone"] or self.late:
            return self.refusal(404, "resource not found")
        if method == "DELETE":
            batch["cancelled"] = True
            batch["gone"] = batch["state"] == "ended"
            return 200, {}
        self._see(batch)
        return (200, self._shown(batch)) if not batch["gone"] else self.refusal(404, "resource not found")

    def _see(self, batch: Row) -> None:
        how = self.ending(batch)
        if how is None:
            return
        batch |= {"state": "ended", "how": how, "gone": how == "cancelled"}
        if how == "failed":
            return
        rows: dict[str, list[Row]] = {"BIJOutputSet.jsonl": [], "error-data": []}
        for line in batch["lines"]:
            said = self.answer(int(line["custom_id"]), line["body"])
            if said is not None:
                row = {"custom_id": line["custom_id"], **_told(batch["model"], *said)}
                rows["error-data" if "error" in row else "BIJOutputSet.jsonl"].append(row)
        if how == "cancelled" and not any(rows.values()):
            return  # nothing was written yet
        rows["BIJOutputSet.jsonl"] = self.spoil(rows["BIJOutputSet.jsonl"])
        names = [f"dataset/{batch['output']}/{name}" for name in rows]
        self.datasets[batch["output"]] = {"state": "READY", "count": 1, "files": names, "looks": 1}
        for name, found in zip(names, rows.values(), strict=True):
            self.files[name] = "".join(f"{json.dumps(row)}\n" for row in found).encode()

    def _shown(self, batch: Row) -> Row:
        state = _STATES.get(batch["how"]) or ("DELETING_CLEANING_UP" if batch["cancelled"] else "RUNNING")
        failed = {"code": "INVALID_ARGUMENT", "message": "Line 1 is wrong"}
        return {
            "name": f"accounts/{ACCOUNT}/batchInferenceJobs/{batch['id']}", "state": f"JOB_STATE_{state}",
            "status": failed if state == "FAILED" else {"code": "OK", "message": ""}, "model": batch["model"],
            "createTime": "2026-11-27T03:48:56.029803417Z", "expireTime": "2026-11-28T03:48:53.988342027Z",
            "inferenceParameters": {"extraBody": "{}"}, "inputDatasetId": batch["input"], "jobProgress": None,
            "outputDatasetId": f"accounts/{ACCOUNT}/datasets/{batch['output']}", "precision": "BF16",
        }  # fmt: skip


def _told(model: str, status: int, text: str) -> Row:
    """Return what a file tells of a request that was run."""
    if status != 200:
        return {"error": {"code": status, "message": text}}
    said = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 20, "total_tokens": 30, "completion_tokens": 10}
    head = {"id": "chatcmpl-x", "object": "chat.completion", "created": 1, "model": model}
    return {
        "response": {
            **head,
            "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
            "usage": usage,
        }
    }
