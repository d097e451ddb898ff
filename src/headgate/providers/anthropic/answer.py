"""Anthropic's answers as events: a whole message and a stream of it are read by the same steps.

Usage in a stream is cumulative: what `message_delta` says takes the place of what `message_start` said, and
adding them would count twice. Input is counted apart from what was read from and written to the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.ports import Head
from headgate.providers.anthropic.errors import STATUSES, mistake
from headgate.providers.events import (
    Cited,
    Counted,
    RefusalPiece,
    Sealed,
    Stopped,
    TextPiece,
    ThoughtPiece,
    ToolPiece,
    ToolStart,
)
from headgate.providers.sources import DataStream, KeptBody, not_json
from headgate.values import Usage
from headgate.wire.answers import MOST_TOKENS, NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from headgate.providers.events import Event, FinishReason

# `pause_turn` is a turn that is not over, and so may one be that stops for a reason unknown here.
_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "refusal": "content_filter",
}
_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


class _Message(msgspec.Struct, gc=False):
    content: list[dict[str, Any]] = []
    stop_reason: str | None = None
    stop_details: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    type: str = "message"
    error: Any = None


class _StreamEvent(msgspec.Struct, gc=False):
    type: str
    index: int = 0
    message: _Message | None = None
    content_block: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode_event = msgspec.json.Decoder(_StreamEvent).decode
_decode_message = msgspec.json.Decoder(_Message).decode


class _Blocks:
    """The blocks of one message: what each of them says."""

    __slots__ = ("_citations", "_counts", "_length", "_sealed")

    def __init__(self) -> None:
        self._sealed: dict[int, dict[str, Any]] = {}  # blocks of thinking that are not complete
        self._counts: dict[str, Any] = {}
        self._length = 0  # of the text so far, in characters
        self._citations: dict[int, int] = {}  # where the text of a block began

    def start(self, index: int, block: Mapping[str, Any]) -> Iterator[Event]:
        """Yield what a block says as it begins; in a message it is whole then."""
        match block:
            case {"type": "text"}:
                self._citations[index] = self._length
                yield from self._text(block.get("text"))
                for citation in block.get("citations") or ():
                    yield Cited(self._annotation(index, citation))
            case {"type": "tool_use", "id": str(call), "name": str(name)}:
                yield ToolStart(index, call, name)
                if block.get("input"):
                    yield ToolPiece(index, msgspec.json.encode(block["input"]).decode())
            case {"type": "thinking" | "redacted_thinking"}:
                self._sealed[index] = dict(block)
                yield ThoughtPiece(_text(block.get("thinking")))

    def delta(self, index: int, delta: Mapping[str, Any]) -> Iterator[Event]:
        """Yield what a piece of a block says."""
        match delta:
            case {"type": "text_delta"}:
                yield from self._text(delta.get("text"))
            case {"type": "input_json_delta"}:
                yield ToolPiece(index, _text(delta.get("partial_json")))
            case {"type": "thinking_delta"} if index in self._sealed:
                text = _text(delta.get("thinking"))
                self._sealed[index]["thinking"] = _text(self._sealed[index].get("thinking")) + text
                yield ThoughtPiece(text)
            case {"type": "signature_delta"} if index in self._sealed:
                block = self._sealed[index]
                block["signature"] = _text(block.get("signature")) + _text(delta.get("signature"))
            case {"type": "citations_delta", "citation": dict(citation)}:
                yield Cited(self._annotation(index, citation))

    def stop(self, index: int) -> Iterator[Event]:
        """Yield what a block says when it is complete."""
        block = self._sealed.pop(index, None)
        if block is not None:
            yield Sealed(block)

    def end(self, reason: str | None, details: Any, usage: Mapping[str, Any] | None) -> Iterator[Event]:
        """Yield the count, and how the message ended where it has."""
        self.count(usage)
        yield Counted(self.usage())
        if reason is None:
            return
        if reason == "refusal" and isinstance(details, dict):
            yield RefusalPiece(_text(details.get("explanation")))
        yield Stopped(_REASONS.get(reason, "length"))

    def count(self, usage: Mapping[str, Any] | None) -> None:
        """Take note of a count, which is of all so far."""
        given = usage or {}
        self._counts.update({name: given[name] for name in _COUNTS if given.get(name) is not None})
        details = given.get("output_tokens_details")
        if isinstance(details, dict):
            self._counts["thinking_tokens"] = details.get("thinking_tokens") or 0

    def usage(self) -> Usage | None:
        """Return the count; None when it is none."""
        counts = [self._counts.get(name, 0) for name in (*_COUNTS, "thinking_tokens")]
        if any(type(count) is not int or not 0 <= count <= MOST_TOKENS for count in counts):
            return None
        fresh, written, read, made, thought = counts
        if thought > made or "output_tokens" not in self._counts:
            return None
        return Usage(fresh + written + read, made, read, written, thought)

    def _text(self, text: Any) -> Iterator[Event]:
        text = _text(text)
        self._length += len(text)
        yield TextPiece(text)

    def _annotation(self, index: int, citation: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a citation as OpenAI writes those of the web; others keep their own members."""
        url = citation.get("url")
        kind = "url_citation" if isinstance(url, str) else str(citation.get("type"))
        inside = {name: value for name, value in citation.items() if name != "type"}
        if kind == "url_citation":
            span = {"start_index": self._citations.get(index, 0), "end_index": self._length}
            inside = {**span, "url": url, "title": citation.get("title") or ""}
        return {"type": kind, kind: inside}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class MessageSource(KeptBody):
    """A whole message. Implements `Source`."""

    __slots__ = ()

    def finish(self) -> Iterable[Event]:
        """Return what the message says."""
        body = self._body.whole()
        try:
            message = _decode_message(body)
        except NOT_JSON as fault:
            raise not_json(fault) from fault
        if message.type != "message":
            raise mistake(Head(STATUSES.get(_kind(message.error), 502), ()), body)
        self.done = True
        return self._events(message)

    @staticmethod
    def _events(message: _Message) -> Iterator[Event]:
        blocks = _Blocks()
        for index, block in enumerate(message.content):
            yield from blocks.start(index, block)
            yield from blocks.stop(index)
        yield from blocks.end(message.stop_reason, message.stop_details, message.usage)


class StreamSource(DataStream):
    """A stream of a message. Implements `Source`."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        super().__init__()
        self._blocks = _Blocks()

    def _data(self, data: bytes) -> Iterator[Event]:
        try:
            event = _decode_event(data)
        except NOT_JSON as fault:
            raise not_json(fault) from fault
        if event.type == "error":
            raise mistake(Head(STATUSES.get(_kind(event.error), 500), ()), data)
        yield from self._event(event)

    def _event(self, event: _StreamEvent) -> Iterator[Event]:
        blocks, delta = self._blocks, event.delta or {}
        match event.type:
            case "message_start" if event.message is not None:
                blocks.count(event.message.usage)
            case "content_block_start":
                yield from blocks.start(event.index, event.content_block or {})
            case "content_block_delta":
                yield from blocks.delta(event.index, delta)
            case "content_block_stop":
                yield from blocks.stop(event.index)
            case "message_delta":
                yield from blocks.end(delta.get("stop_reason"), delta.get("stop_details"), event.usage)
            case "message_stop":
                self.done = True


def _kind(error: Any) -> str:
    return str(error.get("type")) if isinstance(error, dict) else ""
