"""The reader of every wire but OpenAI's: a source of events on one side, a writer on the other.

A whole answer in place of a stream is read when it has ended, and written as the stream that says the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import UpstreamInterrupted
from headgate.providers.events import (
    Counted,
    RefusalPiece,
    Stopped,
    TextPiece,
    ThoughtPiece,
    ToolPiece,
    ToolStart,
    unwrapped,
)
from headgate.providers.frames import framed
from headgate.providers.sources import Opening
from headgate.providers.writing import BodyWriter, ChunkWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.providers.events import Event, Source
    from headgate.providers.writing import Writer
    from headgate.values import Call, Usage


class TranslatedReader:
    """Read one answer. Implements `ports.Reader`.

    Args:
        call: whose answer it is.
        whole: a whole answer's bytes as events.
        stream: a stream's; None: none was asked for.
        schema_tool: the tool whose arguments are the answer's text; empty: none.
    """

    __slots__ = (
        "_call", "_fell", "_parts", "_pieces", "_schema_tool", "_source", "_stopped", "_text_bytes",
        "_undecided", "_usage", "_whole", "_wrapped", "_writer", "done",
    )  # fmt: skip

    def __init__(
        self, call: Call, whole: Source, stream: Source | None = None, schema_tool: str = ""
    ) -> None:
        self._call = call
        self._whole = whole
        self._source = whole if stream is None else stream
        self._undecided = None if stream is None else Opening()
        self._schema_tool = schema_tool
        self._writer: Writer = ChunkWriter(call) if call.stream else BodyWriter(call)
        self._wrapped: set[tuple[int, int]] = set()
        self._parts: dict[int, list[str]] = {}
        self._pieces = 0
        self._text_bytes = 0
        self._usage: Usage | None = None
        self._fell = False
        self._stopped = 0
        self.done = False

    @property
    def awaits_count(self) -> bool:
        """Say whether the text is complete and only its count is still to come."""
        return self._usage is None and not self.done and self._stopped >= self._call.n

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the body, cut anywhere; return whole frames of OpenAI's wire."""
        if self._undecided is not None:
            data = self._undecided.feed(data)
            if not self._undecided.streams:
                return b""
            self._undecided = None
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        """Take bytes that are in the form that was asked for."""
        return self._write(self._source.feed(data))

    def finish(self) -> bytes:
        """Take note of the end of the body.

        Raises:
            UpstreamInterrupted: it ended early.
        """
        body = b"" if self._undecided is None else self._undecided.whole()
        out = self._instead(body) if body else self._write(self._source.finish())
        if not self._stopped:
            raise UpstreamInterrupted("The provider ended its answer before it was complete.")
        return out

    def _instead(self, body: bytes) -> bytes:
        """Read what came in place of a stream: a whole answer, or an error with events after it."""
        frames = framed(body)
        if not frames:
            self._source = self._whole
        out = self._write(self._source.feed(frames or body))
        return out + self._write(self._source.finish())

    def _write(self, events: Iterable[Event]) -> bytes:
        if self._schema_tool:
            events = unwrapped(events, self._schema_tool, self._wrapped)
        out = self._writer.write(self._noted(events))
        self.done = self._source.done
        return out

    def end(self, booked: Usage) -> bytes:
        """Return the last bytes; where they show a usage, it is the booked one."""
        return self._writer.end(booked)

    def usage(self) -> Usage | None:
        """Return the provider's last count."""
        return self._usage

    def produced(self) -> int:
        """Return the larger of the number of pieces and a quarter of their bytes."""
        return max(self._pieces, self._text_bytes // 4)

    def text(self) -> str:
        """Return all text so far, one choice after the other."""
        return "".join("".join(parts) for _, parts in sorted(self._parts.items()))

    def _noted(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            match event:
                case Counted(usage):
                    self._believe(usage)
                case Stopped():
                    self._stopped += 1
                case TextPiece(text) | ThoughtPiece(text) | RefusalPiece(text) | ToolStart(name=text):
                    self._note(text, event.choice)
                case ToolPiece(arguments=text):
                    self._note(text, event.choice)
            yield event

    def _note(self, text: str, choice: int) -> None:
        if text:
            self._parts.setdefault(choice, []).append(text)
            self._pieces += 1
            self._text_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))

    def _believe(self, usage: Usage | None) -> None:
        """Keep the last count; one that falls, or is none, makes all before it unbelievable."""
        known = self._usage
        if usage is None or (known is not None and usage.output_tokens < known.output_tokens):
            self._fell = True
        self._usage = None if self._fell else usage
