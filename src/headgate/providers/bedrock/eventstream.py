"""AWS's event stream (`application/vnd.amazon.eventstream`): messages out of bytes that may be cut anywhere.

A message is a prelude (its length, the length of its headers, a CRC of both), the headers, the payload, and a
CRC of all before it; numbers are big-endian. Facts: AWS's description of the encoding. No I/O.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from headgate.errors import UpstreamInterrupted

if TYPE_CHECKING:
    from collections.abc import Mapping

_PRELUDE = Struct(">III")
_CRC = Struct(">I")
_AROUND = _PRELUDE.size + _CRC.size  # what a message has besides headers and payload
_MOST_HEADERS = 128 * 1024
_MOST_PAYLOAD = 24 * 1024 * 1024
_LENGTH = Struct(">H")
_TEXT, _BYTES = 7, 6
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # of the other types: none holds what we read


class Message(NamedTuple):
    """One message: its headers that are texts, and its payload."""

    headers: Mapping[str, str]
    payload: bytes


class Messages:
    """Keep what is not a whole message yet."""

    __slots__ = ("_length", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._length = 0  # of the message that is coming; 0: not known

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are whole now.

        Raises:
            UpstreamInterrupted: the bytes are not an event stream, or were changed on the way.
        """
        tail = self._tail
        tail += data
        found: list[Message] = []
        start = 0
        while len(tail) - start >= (self._length or _PRELUDE.size):
            if not self._length:
                self._length = _prelude(tail, start)
                continue
            found.append(_message(bytes(tail[start : start + self._length])))
            start += self._length
            self._length = 0
        del tail[:start]
        return found

    @property
    def partial(self) -> bool:
        """Say whether a message has begun and not ended."""
        return bool(self._tail)


def _prelude(data: bytearray, start: int) -> int:
    """Return the length of a message, whose prelude is there."""
    length, headers, checksum = _PRELUDE.unpack_from(data, start)
    if crc32(data[start : start + 8]) != checksum:
        raise _broken("a checksum does not match")
    if headers > _MOST_HEADERS or not 0 <= length - _AROUND - headers <= _MOST_PAYLOAD:
        raise _broken("a message has no possible length")
    return int(length)


def _message(data: bytes) -> Message:
    end = len(data) - _CRC.size
    if crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise _broken("a checksum does not match")
    payload_at = _PRELUDE.size + int.from_bytes(data[4:8])
    try:
        headers = _headers(data[_PRELUDE.size : payload_at])
    except (IndexError, KeyError, struct.error, UnicodeDecodeError) as fault:
        raise _broken("a header cannot be read") from fault
    return Message(headers, data[payload_at:end])


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        value_at = at + 2 + data[at]
        name, kind = data[at + 1 : value_at - 1].decode(), data[value_at - 1]
        if kind in {_TEXT, _BYTES}:
            size = _LENGTH.unpack_from(data, value_at)[0]
            value_at += _LENGTH.size
        else:
            size = _SIZES[kind]
        at = value_at + size
        if at > len(data):
            raise IndexError(name)
        if kind == _TEXT:
            found[name] = data[value_at:at].decode()
    return found


def _broken(why: str) -> UpstreamInterrupted:
    return UpstreamInterrupted(f"The provider's stream is broken: {why}.")
