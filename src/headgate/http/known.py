"""Heads that the parser has accepted before: a client repeats its own, byte for byte, but for the length.

What is looked up here was parsed and checked once, as a whole request and nothing else. A head with
other digits in its `content-length` means the same request with a longer or shorter body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.http.incoming import RequestHead

_KEPT = 512
_LONGEST = 4096  # bytes of a head that is kept
# Digits as the parser takes them, on a line of their own: no value of another header holds a line end.
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (0|[1-9]\d{0,8})\r\n").search


class KnownHeads:
    """The heads of one listener's clients. When there are too many, all are forgotten."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}

    def find(self, data: bytes) -> tuple[RequestHead, int, int] | None:
        """Return the head that begins some bytes, its own length, and the length of its body; or None."""
        end = data.find(b"\r\n\r\n", 0, _LONGEST)
        found = _LENGTH(data, 0, end + 2)
        if found is None:
            return None
        start, stop = found.span(1)
        head = self._heads.get(data[:start] + data[stop:end])
        if head is None:
            return None
        length = int(found[1])
        return (head, end + 4, length) if length <= head.route.max_body_bytes else None

    def learn(self, data: bytes, head: RequestHead) -> None:
        """Keep a head that the parser has accepted.

        Args:
            data: begins with the whole head.
            head: what it means.
        """
        end = data.find(b"\r\n\r\n", 0, _LONGEST)
        found = _LENGTH(data, 0, end + 2)
        if found is None or not head.keep_alive or head.expects_continue or b"upgrade" in head.fields:
            return
        if len(self._heads) >= _KEPT:
            self._heads.clear()
        start, stop = found.span(1)
        self._heads[data[:start] + data[stop:end]] = head
