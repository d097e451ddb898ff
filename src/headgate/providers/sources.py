"""What the sources of other wires share: a body that is kept, the data of events, and which of both it is.

A server that takes a request for a stream may answer with one JSON body all the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from headgate.errors import UpstreamInterrupted
from headgate.providers.frames import MAX_FRAME_BYTES, Frames, data_of, whole_json
from headgate.providers.whole import Body

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.providers.events import Event


def not_json(fault: Exception) -> UpstreamInterrupted:
    """Return the error of bytes that are no answer."""
    interrupted = UpstreamInterrupted("The provider sent an answer that is not the API's JSON.")
    interrupted.__cause__ = fault
    return interrupted


class KeptBody:
    """An answer that is read when it is whole: a `Source` without its `finish`."""

    __slots__ = ("_body", "done")

    def __init__(self) -> None:
        self._body = Body()
        self.done = False

    def feed(self, data: bytes) -> Iterable[Event]:
        """Keep bytes."""
        self._body.add(data)
        return ()


_SILENCE: Final = re.compile(
    rb"(?:[\xef\xbb\xbf\s]|:[^\r\n]*[\r\n])*"
)  # what says nothing: blanks and comments


class Opening:
    """The first bytes of an answer for which a stream was asked, until they say what it is.

    A whole answer in place of the stream is kept until its end.
    """

    __slots__ = ("_body", "_head", "streams")

    def __init__(self) -> None:
        self._head = b""
        self._body: Body | None = None
        self.streams = False  # it is a stream

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those of a stream, once it is known to be one.

        Raises:
            UpstreamInterrupted: they are a whole answer, and too long.
        """
        if self._body is None:
            data = _SILENCE.sub(b"", self._head + data, count=1)
            if not data or (data.startswith(b":") and len(data) < MAX_FRAME_BYTES):
                self._head = data
                return b""
            if not whole_json(data) and not data.startswith(b"["):
                self.streams = True
                return data
            self._body = Body()
        self._body.add(data)
        return b""

    def whole(self) -> bytes:
        """Return the whole answer; b"" where there is none."""
        return b"" if self._body is None else self._body.whole()


class DataStream(Frames):
    """A stream of server-sent events. Implements `Source`; `_data` says what the data of one event says."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        super().__init__()
        self.done = False

    def feed(self, data: bytes) -> Iterable[Event]:
        """Return what the whole frames so far say."""
        block = self.whole(data)
        return self._read(block) if block else ()

    def finish(self) -> Iterable[Event]:
        """Return what a last frame says that no blank line ended.

        Raises:
            UpstreamInterrupted: the answer is not complete.
        """
        events = list(self._read(self.rest()))
        if not self.done:
            raise UpstreamInterrupted("The provider ended its stream before the answer was complete.")
        return events

    def _read(self, block: bytes) -> Iterator[Event]:
        for frame in block.split(b"\n\n"):
            data = data_of(frame) or (frame if whole_json(frame) else None)
            if data is not None and data != b"[DONE]" and not self.done:
                yield from self._data(data)

    def _data(self, data: bytes) -> Iterator[Event]:
        raise NotImplementedError(data)
