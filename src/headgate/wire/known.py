"""Heads that a parser has accepted before: peers repeat theirs, byte for byte, but for the length.

What is looked up here was parsed and checked once, as a whole message and nothing else. A head with
other digits in its `content-length` means the same message with a longer or shorter body.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

T = TypeVar("T")
_KEPT = 512
_LONGEST = 4096  # bytes of a head that is kept
# Digits as the parser takes them, on a line of their own: no value of another header holds a line end.
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (0|[1-9]\d{0,8})\r\n").search


class KnownHeads(Generic[T]):
    """What the heads of some peers mean. When there are too many, all are forgotten."""

    __slots__ = ("_before", "_behind", "_heads", "_last", "_lengths")

    def __init__(self) -> None:
        self._heads: dict[bytes, T] = {}
        self._lengths: dict[bytes, int] = {}  # as they are written
        self._last: T | None = None  # the head that was found last, which is likely to come again,
        self._before = self._behind = b"\n"  # and what stands before and behind its length

    def find(self, data: bytes) -> tuple[T, int, int] | None:
        """Return what the head means that begins some bytes, its size, and its body's; or None."""
        before, behind = self._before, self._behind
        if data.startswith(before):
            start = len(before)
            stop = data.find(b"\r", start, start + 10)
            length = self._lengths.get(data[start:stop])
            if length is not None and data.startswith(behind, stop) and self._last is not None:
                return self._last, stop + len(behind), length
        return self._find(data)

    def _find(self, data: bytes) -> tuple[T, int, int] | None:
        end = data.find(b"\r\n\r\n", 0, _LONGEST)
        found = _LENGTH(data, 0, end + 2)
        if found is None:
            return None
        start, stop = found.span(1)
        known = self._heads.get(data[:start] + data[stop:end])
        if known is None:
            return None
        if len(self._lengths) >= _KEPT:
            self._lengths.clear()
        length = self._lengths[found[1]] = int(found[1])
        self._last, self._before, self._behind = known, data[:start], data[stop : end + 4]
        return known, end + 4, length

    def learn(self, data: bytes, meaning: T) -> None:
        """Keep what a head means that a parser has accepted; one without a length is not kept.

        Args:
            data: begins with the whole head.
            meaning: of this head, whatever its length says.
        """
        end = data.find(b"\r\n\r\n", 0, _LONGEST)
        found = _LENGTH(data, 0, end + 2)
        if found is None:
            return
        if len(self._heads) >= _KEPT:
            self._heads.clear()
        start, stop = found.span(1)
        self._heads[data[:start] + data[stop:end]] = meaning
        self._last = None
