"""What a provider's answer says, piece by piece: the few events that every other wire is read into.

A `Source` turns a provider's bytes into events, whole answers and streams alike, so both say the same by
construction; `writing` turns events into OpenAI's answers. `choice` is the choice that an event is of.

- Text, thought, refusal: pieces, in order. Empty pieces are allowed and say nothing.
- `ToolStart` opens a call under a `key` of the source's own (numbers are given by the writer: 0, 1, 2);
  `ToolPiece` adds to its arguments, and says nothing where no call began under its key. A call that gets no
  piece has the arguments `{}`.
- `Sealed` is a block that the provider wants back unchanged with a later turn.
- `Counted` is the usage so far: each takes the place of the one before it.
- `Stopped` ends a choice. Where it says `stop` and a tool was called, OpenAI says `tool_calls`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec

from headgate.values import Usage

if TYPE_CHECKING:
    from headgate.values import Call

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class TextPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of the answer's text; `logprobs` are OpenAI's `choices[].logprobs.content` of it."""

    text: str
    choice: int = 0
    logprobs: tuple[Mapping[str, Any], ...] = ()


class ThoughtPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of visible reasoning."""

    text: str
    choice: int = 0


class RefusalPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of a refusal."""

    text: str
    choice: int = 0


class ToolStart(msgspec.Struct, frozen=True, gc=False):
    """A call of a function begins."""

    key: int
    id: str
    name: str
    choice: int = 0
    extra: Mapping[str, Any] = {}  # for `extra_content`, which the client echoes


class ToolPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of the arguments of a call, JSON text."""

    key: int
    arguments: str
    choice: int = 0


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """A whole block of reasoning with its seal, for `thinking_blocks`, which the client echoes."""

    block: Mapping[str, Any]
    choice: int = 0


class Cited(msgspec.Struct, frozen=True, gc=False):
    """An annotation of the text, in OpenAI's form where it has one."""

    annotation: Mapping[str, Any]
    choice: int = 0


class Counted(msgspec.Struct, frozen=True, gc=False):
    """The provider's count so far; None: there is one, and it cannot be true."""

    usage: Usage | None


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """A choice has ended."""

    reason: FinishReason
    choice: int = 0


Event: TypeAlias = (
    TextPiece | ThoughtPiece | RefusalPiece | ToolStart | ToolPiece | Sealed | Cited | Counted | Stopped
)


class Source(Protocol):
    """One answer of a provider as it comes: its bytes in, events out. No I/O."""

    done: bool  # the provider has said that its answer is complete

    def feed(self, data: bytes) -> Iterable[Event]:
        """Take bytes of the body, cut anywhere; return what they complete.

        Raises:
            UpstreamError: the provider reports an error in its answer.
            UpstreamInterrupted: the bytes are not the provider's wire.
        """
        ...

    def finish(self) -> Iterable[Event]:
        """Take note of the end of the body; return what it completes.

        Raises:
            UpstreamInterrupted: the answer is not complete.
        """
        ...


def call_id(call: Call, choice: int, key: int) -> str:
    """Return an id for a tool's call that has none: no other call of a conversation has it."""
    return "call_" + blake2b(b"%b/%d/%d" % (call.id, choice, key), digest_size=12).hexdigest()


def unwrapped(events: Iterable[Event], name: str, keys: set[tuple[int, int]]) -> Iterable[Event]:
    """Yield events with the calls of one tool turned into text: a schema's answer by a forced tool.

    Args:
        events: as a source gives them.
        name: of the tool that stands for the schema; empty changes nothing.
        keys: which calls are of that tool; kept by the caller from one piece to the next.
    """
    for event in events:
        match event:
            case ToolStart() if name and event.name == name:
                keys.add((event.choice, event.key))
            case ToolPiece() if (event.choice, event.key) in keys:
                yield TextPiece(event.arguments, event.choice)
            case Stopped("tool_calls") if any(choice == event.choice for choice, _ in keys):
                yield Stopped("stop", event.choice)
            case _:
                yield event
