"""Read a journal forward: a live one up to where it is durable, a dead one to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headgate.ports import Open, Settle
from headgate.stores.journal.records import HEAD, MARK, OPEN, is_record, next_record, parse, trimmed
from headgate.stores.journal.segments import Position, read_segment, segment_numbers, segment_path

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.ports import Mark

_CHUNK = 64 * 1024


class Settled(msgspec.Struct, gc=False):
    """A settled call with all its attempts, in order."""

    opens: list[Open]
    settle: Settle
    recovered: bool = False

    @property
    def served(self) -> Open:
        """Return the attempt that it is settled by: of two at once it may be the earlier one."""
        number = self.settle.attempt
        return next((opened for opened in self.opens if opened.attempt == number), self.opens[-1])


class Damage(NamedTuple):
    """A place in a journal where a record cannot be read although whole ones follow it."""

    segment: int
    offset: int
    resumed: int  # offset of the next whole record


class OpenCalls:
    """Which calls a journal's records leave open. Takes records twice without harm."""

    __slots__ = ("marks", "opens", "orphans")

    def __init__(self) -> None:
        self.opens: dict[bytes, list[Open]] = {}
        self.marks: dict[bytes, Mark] = {}
        self.orphans: list[Settle] = []  # settlements without an OPEN

    def take(self, kind: int, record: Any) -> Settled | None:
        """Apply a record; return the call that it settles."""
        if kind == OPEN:
            known = self.opens.get(record.call)
            if known is None:
                self.opens[record.call] = [record]
            elif all(record.attempt != each.attempt for each in known):
                known.append(record)
                self.marks.pop(record.call, None)  # only one behind both says which of them answered
        elif kind == MARK:
            self.marks[record.call] = record
        elif kind != HEAD:
            self.marks.pop(record.call, None)
            opens = self.opens.pop(record.call, None)
            if opens is not None:
                return Settled(opens, record)
            self.orphans.append(record)
        return None


class Cursor:
    """A place in a slot's journal that moves forward over whole records.

    Args:
        folder: of the slot.
        position: where to begin: the begin of a record, or of a segment.
    """

    __slots__ = ("_base", "_data", "_folder", "_whole", "damage", "position")

    def __init__(self, folder: Path, position: Position) -> None:
        self._folder = folder
        self.position = position
        self.damage: list[Damage] = []
        self._data = b""
        self._base = 0  # offset of `_data` in its segment
        self._whole = False  # `_data` goes to the end of the segment

    def read(self, limit: int, until: Position | None = None) -> list[tuple[int, Any]]:
        """Return the kind and the record of up to `limit` records, and move behind them.

        Args:
            limit: how many at most; fewer mean that the end, or `until`, was reached.
            until: not beyond this place, which is durable; None: as far as there are whole records.
        """
        out: list[tuple[int, Any]] = []
        segment, offset = self.position
        self._empty(offset)  # what was read may have grown since
        while len(out) < limit and (until is None or (segment, offset) < until):
            found, end = parse(self._data, offset - self._base, limit - len(out))
            if found:
                out += found
                offset = self._base + end
            elif not self._whole:
                self._fill(segment, offset, until)
            else:
                beyond = self._beyond(segment, offset, until)
                if beyond is None:
                    break
                segment, offset = beyond
                self._empty(offset)
        self.position = Position(segment, offset)
        return out

    def _empty(self, offset: int) -> None:
        self._data, self._base, self._whole = b"", offset, False

    def _fill(self, segment: int, offset: int, until: Position | None) -> None:
        """Read on from an offset: a chunk, or all that is left when a chunk held no whole record."""
        size = -1 if self._data and self._base == offset else _CHUNK
        if until is not None and until.segment == segment:
            size = until.offset - offset if size < 0 else min(size, until.offset - offset)
        data = read_segment(segment_path(self._folder, segment), offset, size) or b""
        self._whole = size < 0 or len(data) < size or (until is not None and offset + size == until.offset)
        self._data, self._base = data, offset

    def _beyond(self, segment: int, offset: int, until: Position | None) -> Position | None:
        """Return where reading goes on behind what is no record, or None at the end of the journal."""
        rest = trimmed(self._data, offset - self._base)
        if rest:  # its writer may have been in the middle: look again before it is called damage
            rest = trimmed(read_segment(segment_path(self._folder, segment), offset) or b"")
            if is_record(rest, 0):
                return Position(segment, offset)
        resumed = next_record(rest, 0) if rest else None
        if resumed is not None:
            self.damage.append(Damage(segment, offset, offset + resumed))
            return Position(segment, offset + resumed)
        if until is not None and until.segment == segment:
            self.damage.append(Damage(segment, offset, until.offset))
            return until
        following = [number for number in segment_numbers(self._folder) if number > segment]
        if not following:
            return None
        if rest:
            self.damage.append(Damage(segment, offset, offset + len(rest)))
        return Position(following[0], 0)
