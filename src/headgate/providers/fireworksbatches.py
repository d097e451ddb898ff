"""Fireworks' batches: a dataset with the lines, a job, a dataset with the answers, to which there are links.

All of it is made in an account, beside the API that models are asked by. A job has the name that we give it,
so one whose order was unclear is asked for by that, and no order makes a second one. Ending it deletes it.

Facts: Fireworks' guide "Batch Inference" and its reference of datasets and `batchInferenceJobs` (its API
4.259.0); its Python SDK, which also knows `FIREWORKS_ACCOUNT_ID`; and what others saw who use it: a dataset
that is uploaded must say how many examples it has, `:upload` takes 150 MB, `state` is `JOB_STATE_...`, a job
has the model and a line none, answers come in any order as `{"custom_id", "response": {...}}` without a
status, in `BIJOutputSet.jsonl` beside an `error-data`, links are to Google's Cloud Storage and live for ten
minutes, a job that failed has no dataset of answers, and there is no other way to cancel. What is in
`error-data` nobody shows: it is read as `{"custom_id", "error"}`, where that has a message and maybe a code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import UpstreamInterrupted, UpstreamRefused
from headgate.ports import Request
from headgate.providers.batches import (
    BatchState,
    Found,
    LineAnswer,
    OpenAIBatches,
    file_form,
    got,
    last_part,
    own_name,
    posted,
    tag,
)
from headgate.providers.batchread import checked, numbered, reader, unread
from headgate.providers.codec import headers_of
from headgate.providers.grpc import status_of
from headgate.providers.refusals import refusal
from headgate.wire.batches import BatchError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.providers.batches import Bulk
    from headgate.values import Host, Operation, Target
    from headgate.wire.batchjobs import BatchJob, Part

_encode = msgspec.json.encode
_MODELS: Final = "/inference/v1"  # where models are asked, beside the rest
_JOBS, _DATASETS = "/batchInferenceJobs", "/datasets"
_OUTPUT: Final = "-out"
_PLACE: Final = re.compile(rb"accounts/[^/\s\"']+/(?:datasets|batchInferenceJobs)/")
_THERE: Final = (6, "ALREADY_EXISTS")  # gRPC's code of it
_INVALID: Final = "INVALID"
_ENDED: Final[Mapping[str, str]] = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "EXPIRED": "expired",
    "EARLY_STOPPED": "expired",
    "CANCELLED": "cancelled",
    "DELETED": "cancelled",
    "ARCHIVED": "cancelled",
}


class _Line(msgspec.Struct):
    custom_id: str
    body: dict[str, msgspec.Raw]


class _Status(msgspec.Struct, frozen=True):
    code: str | int | None = None
    message: str | None = None


class _Named(msgspec.Struct, frozen=True):
    name: str = ""  # of a job, or of a dataset
    id: str = ""  # of a dataset that was uploaded


class _Dataset(msgspec.Struct, frozen=True):
    state: str = ""
    status: _Status | None = None


class _Job(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    state: str = ""
    output_dataset_id: str | None = None
    status: _Status | None = None


class _Links(msgspec.Struct, frozen=True, rename="camel"):
    filename_to_signed_urls: dict[str, str] = {}


class _Answer(msgspec.Struct, frozen=True):
    custom_id: str
    response: msgspec.Raw = msgspec.Raw()
    error: _Status | str | None = None


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_status_in = reader(msgspec.json.Decoder(_Status))
_named = reader(msgspec.json.Decoder(_Named))
_dataset = reader(msgspec.json.Decoder(_Dataset))
_job = reader(msgspec.json.Decoder(_Job))
_links = reader(msgspec.json.Decoder(_Links))
_answer = reader(msgspec.json.Decoder(_Answer))


class FireworksBatches(OpenAIBatches):
    """Speak `/v1/accounts/{account}/datasets` and `/batchInferenceJobs`."""

    __slots__ = ()
    operations: frozenset[Operation] = frozenset({"chat"})
    most_bytes = 149_000_000
    apart = True
    accounts = True
    forgets = True

    def unfit(self, host: Host) -> str:
        """Return what is missing: an account."""
        if host.handover.account:
            return ""
        return (
            f"batch_account is missing: the id of the account at {host.name!r} in which batches are made; "
            "FIREWORKS_ACCOUNT_ID says it, too. See docs/batches.md."
        )

    def standing(self, target: Target) -> Request:
        """Return the request for one of the account's jobs."""
        return self._get(target, _JOBS, "pageSize=1")

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end: the model is its job's."""
        del job
        members = _members(one_line(body))
        members.pop("model", None)
        return _encode(_Line(str(n), members))

    def opening(self, job: BatchJob, target: Target, bulk: Bulk) -> Request:
        """Return the request that makes a dataset: a new one each time, so none has lines twice."""
        order = {
            "datasetId": bulk.boundary,
            "dataset": {
                "displayName": f"headgate {tag(job)}",
                "exampleCount": str(last_part(job).lines),
                "userUploaded": {},
            },
        }
        return self._post(target, _DATASETS, order, job)

    def send(self, job: BatchJob, target: Target, bulk: Bulk) -> Request:
        """Return the request that sends the lines into it."""
        head, foot = file_form(bulk.boundary, {})
        kind = f"multipart/form-data; boundary={bulk.boundary}"
        path = self._path(target, f"{_DATASETS}/{bulk.boundary}:upload")
        return posted(target, path, kind, job, (head, bulk, foot))

    def readiness(self, target: Target, file: str) -> Request:
        """Return the request that asks whether a dataset can be used."""
        return self._get(target, f"{_DATASETS}/{file}")

    def ready(self, body: bytes) -> bool:
        """Return what its answer says. Raises `UpstreamRefused`: the dataset cannot be used."""
        told = _dataset(body)
        status = told.status or _Status()
        if status.code not in {None, 0, "", "OK"}:
            message = status.message or "The provider cannot use the requests."
            raise UpstreamRefused(message[:2000], upstream_status=400)
        return told.state == "READY"

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the job, by our name for it."""
        name = own_name(job)
        place = f"accounts/{target.host.handover.account}{_DATASETS}"
        order = {
            "displayName": f"headgate {tag(job)}",
            "model": target.model.name,
            "inputDatasetId": f"{place}/{last_part(job).file}",
            "outputDatasetId": f"{place}/{name}{_OUTPUT}",
        }
        return self._post(target, f"{_JOBS}?batchInferenceJobId={name}", order, job)

    def look(self, target: Target, batch: str) -> Request:
        """Return the request that asks for a job."""
        return self._get(target, f"{_JOBS}/{batch}")

    def cancel(self, target: Target, batch: str) -> Request:
        """Return the request that ends a job, and deletes it."""
        return got(target, self._path(target, f"{_JOBS}/{batch}"), "DELETE")

    def listed(self, job: BatchJob, target: Target, after: str) -> Request:
        """Return the request for the job of our name."""
        del after
        return self.look(target, own_name(job))

    def content(self, target: Target, name: str) -> Request:
        """Return the request that asks where the files of a dataset lie."""
        return self._get(target, f"{_DATASETS}/{name}:getDownloadEndpoint")

    def _files(self, part: Part) -> tuple[str, ...]:
        """Return none: datasets are no files."""
        del part
        return ()

    def _path(self, target: Target, path: str, query: str = "") -> str:
        version = target.base_path.removesuffix(_MODELS) + "/v1"
        place = version if target.base_path.endswith(_MODELS) else target.base_path
        asked = f"?{query}" if query else ""
        return f"{place}/accounts/{target.host.handover.account}{path}{asked}"

    def _post(self, target: Target, path: str, order: dict[str, Any], job: BatchJob) -> Request:
        return Request("POST", self._path(target, path), headers_of(target), _encode(order), job.id)

    def elsewhere(self, body: bytes) -> tuple[str, ...]:
        """Return where they lie, errors first: what was answered after all has its answer."""
        files = _links(body).filename_to_signed_urls
        return tuple(url for _, url in sorted(files.items(), key=lambda each: ("error" not in each[0], each)))

    def named(self, body: bytes) -> str:
        """Return the name of a dataset or of a job in an answer."""
        told = _named(body)
        return _short(told.name or told.id)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a job."""
        told = _job(body)
        ended = _ENDED.get(told.state.removeprefix("JOB_STATE_"), "")
        output = _short(told.output_dataset_id) if told.output_dataset_id else ""
        status = told.status or _Status()
        why = (BatchError("batch_failed", _shown(status.message)),) if status.message else ()
        return BatchState(_short(told.name), ended, output if ended not in {"", "failed"} else "", "", why)

    def forgotten(self, batch: str) -> BatchState:
        """Return that a job was ended; whether it has left answers is asked where they would be."""
        return BatchState(batch, "cancelled", batch + _OUTPUT)

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return the job of our name."""
        del job, after
        return Found(self.named(body), "")

    def answer(self, data: bytes) -> LineAnswer | None:
        """Return what a line of a file says. Raises `UpstreamInterrupted`."""
        told = _answer(data)
        n, response = numbered(told.custom_id), bytes(told.response)
        if response.startswith(b"{"):
            return LineAnswer(n, 200, response)
        if not told.error:
            raise unread("a line has neither an answer nor an error")
        wrong = told.error if isinstance(told.error, _Status) else _Status(None, told.error)
        error = {"code": wrong.code, "message": wrong.message}
        return LineAnswer(n, _status(wrong.code), _encode({"error": error}))

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means: what is there already was made by an order that was lost."""
        said = refusal(head, _PLACE.sub(b"", body))
        return UpstreamInterrupted(said.message) if head.status == 409 and _is_there(body) else said


def _is_there(body: bytes) -> bool:
    """Say whether a refusal is for what is there already; one that cannot be read says nothing."""
    try:
        return _status_in(body).code in _THERE
    except UpstreamInterrupted:
        return False


def _status(code: str | int | None) -> int:
    """Return the status of a line by the code of its error: gRPC's or HTTP's, or gRPC's name of it."""
    text = str(code or "")
    if text.isdecimal() and text.isascii():
        return status_of(int(text))
    return 400 if text.upper().startswith(_INVALID) else 500


def _shown(message: str) -> str:
    """Return a message without the places of what it is about, which name the account."""
    return _PLACE.sub(b"", message.encode()).decode()[:2000]


def _short(name: str) -> str:
    """Return the last part of a name. Raises `UpstreamInterrupted`: it has none."""
    return checked(name.rpartition("/")[2])
