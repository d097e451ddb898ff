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

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, T] = {}

    def find(self, data: bytes) -> tuple[T, int, int] | None:
        """Return what the head means that begins some bytes, its size, and its body's; or None."""
        end = data.find(b"\r\n\r\n", 0, _LONGEST)
        found = _LENGTH(data, 0, end + 2)
        if found is None:
            return None
        start, stop = found.span(1)
        known = self._heads.get(data[:start] + data[stop:end])
        return (known, end + 4, int(found[1])) if known is not None else None

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
