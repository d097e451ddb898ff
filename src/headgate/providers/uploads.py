"""Operations of OpenAI's wire that bring files: a form written anew, an answer that passes as it came.

The edits: the model's name; a transcript as plain text is asked for as JSON, which says how long it was.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.ports import Request
from headgate.providers.members import adapt
from headgate.providers.plain import PlainAnswer, PlainCodec, WholeReader, read_plain
from headgate.providers.used import heard_usage, image_usage
from headgate.wire.checks import decode_any, unknown
from headgate.wire.forms import Part, written
from headgate.wire.sound import length_of, likely_of
from headgate.wire.strict import refuse_misplaced

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.ports import Reader
    from headgate.providers.codec import Codec
    from headgate.values import Call, Operation, Target, Usage

_encode = msgspec.json.encode
_TEXT = b'"text"'
_LAST_TIME = re.compile(rb"--> *(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})")


class FormCodec(PlainCodec):
    """Speak one operation of OpenAI's wire that takes a form."""

    __slots__ = ()

    def encode(self, call: Call, target: Target) -> Request:
        """Return the request: the files as they came, the checked fields with the target's edits.

        Raises:
            CallerError: the host takes only what OpenAI documents, and this is not.
        """
        if call.files is None:
            return super().encode(call, target)
        host = target.host
        if host.extras == "refuse" and call.unknown:
            raise unknown(call.unknown[0])
        if target.simulated:
            refuse_misplaced(call, target.model)
        members = call.members.copy()
        members["model"] = msgspec.Raw(_encode(target.model.name))
        if _as_json(call):
            members["response_format"] = msgspec.Raw(b'"json"')
        adapt(call, target, members)
        boundary = f"headgate-{call.id.hex()}"  # made when the form had come: nobody wrote it into a file
        headers = tuple(row for row in target.headers if row[0] != "content-type")
        headers += (("content-type", f"multipart/form-data; boundary={boundary}"),)
        if call.sim and target.simulated:
            headers += (("x-headgate-sim", call.sim),)
        body, *tail = written((*_fields(members), *call.files), boundary)
        path = target.base_path + self._path
        return Request("POST", path, headers, bytes(body), call.request_id, tuple(tail))

    def reader(self, call: Call, target: Target) -> Reader:
        """Return a reader for a stream, for JSON, or for text."""
        if call.answer_type is not None and not call.stream:
            return TextReader(call, target, self._holds, heard_usage)
        return super().reader(call, target)


def _as_json(call: Call) -> bool:
    given = call.members.get("response_format")
    return (
        given is not None and bytes(given) == _TEXT and call.operation in {"transcriptions", "translations"}
    )


def _fields(members: Mapping[str, msgspec.Raw]) -> Iterator[Part]:
    """Yield the members as the fields of a form."""
    for name, raw in members.items():
        value = decode_any(raw)
        if isinstance(value, list):
            for entry in value:
                yield Part(f"{name}[]", _text(entry))
        elif value is not None:
            yield Part(name, _text(value))


def _text(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else _encode(value)


class TextReader(WholeReader):
    """A transcript as text, or as subtitles."""

    __slots__ = ()

    def finish(self) -> bytes:
        """Read the answer; it goes out whole, by `end`.

        Raises:
            UpstreamInterrupted: it is empty, or not of this operation.
        """
        body = self._body.whole()
        if _as_json(self._call):
            answer = read_plain(body)
            if not isinstance(answer.text, str):
                raise UpstreamInterrupted("The provider's answer lacks its text.")
            body = answer.text.encode() + b"\n"
            self._call.answer_type = b"text/plain; charset=utf-8"
        else:
            answer = PlainAnswer(duration=_subtitled(body, self._call))
        self._usage = self._count(answer, self._call, self._target)
        self._answer = body
        return b""

    def end(self, _booked: Usage) -> bytes:
        """Return the text."""
        return self._answer


def _subtitled(body: bytes, call: Call) -> float:
    """Return how long a sound is that subtitles came of: by its head, by the last of them, or by its size."""
    assert call.files is not None
    exact = length_of(call.files[0].data)
    if exact is not None:
        return exact
    found = _LAST_TIME.findall(body)
    if not found:
        return likely_of(call.files[0].data)
    hours, minutes, seconds, millis = (int(part or 0) for part in found[-1])
    return math.ceil(hours * 3600 + minutes * 60 + seconds + millis / 1000)


CODECS: Mapping[Operation, Codec] = {
    "image_edits": FormCodec("/images/edits", "data", image_usage),
    "image_variations": FormCodec("/images/variations", "data", image_usage),
    "transcriptions": FormCodec("/audio/transcriptions", "text", heard_usage),
    "translations": FormCodec("/audio/translations", "text", heard_usage),
}
