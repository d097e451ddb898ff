"""Heads that a parser has accepted before: peers repeat theirs, byte for byte, but for the length.

What is looked up here was parsed and checked once, as a whole message and nothing else. A head with
other digits in its `content-length` means the same message with a longer or shorter body.
"""

from __future__ import annotations

import re
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
_KEPT = 512
_LONGEST = 4096  # bytes of a head that is kept
# Digits as the parser takes them, on a line of their own: no value of another header holds a line end.
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (0|[1-9]\d{0,8})\r\n").search
_LENGTHS = (range(0), range(10), *(range(10 ** (digits - 1), 10**digits) for digits in range(2, 10)))


class _Known(NamedTuple, Generic[T]):
    """A head, cut in two where its length stands, and what it means."""

    before: bytes
    behind: bytes
    form: bytes  # both, with a place for a length
    meaning: T


_NONE: _Known[Any] = _Known(b"\n", b"\n\n", b"", None)  # no head has a length behind and before these


class KnownHeads(Generic[T]):
    """What the heads of some peers mean. When there are too many, all are forgotten."""

    __slots__ = ("_heads", "_known", "_last", "_lengths")
    # The head that was found last, which is likely to come again: its form, its size, the lengths that have
    # as many digits as it had, and its meaning.
    _last: tuple[bytes, int, range, T]
    _known: _Known[T]

    def __init__(self) -> None:
        self._heads: dict[bytes, _Known[T]] = {}
        self._lengths: dict[bytes, int] = {}  # as they are written
        self._forget()

    def _forget(self) -> None:
        self._known = _NONE
        self._last = b"", 0, _LENGTHS[0], _NONE.meaning

    def find(self, data: bytes) -> tuple[T, int, int] | None:
        """Return what the head means that begins some bytes, its size, and its body's; or None."""
        form, size, fit, meaning = self._last
        length = len(data) - size  # if all of the message is here
        if length in fit and data.startswith(form % length):
            return meaning, size, length
        return self._find_last(data) or self._find(data)

    def _find_last(self, data: bytes) -> tuple[T, int, int] | None:
        """Look whether it is the last head, with other digits or without its body."""
        before, behind, form, meaning = self._known
        if not data.startswith(before):
            return None
        start = len(before)
        stop = data.find(b"\r", start, start + 10)
        length = self._lengths.get(data[start:stop])
        if length is None or not data.startswith(behind, stop):
            return None
        size = stop + len(behind)
        self._last = form, size, _LENGTHS[stop - start], meaning
        return meaning, size, length

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
        self._known = known
        self._last = known.form, end + 4, _LENGTHS[stop - start], known.meaning
        return known.meaning, end + 4, length

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
        before, behind = data[:start], data[stop : end + 4]
        form = before.replace(b"%", b"%%") + b"%d" + behind.replace(b"%", b"%%")
        self._heads[data[:start] + data[stop:end]] = _Known(before, behind, form, meaning)
        self._forget()  # it may be the last one, which means something else from now on
