"""Bedrock's answers as events: the blocks of a whole answer are read as those of a stream.

In a stream `messageStop` says how the answer ended and `metadata`, the last, what it used. Input is counted
apart from what was read from and written to the cache; reasoning is within the output and has no count.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamFailed, UpstreamInterrupted
from headgate.ports import Head
from headgate.providers.bedrock.errors import mistake, reported
from headgate.providers.bedrock.eventstream import Messages
from headgate.providers.chat import wants_one_call
from headgate.providers.events import (
    Cited,
    Counted,
    Sealed,
    Stopped,
    TextPiece,
    ThoughtPiece,
    ToolPiece,
    ToolStart,
)
from headgate.providers.sources import KeptBody, not_json
from headgate.values import Usage
from headgate.wire.answers import MOST_TOKENS, NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from headgate.providers.bedrock.eventstream import Message
    from headgate.providers.events import Event, FinishReason
    from headgate.values import Call

# A reason that is not known here may be of an answer that is not whole.
_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_BROKEN: Mapping[str, str] = {
    "malformed_model_output": "The model wrote an answer that cannot be read. Try again.",
    "malformed_tool_use": "The model wrote a tool call that cannot be read. Try again.",
}
_COUNTS = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "outputTokens")
_NO_PLACE = frozenset({"image", "document", "video", "audio"})


class _Said(msgspec.Struct, gc=False):
    content: list[dict[str, Any]] = []


class _Output(msgspec.Struct, gc=False):
    message: _Said = msgspec.field(default_factory=_Said)


class _Whole(msgspec.Struct, gc=False, rename="camel"):
    output: _Output | None = None
    stop_reason: str = ""
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct, gc=False, rename="camel"):
    content_block_index: int = 0
    start: dict[str, Any] = {}
    delta: dict[str, Any] = {}
    stop_reason: str = ""
    usage: dict[str, Any] | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


class _Blocks:
    """The blocks of one answer: what each of them says."""

    __slots__ = ("_calls", "_one", "_thoughts")

    def __init__(self, call: Call) -> None:
        self._calls: set[int] = set()
        self._one = wants_one_call(call)
        self._thoughts: dict[int, _Thought] = {}

    def start(self, index: int, start: Mapping[str, Any]) -> Iterator[Event]:
        """Yield what a block says as it begins; a tool that the provider runs itself is none of ours."""
        match start.get("toolUse"):
            case {"toolUseId": str(call), "name": str(name), **more} if "type" not in more:
                if self._one and self._calls:
                    return
                self._calls.add(index)
                yield ToolStart(index, call, name)
        _refuse(start)

    def delta(self, index: int, delta: Mapping[str, Any]) -> Iterator[Event]:
        """Yield what a piece of a block says."""
        match delta:
            case {"text": str(text)}:
                yield TextPiece(text)
            case {"toolUse": {"input": str(text)}} if index in self._calls:
                yield ToolPiece(index, text)
            case {"reasoningContent": dict(piece)}:
                yield from self._thoughts.setdefault(index, _Thought()).add(piece)
            case {"citation": dict(citation)}:
                yield Cited(_annotation(citation))
        _refuse(delta)

    def stop(self, index: int) -> Iterator[Event]:
        """Yield what a block says when it is complete."""
        thought = self._thoughts.pop(index, None)
        if thought is not None:
            yield from thought.seal()

    @staticmethod
    def end(reason: str) -> Iterator[Event]:
        """Yield how the answer ended.

        Raises:
            UpstreamFailed: what the model wrote is broken.
        """
        if reason in _BROKEN:
            raise UpstreamFailed(_BROKEN[reason], upstream_status=502)
        yield Stopped(_REASONS.get(reason, "length"))


class _Thought:
    """One block of reasoning on its way."""

    __slots__ = ("_redacted", "_signature", "_text")

    def __init__(self) -> None:
        self._text = ""
        self._signature = ""
        self._redacted: list[str] = []

    def add(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        """Take a piece; yield what of it is shown."""
        text, signature, redacted = (piece.get(name) for name in ("text", "signature", "redactedContent"))
        if isinstance(text, str):
            self._text += text
            yield ThoughtPiece(text)
        if isinstance(signature, str):
            self._signature += signature
        if isinstance(redacted, str):
            self._redacted.append(redacted)

    def seal(self) -> Iterator[Event]:
        """Yield the block as the client echoes it, where it has a seal: the same as of Claude's own API."""
        if self._signature:
            yield Sealed({"type": "thinking", "thinking": self._text, "signature": self._signature})
        if self._redacted:
            yield Sealed({"type": "redacted_thinking", "data": _joined(self._redacted)})


def _joined(pieces: list[str]) -> str:
    """Return base64 of the bytes of several."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return b64encode(b"".join(b64decode(piece, validate=True) for piece in pieces)).decode()
    except NotBase64 as fault:
        raise UpstreamInterrupted("The provider sent reasoning that is not base64.") from fault


def _refuse(piece: Mapping[str, Any]) -> None:
    kinds = _NO_PLACE & piece.keys()
    if kinds:
        raise UpstreamInterrupted(
            f"The provider sent a part of an answer that has no place in a chat: {', '.join(sorted(kinds))}."
        )


def _annotation(citation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a citation as OpenAI writes those of the web; others keep their own members."""
    location = citation.get("location")
    web = location.get("web") if isinstance(location, dict) else None
    url = web.get("url") if isinstance(web, dict) else None
    if isinstance(url, str):
        inside = {"url": url, "title": citation.get("title") or "", "start_index": 0, "end_index": 0}
        return {"type": "url_citation", "url_citation": inside}
    return {"type": "citation", "citation": citation}


def _pieces(block: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield the starts and deltas that say a block of a whole answer."""
    match block:
        case {"toolUse": dict(use)}:
            yield {"toolUse": use}, {}
            if use.get("input"):
                yield {}, {"toolUse": {"input": msgspec.json.encode(use["input"]).decode()}}
        case {"reasoningContent": {"reasoningText": dict(text)}}:
            yield {}, {"reasoningContent": text}
        case {"citationsContent": dict(cited)}:
            for part in cited.get("content") or ():
                yield {}, part
            for citation in cited.get("citations") or ():
                yield {}, {"citation": citation}
        case _:
            yield {}, block


def read_usage(given: Mapping[str, Any]) -> Counted:
    """Return the count, or that it cannot be true."""
    counts = [given.get(name) or 0 for name in _COUNTS]
    if any(type(count) is not int or not 0 <= count <= MOST_TOKENS for count in counts):
        return Counted(None)
    fresh, read, written, made = counts
    if "inputTokens" not in given or "outputTokens" not in given:
        return Counted(None)
    return Counted(Usage(fresh + read + written, made, read, written))


class WholeSource(KeptBody):
    """A whole answer. Implements `Source`."""

    __slots__ = ("_blocks",)

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._blocks = _Blocks(call)

    def finish(self) -> Iterable[Event]:
        """Yield what the answer says."""
        body = self._body.whole()
        try:
            answer = msgspec.json.decode(body, type=_Whole)
        except NOT_JSON as fault:
            raise not_json(fault) from fault
        if answer.output is None:
            raise mistake(Head(502, ()), body)
        for index, block in enumerate(answer.output.message.content):
            for start, delta in _pieces(block):
                yield from self._blocks.start(index, start)
                yield from self._blocks.delta(index, delta)
            yield from self._blocks.stop(index)
        if answer.usage is not None:
            yield read_usage(answer.usage)
        if answer.stop_reason:
            yield from self._blocks.end(answer.stop_reason)
        self.done = True


class StreamSource:
    """A stream of an answer. Implements `Source`: it is done with its `metadata`."""

    __slots__ = ("_blocks", "_messages", "_stopped", "done")

    def __init__(self, call: Call) -> None:
        self._blocks = _Blocks(call)
        self._messages = Messages()
        self._stopped = False
        self.done = False

    def feed(self, data: bytes) -> Iterable[Event]:
        """Yield what the whole messages so far say."""
        for message in self._messages.feed(data):
            yield from self._read(message)

    def finish(self) -> Iterable[Event]:
        """Take note of the end.

        Raises:
            UpstreamInterrupted: the answer is not complete.
        """
        if self._messages.partial or not self._stopped:
            raise UpstreamInterrupted("The provider ended its stream before the answer was complete.")
        return ()

    def _read(self, message: Message) -> Iterator[Event]:
        headers = message.headers
        kind = headers.get(":message-type", "event")
        if kind == "exception":
            raise reported(headers.get(":exception-type", ""), message.payload)
        if kind == "error":
            said = msgspec.json.encode({"message": headers.get(":error-message", "")})
            raise reported(headers.get(":error-code", ""), said)
        try:
            event = _decode_event(message.payload)
        except NOT_JSON as fault:
            raise not_json(fault) from fault
        yield from self._event(headers.get(":event-type", ""), event)

    def _event(self, kind: str, event: _Event) -> Iterator[Event]:
        blocks, index = self._blocks, event.content_block_index
        match kind:
            case "contentBlockStart":
                yield from blocks.start(index, event.start)
            case "contentBlockDelta":
                yield from blocks.delta(index, event.delta)
            case "contentBlockStop":
                yield from blocks.stop(index)
            case "messageStop":
                self._stopped = True
                yield from blocks.end(event.stop_reason)
            case "metadata":
                if event.usage is not None:
                    yield read_usage(event.usage)
                self.done = self._stopped
