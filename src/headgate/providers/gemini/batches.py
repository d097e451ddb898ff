"""Gemini's batches (AI Studio): a file of requests, a long operation, a file of answers with the same keys.

Facts: Google's API reference of the Batch API and of files, its guide on batches, the types of its Python
SDK google-genai 3.4: `models/M:batchGenerateContent`, or `:asyncBatchEmbedContent`, with a `batch` of
`display_name` and `input_config.file_name`; lines `{"key", "request"}`; an operation with `metadata.state`
(`BATCH_STATE_...`) and `metadata.output` or `response` with `responsesFile`; lines of answers `{"key",
"response"}` or `{"key", "error"}`, whose code is one of gRPC or of HTTP; files of 2 GB, kept for 48 hours;
a batch expires after 48 hours, without answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.ports import Request
from headgate.providers.batchdefaults import ReadyAtOnce
from headgate.providers.batches import (
    PAGE,
    BatchState,
    Found,
    LineAnswer,
    got,
    last_part,
    posted,
    tag,
)
from headgate.providers.batchread import checked, numbered, reader
from headgate.providers.codec import headers_of, name_in_path
from headgate.providers.gemini.errors import mistake
from headgate.providers.gemini.vectors import EMBEDDINGS, Told, Vectors, texts_apart
from headgate.providers.grpc import CANCELLED, status_of
from headgate.wire.batches import BatchError, one_line
from headgate.wire.sigv4 import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.providers.batches import Bulk, Read
    from headgate.values import Operation, Target
    from headgate.wire.batchjobs import BatchJob

_encode = msgspec.json.encode
_NAMED: Final = "headgate "
_ENDED: Final[Mapping[str, str]] = {
    "SUCCEEDED": "completed",
    "PARTIALLY_SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}


class _Line(msgspec.Struct):
    key: str
    request: msgspec.Raw


class _Name(msgspec.Struct, frozen=True):
    name: str = ""


class _Named(msgspec.Struct, frozen=True):
    name: str = ""
    file: _Name | None = None


class _Output(msgspec.Struct, frozen=True, rename="camel"):
    responses_file: str = ""


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    state: str = ""
    display_name: str = ""
    output: _Output | None = None


class _Status(msgspec.Struct, frozen=True):
    code: int = 2
    message: str = ""
    status: str = ""
    details: Any = None


class _Operation(msgspec.Struct, frozen=True):
    name: str
    metadata: _Metadata | None = None
    done: bool = False
    response: _Output | None = None
    error: _Status | None = None


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    operations: tuple[_Operation, ...] = ()
    next_page_token: str = ""


class _Answer(msgspec.Struct, frozen=True):
    key: str
    response: msgspec.Raw = msgspec.Raw()
    error: _Status | None = None


_named = reader(msgspec.json.Decoder(_Named))
_operation = reader(msgspec.json.Decoder(_Operation))
_page = reader(msgspec.json.Decoder(_Page))
_answer = reader(msgspec.json.Decoder(_Answer))


class ContentBatches(ReadyAtOnce):
    """Speak `:batchGenerateContent`. A line's key is its number."""

    __slots__ = ()
    files = True
    between = b"\n"
    operations: frozenset[Operation] = frozenset({"chat", "embeddings"})
    most_lines = 1_000_000
    most_bytes = 1_900_000_000
    varies = ""

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, or those of its texts, without the end."""
        if job.endpoint == EMBEDDINGS:
            return self.between.join(texts_apart(n, body))
        return _encode(_Line(str(n), msgspec.Raw(one_line(body))))

    def send(self, job: BatchJob, target: Target, bulk: Bulk) -> Request:
        """Return the request that sends the lines: what the file is, and the file, in one."""
        kinds = ("application/json; charset=UTF-8", "application/jsonl")
        first, second = (f"--{bulk.boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() for kind in kinds)
        told = _encode({"file": {"displayName": tag(job), "mimeType": "application/jsonl"}})
        head, foot = first + told + b"\r\n" + second, f"\n\r\n--{bulk.boundary}--\r\n".encode()
        there = msgspec.structs.replace(
            target, headers=(*target.headers, ("x-goog-upload-protocol", "multipart"))
        )
        kind = f"multipart/related; boundary={bulk.boundary}"
        return posted(there, _beside(target, "upload", "/files"), kind, job, (head, bulk, foot))

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the batch, which names ours."""
        order = {
            "batch": {
                "display_name": _NAMED + tag(job),
                "input_config": {"file_name": f"files/{last_part(job).file}"},
            }
        }
        verb = "asyncBatchEmbedContent" if job.endpoint == EMBEDDINGS else "batchGenerateContent"
        path = f"{target.base_path}/models/{name_in_path(target)}:{verb}"
        return Request("POST", path, headers_of(target), _encode(order), job.id)

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a batch."""
        return got(target, f"{target.base_path}/batches/{batch}")

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a batch."""
        return got(target, f"{target.base_path}/batches/{batch}:cancel", "POST")

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for batches."""
        del job
        behind = f"&pageToken={quoted(after)}" if after else ""
        return got(target, f"{target.base_path}/batches?pageSize={PAGE}{behind}")

    def content(self, target: Target, name: str) -> Request:
        """Return the request for the file of answers."""
        return got(target, _beside(target, "download", f"/files/{name}:download?alt=media"))

    def named(self, body: bytes) -> str:
        """Return the name of a file or of a batch in an answer."""
        told = _named(body)
        return _short(told.file.name if told.file is not None else told.name)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a batch."""
        told = _operation(body)
        metadata = told.metadata or _Metadata()
        output = next((each for each in (told.response, metadata.output) if each is not None), _Output())
        ended = _ENDED.get(metadata.state.rpartition("STATE_")[2], "")
        if told.done and not ended:
            ended = "failed" if told.error is not None else "completed"
        why = (BatchError("batch_failed", told.error.message[:2000]),) if told.error is not None else ()
        file = _short(output.responses_file) if ended and output.responses_file else ""
        return BatchState(_short(told.name), ended, file, "", why)

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether one of a page is ours, in whatever order they are."""
        del after
        page = _page(body)
        for each in page.operations:
            if each.metadata is not None and each.metadata.display_name == _NAMED + tag(job):
                return Found(_short(each.name), "")
        return Found("", page.next_page_token)

    def mine(self, data: bytes, job: BatchJob) -> bool:
        """Say no: which batch is ours its name says."""
        del data, job
        return False

    def reading(self, job: BatchJob) -> Read:
        """Return what reads lines of a file."""
        return Vectors(_told).take if job.endpoint == EMBEDDINGS else _answered

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        return mistake(head, body)


def _told(data: bytes) -> Told:
    """Return whose a line of a file is, and what it says. Raises `UpstreamInterrupted`."""
    told = _answer(data)
    if told.response:
        return Told(told.key, 200, bytes(told.response))
    error = told.error or _Status()
    if error.code == CANCELLED:  # the batch was, before
        return Told(told.key, 0, b"")
    status = status_of(error.code)
    shown = {"code": status, "message": error.message, "status": error.status, "details": error.details}
    return Told(told.key, status, _encode({"error": shown}))


def _answered(data: bytes) -> LineAnswer | None:
    """Return what a line of a file says of a request of chat."""
    told = _told(data)
    n = numbered(told.key)
    return LineAnswer(n, told.status, told.body) if told.status else None


def _short(name: str) -> str:
    """Return the last part of a name such as `files/NAME`. Raises `UpstreamInterrupted`: it is none."""
    return checked(name.removeprefix("files/").removeprefix("batches/"))


def _beside(target: Target, what: str, path: str) -> str:
    """Return where files go or come from: `/upload/v1beta/files` beside `/v1beta`."""
    place, _, version = target.base_path.rpartition("/")
    return f"{place}/{what}/{version}{path}"
