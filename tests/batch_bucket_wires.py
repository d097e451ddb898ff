"""Providers that read batches from a bucket, and their object stores, as their makers document both.

None of them is the live one. One server is the provider and the store, by its paths. It refuses what is asked
without the right credential: a token, or a signature, which is made again from what came, by another signer.
"""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.batch_wires import KEY, Row, Wire, error, message

BUCKET = "our-batches"
FOLDER = "head/gate"
ACCESS = "AKIDEXAMPLE"
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([A-Z]+)/([0-9]{8})/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


class BucketBatches(Wire):
    """What they have in common: a bucket, in which `files` are."""

    bucket = True
    ends_with = ""  # of the names of answers

    def trusted(self, what: str, headers: Any, body: bytes) -> bool:
        """Say whether who asks may."""
        raise NotImplementedError

    def serve_jobs(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        """Answer what is not asked of the store."""
        raise NotImplementedError

    def known(self, headers: Any, query: Row) -> bool:
        return True  # what came is looked at as a whole, below

    def refused(self, what: str, status: int, message: str) -> tuple[int, Row | bytes]:
        if what.partition(" ")[2].startswith(f"/{BUCKET}"):
            return status, xml_error("Refused", message)
        return self.refusal(status, message)

    def serve(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        if not self.trusted(what, headers, body):
            return self.refused(what, 403, "SignatureDoesNotMatch")
        method, path = what.split(" ")
        if path == f"/{BUCKET}" and method == "GET":
            return self._names(query)
        if path.startswith(f"/{BUCKET}/"):
            return self._object(method, unquote(path.removeprefix(f"/{BUCKET}/")), body)
        return self.serve_jobs(what, query, headers, body)

    def _names(self, query: Row) -> tuple[int, bytes]:
        """List as ListObjectsV2 does, two at a time."""
        assert query["list-type"] == "2"
        names = sorted(name for name in self.files if name.startswith(query["prefix"]))
        names = [name for name in names if name > query.get("continuation-token", "")]
        rows = "".join(
            f"<Contents><Key>{html.escape(name)}</Key><Size>1</Size></Contents>" for name in names[:2]
        )
        more = len(names) > 2
        after = f"<NextContinuationToken>{html.escape(names[1])}</NextContinuationToken>" if more else ""
        told = f"<IsTruncated>{str(more).lower()}</IsTruncated>{after}{rows}"
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        return (
            200,
            f'<?xml version="1.0"?>\n<ListBucketResult xmlns="{space}">{told}</ListBucketResult>'.encode(),
        )

    def _object(self, method: str, name: str, body: bytes) -> tuple[int, bytes]:
        assert name.startswith(f"{FOLDER}/batch_")
        if method == "PUT":
            self.files[name] = body
            return 200, b""
        if name not in self.files:
            return 404, xml_error("NoSuchKey", "The specified key does not exist.")
        if method == "DELETE":
            del self.files[name]
            return 204, b""
        return 200, self.files[name]

    def write(self, folder: str, name: str, rows: list[Row]) -> None:
        if rows:  # a job that answered nothing writes nothing
            self.files[f"{folder}/{name}"] = "".join(f"{json.dumps(row)}\n" for row in rows).encode()

    def lines(self, url: str) -> list[Row] | None:
        """Return the lines that lie somewhere."""
        name = url.partition(f"://{BUCKET}/")[2]
        return [json.loads(line) for line in self.files[name].splitlines()] if name in self.files else None


class PredictionJobs(BucketBatches):
    """Google's, of Vertex AI."""

    kind = "vertex"
    key = "request"
    prefix = "/v1/projects/ours/locations/global"
    credential = f'token_command = ["echo", "{KEY}"]'
    publisher = "google"
    members = frozenset({"request"})  # of a line

    @property
    def more(self) -> str:  # type: ignore[override]
        origin = self.base.removesuffix(self.prefix)
        return f'batch_bucket = "gs://{BUCKET}/{FOLDER}/"\nbatch_endpoint = "{origin}"\n'

    def trusted(self, what: str, headers: Any, body: bytes) -> bool:
        return headers["authorization"] == f"Bearer {KEY}"

    def makes(self, what: str) -> bool:
        return what == f"POST {self.prefix}/batchPredictionJobs"

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        return status, {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}}

    def owned(self, row: Row, key: str) -> Row:
        return {**row, "request": {**row.get("request", {}), "labels": {"headgate_line": key}}}

    def serve_jobs(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        route = f"{self.prefix}/batchPredictionJobs"
        method, path = what.split(" ")
        if not path.startswith(route):
            return self.called()
        name = path.removeprefix(route).strip("/")
        if not name:
            return self._make(json.loads(body)) if method == "POST" else self._list(query)
        batch = self.batches[name.removesuffix(":cancel")]
        if name.endswith(":cancel"):
            batch["cancelled"] = True
            return 200, {}
        self._see(batch)
        return 200, self._shown(batch)

    def _make(self, asked: Row) -> tuple[int, Row | bytes]:
        [url] = asked["inputConfig"]["gcsSource"]["uris"]
        assert (asked["inputConfig"]["instancesFormat"], asked["outputConfig"]["predictionsFormat"]) == (
            "jsonl",
            "jsonl",
        )
        assert asked["model"] == f"publishers/{self.publisher}/models/m-there"
        requests = self.lines(url)
        if requests is None or not all(set(row) == self.members for row in requests):
            return self.refusal(400, f"{url} cannot be read")
        made = f"{7_000 + len(self.batches)}"
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "name": asked["displayName"], "how": "PENDING",
            "requests": requests, "to": asked["outputConfig"]["gcsDestination"]["outputUriPrefix"],
        }  # fmt: skip
        return 200, self._shown(self.batches[made])

    def _list(self, query: Row) -> tuple[int, Row]:
        [wanted] = re.fullmatch(r'display_name="(headgate batch_[^"]+)"', query["filter"]).groups()
        names = [name for name, each in self.batches.items() if each["name"] in {wanted, "another's"}]
        names = names[int(query.get("pageToken", 0)) :]
        page = names[: min(1, int(query["pageSize"]))]
        more = {"nextPageToken": str(int(query.get("pageToken", 0)) + 1)} if len(names) > 1 else {}
        rows = [self._shown(self.batches[name]) for name in page]
        return 200, ({"batchPredictionJobs": rows} if rows else {}) | more

    def _see(self, batch: Row) -> None:
        how = self.ending(batch)
        if how is None:
            batch["how"] = "CANCELLING" if batch["cancelled"] else "RUNNING"
            return
        ends = {"completed": "SUCCEEDED", "failed": "FAILED", "cancelled": "CANCELLED", "expired": "EXPIRED"}
        batch |= {"state": "ended", "how": ends[how]}
        rows = [self._row(each) for each in batch["requests"]]
        rows = self.spoil([row for row in rows if row is not None])
        if how != "failed":
            stamp = "prediction-model-2026-11-27T10:00:00.123456Z"
            folder = batch["to"].partition(f"://{BUCKET}/")[2]
            self.write(f"{folder}/{stamp}", "predictions.jsonl", rows)

    def _row(self, line: Row) -> Row | None:
        request = line["request"]
        said = self.answer(int(request["labels"]["headgate_line"]), request)
        row = {
            "processed_time": datetime.now(UTC).isoformat(),
            "request": request,
            "status": "",
            "response": {},
        }
        if said is None:
            return None
        if said[0] != 200:
            told = {"error": {"code": said[0], "message": said[1], "status": "INVALID_ARGUMENT"}}
            return {**row, "status": f"Bad Request: {json.dumps(told)}"}
        usage = {"promptTokenCount": 20, "candidatesTokenCount": 10, "totalTokenCount": 30}
        content = {"role": "model", "parts": [{"text": said[1]}]}
        candidates = [{"content": content, "finishReason": "STOP"}]
        answer = {"candidates": candidates, "usageMetadata": usage, "modelVersion": "m-there"}
        return {**row, "response": answer}

    def _shown(self, batch: Row) -> Row:
        shown: Row = {
            "name": f"projects/123/locations/there/batchPredictionJobs/{batch['id']}",
            "displayName": batch["name"],
            "model": f"publishers/{self.publisher}/models/m-there",
            "state": f"JOB_STATE_{batch['how']}",
            "outputConfig": {
                "predictionsFormat": "jsonl",
                "gcsDestination": {"outputUriPrefix": batch["to"]},
            },
            "createTime": "2026-11-27T10:00:00.123456Z",
        }
        if batch["how"] == "FAILED":
            shown["error"] = {"code": 3, "message": "Line 1 is wrong"}
        return shown


class ClaudeJobs(PredictionJobs):
    """Google's, of Claude."""

    kind = "vertex-claude"
    key = "custom_id"
    prefix = "/v1/projects/ours/locations/us-east5"
    publisher = "anthropic"
    members = frozenset({"custom_id", "request"})

    def owned(self, row: Row, key: str) -> Row:
        return {**row, self.key: key}

    def called(self) -> tuple[int, Row]:
        self.calls += 1
        return 200, message("m-there", "ours")

    def _row(self, line: Row) -> Row | None:
        request = line["request"]
        assert request["anthropic_version"] == "vertex-2023-10-16"
        assert request["max_tokens"]
        assert not {"model", "stream"} & set(request)
        said = self.answer(int(line["custom_id"]), request)
        if said is None:
            return None
        if said[0] != 200:
            told = "Bad Request" if said[0] < 500 else "Internal Server Error"
            return {**line, "status": f"{told}: {json.dumps(error(*said))}", "response": None}
        return {**line, "status": "", "response": message("m-there", said[1])}


class InvocationJobs(BucketBatches):
    """Amazon's, of Bedrock, whose signatures botocore makes again."""

    kind = "bedrock"
    key = "recordId"
    credential = f'access_key_id = "{ACCESS}"\nsecret_access_key = "{KEY}"\nlocation = "us-east-1"'
    least = 1
    forgetful = False  # its lists have not heard of the newest job
    _ROLE = "arn:aws:iam::123456789012:role/batches"
    _ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/"

    @property
    def more(self) -> str:  # type: ignore[override]
        place = f'batch_bucket = "s3://{BUCKET}/{FOLDER}"\nbatch_endpoint = "{self.base}"\n'
        return f'{place}batch_role = "{self._ROLE}"\nbatch_least = 1\n'

    def makes(self, what: str) -> bool:
        return what == "POST /model-invocation-job"

    def refusal(self, status: int, message: str) -> tuple[int, Row | bytes]:
        return status, {"message": message}

    def trusted(self, what: str, headers: Any, body: bytes) -> bool:
        """Say whether a request is signed, as a whole, for its service."""
        found = _SIGNED.fullmatch(headers["authorization"] or "")
        if found is None or found[1] != ACCESS:
            return False
        day, region, service, names, signature = found.groups()[1:]
        wanted = "s3" if what.partition(" ")[2].startswith(f"/{BUCKET}") else "bedrock"
        digest, stamp = headers["x-amz-content-sha256"], headers["x-amz-date"]
        if (service, region, stamp[:8]) != (wanted, "us-east-1", day):
            return False
        if digest not in {sha256(body).hexdigest(), None if service == "bedrock" else ""}:
            return False
        if abs(datetime.now(UTC) - datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%SZ%z")).seconds > 300:
            return False
        given = {name: headers[name] for name in names.split(";") if name != "host"}
        asked = AWSRequest(
            what.partition(" ")[0], f"http://{headers['host']}{headers['x-asked']}", given, body
        )
        signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(Credentials(ACCESS, KEY), service, region)
        asked.context["timestamp"] = stamp
        text = signer.string_to_sign(asked, signer.canonical_request(asked))
        return signature == signer.signature(text, asked)

    def serve_jobs(self, what: str, query: Row, headers: Any, body: bytes) -> tuple[int, Row | bytes]:
        method, path = what.split(" ")
        if path == "/model-invocation-jobs":
            return self._list(query)
        if not path.startswith("/model-invocation-job"):
            return self.called()
        name, _, stop = path.removeprefix("/model-invocation-job").strip("/").partition("/")
        if not name:
            return self._make(json.loads(body))
        batch = self.batches[name]
        if stop:
            assert (method, stop) == ("POST", "stop")
            if batch["state"] != "open":
                return self.refusal(409, "The job has ended")
            batch["cancelled"] = True
            return 200, {}
        self._see(batch)
        return 200, self._shown(batch)

    def called(self) -> tuple[int, Row]:
        self.calls += 1
        return 200, _converse("ours")

    def _make(self, asked: Row) -> tuple[int, Row | bytes]:
        again = [each for each in self.batches.values() if each["token"] == asked["clientRequestToken"]]
        if again:
            return 200, {"jobArn": self._ARN + again[0]["id"]}
        assert (asked["roleArn"], asked["timeoutDurationInHours"]) == (self._ROLE, 24)
        assert asked["modelInvocationType"] == ("InvokeModel" if "embed" in asked["modelId"] else "Converse")
        place = asked["inputDataConfig"]["s3InputDataConfig"]
        records = self.lines(place["s3Uri"])
        if records is None or not all(set(row) == {"recordId", "modelInput"} for row in records):
            return self.refusal(400, f"{place['s3Uri']} cannot be read")
        made = f"job{len(self.batches):09}"
        self.batches[made] = {
            "id": made, "state": "open", "cancelled": False, "name": asked["jobName"], "how": "Submitted",
            "records": records, "to": asked["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"],
            "token": asked["clientRequestToken"], "type": asked["modelInvocationType"],
        }  # fmt: skip
        return 200, {"jobArn": self._ARN + made}

    def _list(self, query: Row) -> tuple[int, Row]:
        assert (query["sortBy"], query["sortOrder"]) == ("CreationTime", "Descending")
        named = query["nameContains"]
        if self.forgetful:
            return 200, {"invocationJobSummaries": []}
        names = [name for name, each in self.batches.items() if named in each["name"] or each["id"] == "b9"]
        names = names[::-1][int(query.get("nextToken", 0)) :]
        page = names[: min(1, int(query["maxResults"]))]
        more = {"nextToken": str(int(query.get("nextToken", 0)) + 1)} if len(names) > 1 else {}
        return 200, {"invocationJobSummaries": [self._shown(self.batches[name]) for name in page], **more}

    def _see(self, batch: Row) -> None:
        how = "failed" if len(batch["records"]) < self.least else self.ending(batch)
        if how is None:
            batch["how"] = "Stopping" if batch["cancelled"] else "InProgress"
            return
        if batch["state"] != "open":
            return
        ends = {"completed": "Completed", "failed": "Failed", "cancelled": "Stopped"}
        batch |= {"state": "ended", "how": ends.get(how, "PartiallyCompleted")}
        rows = [self._row(each) for each in batch["records"]]
        if how != "failed":
            folder = batch["to"].partition(f"://{BUCKET}/")[2] + batch["id"]
            self.write(folder, "in.jsonl.out", self.spoil([row for row in rows if row is not None]))
            self.write(folder, "manifest.json.out", [{"totalRecordCount": len(rows)}])

    def _row(self, record: Row) -> Row | None:
        said = self.answer(int(record["recordId"]), record["modelInput"])
        if said is None:
            return None
        if said[0] != 200:
            return {**record, "error": {"errorCode": said[0], "errorMessage": said[1]}}
        if "inputText" in record["modelInput"]:
            text = record["modelInput"]["inputText"]
            return {**record, "modelOutput": {"embedding": [0.5, len(text)], "inputTextTokenCount": 5}}
        assert "toolConfig" not in record["modelInput"]
        return {**record, "modelOutput": _converse(said[1])}

    def _shown(self, batch: Row) -> Row:
        shown: Row = {
            "jobArn": self._ARN + batch["id"], "jobName": batch["name"], "modelId": "m-there",
            "roleArn": self._ROLE, "status": batch["how"], "submitTime": "2026-11-27T10:00:00.123Z",
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": batch["to"]}},
        }  # fmt: skip
        return shown | ({"message": "Line 1 is wrong"} if batch["how"] == "Failed" else {})


def _converse(text: str) -> Row:
    message = {"role": "assistant", "content": [{"text": text}]}
    usage = {"inputTokens": 20, "outputTokens": 10, "totalTokens": 30}
    return {
        "output": {"message": message},
        "stopReason": "end_turn",
        "usage": usage,
        "metrics": {"latencyMs": 1},
    }


def xml_error(code: str, message: str) -> bytes:
    told = f"<Code>{code}</Code><Message>{html.escape(message)}</Message>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{told}</Error>'.encode()
