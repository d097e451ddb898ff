"""Vertex AI's batches: lines in a bucket of Cloud Storage, a job, files of answers in the same bucket.

A line has no key of its own there. But a request may have labels, which are written beside its answer with
the rest of it, in any order: so the number of a line is one of its labels.

Facts: Google's pages "Batch inference from Cloud Storage" and on `projects.locations.batchPredictionJobs`:
`{"request": {...}}` in, `{"status", "processed_time", "request", "response"}` out, in a folder below
`outputUriPrefix`; 200,000 requests and a file of 1 GB; states `JOB_STATE_...`; a job that is not done
24 hours after it began is cancelled, and what was answered is billed. Labels: values of 63 small letters,
digits, `_` and `-`; `filter` of a list knows `display_name`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.ports import Request
from headgate.providers.batches import PAGE, BatchState, Found, LineAnswer, got, last_part, tag
from headgate.providers.batchread import checked, numbered, reader
from headgate.providers.buckets import Stored, TokenStore, bucket_of, name_in, output_of
from headgate.providers.codec import headers_of, name_in_path
from headgate.providers.gemini.errors import mistake
from headgate.wire.answers import NOT_JSON
from headgate.wire.batches import BatchError, one_line
from headgate.wire.sigv4 import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.providers.batches import Read
    from headgate.providers.buckets import ObjectStore
    from headgate.values import Operation, Target
    from headgate.wire.batchjobs import BatchJob

_encode = msgspec.json.encode
_NAMED: Final = "headgate "
_LINE: Final = "headgate_line"  # the label that is the number of a line
_ENDED: Final[Mapping[str, str]] = {
    "SUCCEEDED": "completed",
    "PARTIALLY_SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
_PHRASES: Final[Mapping[str, int]] = {  # of HTTP, as a status begins
    "bad request": 400,
    "forbidden": 403,
    "not found": 404,
    "too many requests": 429,
    "service unavailable": 503,
    "gateway timeout": 504,
}
_INSIDE: Final = re.compile(r"\{.*\}", re.DOTALL)


class _Labelled(msgspec.Struct, frozen=True):
    labels: dict[str, str] = {}


class _Status(msgspec.Struct, frozen=True):
    code: int = 2
    message: str = ""


class _Destination(msgspec.Struct, frozen=True, rename="camel"):
    output_uri_prefix: str = ""


class _Output(msgspec.Struct, frozen=True, rename="camel"):
    gcs_destination: _Destination = _Destination()


class _Job(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    display_name: str = ""
    state: str = ""
    output_config: _Output = _Output()
    error: _Status | None = None


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    batch_prediction_jobs: tuple[_Job, ...] = ()
    next_page_token: str = ""


class _Answer(msgspec.Struct, frozen=True):
    request: _Labelled
    status: str = ""
    response: msgspec.Raw = msgspec.Raw()


_job = reader(msgspec.json.Decoder(_Job))
_page = reader(msgspec.json.Decoder(_Page))
_answer = reader(msgspec.json.Decoder(_Answer))


class PredictionJobs(Stored):
    """Speak `batchPredictionJobs`."""

    __slots__ = ()
    operations: frozenset[Operation] = frozenset({"chat"})
    most_lines = 200_000
    most_bytes = 1_000_000_000
    publisher = "google"  # of the models
    objects: ObjectStore | None = TokenStore()

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end."""
        del job  # what we send has no labels otherwise
        return b'{"request":%b,"labels":{"%b":"%d"}}}' % (one_line(body)[:-1], _LINE.encode(), n)

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the job, which names ours."""
        bucket = bucket_of(target)
        order = {
            "displayName": _NAMED + tag(job),
            "model": f"publishers/{self.publisher}/models/{name_in_path(target)}",
            "inputConfig": {
                "instancesFormat": "jsonl",
                "gcsSource": {"uris": [bucket.url(last_part(job).file)]},
            },
            "outputConfig": {
                "predictionsFormat": "jsonl",
                "gcsDestination": {"outputUriPrefix": bucket.url(output_of(job, bucket))},
            },
        }
        return Request("POST", _path(target), headers_of(target), _encode(order), job.id)

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a job."""
        return got(target, _path(target, f"/{batch}"))

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a job."""
        return Request("POST", _path(target, f"/{batch}:cancel"), headers_of(target), b"{}", "req_batch")

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for jobs of the last part's name."""
        wanted = quoted(f'display_name="{_NAMED}{tag(job)}"')
        behind = f"&pageToken={quoted(after)}" if after else ""
        return got(target, _path(target, f"?filter={wanted}&pageSize={PAGE}{behind}"))

    def named(self, body: bytes) -> str:
        """Return the name of a job in an answer."""
        return _short(_job(body).name)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a job."""
        told = _job(body)
        ended = _ENDED.get(told.state.rpartition("STATE_")[2], "")
        output = told.output_config.gcs_destination.output_uri_prefix
        answers = name_in(output) if ended not in {"", "failed"} else ""
        why = (BatchError("batch_failed", told.error.message[:2000]),) if told.error is not None else ()
        return BatchState(_short(told.name), ended, answers, "", why)

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether one of a page is ours, in whatever order they are."""
        del after
        page = _page(body)
        for each in page.batch_prediction_jobs:
            if each.display_name == _NAMED + tag(job):
                return Found(_short(each.name), "")
        return Found("", page.next_page_token)

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
    n = numbered(told.request.labels.get(_LINE, ""))
    if not told.status:
        return LineAnswer(n, 200, bytes(told.response))
    return failure(n, told.status)


def failure(n: int, told: str) -> LineAnswer:
    """Return what a status says of a line: words, which may begin with HTTP's, an error behind them."""
    status, error = _failure(told)
    return LineAnswer(n, status, _encode({"error": error}))


def error_in(told: str) -> dict[str, Any]:
    """Return the error of a call that is in a status; empty: there is none."""
    found = _INSIDE.search(told)
    try:
        inside = msgspec.json.decode(found[0]) if found is not None else {}
    except NOT_JSON:
        inside = {}
    error = inside.get("error") if isinstance(inside, dict) else None
    return error if isinstance(error, dict) else {}


def _failure(told: str) -> tuple[int, dict[str, Any]]:
    error = error_in(told)
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code, error
    status = _PHRASES.get(told.partition(":")[0].strip().lower(), 500)
    return status, {"code": status, "message": told[:2000]}


def _short(name: str) -> str:
    """Return the last part of a job's name. Raises `UpstreamInterrupted`: it is none."""
    return checked(name.rpartition("/batchPredictionJobs/")[2])


def _path(target: Target, path: str = "") -> str:
    return f"{target.base_path}/batchPredictionJobs{path}"
