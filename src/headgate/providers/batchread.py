"""What providers' batch APIs answer, as far as all wires read it alike."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from headgate.errors import UpstreamInterrupted
from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

T = TypeVar("T")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,200}")  # of what a provider keeps: it becomes a part of paths
_NUMBER: Final = re.compile(r"0*[1-9][0-9]{0,8}")


def reader(decoder: msgspec.json.Decoder[T]) -> Callable[[bytes], T]:
    """Return what decodes an answer. It raises `UpstreamInterrupted` where it cannot be read."""
    decode = decoder.decode

    def read(body: bytes) -> T:
        try:
            return decode(body)
        except NOT_JSON as fault:
            raise unread(fault) from fault

    return read


def unread(fault: Exception | str) -> UpstreamInterrupted:
    """Return the error of an answer that is not one."""
    return UpstreamInterrupted(f"The provider's answer about a batch cannot be read: {fault}.")


def checked(name: str) -> str:
    """Return a name that a provider gave. Raises `UpstreamInterrupted`: it cannot be a part of a path."""
    if _NAME.fullmatch(name) is None or not name.strip("."):
        raise UpstreamInterrupted(f"The provider calls a file or a batch {name[:100]!r}, which is no name.")
    return name


def numbered(told: str) -> int:
    """Return the number of a line. Raises `UpstreamInterrupted`: it is none."""
    if _NUMBER.fullmatch(told) is None:
        raise unread(f"it is of {told[:80]!r}, which was not sent")
    return int(told)


def seconds_of(told: int | str) -> int:
    """Return the Unix time that is told as a number, or as RFC 3339 has it.

    Raises:
        ValueError: it is neither.
    """
    return told if isinstance(told, int) else int(datetime.fromisoformat(told).timestamp())
