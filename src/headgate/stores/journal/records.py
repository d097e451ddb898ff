"""The records of a journal as bytes: framing, checksums, versions. No I/O.

    crc u32 | length u32 | version u8 | kind u8 | 0 u16 | payload (msgpack of `ports`' record)

Little endian. The CRC-32 is of the payload and starts from the rest of the header, so a changed bit
anywhere in a record breaks it. A segment is preallocated with zeros; a header of zeros is its end.
Version N reads what version N-1 wrote: members are only ever added at the end of a record. What stands there
must not be encoded with a zero at its end, which could not be told from what was never written: no `bytes`.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from headgate.ports import Mark, Open, Settle

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION: Final = 1
HEAD, OPEN, MARK, SETTLE = 1, 2, 3, 4  # at most 15: a kind has four bits in the checksum's start
HEADER: Final = struct.Struct("<IIBBH")
HEADER_BYTES: Final = HEADER.size
_WRITTEN: Final = struct.Struct("<IIBBxx")  # the same without its zeros
MAX_PAYLOAD: Final = (1 << 20) - 1  # bytes: a longer length is damage

_VERSION: Final = VERSION << 4  # as the checksum's start has it
_ZEROS: Final = bytes(4096)

Record: TypeAlias = Open | Mark | Settle


class JournalTooNew(Exception):
    """A newer version wrote this journal: it must be started once more, or keep serving."""


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first record of a segment: which one it is, and when it began."""

    segment: int
    at: int  # microseconds UTC


_DECODERS: Final[dict[int, Callable[[bytes], Any]]] = {
    HEAD: msgspec.msgpack.Decoder(Head).decode,
    OPEN: msgspec.msgpack.Decoder(Open).decode,
    MARK: msgspec.msgpack.Decoder(Mark).decode,
    SETTLE: msgspec.msgpack.Decoder(Settle).decode,
}
_encode = msgspec.msgpack.Encoder().encode


def frame(
    kind: int,
    record: Record | Head,
    encode: Callable[[object], bytes] = _encode,
    pack: Callable[..., bytes] = _WRITTEN.pack,
    crc32: Callable[[bytes, int], int] = zlib.crc32,
) -> bytes:
    """Return a record as it is written. The defaults bind names for speed."""
    payload = encode(record)
    size = len(payload)
    return pack(crc32(payload, size << 12 | _VERSION | kind), size, VERSION, kind) + payload


def decode(version: int, kind: int, payload: bytes) -> Any:
    """Return the record of a payload.

    Raises:
        JournalTooNew: a later version wrote it.
    """
    if version > VERSION or kind not in _DECODERS:
        raise JournalTooNew(
            f"The journal holds records of version {version}, kind {kind}; this program reads versions up "
            f"to {VERSION}. Start the newer program once so that it empties its journal."
        )
    return _DECODERS[kind](payload)


def parse(data: bytes, offset: int, limit: int) -> tuple[list[tuple[int, Any]], int]:
    """Decode whole records from an offset on; the drain's inner loop.

    Returns:
        The kind and the record of up to `limit`, and the offset behind the last one.

    Raises:
        JournalTooNew: a later version wrote one.
    """
    out: list[tuple[int, Any]] = []
    unpack, crc32, end = HEADER.unpack_from, zlib.crc32, len(data) - HEADER_BYTES
    while offset <= end and len(out) < limit:
        crc, size, version, kind, zero = unpack(data, offset)
        start = offset + HEADER_BYTES
        payload = data[start : start + size]
        if not 0 < size <= MAX_PAYLOAD or len(payload) != size or zero or kind > 15:
            break
        if crc32(payload, size << 12 | version << 4 | kind) != crc:
            break
        out.append((kind, decode(version, kind, payload)))
        offset = start + size
    return out, offset


def trimmed(data: bytes, offset: int = 0) -> bytes:
    """Return what stands from an offset on, without the zeros that a segment ends with: megabytes of them."""
    end = len(data)
    while end - offset >= len(_ZEROS) and data.endswith(_ZEROS, offset, end):  # `rstrip` looks at each byte
        end -= len(_ZEROS)
    return data[offset:end].rstrip(b"\0")


def is_record(data: bytes, offset: int) -> bool:
    """Say whether a whole record begins at an offset."""
    try:
        return bool(parse(data, offset, 1)[0])
    except JournalTooNew:
        return True


def next_record(data: bytes, offset: int) -> int | None:
    """Return where the next whole record begins after damage at `offset`, or None."""
    last = len(trimmed(data))
    for start in range(offset + 1, last - HEADER_BYTES + 1):
        # The constant bytes of a header, before the cost of a checksum.
        plausible = 0 < data[start + 8] <= VERSION and data[start + 9] in _DECODERS
        if plausible and is_record(data, start):
            return start
    return None
