"""The seam of a provider's own batch API: lines are sent, a batch made, looked at, ended, its answers read.

No I/O. Where a wire has files, lines are sent as one, of which a batch is then made; else a batch is made
with its lines. OpenAI's wire is here. Source: `/files` and `/batches` in OpenAI's OpenAPI file of 2026-08-21.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from headgate.ports import Request
from headgate.providers.batchdefaults import ReadyAtOnce
from headgate.providers.batchread import checked, numbered, seconds_of, unread
from headgate.providers.batchtold import Why, told_answer, told_batch, told_id, told_page
from headgate.providers.codec import headers_of
from headgate.providers.refusals import refusal
from headgate.wire.batches import MOST_LINES, BatchError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.providers.buckets import ObjectStore
    from headgate.values import Call, Host, Operation, Target
    from headgate.wire.batchjobs import BatchJob, Part

_encode = msgspec.json.encode
OURS: Final = "headgate_batch"  # the name, in a batch's metadata, of which of ours it is
PAGE: Final = 100  # batches
_ENDED: Final = ("completed", "failed", "expired", "cancelled")
_NOT_RUN: Final = ("batch_expired", "batch_cancelled")
_CLOCKS_S: Final = 3_600  # so much those of a provider may differ from ours


class Bulk(NamedTuple):
    """The lines of one batch, as they are sent."""

    tail: Collection[memoryview]
    values: Collection[str]  # of the header in which their requests may differ: each that occurs
    boundary: str  # that is in none of them


class BatchState(msgspec.Struct, frozen=True):
    """What a provider says of a batch."""

    id: str
    ended: str = ""  # how: completed, failed, expired, cancelled; empty: it has not
    output: str = ""  # the name of its answers
    errors: str = ""  # that of its errors
    why: tuple[BatchError, ...] = ()  # what is wrong with its input


class Found(NamedTuple):
    """What a page of a provider's batches says."""

    id: str  # of the one that was looked for; empty: it is not here
    after: str  # where the next page begins; empty: nowhere
    maybe: tuple[str, ...] = ()  # names of answers that may be those of the one that was looked for
    unsure: bool = False  # one that has no answers yet may be that one


class LineAnswer(NamedTuple):
    """What a provider says of one line."""

    n: int
    status: int
    body: bytes  # JSON, as its provider answers a call


class Unfolded(NamedTuple):
    """A page of answers."""

    lines: tuple[bytes, ...]
    following: Request | None  # what asks for the next page


Read: TypeAlias = "Callable[[bytes], LineAnswer | None]"


class Unpacking(Protocol):
    """Reads a file of answers, as it comes. Both methods raise `ValueError`: it is none, or not whole."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the answers that are whole by now, as lines."""
        ...

    def finish(self) -> None:
        """Take note that there is no more."""
        ...


class BatchWire(Protocol):
    """Speak one provider's wire."""

    files: bool  # lines are sent as a file, of which a batch is made; else it is made with them
    between: bytes  # what stands between lines
    operations: frozenset[Operation]  # that it takes; empty: all that batches are for
    most_lines: int  # of one batch
    most_bytes: int  # of its lines
    varies: str  # the header, in lower case, that all requests of a batch share; empty: none that matters
    least_lines: int  # of one batch
    paged: bool  # answers come as pages, not as lines
    apart: bool  # answers lie in files at other addresses
    objects: ObjectStore | None  # of the bucket that lines and answers lie in; None: the provider keeps them
    accounts: bool  # batches are made in an account, which the settings name
    forgets: bool  # it knows a batch by the name that we give it, and none that was told to end

    def at(self, target: Target) -> Target:
        """Return a target as its batch API is asked, which may be at another host than its models."""
        ...

    def unfit(self, host: Host) -> str:
        """Return why a host, as it is configured, runs no batches; empty: it may."""
        ...

    def takes(self, call: Call, target: Target) -> bool:
        """Say whether a batch may have a call; if not, it goes there in none."""
        ...

    def standing(self, target: Target) -> Request | None:
        """Return the request that shows whether batches may be made; None: none that changes nothing."""
        ...

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end."""
        ...

    def opening(self, job: BatchJob, target: Target, bulk: Bulk) -> Request | None:
        """Return the request that goes before the one that sends lines; None: there is none."""
        ...

    def send(self, job: BatchJob, target: Target, bulk: Bulk) -> Request:
        """Return the request that sends lines: as a file, or as the batch that they are."""
        ...

    def readiness(self, target: Target, file: str) -> Request | None:
        """Return the request that asks whether a file can be used; None: always."""
        ...

    def ready(self, body: bytes) -> bool:
        """Return what its answer says. Raises `UpstreamError`: the file cannot be used."""
        ...

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes a batch of the file of the last part."""
        ...

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a batch."""
        ...

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a batch."""
        ...

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for batches, the newest first where they are in any order.

        Args:
            job: of which the last part is looked for.
            target: where.
            after: where the page begins.
        """
        ...

    def content(self, target: Target, name: str) -> Request:
        """Return the request for answers."""
        ...

    def unfold(self, target: Target, name: str, body: bytes) -> Unfolded:
        """Return what a page of answers holds. Raises `UpstreamInterrupted`: it is none."""
        ...

    def points(self, name: str) -> bool:
        """Say whether what a name stands for lies at other addresses: not all that such a provider has."""
        ...

    def lies(self, body: bytes) -> tuple[str, ...]:
        """Return the addresses of answers that were told with what stands of batches. Nobody keeps them."""
        ...

    def elsewhere(self, body: bytes) -> tuple[str, ...]:
        """Return where the files are that hold answers, by what was asked for with their name.

        Raises:
            UpstreamInterrupted: they are not there yet.
        """
        ...

    def unpacking(self) -> Unpacking | None:
        """Return what reads one of those files; None: it has lines."""
        ...

    def forgotten(self, batch: str) -> BatchState:
        """Return what is known of a batch that was told to end, and is there no more."""
        ...

    def named(self, body: bytes) -> str:
        """Return the name in an answer. Raises `UpstreamInterrupted`: it has none."""
        ...

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a batch. Raises `UpstreamInterrupted`: nothing."""
        ...

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether one of a page is the last part.

        Args:
            body: the page.
            job: whose last part it is.
            after: where the page began.

        Raises:
            UpstreamInterrupted: it is no page.
        """
        ...

    def mine(self, data: bytes, job: BatchJob) -> bool:
        """Say whether a line of answers is one of the last part."""
        ...

    def leavings(self, job: BatchJob, target: Target) -> tuple[Request, ...]:
        """Return the requests that remove what a batch left with its provider."""
        ...

    def reading(self, job: BatchJob) -> Read:
        """Return what reads lines of answers, one after the other.

        It returns what a line says, or None: its request was not run, or more lines tell of it. It raises
        `UpstreamInterrupted`: the line says nothing, or is of none of ours.
        """
        ...

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        ...


def last_part(job: BatchJob) -> Part:
    """Return the part of a batch that is made, or was last."""
    assert job.passed is not None
    return job.passed.parts[-1]


def tag(job: BatchJob) -> str:
    """Return what the last part is called in what its provider lists."""
    assert job.passed is not None
    number = len(job.passed.parts)
    return job.id if number < 2 else f"{job.id}.{number}"


def own_name(job: BatchJob) -> str:
    """Return a name for the last part that is ours alone, where its provider lets us give it one."""
    assert job.passed is not None
    return f"headgate-{job.call.hex()}-{len(job.passed.parts)}"


def oldest_s(job: BatchJob) -> int:
    """Return the Unix time before which no batch at a provider is one of ours."""
    return job.created_at // 1_000_000 - _CLOCKS_S


def newest_s(job: BatchJob) -> int:
    """Return the Unix time after which none made is the last part: it was sent within an hour."""
    return last_part(job).intended // 1_000_000 + 2 * _CLOCKS_S


def file_form(boundary: str, fields: Mapping[str, str], name: str = "file") -> tuple[bytes, bytes]:
    """Return what stands before and behind the lines of a file in a form, with its other fields.

    Args:
        boundary: of the form.
        fields: the others, by their names.
        name: that of the file's field.
    """
    begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
    others = "".join(f'{begin}"{field}"\r\n\r\n{value}\r\n' for field, value in fields.items())
    file = f'{begin}"{name}"; filename="batch.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n'
    return (others + file).encode(), f"\n\r\n--{boundary}--\r\n".encode()


def posted(target: Target, path: str, kind: str, job: BatchJob, pieces: tuple[bytes, Bulk, bytes]) -> Request:
    """Return the request that brings lines, between a head and a foot, as one kind of content."""
    head, bulk, foot = pieces
    headers = tuple(row for row in headers_of(target) if row[0] != "content-type")
    tail = (*bulk.tail, memoryview(foot))
    return Request("POST", path, (*headers, ("content-type", kind)), head, job.id, tail)


def got(target: Target, path: str, method: str = "GET") -> Request:
    """Return a request for what is at a path, or of another method that has no body."""
    return Request(method, path, headers_of(target), b"", "req_batch")


class _Line(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class OpenAIBatches(ReadyAtOnce):
    """OpenAI's own wire. A line's `custom_id` is its number: those of callers stay here."""

    __slots__ = ()
    files = True
    between = b"\n"
    operations: frozenset[Operation] = frozenset()
    most_lines = MOST_LINES
    most_bytes = 199_000_000
    varies = ""
    upload = "/files"  # where lines are sent,
    fields: Mapping[str, str] = {"purpose": "batch"}  # and what is said beside them

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end."""
        return _encode(_Line(str(n), "POST", self._endpoint(job), msgspec.Raw(one_line(body))))

    def send(self, job: BatchJob, target: Target, bulk: Bulk) -> Request:
        """Return the request that sends the lines."""
        head, foot = file_form(bulk.boundary, self.fields)
        kind = f"multipart/form-data; boundary={bulk.boundary}"
        return posted(target, self._path(target, self.upload), kind, job, (head, bulk, foot))

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the batch, which names ours."""
        body = _encode(self._order(job))
        return Request("POST", self._path(target, "/batches"), headers_of(target), body, job.id)

    def _order(self, job: BatchJob) -> dict[str, Any]:
        return {
            "input_file_id": last_part(job).file,
            "endpoint": self._endpoint(job),
            "completion_window": "24h",
            "metadata": {OURS: tag(job)},
        }

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a batch."""
        return self._get(target, f"/batches/{batch}")

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a batch."""
        return got(target, self._path(target, f"/batches/{batch}/cancel"), "POST")

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request that asks for batches, the newest first."""
        del job
        return self._get(target, "/batches", f"limit={PAGE}" + (f"&after={after}" if after else ""))

    def content(self, target: Target, name: str) -> Request:
        """Return the request for a file."""
        return self._get(target, f"/files/{name}/content")

    def leavings(self, job: BatchJob, target: Target) -> tuple[Request, ...]:
        """Return the requests that delete a batch's files."""
        parts = job.passed.parts if job.passed is not None else ()
        names = [name for part in parts for name in self._files(part) if name]
        return tuple(got(target, self._path(target, f"/files/{name}"), "DELETE") for name in names)

    def _files(self, part: Part) -> tuple[str, ...]:
        """Return the names of a part's files, which may be empty."""
        return part.file, part.output, part.errors

    def _path(self, target: Target, path: str, query: str = "") -> str:
        """Return where something is."""
        return target.base_path + path + (f"?{query}" if query else "")

    def _endpoint(self, job: BatchJob) -> str:
        """Return what requests are for."""
        return job.endpoint

    def _get(self, target: Target, path: str, query: str = "") -> Request:
        return got(target, self._path(target, path, query))

    def named(self, body: bytes) -> str:
        """Return the id in an answer."""
        return checked(told_id(body).id)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a batch."""
        told = told_batch(body)
        errors = told.errors.data if told.errors is not None else ()
        why = tuple(
            BatchError(each.code or "batch_failed", (each.message or "")[:2000], None, each.line)
            for each in errors[:100]
        )
        status = told.status.lower()
        output = checked(told.output_file_id) if told.output_file_id else ""
        wrong = checked(told.error_file_id) if told.error_file_id else ""
        return BatchState(told.id, status if status in _ENDED else "", output, wrong, why)

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether one of a page is ours; behind older ones it is not, where the newest come first.

        That they do OpenAI's reference says nowhere, nor that of hosts with the same API: the page shows it.
        """
        del after
        page = told_page(body)
        try:
            made = [seconds_of(each.created_at) for each in page.data]
        except ValueError as fault:
            raise unread(fault) from fault
        file = last_part(job).file  # a host may keep no metadata, but of what it made a batch it tells
        ours = [
            each.id
            for each in page.data
            if (each.metadata or {}).get(OURS) == tag(job) or (file and each.input_file_id == file)
        ]
        if ours:
            return Found(checked(ours[-1]), "")
        over = bool(made) and made[0] > made[-1] and made[-1] < oldest_s(job)
        goes_on = page.has_more and page.data and not over
        return Found("", checked(page.data[-1].id) if goes_on else "")

    def mine(self, data: bytes, job: BatchJob) -> bool:
        """Say no: which batch is ours its metadata say."""
        del data, job
        return False

    def reading(self, job: BatchJob) -> Read:
        """Return what reads lines of a file."""
        del job
        return self.answer

    def answer(self, data: bytes) -> LineAnswer | None:
        """Return what a line of a file says. Raises `UpstreamInterrupted`."""
        told = told_answer(data)
        n = numbered(told.custom_id)
        if told.response is not None:
            return LineAnswer(n, told.response.status_code, bytes(told.response.body))
        why = told.error or Why()
        if why.code in _NOT_RUN:
            return None
        return LineAnswer(n, 500, _encode({"error": {"code": why.code, "message": why.message}}))

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        return refusal(head, body)
