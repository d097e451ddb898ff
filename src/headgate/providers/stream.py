"""A stream of server-sent events on the OpenAI wire, cut anywhere, passed on in whole frames.

A frame that needs no edit goes out as the bytes that came in. The count and `[DONE]` are held back: a call
is settled before its last byte, and what the caller reads as its usage is what was booked. Chunks that show
nothing of an answer (a role, empty texts) wait for the first that does: until then another target may answer.
A whole answer in place of a stream is kept until it ends, and then read as the chunks that say the same.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamInterrupted
from headgate.providers import compat
from headgate.providers.edits import read_answer, splice_model, splice_usage
from headgate.providers.frames import Frames, data_of, framed, whole_json
from headgate.providers.refusals import reported
from headgate.providers.unstreamed import chunks_of
from headgate.providers.whole import Body

if TYPE_CHECKING:
    from headgate.errors import UpstreamError
    from headgate.values import Call, Target, Usage
    from headgate.wire.answers import Answer

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"  # a comment, which every reader of events skips
_UNASKED = b',"usage":null'
_LF = 0x0A  # see `frames`
_OPENING = 64  # chunks that show nothing, at most, before they go out all the same,
_OPENING_BYTES = 64 * 1024  # and what they hold
_EMPTY: tuple[object, ...] = (None, "", [], {})


class StreamReader(Frames):
    """Read the chunks of one streamed answer."""

    __slots__ = (
        "_alike", "_call", "_count_frame", "_edits", "_events", "_fell", "_finished", "_opening", "_others",
        "_parts", "_shown", "_target", "_text_bytes", "_usage", "_whole", "done",
    )  # fmt: skip

    def __init__(self, call: Call, target: Target) -> None:
        super().__init__()
        self._call = call
        self._target = target
        self._parts: list[str] = []  # of the first choice
        self._others: dict[int, list[str]] = {}
        self._events = 0
        self._text_bytes = 0
        self._usage: Usage | None = None
        self._shown = False  # the last count as it came shows exactly that usage
        self._count_frame = b""  # the chunk without a choice that held it
        self._fell = False
        self._finished = 0  # choices
        self._whole: Body | None = None  # of an answer that comes in place of a stream
        self._opening: list[bytes] | None = []  # what was held back; None: something has been shown
        self._alike: dict[str, Any] = {}  # what the chunks have in common, where we write them anew
        self._edits = target.host.deviates or target.model.name != call.model
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Return the whole frames in the bytes so far.

        Raises:
            UpstreamError: the provider reported an error in its stream.
            UpstreamInterrupted: a frame is not the API's JSON, or has no end.
        """
        if self._opening is not None and self._comes_whole(data):
            return b""
        block = self.whole(data)
        return self._frames(block) if block else b""

    def _comes_whole(self, data: bytes) -> bool:
        """Keep bytes of an answer that is no stream: it begins as JSON."""
        if self._whole is None:
            if self._opening or not whole_json(self._tail + data):
                return False
            self._whole = Body()
            data, self._tail = self._tail + data, b""
        self._whole.add(data)
        return True

    def _unstreamed(self, body: bytes) -> bytes:
        """Return the frames that say a whole answer.

        Raises:
            UpstreamError: it is an error.
            UpstreamInterrupted: it is no answer.
        """
        body = body.removeprefix(b"\xef\xbb\xbf")
        if frames := framed(body):
            return self._frames(frames)
        answer = read_answer(body)
        if answer.error is not None:
            raise self._mistake(body)
        if answer.choices is None:
            raise UpstreamInterrupted("The provider's answer lacks its choices.")
        return self._frames(chunks_of(body, self._call.operation))

    def _frames(self, block: bytes) -> bytes:
        out = []
        for frame in block.split(b"\n\n"):
            if self.done:
                break
            payload = frame[6:] if frame.startswith(b"data: {") and _LF not in frame else data_of(frame)
            if payload is None:
                if whole_json(frame) and read_answer(frame).error is not None:
                    raise self._mistake(frame)
                continue
            if payload == b"[DONE]":
                self.done = True
                break
            kept = self._frame(payload)
            if kept:
                out.append(b"data: %b\n\n" % kept)
        whole = b"".join(out)
        if self._opening is not None:
            whole = self._opened(out)
        if not self._call.include_usage and _UNASKED in whole:
            whole = whole.replace(_UNASKED, b"")
        return whole

    def _opened(self, out: list[bytes]) -> bytes:
        """Return what may go out of the begin of a stream: nothing before a chunk that shows something."""
        held = self._opening or []
        held += out
        long = len(held) > _OPENING or sum(map(len, held)) > _OPENING_BYTES
        if not (long or any(map(_shows, out))):
            self._opening = held
            return b""
        self._opening = None
        return b"".join(held)

    def _frame(self, payload: bytes) -> bytes:
        """Read one chunk and return what the caller shall see of it; b"" for nothing."""
        chunk = read_answer(payload)
        if chunk.error is not None:
            raise self._mistake(payload)
        self._count(chunk)
        if chunk.usage is not None:
            usage, self._shown = chunk.usage.told()
            self._believe(usage)
        if not chunk.choices:
            self._count_frame = payload  # or Azure's filter results and the like: no client expects them
            return b""
        if self._target.host.deviates or chunk.usage is not None:
            return compat.normal_chunk(payload, self._call, self._alike)
        return splice_model(payload, self._call.model) if self._edits else payload

    def _mistake(self, payload: bytes) -> UpstreamError:
        """Return what an error in the stream means for the caller."""
        return reported(payload, 500)

    def _believe(self, usage: Usage | None) -> None:
        """Keep the last count; one that falls, or is none, makes all before it unbelievable."""
        if self._fell:
            return
        known = self._usage
        if known is not None and (usage is None or usage.output_tokens < known.output_tokens):
            self._fell = True
            usage = None
        self._usage = usage

    def _count(self, chunk: Answer) -> None:
        for choice in chunk.choices or ():
            piece = (choice.delta.pieces() if choice.delta is not None else choice.text) or ""
            if piece:
                parts = self._parts if not choice.index else self._others.setdefault(choice.index, [])
                parts.append(piece)
                self._events += 1
                self._text_bytes += len(piece) if piece.isascii() else len(piece.encode())
            if choice.finish_reason is not None:
                self._finished += 1

    @property
    def awaits_count(self) -> bool:
        """Say whether the text is complete and only its count is still to come."""
        return self._usage is None and not self.done and self._finished >= self._call.n

    def finish(self) -> bytes:
        """Return what is left of the stream but for its count and `[DONE]`.

        Raises:
            UpstreamInterrupted: the provider broke off.
        """
        out = b""
        rest = self.rest() if self._whole is None else self._whole.whole()
        if rest.strip() and not self.done:
            out = self._frames(rest) if self._opening or not whole_json(rest) else self._unstreamed(rest)
        every_choice = self._finished > len(self._others)
        if not self.done and not (every_choice and self._target.host.deviates):
            raise UpstreamInterrupted("The provider ended its stream before the answer was complete.")
        held, self._opening = self._opening, None
        return b"".join(held) + out if held else out

    def end(self, booked: Usage) -> bytes:
        """Return the usage chunk, when asked for, and `[DONE]`; it says what was booked."""
        if not self._call.include_usage:
            return DONE
        frame = self._count_frame
        if not frame or self._target.host.deviates:
            return compat.usage_chunk(booked, self._call, self._alike) + DONE
        if not (self._shown and booked == self._usage):
            frame = splice_usage(frame, booked, self._call.operation)
        if self._edits:
            frame = splice_model(frame, self._call.model)
        return b"data: %b\n\n" % frame + DONE

    def usage(self) -> Usage | None:
        """Return the provider's last count."""
        return self._usage

    def produced(self) -> int:
        """Return the larger of the number of events with text and a quarter of its bytes."""
        return max(self._events, self._text_bytes // 4)

    def text(self) -> str:
        """Return all text so far, one choice after the other."""
        others = sorted(self._others.items())
        return "".join(chain(self._parts, *(parts for _, parts in others)))


def _shows(frame: bytes) -> bool:
    """Say whether a chunk shows anything of an answer."""
    for choice in msgspec.json.decode(frame[6:])["choices"]:
        delta = choice.get("delta") or {}
        if choice.get("finish_reason") is not None or choice.get("text"):
            return True
        if any(value not in _EMPTY for name, value in delta.items() if name != "role"):
            return True
    return False
