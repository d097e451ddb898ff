"""Header lines as HTTP/1.1 writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNSAFE = bytes.maketrans(b"\r\n\0", b"   ")


def lines_of(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as lines.

    A line break in a value becomes a space: it would be a header, or an answer, of its maker's choice.
    """
    rows = tuple(rows)
    lines, count = _join(rows), len(rows)
    if lines.count(b"\n") != count or lines.count(b"\r") != count or b"\0" in lines:
        return _join([(name.translate(_UNSAFE), value.translate(_UNSAFE)) for name, value in rows])
    return lines


def _join(rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % row for row in rows])
