"""The append-only journal of one worker slot: what the hot path writes instead of a database.

A record is `length u32 | crc32 u32 | version u8 | kind u8 | msgpack`, little endian; zeros end a segment.
Records of calls that are still open are written again at the head of each new segment, so a long stream
never pins an old one; everything that reads a journal is idempotent.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from headgate.errors import Unavailable
from headgate.ports import Mark, Open, Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VERSION = 1
Record = Open | Mark | Settle
_HEADER = struct.Struct("<IIBB")
_KIND = {Open: 1, Mark: 2, Settle: 3}
_DECODERS: dict[int, Callable[[bytes], Record]] = {
    1: msgspec.msgpack.Decoder(Open).decode,
    2: msgspec.msgpack.Decoder(Mark).decode,
    3: msgspec.msgpack.Decoder(Settle).decode,
}
_MAX_RECORD = 64 * 1024


class Settled(NamedTuple):
    """A settled call, and where the journal stood behind its record."""

    opened: Open
    settled: Settle
    segment: int
    offset: int
    written: int  # bytes of the journal's life so far


class SlotJournal:
    """Write one slot's journal. Implements `ports.Journal`.

    Args:
        folder: of this slot; made if it is not there.
        segment_bytes: size of a preallocated segment.
        bound_bytes: undrained bytes beyond which no call may open.
        before_send: fsync each OPEN, for power-loss exactness.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = 8 << 20,
        bound_bytes: int = 64 << 20,
        before_send: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._bound_bytes = bound_bytes
        self._before_send = before_send
        self._encode = msgspec.msgpack.Encoder().encode
        self._open: dict[bytes, tuple[Open, list[bytes]]] = {}
        self.pending: deque[Settled] = deque()  # what the drain has to copy
        self._broken = False
        self.dirty = False
        self._fd = -1
        self._offset = 0
        self._written_bytes = 0
        self.drained_bytes = 0
        last = max((number for number, _ in segments(folder)), default=0)
        self.segment = last
        self._rotate()

    @property
    def accepting(self) -> bool:
        """Say whether a priced call may open."""
        return not self._broken and self._written_bytes - self.drained_bytes < self._bound_bytes

    def open(self, record: Open) -> None:
        """Append OPEN; raises `Unavailable` when it cannot be written."""
        if not self.accepting:
            raise Unavailable("The gateway cannot write its books now. Try again in a moment.")
        data = self._append(record)
        self._open[record.call] = (record, [data])
        if self._before_send:
            self._sync()

    def mark(self, record: Mark) -> None:
        """Append a checkpoint of a stream."""
        data = self._append(record)
        kept = self._open.get(record.call)
        if kept is not None:
            kept[1][1:] = [data]

    def settle(self, record: Settle) -> None:
        """Append the settlement of a call."""
        opened = self._open.pop(record.call, None)
        try:
            self._append(record)
        finally:  # a settlement that the journal could not take still reaches the database
            if opened is not None:
                self.pending.append(
                    Settled(opened[0], record, self.segment, self._offset, self._written_bytes)
                )

    def _append(self, record: Record) -> bytes:
        payload = self._encode(record)
        kind = _KIND[type(record)]
        body = bytes((VERSION, kind)) + payload
        data = len(payload).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body
        if self._offset + len(data) > self._segment_bytes:
            self._rotate()
        self._write(data)
        return data

    def _write(self, data: bytes) -> None:
        try:
            done = os.pwrite(self._fd, data, self._offset)
        except OSError as fault:
            self._broken = True
            raise Unavailable(f"The journal cannot be written: {fault.strerror}.") from fault
        if done != len(data):
            self._broken = True
            raise Unavailable("The journal cannot be written: the disk is full.")
        self._offset += done
        self._written_bytes += done
        self.dirty = True

    def _rotate(self) -> None:
        """Begin a new segment with the records of the calls that are still open."""
        if self._fd >= 0:
            self._sync()
            os.close(self._fd)
        self.segment += 1
        path = self.folder / f"{self.segment:010d}.log"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, 0, self._segment_bytes)
        self._offset = 0
        for _, kept in self._open.values():
            for data in kept:
                self._write(data)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as fault:
            self._broken = True
            raise Unavailable(f"The journal cannot be made durable: {fault.strerror}.") from fault

    @property
    def undrained_records(self) -> int:
        """Return how many settlements the database does not have yet."""
        return len(self.pending)

    @property
    def undrained_bytes(self) -> int:
        """Return how many bytes of the journal the database does not have yet."""
        return self._written_bytes - self.drained_bytes

    def drained_to(self, last: Settled) -> None:
        """Forget the segments before the one that the drain has reached."""
        for number, path in segments(self.folder):
            if number < last.segment:
                path.unlink()
        self.drained_bytes = last.written

    def sync_if_dirty(self) -> None:
        """Make what was written durable; called every few milliseconds off the loop."""
        if self.dirty and not self._broken:
            self.dirty = False
            self._sync()

    def close(self) -> None:
        """Sync and close."""
        self.sync_if_dirty()
        os.close(self._fd)
        self._fd = -1


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Return the segments of a slot in order."""
    return sorted((int(path.stem), path) for path in folder.glob("*.log"))


def read(path: Path, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Yield each record from an offset on, with the offset behind it; stop at zeros or a torn tail."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    at = 0
    while at + _HEADER.size <= len(data):
        length, crc, version, kind = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        if length == 0 or length > _MAX_RECORD or end > len(data) or version > VERSION:
            return
        if zlib.crc32(data[at + 8 : end]) != crc:
            return
        yield _DECODERS[kind](data[at + _HEADER.size : end]), offset + end
        at = end
