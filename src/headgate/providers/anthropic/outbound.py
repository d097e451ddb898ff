"""OpenAI's answers, whatever made them, as messages of Anthropic's: what `/v1/messages` shows of other wires.

stream := message_start block* message_delta message_stop;
block := content_block_start content_block_delta* content_block_stop.
The count is in `message_delta`, which a client takes for the whole; at the start nobody knows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.providers.frames import data_of
from headgate.providers.turns import ToolUse
from headgate.values import Usage
from headgate.wire.answers import Function

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headgate.ports import Reader
    from headgate.values import Call

_REASONS: Mapping[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_encode = msgspec.json.encode


class _Call(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class _Said(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Answer).decode


def usage_object(usage: Usage) -> dict[str, Any]:
    """Return a usage as Anthropic writes it: the cache apart from the rest of the input."""
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def sse(kind: str, **members: Any) -> bytes:
    """Return an event as Anthropic frames it."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **members}))


_EMPTY: Mapping[str, Mapping[str, str]] = {
    "thinking": {"thinking": "", "signature": ""},
    "text": {"text": ""},
}
_DELTAS: Mapping[str, tuple[str, str]] = {
    "thinking": ("thinking_delta", "thinking"),
    "text": ("text_delta", "text"),
    "tool_use": ("input_json_delta", "partial_json"),
}


class _Block:
    """One block and the pieces of its text, or of its input."""

    __slots__ = ("call", "head", "kind", "pieces")

    def __init__(self, kind: str, head: Mapping[str, Any], call: int = -1) -> None:
        self.kind = kind
        self.head = head
        self.call = call
        self.pieces: list[str] = []

    def opening(self) -> dict[str, Any]:
        """Return the block as it begins."""
        return {"type": self.kind, **self.head}

    def whole(self) -> dict[str, Any]:
        """Return the whole block."""
        text = "".join(self.pieces)
        if self.kind == "tool_use":
            return {**self.opening(), "input": ToolUse("", "", text).input()}
        return {**self.opening(), self.kind: text}


class _Message:
    """The blocks of a message as they come: a piece of another kind, or of another call, begins the next."""

    __slots__ = ("blocks", "reason")

    def __init__(self) -> None:
        self.blocks: list[_Block] = []
        self.reason = ""

    def take(self, choice: _Choice) -> Iterator[str]:
        """Add what a choice says; yield each piece once its block, the last, is there (`""`: it began)."""
        said = choice.delta or choice.message or _Said()
        thought = said.reasoning_content or said.reasoning
        for kind, text in (("thinking", thought), ("text", said.content), ("text", said.refusal)):
            if text:
                yield from self._piece(kind, text)
        for number, call in enumerate(said.tool_calls or ()):
            yield from self._call(call, number if call.index is None else call.index)
        if said.refusal:
            self.reason = "content_filter"
        self.reason = self.reason or choice.finish_reason or ""

    def _piece(self, kind: str, text: str) -> Iterator[str]:
        if not self.blocks or self.blocks[-1].kind != kind:
            self.blocks.append(_Block(kind, _EMPTY[kind]))
            yield ""
        self.blocks[-1].pieces.append(text)
        yield text

    def _call(self, call: _Call, number: int) -> Iterator[str]:
        function = call.function or Function()
        if not self.blocks or self.blocks[-1].call != number:
            head = {"id": call.id or f"toolu_{number}", "name": function.name or "", "input": {}}
            self.blocks.append(_Block("tool_use", head, number))
            yield ""
        if function.arguments:
            self.blocks[-1].pieces.append(function.arguments)
            yield function.arguments

    def stopped(self) -> dict[str, Any]:
        """Return how the message ended."""
        return {"stop_reason": _REASONS.get(self.reason, "end_turn"), "stop_sequence": None}


class MessagesReader:
    """Show an answer on OpenAI's wire as a message. Implements `ports.Reader`.

    Args:
        inner: reads the provider's answer.
        call: has no usage chunk asked for.
    """

    __slots__ = ("_call", "_inner", "_message", "_started", "done")

    def __init__(self, inner: Reader, call: Call) -> None:
        self._inner = inner
        self._call = call
        self._message = _Message()
        self._started = False
        self.done = False

    @property
    def awaits_count(self) -> bool:
        """Say whether the text is complete and only its count is still to come."""
        return self._inner.awaits_count

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the provider's; return whole events."""
        out = self._events(self._inner.feed(data))
        self.done = self._inner.done
        return out

    def finish(self) -> bytes:
        """Take note of the end of the body."""
        return self._events(self._inner.finish())

    def end(self, booked: Usage) -> bytes:
        """Return the message, or the events that end it, with the usage that was booked."""
        rest = self._inner.end(booked)
        message, usage = self._message, usage_object(booked)
        if not self._call.stream:
            for _ in message.take(_first(rest)):
                continue
            blocks = [block.whole() for block in message.blocks]
            return _encode({**self._head(), "content": blocks, **message.stopped(), "usage": usage})
        out = self._begin()
        if message.blocks:
            out += sse("content_block_stop", index=len(message.blocks) - 1)
        return out + sse("message_delta", delta=message.stopped(), usage=usage) + sse("message_stop")

    def usage(self) -> Usage | None:
        """Return the provider's last count."""
        return self._inner.usage()

    def produced(self) -> int:
        """Return a running count of the output's tokens."""
        return self._inner.produced()

    def text(self) -> str:
        """Return all text so far."""
        return self._inner.text()

    def _head(self) -> dict[str, Any]:
        call = self._call
        return {
            "id": f"msg_{call.request_id[4:]}",
            "type": "message",
            "role": "assistant",
            "model": call.model,
        }

    def _begin(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        unsaid = {"stop_reason": None, "stop_sequence": None}
        return sse(
            "message_start", message={**self._head(), "content": [], **unsaid, "usage": usage_object(Usage())}
        )

    def _events(self, frames: bytes) -> bytes:
        out = []
        for frame in frames.split(b"\n\n"):
            data = data_of(frame)
            if data is None or data == b"[DONE]":
                continue
            out.append(self._begin())
            choice = _first(data)
            out += [self._event(piece) for piece in self._message.take(choice)]
        return b"".join(out)

    def _event(self, piece: str) -> bytes:
        blocks = self._message.blocks
        index, block = len(blocks) - 1, blocks[-1]
        if piece:
            kind, member = _DELTAS[block.kind]
            return sse("content_block_delta", index=index, delta={"type": kind, member: piece})
        closed = sse("content_block_stop", index=index - 1) if index else b""
        return closed + sse("content_block_start", index=index, content_block=block.opening())


def _first(data: bytes) -> _Choice:
    """Return the first choice of a chunk or of an answer of ours; there is one, for no more can be asked."""
    choices = _decode(data).choices
    return choices[0] if choices else _Choice()
