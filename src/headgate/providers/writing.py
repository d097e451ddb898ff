"""Writing OpenAI's answers from events: whole bodies, and streams in the exact grammar of its chunks.

stream := first delta* finish for each choice, then the count if it was asked for, then `[DONE]`. The first
chunk has the role and `content: ""` (null when a tool call comes first); a tool call's first fragment has
its id, type and name, later ones its index alone; all chunks share id, created and model. Source: streams
recorded from OpenAI. A body is the same deltas put together, so both say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from headgate.providers import compat
from headgate.providers.edits import usage_object
from headgate.providers.events import (
    Cited,
    Counted,
    Event,
    RefusalPiece,
    Sealed,
    Stopped,
    TextPiece,
    ThoughtPiece,
    ToolPiece,
    ToolStart,
)
from headgate.providers.stream import DONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.values import Call, Usage

_encode = msgspec.json.encode


_MEMBERS: dict[type, str] = {
    TextPiece: "content",
    ThoughtPiece: "reasoning_content",
    RefusalPiece: "refusal",
}


class Writer(Protocol):
    """Events to the caller's bytes."""

    def write(self, events: Iterable[Event]) -> bytes:
        """Take events; return whole frames of a stream, nothing of a body."""
        ...

    def end(self, booked: Usage) -> bytes:
        """Return the last bytes; where they show a usage, it is the one that was booked."""
        ...


class _Step(NamedTuple):
    """One chunk's worth of a choice."""

    choice: int
    delta: dict[str, Any]
    reason: str | None = None
    logprobs: dict[str, Any] | None = None


class _Choice:
    """What a choice has said so far, as far as the next delta depends on it."""

    __slots__ = ("begun", "index", "numbers", "sealed", "waiting")

    def __init__(self, index: int) -> None:
        self.index = index
        self.begun = False
        self.numbers: dict[int, int] = {}  # of its tool calls, by the source's key
        self.waiting: dict[int, bool] = {}  # calls without arguments so far
        self.sealed = 0

    def steps(self, event: Event) -> Iterator[_Step]:
        """Yield the deltas that say an event: none for an empty text, which shows nothing yet."""
        if isinstance(event, (TextPiece, ThoughtPiece, RefusalPiece)) and not event.text:
            return
        if not self.begun:
            self.begun = True
            content = None if isinstance(event, ToolStart) else ""
            yield _Step(self.index, {"role": "assistant", "content": content, "refusal": None})
        if isinstance(event, (ToolStart, Stopped)):
            yield from self._close_calls()
        if isinstance(event, Stopped):
            reason = "tool_calls" if event.reason == "stop" and self.numbers else event.reason
            yield _Step(self.index, {}, reason)
            return
        delta = self._delta(event)
        if delta:
            logprobs = event.logprobs if isinstance(event, TextPiece) else ()
            said = {"content": list(logprobs), "refusal": None} if logprobs else None
            yield _Step(self.index, delta, None, said)

    def _delta(self, event: Event) -> dict[str, Any] | None:
        match event:
            case TextPiece(text) | ThoughtPiece(text) | RefusalPiece(text):
                return {_MEMBERS[type(event)]: text} if text else None
            case ToolStart():
                return self._start(event)
            case ToolPiece(key, arguments) if arguments and key in self.numbers:
                self.waiting.pop(key, None)
                return _arguments(self.numbers[key], arguments)
            case Sealed(block):
                self.sealed += 1
                return {"thinking_blocks": [{"index": self.sealed - 1, **block}]}
            case Cited(annotation):
                return {"annotations": [annotation]}
        return None

    def _start(self, event: ToolStart) -> dict[str, Any]:
        number = self.numbers[event.key] = len(self.numbers)
        self.waiting[event.key] = True
        function = {"name": event.name, "arguments": ""}
        call = {"index": number, "id": event.id, "type": "function", "function": function}
        if event.extra:
            call["extra_content"] = event.extra
        return {"tool_calls": [call]}

    def _close_calls(self) -> Iterator[_Step]:
        """Give the calls that got no argument the arguments `{}`: clients parse them as JSON."""
        for key in self.waiting:
            yield _Step(self.index, _arguments(self.numbers[key], "{}"))
        self.waiting.clear()


def _arguments(number: int, text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": number, "function": {"arguments": text}}]}


class _Answer:
    """The choices of an answer on their way."""

    __slots__ = ("_choices",)

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    def steps(self, events: Iterable[Event]) -> Iterator[_Step]:
        """Yield the deltas of events."""
        for event in events:
            if isinstance(event, Counted):
                continue
            choice = self._choices.get(event.choice)
            if choice is None:
                choice = self._choices[event.choice] = _Choice(event.choice)
            yield from choice.steps(event)


class ChunkWriter:
    """A stream of chunks. Implements `Writer`."""

    __slots__ = ("_answer", "_call", "_close", "_open")

    def __init__(self, call: Call) -> None:
        common: dict[str, Any] = {}
        compat.named(common, call, "chat.completion.chunk")
        self._answer = _Answer()
        self._call = call
        self._open = b'data: %b,"choices":[' % _encode(common)[:-1]
        self._close = b'],"usage":null}\n\n' if call.include_usage else b"]}\n\n"

    def write(self, events: Iterable[Event]) -> bytes:
        """Return the frames of some events."""
        return b"".join(map(self._frame, self._answer.steps(events)))

    def _frame(self, step: _Step) -> bytes:
        choice = {
            "index": step.choice,
            "delta": step.delta,
            "logprobs": step.logprobs,
            "finish_reason": step.reason,
        }
        return b"%b%b%b" % (self._open, _encode(choice), self._close)

    def end(self, booked: Usage) -> bytes:
        """Return the usage chunk, when asked for, and `[DONE]`."""
        return compat.usage_chunk(booked, self._call) + DONE if self._call.include_usage else DONE


class BodyWriter:
    """A whole `chat.completion`. Implements `Writer`."""

    __slots__ = ("_answer", "_call", "_choices")

    def __init__(self, call: Call) -> None:
        self._answer = _Answer()
        self._call = call
        self._choices: dict[int, dict[str, Any]] = {}

    def write(self, events: Iterable[Event]) -> bytes:
        """Keep what events say."""
        for step in self._answer.steps(events):
            choice = self._choices.get(step.choice)
            if choice is None:
                message: dict[str, Any] = {"annotations": []}
                choice = {"index": step.choice, "message": message, "logprobs": None, "finish_reason": None}
                self._choices[step.choice] = choice
            for name, value in step.delta.items():
                _merge(choice["message"], name, value)
            if step.logprobs is not None:
                given = choice["logprobs"] or {"content": [], "refusal": None}
                choice["logprobs"] = {**given, "content": given["content"] + step.logprobs["content"]}
            choice["finish_reason"] = step.reason or choice["finish_reason"]
        return b""

    def end(self, booked: Usage) -> bytes:
        """Return the body."""
        answer: dict[str, Any] = {}
        compat.named(answer, self._call, "chat.completion")
        answer["choices"] = [_finished(choice) for _, choice in sorted(self._choices.items())]
        answer["usage"] = usage_object(booked, "chat")
        return _encode(answer)


def _merge(message: dict[str, Any], name: str, value: Any) -> None:
    """Add one member of a delta; texts wait as lists of their pieces."""
    if name == "tool_calls":
        (piece,) = value
        number = piece.pop("index")
        calls = message.setdefault(name, [])
        if number == len(calls):
            calls.append({**piece, "function": {**piece["function"], "arguments": []}})
        calls[number]["function"]["arguments"].append(piece["function"]["arguments"])
    elif name == "thinking_blocks":
        block = {key: inner for key, inner in value[0].items() if key != "index"}
        message.setdefault(name, []).append(block)
    elif name == "annotations":
        message[name] += value
    elif name == "role" or value is None:
        message.setdefault(name, value)
    else:
        pieces = message.get(name)
        message[name] = [*pieces, value] if pieces else [value]


def _finished(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice["message"]
    calls = message.get("tool_calls", ())
    for call in calls:
        call["function"]["arguments"] = "".join(call["function"]["arguments"])
    texts: dict[str, str | None] = {
        name: "".join(pieces) for name in _MEMBERS.values() if (pieces := message.get(name)) is not None
    }
    if calls and not texts.get("content"):
        texts["content"] = None
    choice["message"] = {"role": "assistant", "content": None, "refusal": None, **message, **texts}
    return choice
