"""One range of bytes, as a request asks for it (RFC 9110, 14). Who asks for several is given all."""

from __future__ import annotations

import re
from typing import NamedTuple

from headgate.errors import RangeRefused

_ONE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


class Range(NamedTuple):
    """From `start` to before `end`."""

    start: int
    end: int
    partial: bool


def read_range(header: bytes | None, size: int) -> Range | None:
    """Return what is wanted of `size` bytes; None where there are no such bytes."""
    found = _ONE.fullmatch(header.strip()) if header is not None else None
    if found is None or found.groups() == (b"", b""):
        return Range(0, size, partial=False)
    first, last = found.groups()
    if not first:  # the last so many
        count = min(int(last), size)
        return Range(size - count, size, partial=True) if count else None
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < int(first):
        return Range(0, size, partial=False)  # it means nothing
    return Range(start, end, partial=True) if start < size else None


def unsatisfiable(size: int) -> RangeRefused:
    """Return the refusal of a range that is behind the end."""
    return RangeRefused(
        f"The range is behind the end of the file, which has {size:,} bytes.",
        headers={"content-range": f"bytes */{size}"},
    )
