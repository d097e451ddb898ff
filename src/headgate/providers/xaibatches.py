"""xAI's batches: a file with OpenAI's lines, a batch that counts its requests, answers page by page.

Facts: xAI's guide on its Batch API and the reference of `/v1/batches`; Vercel's `@ai-sdk/xai` and LiteLLM,
which speak it. A file is sent without a purpose. A batch has no state: it has ended once none of its
requests is pending, if it has any; what xAI itself ends, as for a model that has no batches, has
`cancel_by_xai_message`, and no requests. `GET /v1/batches/{id}/results` gives `{"batch_request_id",
"batch_result": {"response": {"chat_get_completion": {...}}}}`, or an `error` with a code of gRPC; 0 is none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.ports import Request, SystemClock
from headgate.providers.batches import (
    PAGE,
    BatchState,
    Found,
    LineAnswer,
    OpenAIBatches,
    Unfolded,
    got,
    last_part,
    tag,
)
from headgate.providers.batchread import checked, numbered, reader, unread
from headgate.providers.codec import headers_of
from headgate.providers.grpc import CANCELLED, status_of
from headgate.wire.batches import BatchError
from headgate.wire.sigv4 import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.ports import Clock
    from headgate.values import Operation, Target
    from headgate.wire.batchjobs import BatchJob, Part

_encode = msgspec.json.encode
_NAMED: Final = "headgate "
_NOT_RUN: Final = (str(CANCELLED), "cancelled", "batch_cancelled")
_GRACE: Final = timedelta(days=1)  # its time may be told as a day alone


class _Counts(msgspec.Struct, frozen=True):
    num_requests: int | None = None
    num_pending: int | None = None


class _Batch(msgspec.Struct, frozen=True):
    batch_id: str
    name: str | None = None
    input_file_id: str | None = None
    expire_time: str | None = None
    cancel_time: str | None = None
    cancel_by_xai_message: str | None = None
    state: _Counts | None = None


class _Named(msgspec.Struct, frozen=True):
    id: str = ""
    batch_id: str = ""


class _Page(msgspec.Struct, frozen=True):
    batches: tuple[_Batch, ...] = ()
    pagination_token: str | None = None


class _Results(msgspec.Struct, frozen=True):
    results: tuple[msgspec.Raw, ...]
    pagination_token: str | None = None


class _Response(msgspec.Struct, frozen=True):
    chat_get_completion: msgspec.Raw = msgspec.Raw()


class _Wrong(msgspec.Struct, frozen=True):
    code: int | str | None = None
    message: str | None = None


class _Result(msgspec.Struct, frozen=True):
    response: _Response | None = None
    error: _Wrong | None = None


class _Answer(msgspec.Struct, frozen=True):
    batch_request_id: str
    batch_result: _Result | None = None
    error_message: str | None = None


_batch = reader(msgspec.json.Decoder(_Batch))
_named = reader(msgspec.json.Decoder(_Named))
_page = reader(msgspec.json.Decoder(_Page))
_results = reader(msgspec.json.Decoder(_Results))
_answer = reader(msgspec.json.Decoder(_Answer))


class XaiBatches(OpenAIBatches):
    """Speak `/v1/batches` as xAI has it."""

    __slots__ = ("_clock",)
    operations: frozenset[Operation] = frozenset({"chat"})
    most_bytes = 48_000_000
    fields: Mapping[str, str] = {}
    paged = True

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the batch, which names ours."""
        body = _encode({"name": _NAMED + tag(job), "input_file_id": last_part(job).file})
        return Request("POST", self._path(target, "/batches"), headers_of(target), body, job.id)

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a batch."""
        return got(target, self._path(target, f"/batches/{batch}:cancel"), "POST")

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for batches, page by page."""
        del job
        return self._get(target, "/batches", _paging(after))

    def content(self, target: Target, name: str) -> Request:
        """Return the request for the first page of answers."""
        return self._get(target, f"/batches/{name}/results", _paging(""))

    def _files(self, part: Part) -> tuple[str, ...]:
        """Return the names of a part's files: answers are none."""
        return (part.file,)

    def unfold(self, target: Target, name: str, body: bytes) -> Unfolded:
        """Return the answers of a page, and the request for the next one."""
        told = _results(body)
        lines = tuple(bytes(each) for each in told.results)
        if not (told.pagination_token and lines):
            return Unfolded(lines, None)
        return Unfolded(lines, self._get(target, f"/batches/{name}/results", _paging(told.pagination_token)))

    def named(self, body: bytes) -> str:
        """Return the name of a file or of a batch in an answer."""
        told = _named(body)
        return checked(told.batch_id or told.id)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a batch: by what is pending."""
        told = _batch(body)
        try:
            over = self._over(told.expire_time)
        except ValueError as fault:
            raise unread(fault) from fault
        name, counts = checked(told.batch_id), told.state or _Counts()
        if told.cancel_by_xai_message:
            why = BatchError("batch_failed", told.cancel_by_xai_message[:2000])
            return BatchState(name, "failed", name if counts.num_requests else "", "", (why,))
        done = counts.num_pending == 0 and bool(counts.num_requests or told.cancel_time)
        if not (done or over):
            return BatchState(name)
        how = "cancelled" if told.cancel_time else "completed" if done else "expired"
        return BatchState(name, how, name)

    def _over(self, told: str | None) -> bool:
        """Say whether the time of a batch is over for sure. Raises ValueError: it is no time."""
        if not told:
            return False
        time = datetime.fromisoformat(told)
        time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        return datetime.fromtimestamp(self._clock.wall() / 1e6, UTC) > time + _GRACE

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether one of a page is ours, in whatever order they are."""
        del after
        page = _page(body)
        for each in page.batches:
            if each.name == _NAMED + tag(job):
                return Found(checked(each.batch_id), "")
        return Found("", (page.pagination_token or "") if page.batches else "")

    def answer(self, data: bytes) -> LineAnswer | None:
        """Return what a result says. Raises `UpstreamInterrupted`."""
        told = _answer(data)
        n = numbered(told.batch_request_id)
        result = told.batch_result or _Result()
        wrong = result.error or _Wrong()
        code, message = str(wrong.code or "").lower(), told.error_message or wrong.message or ""
        if code in _NOT_RUN:
            return None
        if result.response is not None and result.response.chat_get_completion and code in {"", "0"}:
            return LineAnswer(n, 200, bytes(result.response.chat_get_completion))
        status = status_of(int(code)) if code.isdecimal() and code.isascii() else 500
        return LineAnswer(n, status, _encode({"error": {"code": wrong.code, "message": message}}))


def _paging(after: str) -> str:
    return f"limit={PAGE}" + (f"&pagination_token={quoted(after)}" if after else "")
