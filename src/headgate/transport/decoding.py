"""Undo a content coding that nobody asked for, within bounds.

The request says `accept-encoding: identity`; some hosts compress all the same.
"""

from __future__ import annotations

import zlib

from headgate.transport.faults import Malformed

_FREE = 1 << 20  # bytes that may come out before the ratio counts
_RATIO = 100  # more than text ever compresses to; zeros reach 1,028
_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # zlib's `wbits`: a gzip or a zlib wrapper


class Inflater:
    """Decode gzip or deflate as it comes. Raises `Malformed` on a bomb and on broken or truncated data."""

    __slots__ = ("_in", "_limit", "_out", "_stream")

    def __init__(self, coding: bytes, limit: int) -> None:
        window = _WINDOW.get(coding.strip().lower())
        if window is None:
            raise Malformed("it uses a content coding that was not asked for")
        self._stream = zlib.decompressobj(window)
        self._limit = limit
        self._in = 0
        self._out = 0

    def feed(self, data: bytes) -> bytes:
        """Return what the bytes decode to, maybe nothing yet."""
        self._in += len(data)
        room = min(self._limit, max(_FREE, self._in * _RATIO)) - self._out
        try:
            out = self._stream.decompress(data, room + 1)
        except zlib.error:
            raise Malformed("its compressed body is broken") from None
        self._out += len(out)
        if len(out) > room:
            raise Malformed("its compressed body grows beyond all measure")
        if self._stream.unused_data:
            raise Malformed("bytes follow its compressed body")
        return out

    def finish(self) -> None:
        """Check that the compressed data ended where the body did."""
        if self._in and not self._stream.eof:
            raise Malformed("its compressed body was cut off")
