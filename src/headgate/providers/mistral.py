"""Mistral's batch jobs: OpenAI's files and lines of answers, with an API of its own for the jobs.

Facts: Mistral's OpenAPI file (`/v1/batch/jobs`, whose list takes `created_after` and `order_by`) and its page
on batches: a line has a `custom_id` and a `body`; the model and the endpoint stand in the job; a million
lines in all jobs that are not done.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.ports import Request
from headgate.providers.batches import (
    OURS,
    PAGE,
    BatchState,
    Found,
    OpenAIBatches,
    got,
    last_part,
    oldest_s,
    tag,
)
from headgate.providers.batchread import checked, reader
from headgate.providers.codec import headers_of
from headgate.wire.batches import BatchError, one_line
from headgate.wire.sigv4 import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.values import Operation, Target
    from headgate.wire.batchjobs import BatchJob

_encode = msgspec.json.encode
_ENDED: Final[Mapping[str, str]] = {
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLED": "cancelled",
}


class _Line(msgspec.Struct):
    custom_id: str
    body: msgspec.Raw


class _Wrong(msgspec.Struct, frozen=True):
    message: str | None = None


class _Job(msgspec.Struct, frozen=True):
    id: str
    status: str
    output_file: str | None = None
    error_file: str | None = None
    errors: tuple[_Wrong, ...] | None = None
    metadata: dict[str, Any] | None = None


class _Page(msgspec.Struct, frozen=True):
    data: tuple[_Job, ...] | None = None


_job = reader(msgspec.json.Decoder(_Job))
_page = reader(msgspec.json.Decoder(_Page))


class MistralBatches(OpenAIBatches):
    """Speak `/v1/batch/jobs`."""

    __slots__ = ()
    operations: frozenset[Operation] = frozenset({"chat", "embeddings", "moderations"})
    most_lines = 1_000_000

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end."""
        del job
        return _encode(_Line(str(n), msgspec.Raw(one_line(body))))

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes a job, which names ours."""
        order = {
            "input_files": [last_part(job).file],
            "endpoint": job.endpoint,
            "model": target.model.name,
            "metadata": {OURS: tag(job)},
            "timeout_hours": 24,
        }
        return Request("POST", f"{target.base_path}/batch/jobs", headers_of(target), _encode(order), job.id)

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a job."""
        return self._get(target, f"/batch/jobs/{batch}")

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a job."""
        return got(target, f"{target.base_path}/batch/jobs/{batch}/cancel", "POST")

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for jobs that may be ours, the newest first."""
        since = quoted(f"{datetime.fromtimestamp(oldest_s(job), UTC):%Y-%m-%dT%H:%M:%SZ}")
        asked = f"page={after or 0}&page_size={PAGE}&order_by=-created&created_after={since}"
        return self._get(target, "/batch/jobs", asked)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a job."""
        told = _job(body)
        why = tuple(
            BatchError("batch_failed", (each.message or "")[:2000]) for each in (told.errors or ())[:100]
        )
        output = checked(told.output_file) if told.output_file else ""
        wrong = checked(told.error_file) if told.error_file else ""
        return BatchState(told.id, _ENDED.get(told.status, ""), output, wrong, why)

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether one of a page is ours; pages have numbers."""
        jobs = _page(body).data or ()
        ours = [each.id for each in jobs if (each.metadata or {}).get(OURS) == tag(job)]
        if ours:
            return Found(checked(ours[-1]), "")
        return Found("", str(int(after or 0) + 1) if len(jobs) >= PAGE else "")
