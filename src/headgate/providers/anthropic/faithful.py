"""Messages asked for as messages, of a target that speaks them: members and events go through as they are.

Changed are the model's name, a limit that was shrunk to the money, marks for a cache of an hour (no book here
has their price), and thinking without a seal, which was never Anthropic's. A usage that was not believed is
shown as it was booked. A message that came whole in place of a stream is passed on as its events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.providers.anthropic.answer import MessageSource, StreamSource
from headgate.providers.anthropic.blocks import cache_control
from headgate.providers.anthropic.outbound import sse, usage_object
from headgate.providers.anthropic.unstreamed import events_of
from headgate.providers.frames import Frames, data_of, framed
from headgate.providers.translated import TranslatedReader
from headgate.values import Note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.values import Call, Target, Usage

_encode = msgspec.json.encode
_decode = msgspec.json.decode
_FIRST = frozenset({"message_start", "ping"})  # promise no content: an error may still come in its place
_LAST = frozenset({"message_delta", "message_stop"})


def faithful_body(given: Mapping[str, Any], call: Call, target: Target) -> dict[str, Any]:
    """Return the body to send for the members that the caller gave."""
    body = {name: _marked(value, call) for name, value in given.items()}
    body["model"] = target.model.name
    if call.shrunk_to:
        body["max_tokens"] = call.shrunk_to
        call.notes.append(Note("x-headgate-max-tokens", str(call.shrunk_to)))
    for message in body["messages"]:
        if isinstance(message["content"], list):
            message["content"] = [block for block in message["content"] if _is_theirs(block)]
    return body


def _is_theirs(block: Mapping[str, Any]) -> bool:
    return block.get("type") != "thinking" or bool(block.get("signature"))


def _marked(value: Any, call: Call) -> Any:
    """Return a copy with the cache marks that go out; arguments of tools are data, and hold none."""
    if isinstance(value, list):
        return [_marked(each, call) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: cache_control(inner, call)
        if name == "cache_control"
        else inner
        if name in {"input", "input_schema"}
        else _marked(inner, call)
        for name, inner in value.items()
    }


class FaithfulReader(TranslatedReader):
    """Read a message for the books, and pass it on as it came. Implements `ports.Reader`."""

    __slots__ = ("_body", "_frames", "_held", "_opening", "_renamed")

    def __init__(self, call: Call, target: Target) -> None:
        super().__init__(call, MessageSource(), StreamSource() if call.stream else None)
        self._frames = Frames()
        self._body: list[bytes] = []
        self._held: list[dict[str, Any]] = []  # events that must not go out before the books are closed
        self._opening: list[bytes] | None = []  # what is held back until there is content; None: it is out
        self._renamed = target.model.name != call.model

    def _take(self, data: bytes) -> bytes:
        """Take bytes of the body; return whole events as they came."""
        super()._take(data)
        if not self._call.stream:
            self._body.append(data)
            return b""
        block = self._frames.whole(data)
        return self._pass(block) if block else b""

    def finish(self) -> bytes:
        """Take note of the end of the body.

        Raises:
            UpstreamInterrupted: it ended early.
        """
        whole = self._undecided is not None
        out = super().finish()
        if whole:
            return out
        rest = self._frames.rest()
        return self._pass(rest) if rest else b""

    def _instead(self, body: bytes) -> bytes:
        """Read a message that came in place of a stream; return the events that say it."""
        super()._instead(body)
        return self._pass(framed(body) or events_of(body))

    def end(self, booked: Usage) -> bytes:
        """Return the message, or the events that end it, with the usage that was booked."""
        believed = self.usage() == booked
        if self._call.stream:
            last = (_event(self._shown(event, booked, believed=believed)) for event in self._held)
            return self._opened() + b"".join(last)
        body = b"".join(self._body)
        if believed and not self._renamed:
            return body
        return _encode(self._shown(_decode(body), booked, believed=believed))

    def _pass(self, block: bytes) -> bytes:
        out = []
        for frame in block.split(b"\n\n"):
            data = data_of(frame)
            if data is None:
                continue
            event = _decode(data)
            kind = event["type"]
            if kind in _LAST:
                self._held.append(event)
                continue
            shown = frame + b"\n\n"
            if kind == "message_start" and self._renamed:
                event["message"]["model"] = self._call.model
                shown = _event(event)
            if self._opening is not None and kind in _FIRST:
                self._opening.append(shown)
            else:
                out.append(self._opened() + shown)
        return b"".join(out)

    def _opened(self) -> bytes:
        """Return what was held back, once."""
        opening, self._opening = self._opening, None
        return b"".join(opening or ())

    def _shown(self, message: dict[str, Any], booked: Usage, *, believed: bool) -> dict[str, Any]:
        if self._renamed and "model" in message:
            message["model"] = self._call.model
        if not believed and message["type"] != "message_stop":
            message["usage"] = usage_object(booked)
        return message


def _event(event: dict[str, Any]) -> bytes:
    return sse(event.pop("type"), **event)
