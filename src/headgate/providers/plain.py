"""Operations of OpenAI's wire whose answers are no text of a model: they pass as they came.

The edits: the model's name. The usage is the provider's where it gives one, else counted here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.ports import Reader, Request
from headgate.providers.edits import splice_model
from headgate.providers.frames import Frames, data_of, whole_json
from headgate.providers.members import adapt, written
from headgate.providers.refusals import refusal, reported
from headgate.providers.used import image_usage, input_usage, spoken_usage
from headgate.providers.whole import Body, KeptAnswer
from headgate.wire.answers import NOT_JSON
from headgate.wire.checks import unknown
from headgate.wire.strict import refuse_misplaced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head
    from headgate.providers.codec import Codec
    from headgate.values import Call, Operation, Target, Usage

    Counting = Callable[["PlainAnswer", Call, Target], Usage | None]

_encode = msgspec.json.encode
_MOST_MB = 128
_NO_SOUND = (b"application/json", b"text/")


class PlainAnswer(msgspec.Struct, gc=False):
    """An answer, as far as we look: what it has of what was asked for, and what that took."""

    results: list[msgspec.Raw] | None = None  # of moderations
    data: list[msgspec.Raw] | None = None  # of images
    text: Any = None  # of transcripts
    duration: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(PlainAnswer).decode


def read_plain(body: bytes) -> PlainAnswer:
    """Decode an answer.

    Raises:
        UpstreamInterrupted: it is not JSON, or not of the wire's types.
        UpstreamError: it is an error under the status of an answer.
    """
    try:
        answer = _decode(body)
    except NOT_JSON as fault:
        raise UpstreamInterrupted("The provider sent an answer that is not the API's JSON.") from fault
    if answer.error is not None:
        raise reported(body, 502)
    return answer


class PlainCodec:
    """Speak one operation of OpenAI's wire that takes JSON.

    Args:
        path: behind the base path.
        holds: the member that every answer has.
        count: what an answer used, as far as it says.
    """

    __slots__ = ("_count", "_holds", "_path")

    def __init__(self, path: str, holds: str, count: Counting) -> None:
        self._path = path
        self._holds = holds
        self._count = count

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request: the checked members, with the edits that the target needs.

        Raises:
            CallerError: the host takes only what OpenAI documents, and this is not.
        """
        host = target.host
        if host.extras == "refuse" and call.unknown:
            raise unknown(call.unknown[0])
        if target.simulated:  # the real one says it itself
            refuse_misplaced(call, target.model)
        members = call.members.copy()
        members["model"] = msgspec.Raw(_encode(target.model.name))
        adapt(call, target, members)
        headers = target.headers
        if call.sim and target.simulated:
            headers = (*headers, ("x-headgate-sim", call.sim))
        return Request("POST", target.base_path + self._path, headers, written(members), call.request_id)

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for a stream of events, or for a whole answer."""
        if call.stream:
            return EventReader(call, target, self._count)
        if call.flows:
            return FlowingReader(call, target, self._count)
        return WholeReader(call, target, self._holds, self._count)

    def error(self, head: Head, body: bytes) -> UpstreamError:
        """Return what a refusing answer means for the caller."""
        return refusal(head, body)


class WholeReader(KeptAnswer):
    """A whole JSON answer."""

    __slots__ = ("_answer", "_call", "_count", "_holds", "_made", "_target")

    def __init__(self, call: Call, target: Target, holds: str, count: Counting) -> None:
        super().__init__(_MOST_MB)
        self._call = call
        self._target = target
        self._holds = holds
        self._count = count
        self._answer = b""
        self._made = 0

    def finish(self) -> bytes:
        """Read the answer; it goes out whole, by `end`.

        Raises:
            UpstreamInterrupted: it is not an answer of this operation.
        """
        body = self._body.whole()
        answer = read_plain(body)
        if getattr(answer, self._holds) is None:
            raise UpstreamInterrupted(f"The provider's answer lacks its {self._holds}.")
        self._usage = self._count(answer, self._call, self._target)
        self._made = len(answer.data or ()) * (self._call.max_output or 0)
        self._answer = body
        return b""

    def end(self, _booked: Usage) -> bytes:
        """Return the answer, under the name that the caller used."""
        body = self._answer
        return body if self._target.model.name == self._call.model else splice_model(body, self._call.model)

    def produced(self) -> int:
        """Return the most that what came can be, where tokens are what it is paid in."""
        return self._made


class EventReader:
    """A stream of events, which pass as they came; the last one, with its usage, waits for the settlement."""

    __slots__ = ("_call", "_came", "_count", "_frames", "_held", "_target", "_usage", "awaits_count", "done")

    def __init__(self, call: Call, target: Target, count: Counting) -> None:
        self._call = call
        self._target = target
        self._count = count
        self._frames = Frames(_MOST_MB * 1024 * 1024)
        self._held = b""
        self._came = False
        self._usage: Usage | None = None
        self.awaits_count = False
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Return the frames that are whole now, but for one that says what was used.

        Raises:
            UpstreamError: the provider reports an error in the stream.
        """
        return b"".join(self._pass(frame) for frame in self._frames.whole(data).split(b"\n\n") if frame)

    def _pass(self, frame: bytes) -> bytes:
        out, self._held = self._held, b""
        event = data_of(frame)
        if event is None and whole_json(frame):
            read_plain(frame)  # raises where it is an error
        if event is None or event == b"[DONE]":
            return out + frame + b"\n\n"
        answer = read_plain(event)
        self._came = True
        if answer.usage is None:
            return out + frame + b"\n\n"
        self._usage = self._count(answer, self._call, self._target)
        self._held = frame + b"\n\n"
        return out

    def finish(self) -> bytes:
        """Take the last frame.

        Raises:
            UpstreamInterrupted: the stream ended before any event.
        """
        rest = self._frames.rest()
        out = self._pass(rest) if rest else b""
        if not self._came:
            raise UpstreamInterrupted("The provider's stream ended before its first event.")
        return out

    def end(self, _booked: Usage) -> bytes:
        """Return the event that says what was used."""
        return self._held

    def usage(self) -> Usage | None:
        """Return what the stream says that it took."""
        return self._usage

    def produced(self) -> int:
        """Return the most that what came can be, where tokens are what it is paid in."""
        return (self._call.max_output or 0) * self._call.n if self._came else 0

    def text(self) -> str:
        """Return an empty text: none is produced."""
        return ""


class FlowingReader:
    """Bytes of sound, which pass as they come; what says of itself that it is JSON or text is none."""

    __slots__ = ("_call", "_came", "_count", "_said", "_target", "awaits_count", "done")

    def __init__(self, call: Call, target: Target, count: Counting) -> None:
        self._call = call
        self._target = target
        self._count = count
        self._came = False
        self._said = Body() if (call.answer_type or b"").lower().startswith(_NO_SOUND) else None
        self.awaits_count = False
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Pass the bytes on, if they are sound."""
        if self._said is not None:
            self._said.add(data)
            return b""
        self._came = True
        return data

    def finish(self) -> bytes:
        """Take note of the end.

        Raises:
            UpstreamInterrupted: nothing came, or no sound.
            UpstreamError: an error came under the status of an answer.
        """
        if self._said is not None:
            read_plain(self._said.whole())
            raise UpstreamInterrupted("The provider sent an answer that is no sound.")
        if not self._came:
            raise UpstreamInterrupted("The provider's answer is empty.")
        return b""

    def end(self, _booked: Usage) -> bytes:
        """Return nothing: everything has gone out."""
        return b""

    def usage(self) -> Usage | None:
        """Return what was said, where that is what is paid for."""
        return self._count(PlainAnswer(), self._call, self._target) if self._came else None

    def produced(self) -> int:
        """Return a guess of the tokens, where they are what it is paid in: a quarter of the most."""
        return (self._call.max_output or 0) // 4 if self._came else 0

    def text(self) -> str:
        """Return an empty text: none is produced."""
        return ""


CODECS: Mapping[Operation, Codec] = {
    "moderations": PlainCodec("/moderations", "results", input_usage),
    "images": PlainCodec("/images/generations", "data", image_usage),
    "speech": PlainCodec("/audio/speech", "data", spoken_usage),
}
