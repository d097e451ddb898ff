"""Operations of OpenAI's wire whose answers are no text of a model: they pass as they came.

The edits: the model's name. The usage is the provider's where it gives one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.ports import Head, Reader, Request
from headgate.providers.edits import splice_model
from headgate.providers.members import adapt, written
from headgate.providers.refusals import refusal
from headgate.values import Call, Operation, Target, Usage
from headgate.wire.answers import NOT_JSON, WireUsage
from headgate.wire.checks import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.providers.codec import Codec

_encode = msgspec.json.encode
PATHS: Mapping[Operation, str] = {"moderations": "/moderations"}
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class ModerationAnswer(msgspec.Struct, gc=False):
    """A moderations answer, as far as we look."""

    results: list[msgspec.Raw] | None = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(ModerationAnswer).decode


class PlainCodec:
    """Speak one operation of OpenAI's wire that takes JSON."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request: the checked members, with the edits that the target needs.

        Raises:
            CallerError: the host takes only what OpenAI documents, and this is not.
        """
        host = target.host
        if host.extras == "refuse" and call.unknown:
            raise unknown(call.unknown[0])
        members = call.members.copy()
        members["model"] = msgspec.Raw(_encode(target.model.name))
        adapt(call, host, members)
        headers = target.headers
        if call.sim and target.simulated:
            headers = (*headers, ("x-headgate-sim", call.sim))
        return Request("POST", target.base_path + self._path, headers, written(members), call.request_id)

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for the whole answer."""
        return ModerationReader(call, target)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return refusal(head, body)


class ModerationReader:
    """A moderations answer."""

    __slots__ = ("_answer", "_call", "_parts", "_size", "_target", "awaits_count", "done")

    def __init__(self, call: Call, target: Target) -> None:
        self._call = call
        self._target = target
        self._parts: list[bytes] = []
        self._size = 0
        self._answer: ModerationAnswer | None = None
        self.awaits_count = False
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Keep the bytes; nothing is passed on before the answer is whole."""
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES:
            raise UpstreamInterrupted("The provider's answer is longer than 64 MB.")
        self._parts.append(data)
        return b""

    def finish(self) -> bytes:
        """Read the answer; it goes out whole, by `end`.

        Raises:
            UpstreamInterrupted: it is not an answer of this operation.
        """
        body = b"".join(self._parts)
        try:
            answer = self._answer = _decode(body)
        except NOT_JSON as fault:
            raise UpstreamInterrupted("The provider sent an answer that is not the API's JSON.") from fault
        if answer.error is not None:
            raise refusal(Head(502, ()), body)
        if answer.results is None:
            raise UpstreamInterrupted("The provider's answer lacks its results.")
        self._parts = [body]
        return b""

    def end(self, _booked: Usage) -> bytes:
        """Return the answer, under the name that the caller used."""
        (body,) = self._parts
        return body if self._target.model.name == self._call.model else splice_model(body, self._call.model)

    def usage(self) -> Usage | None:
        """Return the provider's count; of what costs nothing, how many inputs there were."""
        answer = self._answer
        if answer is None:
            return None
        if answer.usage is not None:
            try:
                return msgspec.convert(answer.usage, WireUsage).read()
            except msgspec.ValidationError:
                return None
        if self._target.prices is None or not any(msgspec.structs.astuple(self._target.prices)):
            return Usage(more=(("input", len(answer.results or ())),))
        return None

    def produced(self) -> int:
        """Return 0: nothing is produced."""
        return 0

    def text(self) -> str:
        """Return an empty text: nothing is produced."""
        return ""


CODECS: Mapping[Operation, Codec] = {name: PlainCodec(path) for name, path in PATHS.items()}
