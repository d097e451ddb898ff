"""Bedrock's batch inference: lines in a bucket of S3, a job, files of answers in the same bucket.

A job is made under a token of ours: who asks twice with the same one gets the same job. Requests are those of
Converse, and of InvokeModel for embeddings. Converse takes no tools in a batch: what has some goes into none.

Facts: AWS's user guide on batch inference and botocore's description of `bedrock` (1.44), which tests check
every request against: `{"recordId", "modelInput"}` in, and out, in any order, `{"recordId", "modelOutput"}`
or `{"recordId", "error"}` in `JOB/NAME.jsonl.out` below the output's URL, beside a `manifest.json.out`; 100
to 50,000 records in a file of 1 GB, as quotas of the account have it; a time of 24 hours and more. It is
asked at `bedrock.REGION`, not at `bedrock-runtime.REGION`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import CallerError, UpstreamInterrupted
from headgate.ports import Request, SystemClock
from headgate.providers.batches import PAGE, BatchState, Found, LineAnswer, last_part, own_name
from headgate.providers.batchread import checked, numbered, reader
from headgate.providers.bedrock.errors import mistake
from headgate.providers.bedrock.request import schema_tool
from headgate.providers.buckets import SignedStore, Stored, bucket_of, name_in, output_of, signed_for
from headgate.providers.chat import shape_of
from headgate.wire.batches import BatchError, one_line
from headgate.wire.sigv4 import Ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Clock, Head
    from headgate.providers.batches import Read
    from headgate.providers.buckets import ObjectStore
    from headgate.values import Call, Operation, Target
    from headgate.wire.batchjobs import BatchJob

_encode = msgspec.json.encode
_EMBEDDINGS: Final = "/v1/embeddings"
_JOB: Final = "/model-invocation-job"
_NONE: Final = (b"[]", b"null")
_HOURS: Final = 24
_ENDED: Final[Mapping[str, str]] = {
    "Completed": "completed",
    "PartiallyCompleted": "expired",  # not all of it in time
    "Expired": "expired",
    "Stopped": "cancelled",
    "Failed": "failed",
}


class _Line(msgspec.Struct, rename="camel"):
    record_id: str
    model_input: msgspec.Raw


class _Place(msgspec.Struct, frozen=True, rename="camel"):
    s3_uri: str = ""


class _Output(msgspec.Struct, frozen=True, rename="camel"):
    s3_output_data_config: _Place = _Place()


class _Job(msgspec.Struct, frozen=True, rename="camel"):
    job_arn: str
    job_name: str = ""
    status: str = ""
    message: str = ""
    output_data_config: _Output = _Output()


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    invocation_job_summaries: tuple[_Job, ...] = ()
    next_token: str = ""


class _Wrong(msgspec.Struct, frozen=True, rename="camel"):
    error_code: int = 500
    error_message: str = ""
    expired: bool = False


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    record_id: str
    model_output: msgspec.Raw = msgspec.Raw()
    error: _Wrong | None = None


_job = reader(msgspec.json.Decoder(_Job))
_page = reader(msgspec.json.Decoder(_Page))
_answer = reader(msgspec.json.Decoder(_Answer))


class InvocationJobs(Stored):
    """Speak `model-invocation-job`. Requests are signed for the time of the clock."""

    __slots__ = ("_clock", "objects")
    operations: frozenset[Operation] = frozenset({"chat", "embeddings"})
    least_lines = 100
    most_lines = 50_000
    most_bytes = 1_000_000_000

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.objects: ObjectStore | None = SignedStore(self._clock)

    def at(self, target: Target) -> Target:
        """Return a target as its jobs are asked for: beside the runtime."""
        url = target.host.base_url.replace("bedrock-runtime", "bedrock", 1)
        return msgspec.structs.replace(target, host=msgspec.structs.replace(target.host, base_url=url))

    def takes(self, call: Call, target: Target) -> bool:
        """Say whether a call has no tools, nor one that would stand for its schema."""
        if call.operation != "chat":
            return True
        tools = bytes(call.members.get("tools", b"[]")).strip()
        try:
            return tools in _NONE and not schema_tool(shape_of(call), target)
        except CallerError:  # which its line will say
            return True

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end: ids had eleven characters, and may."""
        del job
        return _encode(_Line(f"{n:011d}", msgspec.Raw(one_line(body))))

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the job, which names ours: one, however often it is sent."""
        bucket, name = bucket_of(target), own_name(job)
        order = {
            "jobName": name,
            "clientRequestToken": name,
            "roleArn": bucket.role,
            "modelId": target.model.name,
            "modelInvocationType": "InvokeModel" if job.endpoint == _EMBEDDINGS else "Converse",
            "inputDataConfig": {
                "s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": bucket.url(last_part(job).file)}
            },
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": bucket.url(f"{output_of(job, bucket)}/")}},
            "timeoutDurationInHours": _HOURS,
        }
        return self._request("POST", target, _JOB, body=_encode(order))

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a job."""
        return self._request("GET", target, f"{_JOB}/{batch}")

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a job."""
        return self._request("POST", target, f"{_JOB}/{batch}/stop")

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for jobs of the last part's name, the newest first."""
        asked = {
            "maxResults": str(PAGE),
            "nameContains": own_name(job),
            "sortBy": "CreationTime",
            "sortOrder": "Descending",
        }
        query = asked | ({"nextToken": after} if after else {})
        return self._request("GET", target, f"{_JOB}s", tuple(query.items()))

    def _request(
        self,
        method: str,
        target: Target,
        path: str,
        query: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> Request:
        there = self.at(target)
        host = there.host.base_url.partition("://")[2].partition("/")[0]
        ask = Ask(method, host, target.base_path + path, query, hashlib.sha256(body).hexdigest())
        headers = (*target.headers, *signed_for(ask, target, "bedrock", self._clock))
        return Request(method, ask.target, headers, body, "req_batch")

    def named(self, body: bytes) -> str:
        """Return the name of a job in an answer."""
        return _short(_job(body).job_arn)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a job."""
        told = _job(body)
        ended = _ENDED.get(told.status, "")
        output = told.output_data_config.s3_output_data_config.s3_uri
        answers = name_in(output) if ended not in {"", "failed"} else ""
        why = (BatchError("batch_failed", told.message[:2000]),) if told.message else ()
        return BatchState(_short(told.job_arn), ended, answers, "", why)

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether one of a page is ours: others may have a name that ours is a part of."""
        del after
        page = _page(body)
        for each in page.invocation_job_summaries:
            if each.job_name == own_name(job):
                return Found(_short(each.job_arn), "")
        return Found("", page.next_token)

    def reading(self, job: BatchJob) -> Read:
        """Return what reads lines of a file."""
        del job
        return _answered

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        return mistake(head, body)


def _answered(data: bytes) -> LineAnswer | None:
    """Return what a line of a file says. Raises `UpstreamInterrupted`."""
    told = _answer(data)
    n = numbered(told.record_id)
    wrong = told.error
    if wrong is not None:
        status = wrong.error_code if 400 <= wrong.error_code < 600 else 500
        shown: dict[str, Any] = {"message": wrong.error_message}
        return None if wrong.expired else LineAnswer(n, status, _encode(shown))
    if not told.model_output:
        raise UpstreamInterrupted("A line of the provider's answers has neither an answer nor an error.")
    return LineAnswer(n, 200, bytes(told.model_output))


def _short(name: str) -> str:
    """Return the last part of a job's ARN. Raises `UpstreamInterrupted`: it is none."""
    return checked(name.rpartition("/")[2])
