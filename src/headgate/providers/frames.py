"""Server-sent events out of bytes that may be cut anywhere.

Frames split at blank lines only (never at U+2028 or U+0085, which may stand inside JSON).
"""

from __future__ import annotations

from headgate.errors import UpstreamInterrupted

MAX_FRAME_BYTES = 1024 * 1024
_CR = 0x0D  # as a number: of bytes, `in` raises and catches an error of its own each time


class Frames:
    """Keep what is not a whole frame yet."""

    __slots__ = ("_cr", "_most", "_tail")

    def __init__(self, most: int = MAX_FRAME_BYTES) -> None:
        self._most = most
        self._tail = b""
        self._cr = b""

    def whole(self, data: bytes) -> bytes:
        """Return the whole frames in the bytes so far, joined by blank lines; b"" while there is none.

        Raises:
            UpstreamInterrupted: a frame has no end.
        """
        if self._cr or _CR in data:
            data = self._plain_newlines(data)
        data = self._tail + data if self._tail else data
        cut = data.rfind(b"\n\n")
        if cut < 0:
            if len(data) > self._most:
                raise UpstreamInterrupted(f"The provider sent an event longer than {self._most // 2**20} MB.")
            self._tail = data
            return b""
        self._tail = data[cut + 2 :]
        return data[:cut]

    def rest(self) -> bytes:
        """Return, and forget, a last frame that no blank line ended."""
        tail, self._tail = self._tail, b""
        return tail.strip(b"\n")

    def _plain_newlines(self, data: bytes) -> bytes:
        """Turn CRLF and CR into LF; a CR at the very end waits for what follows it."""
        data = self._cr + data
        self._cr = b"\r" if data.endswith(b"\r") else b""
        return data.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def data_of(frame: bytes) -> bytes | None:
    """Return the data of a frame with comments, event names, several lines or no space after the colon."""
    lines = [
        line[5:].removeprefix(b" ")
        for line in frame.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        if line.startswith(b"data:")
    ]
    data = b"\n".join(lines).strip()
    return data or None


def framed(body: bytes) -> bytes:
    """Return the frames of what began as JSON and has frames after it, as no JSON has; b"" of JSON."""
    body = body.replace(b"\r\n", b"\n")
    return body if b"\n\ndata:" in body or b"\n\nevent:" in body else b""


def whole_json(frame: bytes) -> bool:
    """Say whether it is JSON where frames were asked for: a whole answer, or an error under its status."""
    return frame.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
