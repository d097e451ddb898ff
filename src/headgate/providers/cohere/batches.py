"""Cohere's batches: a dataset of requests, a batch of it, a dataset of answers in Avro.

Facts: Cohere's reference of `/v1/datasets` and `/v2/batches` (Create, Get, List, Cancel), and its own Python
SDK. What a line of a dataset may have its pages do not say; others who speak it live do (RubyLLM's
`protocols/cohere/batch_requests.rb`, Qore's verification of 2026-09-07): a `custom_id` and a `body`, which is
that of `/v2/chat` or `/v2/embed` without the model, where contents are lists, URLs of images and schemas of
tools are texts, and thinking is `reasoning` and `thinking_budget`. Other members make the dataset invalid, so
a batch that needs one is not passed on. An answer has a `custom_id`, and a `body` or an `error`, a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import CallerError, UpstreamInterrupted, UpstreamRefused
from headgate.ports import Request
from headgate.providers.batchdefaults import Kept
from headgate.providers.batches import (
    BatchState,
    Bulk,
    Found,
    LineAnswer,
    Read,
    file_form,
    got,
    last_part,
    posted,
    tag,
)
from headgate.providers.batchread import checked, numbered, reader
from headgate.providers.codec import headers_of
from headgate.providers.cohere.embeddings import Embed
from headgate.providers.cohere.errors import mistake
from headgate.providers.cohere.request import build
from headgate.wire.avro import AvroFile
from headgate.wire.batches import MOST_LINES, BatchError
from headgate.wire.sigv4 import quoted

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.values import Call, Operation, Target
    from headgate.wire.batchjobs import BatchJob

_encode, _decode = msgspec.json.encode, msgspec.json.decode
_EMBEDDINGS: Final = "/v1/embeddings"
_TYPES: Final = {_EMBEDDINGS: "batch-embed-v2-input"}
_CHAT: Final = "batch-chat-v2-input"
_CHAT_HAS: Final = frozenset(
    {
        *("model", "messages", "tools", "temperature", "p", "k", "frequency_penalty", "presence_penalty"),
        *("max_tokens", "seed", "logprobs", "thinking"),
    }
)
_EMBED_HAS: Final = frozenset({"model", "texts", "input_type", "embedding_types", "truncate"})
_ENDED: Final = {
    "BATCH_STATUS_COMPLETED": "completed",
    "BATCH_STATUS_FAILED": "failed",
    "BATCH_STATUS_CANCELED": "cancelled",
}
_PAGE: Final = 1_000  # batches: as many as a page may have
_VALID: Final = ("validated", "skipped")
_MOST_BLOCK: Final = 128 * 1024 * 1024


class _Part(msgspec.Struct, frozen=True):
    url: str = ""
    index: int = 0


class _Dataset(msgspec.Struct, frozen=True):
    validation_status: str = ""
    validation_error: str | None = None
    dataset_parts: tuple[_Part, ...] | None = None


class _OfDataset(msgspec.Struct, frozen=True):
    dataset: _Dataset


class _Batch(msgspec.Struct, frozen=True):
    id: str = ""
    status: str = ""
    status_reason: str | None = None
    input_dataset_id: str | None = None
    output_dataset_id: str | None = None
    num_successful_records: int | str | None = None
    num_failed_records: int | str | None = None


class _Named(msgspec.Struct, frozen=True):
    id: str = ""
    batch: _Batch | None = None


class _OfBatch(msgspec.Struct, frozen=True):
    batch: _Batch


class _Page(msgspec.Struct, frozen=True):
    batches: tuple[_Batch, ...] | None = None
    next_page_token: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    custom_id: str
    body: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None


class _Line(msgspec.Struct):
    custom_id: str
    body: dict[str, Any]


_dataset = reader(msgspec.json.Decoder(_OfDataset))
_named = reader(msgspec.json.Decoder(_Named))
_batch = reader(msgspec.json.Decoder(_OfBatch))
_page = reader(msgspec.json.Decoder(_Page))
_answer = reader(msgspec.json.Decoder(_Answer))


class DatasetBatches(Kept):
    """Speak `/v1/datasets` and `/v2/batches`."""

    __slots__ = ()
    files = True
    between = b"\n"
    operations: frozenset[Operation] = frozenset({"chat", "embeddings"})
    most_lines = MOST_LINES
    most_bytes = 1_000_000_000
    varies = ""
    apart = True

    def takes(self, call: Call, target: Target) -> bool:
        """Say whether a call has nothing that a dataset has no member for."""
        try:
            if call.operation == "embeddings":
                return Embed().body(call, target).keys() <= _EMBED_HAS
            return build(call, target).keys() <= _CHAT_HAS
        except CallerError:  # which its line will say
            return True

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end."""
        asked: dict[str, Any] = _decode(body)
        del asked["model"]
        return _encode(_Line(str(n), asked if job.endpoint == _EMBEDDINGS else _in_dataset(asked)))

    def send(self, job: BatchJob, target: Target, bulk: Bulk) -> Request:
        """Return the request that sends the lines as a dataset."""
        head, foot = file_form(bulk.boundary, {}, "data")
        kind = f"multipart/form-data; boundary={bulk.boundary}"
        query = f"?name={quoted(_name(job))}&type={_TYPES.get(job.endpoint, _CHAT)}"
        return posted(target, _datasets(target) + query, kind, job, (head, bulk, foot))

    def readiness(self, target: Target, file: str) -> Request:
        """Return the request that asks whether a dataset was found valid."""
        return self.content(target, file)

    def ready(self, body: bytes) -> bool:
        """Return what its answer says. Raises `UpstreamRefused`: it was not."""
        told = _dataset(body).dataset
        if told.validation_status == "failed":
            why = (told.validation_error or "").strip()[:2000]
            raise UpstreamRefused(
                why or "The provider cannot use the file of the requests.", upstream_status=400
            )
        return told.validation_status in _VALID

    def create(self, job: BatchJob, target: Target) -> Request:
        """Return the request that makes the batch of a dataset, by which it is found again."""
        order = {
            "name": _name(job),
            "input_dataset_id": last_part(job).file,
            "model": target.model.name,
        }
        path = f"{target.base_path}/batches"
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
        paging = f"?page_size={_PAGE}" + (f"&page_token={quoted(after)}" if after else "")
        return got(target, f"{target.base_path}/batches{paging}")

    def content(self, target: Target, name: str) -> Request:
        """Return the request for a dataset."""
        return got(target, f"{_datasets(target)}/{name}")

    def elsewhere(self, body: bytes) -> tuple[str, ...]:
        """Return where the files of a dataset of answers are. Raises `UpstreamInterrupted`: not yet."""
        told = _dataset(body).dataset
        if told.validation_status not in (*_VALID, "failed"):
            raise UpstreamInterrupted("The provider is still writing the answers of a batch.")
        parts = sorted(told.dataset_parts or (), key=lambda part: part.index)
        if not all(part.url for part in parts):
            raise UpstreamInterrupted("The provider does not say where all answers of a batch lie.")
        return tuple(part.url for part in parts)

    def unpacking(self) -> AvroFile:
        """Return what reads such a file."""
        return AvroFile(_MOST_BLOCK)

    def leavings(self, job: BatchJob, target: Target) -> tuple[Request, ...]:
        """Return the requests that delete a batch's datasets, of which an account may have 10 GB."""
        parts = job.passed.parts if job.passed is not None else ()
        names = [name for part in parts for name in (part.file, part.output) if name]
        return tuple(got(target, f"{_datasets(target)}/{name}", "DELETE") for name in names)

    def named(self, body: bytes) -> str:
        """Return the name of a dataset or of a batch in an answer."""
        told = _named(body)
        return checked(told.batch.id if told.batch is not None else told.id)

    def state(self, body: bytes) -> BatchState:
        """Return what an answer says of a batch.

        The name of its answers is there before they are. Of one that did not complete there are none unless
        records were done.
        """
        told = _batch(body).batch
        ended = _ENDED.get(told.status, "")
        done = ended == "completed" or _any(told.num_successful_records) or _any(told.num_failed_records)
        output = checked(told.output_dataset_id) if ended and done and told.output_dataset_id else ""
        why = (BatchError("batch_failed", told.status_reason[:2000]),) if told.status_reason else ()
        return BatchState(checked(told.id), ended, output, "", why if ended == "failed" else ())

    def found(self, body: bytes, job: BatchJob, after: str) -> Found:
        """Return whether a batch is of our dataset, of which no other is, in whatever order they are."""
        del after
        page = _page(body)
        for each in page.batches or ():
            if each.input_dataset_id == last_part(job).file:
                return Found(checked(each.id), "")
        return Found("", (page.next_page_token or "") if page.batches else "")

    def mine(self, data: bytes, job: BatchJob) -> bool:
        """Refuse: a batch is known by its dataset."""
        raise NotImplementedError(job.id, len(data))

    def reading(self, job: BatchJob) -> Read:
        """Return what reads lines of answers."""
        del job
        return _answered

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means."""
        return mistake(head, body)


def _answered(data: bytes) -> LineAnswer:
    """Return what a record says; of what kind an error is nobody tells. Raises `UpstreamInterrupted`."""
    told = _answer(data)
    n, body = numbered(told.custom_id), bytes(told.body)
    if not told.error and body != b"null":
        return LineAnswer(n, 200, body)
    message = told.error or "The provider gave no answer to this request."
    return LineAnswer(n, 500, _encode({"message": message}))


def _any(count: int | str | None) -> bool:
    return str(count or 0) != "0"


def _name(job: BatchJob) -> str:
    return f"headgate-{tag(job)}"


def _datasets(target: Target) -> str:
    """Return where datasets are: beside the second version of the API, in its first."""
    return target.base_path.removesuffix("/v2") + "/v1/datasets"


# ── requests as they lie in a dataset ───────────────────────────────────────────────────────────


def _in_dataset(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a chat request as a dataset has it."""
    thinking = asked.pop("thinking", None)
    if thinking is not None:
        asked["reasoning"] = thinking.get("type") != "disabled"
        if "token_budget" in thinking:
            asked["thinking_budget"] = thinking["token_budget"]
    asked["messages"] = [_message(each) for each in asked["messages"]]
    for tool in asked.get("tools", ()):
        function = tool["function"]
        function["parameters"] = _encode(function["parameters"]).decode()
    return asked


def _message(said: dict[str, Any]) -> dict[str, Any]:
    """Return a message; a plan for calls of tools is what was said before them."""
    content = said.get("content") or []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    plan = said.pop("tool_plan", None)
    before = [{"type": "text", "text": plan}] if plan else []
    whole = [*before, *map(_piece, parts)]
    return {**said, "content": whole} if whole else {key: said[key] for key in said if key != "content"}


def _piece(part: dict[str, Any]) -> dict[str, Any]:
    image = part.get("image_url")
    return {**part, "image_url": image["url"]} if isinstance(image, dict) else part
