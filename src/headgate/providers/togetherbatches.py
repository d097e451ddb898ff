"""Together's batches: OpenAI's form of files and of answers, with an API of its own for the jobs.

Facts: Together's pages on batches, its reference of `/v1/files/upload` and `/v1/batches`, and its own SDK: a
file has the purpose `batch-api`; a line has a `custom_id` and a `body`; the answer of an order has the job in
`job`, all others have it bare; the list is an array without pages; 50,000 lines, 100 MB. A job keeps no
metadata, but tells its input file. One that failed says why in `error`; a line that failed has a `code` and
no status. `CANCELING`, which is not documented, was seen by others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.ports import Request
from headgate.providers.batches import BatchState, Found, LineAnswer, OpenAIBatches, last_part
from headgate.providers.batchread import checked, reader
from headgate.providers.codec import headers_of
from headgate.wire.batches import BatchError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.values import Operation, Target
    from headgate.wire.batchjobs import BatchJob

_encode = msgspec.json.encode
_ENDED: Final = ("COMPLETED", "FAILED", "EXPIRED", "CANCELLED")
_OF_THE_CALLER: Final = ("batch_client_error", "invalid_")  # so begin codes of what a request has wrong


class _Line(msgspec.Struct):
    custom_id: str
    body: msgspec.Raw


class _Job(msgspec.Struct, frozen=True):
    id: str
    status: str = ""
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    error: str | None = None


class _Named(msgspec.Struct, frozen=True):
    id: str = ""
    job: _Job | None = None


class _Why(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None


class _Wrong(msgspec.Struct, frozen=True):
    custom_id: str
    error: _Why | None = None


_job = reader(msgspec.json.Decoder(_Job))
_jobs = reader(msgspec.json.Decoder(tuple[_Job, ...] | None))
_named = reader(msgspec.json.Decoder(_Named))
_wrong = reader(msgspec.json.Decoder(_Wrong))


class TogetherBatches(OpenAIBatches):
    """Speak `/v1/batches` as Together has it."""

    __slots__ = ()
    operations: frozenset[Operation] = frozenset({"chat"})
    most_bytes = 99_000_000
    upload = "/files/upload"
    fields: Mapping[str, str] = {"purpose": "batch-api", "file_name": "batch.jsonl"}

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end."""
        del job
        return _encode(_Line(str(n), msgspec.Raw(one_line(body))))

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the job of a file, by which it is found again."""
        order = {
            "input_file_id": last_part(job).file,
            "endpoint": job.endpoint,
            "completion_window": "24h",
        }
        return Request("POST", self._path(target, "/batches"), headers_of(target), _encode(order), job.id)

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for all jobs."""
        del job, after
        return self._get(target, "/batches")

    def named(self, body: bytes) -> str:
        """Return the name of a file or of a job in an answer."""
        told = _named(body)
        return checked(told.job.id if told.job is not None else told.id)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a job."""
        told = _job(body)
        output = checked(told.output_file_id) if told.output_file_id else ""
        wrong = checked(told.error_file_id) if told.error_file_id else ""
        why = (BatchError("batch_failed", told.error[:2000]),) if told.error else ()
        ended = told.status.lower() if told.status in _ENDED else ""
        return BatchState(checked(told.id), ended, output, wrong, why)

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether a job is of the file of ours, of which no other is."""
        del after
        jobs = _jobs(body) or ()
        file = last_part(job).file
        ours = [each.id for each in jobs if file and each.input_file_id == file]
        return Found(checked(ours[-1]) if ours else "", "")

    def answer(self, data: bytes) -> LineAnswer | None:
        """Return what a line of a file says: one that failed there has no status but a code."""
        told = super().answer(data)
        if told is None or told.status != 500:
            return told
        why = _wrong(data).error or _Why()
        status = 400 if (why.code or "").startswith(_OF_THE_CALLER) else 500
        return LineAnswer(told.n, status, told.body)
