"""OpenAI's own wire, which is also ours: requests are rebuilt from checked members, answers pass as bytes.

The edits are few and named here: the model's name, a limit under another name, an unasked usage chunk,
a usage that is not the booked one.
What compatible hosts do differently is in `compat`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from headgate.callstate import CallState, set_at_once
from headgate.errors import UpstreamInterrupted
from headgate.ports import Request
from headgate.providers import compat, plain, uploads
from headgate.providers.edits import read_answer, splice_model, splice_usage
from headgate.providers.members import adapt, rename, written
from headgate.providers.realtime import RealtimeCodec
from headgate.providers.refusals import refusal, reported
from headgate.providers.stream import StreamReader
from headgate.values import Call, Host, Note, Operation, Target
from headgate.wire.answers import NOT_JSON, decode_answer
from headgate.wire.strict import refuse_misplaced, refuse_strictly

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head, Reader
    from headgate.providers.codec import Codec
    from headgate.values import Schemas, Usage
    from headgate.wire.answers import Answer

_encode = msgspec.json.encode
_USAGE_ASKED = msgspec.Raw(b'{"include_usage":true}')
PATHS: Mapping[Operation, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
MAX_ANSWER_BYTES = 64 * 1024 * 1024


def credentials(host: Host) -> dict[str, str]:
    """Return the headers that say who asks."""
    rows = {"authorization": f"Bearer {host.api_key}"} if host.api_key else {}
    if host.organization:
        rows["openai-organization"] = host.organization
    if host.project:
        rows["openai-project"] = host.project
    return rows


def keeps_schema(_call: Call, target: Target) -> Schemas:
    """Return what the host does for the JSON that an answer shall be: what its row says."""
    host = target.host
    if host.schema_models and any(fnmatchcase(target.model.name, pattern) for pattern in host.schema_models):
        return "enforced"
    return host.schema


class OpenAICodec:
    """Speak one operation of OpenAI's wire."""

    __slots__ = ("_operation", "_path")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._path = PATHS[operation]

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request: the checked members, with the edits that the target needs.

        Raises:
            CallerError: the host takes only what OpenAI documents, and this is not.
        """
        host, model = target.host, target.model
        if call.special and host.extras == "refuse":
            refuse_strictly(call)
        if target.simulated:  # the real one says it itself
            refuse_misplaced(call, model)
        members, headers = call.members, target.headers
        edited = host.renames or host.drops or model.wants_max_completion_tokens
        if edited or call.stream or call.shrunk_to or call.model != model.name:
            members = self._edited(call, target)
        if call.sim and target.simulated:
            headers = (*headers, ("x-headgate-sim", call.sim))
        return Request("POST", target.base_path + self._path, headers, written(members), call.request_id)

    def _edited(self, call: Call, target: Target) -> dict[str, msgspec.Raw]:
        """Return the members as the target needs them."""
        host, model = target.host, target.model
        members = call.members.copy()
        members["model"] = msgspec.Raw(_encode(model.name))
        if call.shrunk_to:
            _shrink(call, members)
        if model.wants_max_completion_tokens and "max_tokens" in members and self._operation == "chat":
            rename(call, members, "max_tokens", "max_completion_tokens")
        if host.renames or host.drops:
            adapt(call, target, members)
        if call.stream and not call.include_usage and host.stream_usage:
            members["stream_options"] = _ask_usage(members.get("stream_options"))
        return members

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for a stream or for a JSON answer."""
        if call.stream:
            return StreamReader(call, target)
        return JsonReader(call, target)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return refusal(head, body)


def _shrink(call: Call, members: dict[str, msgspec.Raw]) -> None:
    members["max_tokens"] = msgspec.Raw(str(call.shrunk_to).encode())
    members.pop("max_completion_tokens", None)
    call.notes.append(Note("x-headgate-max-tokens", str(call.shrunk_to)))


def _ask_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None or bytes(options) == b"null":
        return _USAGE_ASKED
    given = msgspec.json.decode(options)
    given["include_usage"] = True
    return msgspec.Raw(_encode(given))


@set_at_once
class JsonReader(CallState):
    """A whole JSON answer."""

    _call: Call
    _target: Target
    _body: bytes = b""  # what came, until it is whole: its first piece
    _parts: list[bytes] | None = None  # all of its pieces, where there are several,
    _size: int = 0  # and how long they are
    _answer: Answer | None = None
    _usage: Usage | None = None
    _shown: bool = False  # the answer shows exactly that usage
    awaits_count: bool = False
    done: bool = False

    def feed(self, data: bytes) -> bytes:
        """Keep the bytes; nothing is passed on before the answer is whole."""
        if self._body or len(data) > MAX_ANSWER_BYTES:
            self._add(data)
        else:
            self._body = data
        return b""

    def _add(self, data: bytes) -> None:
        """Keep another piece.

        Raises:
            UpstreamInterrupted: there are too many.
        """
        if self._parts is None:
            self._parts = [self._body]
            self._size = len(self._body)
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES:
            raise UpstreamInterrupted("The provider's answer is longer than 64 MB.")
        self._parts.append(data)

    def finish(self) -> bytes:
        """Read the answer, with our edits; it goes out whole, by `end`.

        Raises:
            UpstreamInterrupted: it is not an answer of this operation.
        """
        if self._parts is not None:
            self._body = b"".join(self._parts)
        body = self._body
        try:
            answer = decode_answer(body)
        except NOT_JSON:
            answer = read_answer(body)  # as far as it can be, or says what is wrong
        self._answer = answer
        if answer.usage is not None:
            self._usage, self._shown = answer.usage.told()
        if answer.error is not None:
            raise self._mistake(body)
        if (answer.data if self._call.operation == "embeddings" else answer.choices) is None:
            raise UpstreamInterrupted("The provider's answer lacks its choices or data.")
        if self._target.host.deviates:
            self._body = compat.normal_answer(body, self._call)
        elif self._target.model.name != self._call.model:
            self._body = splice_model(body, self._call.model)
        return b""

    def _mistake(self, body: bytes) -> UpstreamError:
        """Return what an error in place of the answer means for the caller."""
        return reported(body, 502)

    def end(self, booked: Usage) -> bytes:
        """Return the answer; its usage is the one that was booked."""
        if self._shown and booked == self._usage:
            return self._body
        return splice_usage(self._body, booked, self._call.operation)

    def usage(self) -> Usage | None:
        """Return the provider's count."""
        return self._usage

    def produced(self) -> int:
        """Return a floor of the output tokens: a quarter of the text's bytes."""
        return len(self.text().encode()) // 4

    def text(self) -> str:
        """Return the text of all choices."""
        choices = (self._answer.choices if self._answer is not None else None) or ()
        return "".join((c.message.pieces() if c.message else c.text) or "" for c in choices)


CODECS: Mapping[Operation, Codec] = {
    **{name: OpenAICodec(name) for name in PATHS},
    **plain.CODECS,
    **uploads.CODECS,
    "realtime": RealtimeCodec(),
}
