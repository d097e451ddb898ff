"""Claude's batches at Vertex AI: the jobs and the bucket of Google's own models, with lines that have ids.

Facts: Google's page "Batch predictions with Anthropic Claude models": `{"custom_id", "request"}` in, with the
body of a call, and the same with `response` and `status` out; the job's model is one of the publisher
`anthropic`; not at the global endpoint; four jobs of a project at once; what is there after 24 hours is all.
It tells no bounds of a file, so those of Anthropic's own batches hold, and no more of a failed line than that
its status says so: what has a message for its response was answered, whatever its status is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.providers.anthropic.errors import STATUSES
from headgate.providers.batches import LineAnswer
from headgate.providers.batchread import numbered, reader, unread
from headgate.providers.gemini.jobs import PredictionJobs, error_in, failure
from headgate.wire.answers import NOT_JSON
from headgate.wire.batches import one_line

if TYPE_CHECKING:
    from headgate.providers.batches import Read
    from headgate.values import Host
    from headgate.wire.batchjobs import BatchJob

_GLOBAL: Final = "/locations/global"
_encode = msgspec.json.encode


class _Line(msgspec.Struct):
    custom_id: str
    request: msgspec.Raw


class _Answer(msgspec.Struct, frozen=True):
    custom_id: str
    status: Any = ""
    response: msgspec.Raw = msgspec.Raw()


class _Response(msgspec.Struct, frozen=True):
    type: str = ""
    error: dict[str, Any] = {}


_answer = reader(msgspec.json.Decoder(_Answer))
_response = msgspec.json.Decoder(_Response).decode


class ClaudeJobs(PredictionJobs):
    """Speak `batchPredictionJobs` of Claude. A line's `custom_id` is its number."""

    __slots__ = ()
    most_lines = 100_000
    most_bytes = 250_000_000
    publisher = "anthropic"

    def unfit(self, host: Host) -> str:
        """Return that the global endpoint runs no batches of Claude, where that is asked."""
        if not host.base_url.endswith(_GLOBAL):
            return ""
        return (
            "location is missing, or global: Vertex AI runs no batches of Claude at its global endpoint. "
            "Name a region that has the models, such as europe-west1 or us-east5. See docs/batches.md."
        )

    def line(self, job: BatchJob, n: int, body: bytes) -> bytes:
        """Return the line of a request, without its end."""
        del job
        return _encode(_Line(str(n), msgspec.Raw(one_line(body))))

    def reading(self, job: BatchJob) -> Read:
        """Return what reads lines of a file."""
        del job
        return _answered


def _answered(data: bytes) -> LineAnswer | None:
    """Return what a line of a file says. Raises `UpstreamInterrupted`."""
    told = _answer(data)
    n, body = numbered(told.custom_id), _unwrapped(told.response)
    said = _kind(body)
    if said.type == "message":
        return LineAnswer(n, 200, body)
    if not told.status and said.type != "error":
        raise unread("a line has neither an answer nor an error")
    status = told.status if isinstance(told.status, str) else _encode(told.status).decode()
    error = said.error or error_in(status)
    kind = str(error.get("type"))
    if kind in STATUSES:
        return LineAnswer(n, STATUSES[kind], _encode({"type": "error", "error": error}))
    return failure(n, status or str(error.get("message", "")))


def _unwrapped(response: msgspec.Raw) -> bytes:
    """Return a response; where it stands in a text, as in a table, what is in that."""
    data = bytes(response)
    try:
        return msgspec.json.decode(data, type=str).encode()
    except NOT_JSON:
        return data


def _kind(body: bytes) -> _Response:
    try:
        return _response(body)
    except NOT_JSON:  # nothing, or words
        return _Response()
