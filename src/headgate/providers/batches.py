"""The seam of a provider's own batch API: a file is sent, a batch made, looked at, ended, its answers read.

No I/O. OpenAI's wire is here. Source: `/files` and `/batches` in OpenAI's OpenAPI file of 2026-08-21.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.ports import Request
from headgate.providers.refusals import refusal
from headgate.wire.batches import BatchError, one_line

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.values import Target
    from headgate.wire.batchjobs import BatchJob

_encode = msgspec.json.encode
_OURS: Final = "headgate_batch"  # the name, in a batch's metadata, of which of ours it is
_PAGE: Final = 100
_ENDED: Final = ("completed", "failed", "expired", "cancelled")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")  # of what a provider keeps: it becomes a part of paths
_NOT_RUN: Final = ("batch_expired", "batch_cancelled")


class Form(NamedTuple):
    """A file as a form: what stands before and behind it, and how that is called."""

    head: bytes
    foot: bytes
    kind: str


class BatchState(msgspec.Struct, frozen=True):
    """What a provider says of a batch."""

    id: str
    ended: str = ""  # how; empty: it has not
    output: str = ""  # the file of its answers
    errors: str = ""  # that of its errors
    why: tuple[BatchError, ...] = ()  # what is wrong with its input


class Found(NamedTuple):
    """A page of a provider's batches, the newest first."""

    id: str  # of the one that was looked for; empty: it is not here
    after: str  # where the next page begins; empty: nowhere


class LineAnswer(NamedTuple):
    """What a provider says of one line."""

    n: int
    status: int
    body: bytes  # JSON


class BatchWire(Protocol):
    """Speak one provider's wire."""

    def line(self, n: int, endpoint: str, body: bytes) -> bytes:
        """Return the line of a request, with its end."""
        ...

    def form(self, boundary: str) -> Form:
        """Return what stands around the lines."""
        ...

    def upload(self, target: Target, form: Form, tail: Collection[memoryview], name: str) -> Request:
        """Return the request that sends the lines."""
        ...

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the batch."""
        ...

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a batch."""
        ...

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a batch."""
        ...

    def listed(self, target: Target, after: str) -> Request:
        """Return the request that asks for batches, the newest first."""
        ...

    def content(self, target: Target, file: str) -> Request:
        """Return the request for a file."""
        ...

    def named(self, body: bytes) -> str:
        """Return the id in an answer. Raises `UpstreamInterrupted`: it has none."""
        ...

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a batch. Raises `UpstreamInterrupted`: nothing."""
        ...

    def found(self, body: bytes, job: BatchJob) -> Found:
        """Return whether one of a page is ours. Raises `UpstreamInterrupted`: it is no page."""
        ...

    def answer(self, data: bytes) -> LineAnswer | None:
        """Return what a line of a file says; None: its request was not run.

        Raises:
            UpstreamInterrupted: nothing.
        """
        ...

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        ...


class _Line(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Id(msgspec.Struct, frozen=True):
    id: str


class _Wrong(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None
    line: int | None = None


class _Errors(msgspec.Struct, frozen=True):
    data: tuple[_Wrong, ...] = ()


class _Batch(msgspec.Struct, frozen=True):
    id: str
    status: str
    created_at: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Errors | None = None
    metadata: dict[str, str] | None = None


class _Page(msgspec.Struct, frozen=True):
    data: tuple[_Batch, ...]
    has_more: bool = False


class _Response(msgspec.Struct, frozen=True):
    status_code: int
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Why(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    custom_id: str
    response: _Response | None = None
    error: _Why | None = None


_id = msgspec.json.Decoder(_Id).decode
_batch = msgspec.json.Decoder(_Batch).decode
_page = msgspec.json.Decoder(_Page).decode
_answer = msgspec.json.Decoder(_Answer).decode


class OpenAIBatches:
    """OpenAI's own wire. A line's `custom_id` is its number: those of callers stay here."""

    __slots__ = ()

    def line(self, n: int, endpoint: str, body: bytes) -> bytes:
        """Return the line of a request, with its end."""
        return _encode(_Line(str(n), "POST", endpoint, msgspec.Raw(one_line(body)))) + b"\n"

    def form(self, boundary: str) -> Form:
        """Return what stands around the lines: the purpose, and the head of a file."""
        begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
        purpose = f'{begin}"purpose"\r\n\r\nbatch\r\n'
        file = f'{begin}"file"; filename="batch.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
        foot = f"\r\n--{boundary}--\r\n"
        return Form((purpose + file).encode(), foot.encode(), f"multipart/form-data; boundary={boundary}")

    def upload(self, target: Target, form: Form, tail: Collection[memoryview], name: str) -> Request:
        """Return the request that sends the lines."""
        headers = tuple(row for row in target.headers if row[0] != "content-type")
        headers += (("content-type", form.kind),)
        path = f"{target.base_path}/files"
        return Request("POST", path, headers, form.head, name, (*tail, memoryview(form.foot)))

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the batch, which names ours."""
        assert job.passed is not None
        members = {
            "input_file_id": job.passed.file,
            "endpoint": job.endpoint,
            "completion_window": "24h",
            "metadata": {_OURS: job.id},
        }
        return Request("POST", f"{target.base_path}/batches", target.headers, _encode(members), job.id)

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a batch."""
        return self._get(target, f"/batches/{batch}")

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a batch."""
        path = f"{target.base_path}/batches/{batch}/cancel"
        return Request("POST", path, target.headers, b"", "req_batch")

    def listed(self, target: Target, after: str) -> Request:
        """Return the request that asks for batches, the newest first."""
        behind = f"&after={after}" if after else ""
        return self._get(target, f"/batches?limit={_PAGE}{behind}")

    def content(self, target: Target, file: str) -> Request:
        """Return the request for a file."""
        return self._get(target, f"/files/{file}/content")

    def _get(self, target: Target, path: str) -> Request:
        return Request("GET", target.base_path + path, target.headers, b"", "req_batch")

    def named(self, body: bytes) -> str:
        """Return the id in an answer."""
        try:
            return _checked(_id(body).id)
        except (msgspec.DecodeError, RecursionError) as fault:
            raise _unread(fault) from fault

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a batch."""
        try:
            told = _batch(body)
        except (msgspec.DecodeError, RecursionError) as fault:
            raise _unread(fault) from fault
        errors = told.errors.data if told.errors is not None else ()
        why = tuple(
            BatchError(each.code or "batch_failed", (each.message or "")[:2000], None, each.line)
            for each in errors[:100]
        )
        ended = told.status if told.status in _ENDED else ""
        output = _checked(told.output_file_id) if told.output_file_id else ""
        wrong = _checked(told.error_file_id) if told.error_file_id else ""
        return BatchState(told.id, ended, output, wrong, why)

    def found(self, body: bytes, job: BatchJob) -> Found:
        """Return whether one of a page is ours; none that is older than ours is."""
        try:
            page = _page(body)
        except (msgspec.DecodeError, RecursionError) as fault:
            raise _unread(fault) from fault
        ours = [each.id for each in page.data if (each.metadata or {}).get(_OURS) == job.id]
        if ours:
            return Found(_checked(ours[-1]), "")
        since = job.created_at // 1_000_000 - 3_600  # clocks differ
        goes_on = page.has_more and page.data and page.data[-1].created_at >= since
        return Found("", _checked(page.data[-1].id) if goes_on else "")

    def answer(self, data: bytes) -> LineAnswer | None:
        """Return what a line of a file says."""
        try:
            told = _answer(data)
            n = int(told.custom_id)
        except (msgspec.DecodeError, RecursionError, ValueError) as fault:
            raise _unread(fault) from fault
        if told.response is not None:
            return LineAnswer(n, told.response.status_code, bytes(told.response.body))
        why = told.error or _Why()
        if why.code in _NOT_RUN:
            return None
        return LineAnswer(n, 500, _encode({"error": {"code": why.code, "message": why.message}}))

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        return refusal(head, body)


def _unread(fault: Exception) -> UpstreamInterrupted:
    return UpstreamInterrupted(f"The provider's answer about a batch cannot be read: {fault}.")


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None or not name.strip("."):
        raise UpstreamInterrupted(f"The provider calls a file or a batch {name[:100]!r}, which is no name.")
    return name
