"""SiliconFlow's batches: OpenAI's form of files, jobs and lines, with answers at an object store.

Facts: SiliconFlow's guide on batch inference and its reference of `/v1/files` and `/v1/batches`, alike for
`api.siliconflow.cn` and `api.siliconflow.com`; programs of its users. A file's answer is in an envelope
(`code`, `message`, `status`, `data`), a job's is bare; `errors` is a list of texts; a job waits as
`in_queue`; `replace` names the model of all lines; a list has no pages; 5,000 lines, 1 GB; chat alone, whose
messages are of a system, a user or an assistant and end with a user's. What ended has its answers and its
errors at `output_file_id` and `error_file_id`: as addresses that are good for a month, also seen as names of
files. A job may be `completed` a moment before it has them. A line may have no `status_code`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import UpstreamFailed, UpstreamRefused
from headgate.ports import SystemClock
from headgate.providers.batches import BatchState, LineAnswer, OpenAIBatches
from headgate.providers.batchread import checked, numbered, reader, unread
from headgate.wire.batches import BatchError

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Clock, Request
    from headgate.values import Call, Operation, Target
    from headgate.wire.batchjobs import BatchJob, Part

_encode = msgspec.json.encode
_ENDED: Final = ("completed", "failed", "expired", "cancelled")
_NOT_RUN: Final = ("batch_expired", "batch_cancelled")
_ROLES: Final = frozenset({"system", "user", "assistant"})
_LATE_S: Final = 600  # so long after it has ended a job may have no answers yet
_TOLD: Final = ".told"  # behind a job's name: what lies at the addresses that it tells


class _Counts(msgspec.Struct, frozen=True):
    completed: int | None = None
    failed: int | None = None


class _Wrong(msgspec.Struct, frozen=True):
    code: int | str | None = None
    message: str | None = None
    line: int | None = None


class _Batch(msgspec.Struct, frozen=True):
    id: str
    status: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[str | _Wrong, ...] | None = None
    request_counts: _Counts | None = None
    completed_at: int | None = None  # of how it ended, one
    expired_at: int | None = None
    cancelled_at: int | None = None


class _Page(msgspec.Struct, frozen=True):
    data: tuple[_Batch, ...]


class _File(msgspec.Struct, frozen=True):
    id: str


class _Named(msgspec.Struct, frozen=True):
    id: str = ""
    code: int | str | None = None
    message: str | None = None
    data: _File | str | None = None


class _Response(msgspec.Struct, frozen=True):
    status_code: int | None = None
    body: msgspec.Raw = msgspec.Raw()


class _Answer(msgspec.Struct, frozen=True):
    custom_id: str
    response: _Response | None = None
    error: _Wrong | str | None = None


class _Body(msgspec.Struct, frozen=True):
    choices: msgspec.Raw = msgspec.Raw()
    code: int | str | None = None
    error: _Wrong | str | None = None


class _Message(msgspec.Struct, frozen=True):
    role: str


_batch = reader(msgspec.json.Decoder(_Batch))
_page = reader(msgspec.json.Decoder(_Page))
_named = reader(msgspec.json.Decoder(_Named))
_answer = reader(msgspec.json.Decoder(_Answer))
_body = reader(msgspec.json.Decoder(_Body))
_messages = msgspec.json.Decoder(tuple[_Message, ...])


class SiliconFlowBatches(OpenAIBatches):
    """Speak `/v1/files` and `/v1/batches` as SiliconFlow has them."""

    __slots__ = ("_clock",)
    operations: frozenset[Operation] = frozenset({"chat"})
    most_lines = 5_000
    most_bytes = 999_000_000
    apart = True

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def takes(self, call: Call, target: Target) -> bool:
        """Say whether a call's messages are those that a batch may have."""
        del target
        try:
            roles = [each.role for each in _messages.decode(call.members.get("messages", b"[]"))]
        except msgspec.DecodeError:  # which its line will say
            return True
        return not roles or (roles[-1] == "user" and _ROLES.issuperset(roles))

    def _order(self, job: BatchJob) -> dict[str, Any]:
        assert job.passed is not None
        return {**super()._order(job), "replace": {"model": job.passed.upstream}}

    def named(self, body: bytes) -> str:
        """Return the name of a file, in its envelope, or of a job.

        Raises:
            UpstreamError: there is none: it is refused, or it failed, or the answer is none.
        """
        told = _named(body)
        if isinstance(told.data, _File):
            return checked(told.data.id)
        if told.id or told.code is None:
            return checked(told.id)
        raise _refusal(told.code, told.message or "")

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a job; it has not ended before its answers can be had."""
        told = _batch(body)
        name, status = checked(told.id), told.status.lower()
        output, wrong = _files(told)
        why = tuple(_why(each) for each in (told.errors or ())[:100])
        ended = status if status in _ENDED and not self._late(told) else ""
        return BatchState(name, ended, output, wrong, why)

    def _late(self, told: _Batch) -> bool:
        """Say whether answers are still to come of a job that has ended."""
        counts, status = told.request_counts or _Counts(), told.status.lower()
        nothing = not (told.output_file_id or told.error_file_id)
        no_answers = not told.output_file_id and (nothing or bool(counts.completed))
        no_errors = not told.error_file_id and bool(counts.failed)
        if status == "failed" or not (no_answers or no_errors):
            return False
        times = {"completed": told.completed_at, "expired": told.expired_at, "cancelled": told.cancelled_at}
        at = times.get(status)
        if at is None:  # nobody knows since when: what has run all that it shall has answers
            return status == "completed" and no_answers
        return self._clock.wall() < (at + _LATE_S) * 1_000_000

    def standing(self, target: Target) -> Request:
        """Return the request for all jobs."""
        return self._get(target, "/batches")

    def lies(self, body: bytes) -> tuple[str, ...]:
        """Return the addresses that jobs tell. Raises `UpstreamInterrupted`."""
        return tuple(url for each in _page(body).data for url in _addresses(each))

    def content(self, target: Target, name: str) -> Request:
        """Return the request for the job that tells addresses, or for a file that has a name."""
        return (
            self.look(target, name.removesuffix(_TOLD))
            if self.points(name)
            else super().content(target, name)
        )

    def _files(self, part: Part) -> tuple[str, ...]:
        """Return none: no way to delete files is documented."""
        del part
        return ()

    def points(self, name: str) -> bool:
        """Say whether a job tells addresses."""
        return name.endswith(_TOLD)

    def elsewhere(self, body: bytes) -> tuple[str, ...]:
        """Return the addresses that a job tells. Raises `UpstreamInterrupted`: there are none."""
        found = _addresses(_batch(body))
        if not found:
            raise unread("it does not say any more where answers lie")
        return found

    def answer(self, data: bytes) -> LineAnswer | None:
        """Return what a line says; where it has no status, its body tells. Raises `UpstreamInterrupted`."""
        told = _answer(data)
        n = numbered(told.custom_id)
        if told.response is not None and told.response.body:
            body = bytes(told.response.body)
            return LineAnswer(n, told.response.status_code or _status_of(body), body)
        if told.error is None:
            raise unread("a line has neither an answer nor an error")
        why = told.error if isinstance(told.error, _Wrong) else _Wrong(message=told.error)
        if why.code in _NOT_RUN:
            return None
        status = told.response.status_code if told.response is not None else None
        error = {"code": why.code, "message": why.message}
        return LineAnswer(n, status or _meant(why.code), _encode({"error": error}))


def _addresses(told: _Batch) -> tuple[str, ...]:
    """Return the addresses of a job: of errors, and then of answers, which hold where both tell of a line."""
    return tuple(each for each in (told.error_file_id, told.output_file_id) if each and "://" in each)


def _files(told: _Batch) -> tuple[str, str]:
    """Return the names of answers and of errors.

    Of those that have addresses it is one name, and ours: an address may be signed, and is not kept.
    """
    found = [each for each in (told.output_file_id, told.error_file_id) if each]
    names = [checked(each) for each in found if "://" not in each]
    if len(names) < len(found):
        names.insert(0, told.id + _TOLD)
    output, wrong, *_ = (*names, "", "")
    return output, wrong


def _why(told: str | _Wrong) -> BatchError:
    if isinstance(told, str):
        return BatchError("batch_failed", told[:2000])
    return BatchError(str(told.code or "batch_failed"), (told.message or "")[:2000], None, told.line)


def _status_of(body: bytes) -> int:
    """Return the status of an answer that tells none. Raises `UpstreamInterrupted`: it is none."""
    told = _body(body)
    if told.choices:
        return 200
    return _meant(told.error.code if isinstance(told.error, _Wrong) else told.code)


def _meant(code: int | str | None) -> int:
    """Return the status for a code of theirs: `20012` is a caller's mistake, `50505` a failure there."""
    text = str(code)
    if len(text) == 3 and text.isdecimal() and text.isascii() and "400" <= text < "600":
        return int(text)
    return 400 if len(text) == 5 and text.startswith("2") else 500


def _refusal(code: int | str, message: str) -> UpstreamError:
    """Return what an envelope without data means."""
    status = _meant(code)
    said = message[:2000] or f"The provider refused the request ({code})."
    if status >= 500:
        return UpstreamFailed(said, upstream_status=status)
    return UpstreamRefused(said, upstream_status=status, code=str(code))
