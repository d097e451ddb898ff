"""Anthropic's Message Batches: made with their requests, and their results are JSON lines in any order.

Facts: Anthropic's API reference of Message Batches, its guide on batch processing, and the types of its
Python SDK 2.14: at most 100,000 requests and 256 MB; a `custom_id` of 1 to 64 of `[a-zA-Z0-9_-]`; the
states `in_progress`, `canceling`, `ended`; results `succeeded`, `errored`, `canceled`, `expired`; what has
not ended after 24 hours expires. A batch has no metadata, so ours is known by the ids in its results alone,
once it has ended; until then one that was made lately and has as many requests may be it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.ports import Request
from headgate.providers.anthropic.codec import VERSION, versioned
from headgate.providers.anthropic.errors import STATUSES, mistake
from headgate.providers.batchdefaults import ReadyAtOnce
from headgate.providers.batches import (
    PAGE,
    BatchState,
    Found,
    LineAnswer,
    last_part,
    newest_s,
    oldest_s,
    posted,
)
from headgate.providers.batchread import checked, reader, seconds_of, unread
from headgate.wire.batches import one_line

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.providers.batches import Bulk, Read
    from headgate.values import Operation, Pairs, Target
    from headgate.wire.batchjobs import BatchJob

_encode = msgspec.json.encode
_NOT_RUN: Final = ("canceled", "expired")
_OURS: Final = re.compile(r"([0-9a-f]{32})-([0-9]{1,6})")


class _Line(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _Counts(msgspec.Struct, frozen=True):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class _Batch(msgspec.Struct, frozen=True):
    id: str
    processing_status: str
    created_at: str = ""
    request_counts: _Counts = _Counts()
    results_url: str | None = None


class _Page(msgspec.Struct, frozen=True):
    data: tuple[_Batch, ...]
    has_more: bool = False
    last_id: str | None = None


class _Result(msgspec.Struct, frozen=True):
    type: str
    message: msgspec.Raw = msgspec.Raw()
    error: Any = None


class _Answer(msgspec.Struct, frozen=True):
    custom_id: str
    result: _Result


_batch = reader(msgspec.json.Decoder(_Batch))
_page = reader(msgspec.json.Decoder(_Page))
_answer = reader(msgspec.json.Decoder(_Answer))


class MessageBatches(ReadyAtOnce):
    """Speak `/v1/messages/batches`. A line's `custom_id` is our batch and its number."""

    __slots__ = ()
    files = False
    between = b",\n"
    operations: frozenset[Operation] = frozenset({"chat"})
    most_lines = 100_000
    most_bytes = 250_000_000
    varies = "anthropic-version"

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return a request, without its end."""
        return _encode(_Line(f"{job.call.hex()}-{n}", msgspec.Raw(one_line(body))))

    def send(self, job: BatchJob, target: Target, bulk: Bulk) -> Request:
        """Return the request that makes a batch: of the oldest version that one of its requests needs."""
        headers = msgspec.structs.replace(target, headers=_headers(target, min(bulk.values, default=VERSION)))
        return posted(headers, _path(target, ""), "application/json", job, (b'{"requests":[', bulk, b"]}"))

    def create(self, job: BatchJob, target: Target) -> Request:
        """Refuse: a batch is made with its lines."""
        raise NotImplementedError(job.id, target.host.name)

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a batch."""
        return _get(target, f"/{batch}")

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a batch."""
        return Request("POST", _path(target, f"/{batch}/cancel"), _headers(target), b"", "req_batch")

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for batches, the newest first."""
        del job
        behind = f"&after_id={after}" if after else ""
        return _get(target, f"?limit={PAGE}{behind}")

    def content(self, target: Target, name: str) -> Request:
        """Return the request for the results of a batch, from where we know it: no URL is followed."""
        return _get(target, f"/{name}/results")

    def named(self, body: bytes) -> str:
        """Return the id in an answer."""
        return self.state(body).id

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a batch."""
        told = _batch(body)
        name, counts = checked(told.id), told.request_counts
        if told.processing_status != "ended":
            return BatchState(name)
        how = "expired" if counts.expired else "cancelled" if counts.canceled else "completed"
        return BatchState(name, how, name if told.results_url else "")

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return which of a page may be the last part: those of its time and its number of requests."""
        del after
        page = _page(body)
        try:
            made = [(each, seconds_of(each.created_at)) for each in page.data]
        except ValueError as fault:
            raise unread(fault) from fault
        known = {part.batch for part in job.passed.parts} if job.passed is not None else set()
        lines, oldest, newest = last_part(job).lines, oldest_s(job), newest_s(job)
        may = [
            each
            for each, at in made
            if oldest <= at <= newest
            and sum(msgspec.structs.astuple(each.request_counts)) == lines
            and each.id not in known
        ]
        ended = tuple(checked(each.id) for each in may if each.processing_status == "ended")
        goes_on = page.has_more and made and made[-1][1] >= oldest
        following = checked(page.last_id or made[-1][0].id) if goes_on else ""
        return Found("", following, ended, unsure=len(ended) < len(may))

    def mine(self, data: bytes, job: BatchJob) -> bool:
        """Say whether a result is one of the last part."""
        assert job.passed is not None
        parts = job.passed.parts
        begin = parts[-2].until if len(parts) > 1 else 0
        try:
            n = _number(_answer(data).custom_id, job)
        except UpstreamInterrupted:
            return False
        return begin < n <= parts[-1].until

    def reading(self, job: BatchJob) -> Read:
        """Return what reads results."""
        return lambda data: self.answer(data, job)

    def answer(self, data: bytes, job: BatchJob) -> LineAnswer | None:
        """Return what a result says. Raises `UpstreamInterrupted`."""
        told = _answer(data)
        n, result = _number(told.custom_id, job), told.result
        if result.type in _NOT_RUN:
            return None
        if result.type == "succeeded":
            return LineAnswer(n, 200, bytes(result.message))
        if result.type != "errored" or not isinstance(result.error, dict):
            raise unread(f"a result of the type {result.type[:40]!r}")
        inner = result.error.get("error")  # an error answer; or what stands in one
        error = inner if isinstance(inner, dict) else result.error
        status = STATUSES.get(str(error.get("type")), 500)
        return LineAnswer(n, status, _encode({"type": "error", "error": error}))

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        return mistake(head, body)


def _number(name: str, job: BatchJob) -> int:
    """Return the number of a line by its id there. Raises `UpstreamInterrupted`: it is none of ours."""
    found = _OURS.fullmatch(name)
    if found is None or found[1] != job.call.hex():
        raise unread(f"it is of {name[:80]!r}, which was not sent")
    return int(found[2])


def _path(target: Target, path: str) -> str:
    return f"{target.base_path}/messages/batches{path}"


def _headers(target: Target, version: str = VERSION) -> Pairs:
    return versioned(target.headers, version)


def _get(target: Target, path: str) -> Request:
    return Request("GET", _path(target, path), _headers(target), b"", "req_batch")
