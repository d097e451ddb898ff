"""The journal of one worker slot: records written one by one, and made durable in groups by a thread.

The hot path writes and never waits for the disk. `Syncer` (a thread, asleep while nothing is written)
makes it durable every few milliseconds and prepares the next segment. Only what is durable is shown to
the drain, so the database is never ahead of the journal, not even after a power cut.

Trouble: an fsync or a write that fails with anything but a full disk stops admission until a restart
(an fsync is never tried again: the kernel may have dropped the pages and would report success). A full
disk stops admission until a segment can be prepared again. Settlements keep being written into what
is preallocated, and wait in memory when even that fails.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from headgate.errors import Unavailable
from headgate.failpoints import NoFailpoints
from headgate.ports import Open, Settle
from headgate.stores.journal.cursor import Settled
from headgate.stores.journal.handover import Handover
from headgate.stores.journal.records import HEAD, MARK, MAX_PAYLOAD, OPEN, SETTLE, Head, frame
from headgate.stores.journal.segments import (
    FULL,
    SPARE,
    START,
    Position,
    Segment,
    make_folder,
    preallocate,
    remove_before,
    segment_numbers,
    segment_path,
    sync_data,
    sync_folder,
)
from headgate.stores.journal.syncer import Syncer
from headgate.values import Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headgate.ports import Clock, Failpoints, Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """Sizes and durability of a journal."""

    segment_bytes: int = 8 << 20  # of a preallocated segment; two are on disk at any time
    bound_bytes: int = 64 << 20  # undrained bytes beyond which no call may open
    bound_s: float = 30.0  # how long calls may open while the database takes nothing
    sync: Literal["group", "before-send"] = "group"  # `before-send`: OPEN is durable when `open` returns
    group_s: float = 0.01  # how long a record may wait to be durable


class _Live(msgspec.Struct, gc=False):
    """An open call."""

    frames: bytes  # of its OPENs
    opens: list[Open]
    mark: bytes = b""  # the frame of its last MARK
    records: int = 1  # that it has in the journal

    def add(self, frame: bytes, record: Open) -> None:
        """Take another attempt."""
        self.frames += frame
        self.opens.append(record)
        self.records += 1


class SlotJournal:
    """Write one slot's journal. Implements `ports.Journal`; for one thread, but where a method says so.

    A start recovers the slot first (`recover`): what an earlier process left open is not carried on here.

    Args:
        folder: of this slot; made if it is not there.
        clock: of the time in each segment's head.
        settings: sizes and durability.
        failpoints: `rotate`.
    """

    __slots__ = (
        "_before_send", "_bound_bytes", "_clock", "_count", "_deciding", "_dirty", "_drained_bytes",
        "_drained_count", "_durable", "_end", "_failpoints", "_file", "_folder_dirty", "_live", "_offset",
        "_opens_until", "_pending", "_retired", "_segment", "_segment_bytes", "_spare_used", "_start",
        "_starts", "_syncer", "_syncing", "_turning", "bound_s", "broken", "folder", "full", "handover",
        "late", "on_durable",
    )  # fmt: skip
    _file: Segment  # that is written
    _opens_until: int  # how far into it calls may open; 0: none may

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        settings: JournalSettings | None = None,
        failpoints: Failpoints | None = None,
    ) -> None:
        settings = settings or JournalSettings()
        make_folder(folder)
        self.folder = folder
        self.broken = ""  # why no call may open until a restart
        self.full = self.late = ""  # why none may until there is space, or the database takes books, again
        self.bound_s = settings.bound_s
        self.on_durable: Callable[[], None] = _nothing  # called in the syncer's thread
        self._clock = clock
        self._segment_bytes = settings.segment_bytes
        self._bound_bytes = settings.bound_bytes
        self._before_send = settings.sync == "before-send"
        self._failpoints = failpoints or NoFailpoints()
        self._live: dict[bytes, _Live] = {}  # by call
        self._pending: deque[tuple[Settle, bytes]] = deque()  # settlements that could not be written
        self._retired: list[Segment] = []  # to make durable and close
        self._folder_dirty = self._spare_used = True
        self._turning = threading.Lock()  # a rotation against the syncer
        self._syncing = threading.Lock()  # one `make_durable` at a time
        self._deciding = threading.Lock()
        self._dirty = False
        self._count = self._drained_count = 0  # records
        self._starts: dict[int, int] = {}  # segment: bytes of all segments before it
        self._drained_bytes = 0
        self._end = self._bound_bytes  # of all that may be written before the database has more
        self._segment = max(segment_numbers(folder), default=0)
        self._offset = self._start = self._opens_until = 0
        self._durable = START
        self._begin_segment(b"")
        self.handover = Handover(self.position)
        self._syncer = Syncer(self, settings.group_s)

    # ── ports.Journal ────────────────────────────────────────────────────────────────────────────

    @property
    def accepting(self) -> bool:
        """Say whether a priced call may open: not after an I/O error, nor with a bound reached."""
        return self._offset < self._opens_until

    def open(self, record: Open) -> None:
        """Append; in the operating system's hands on return, on the disk with `before-send`.

        Raises:
            Unavailable: it cannot be written; nothing must be sent.
        """
        if self._pending:
            self.retry_pending()
        if self._offset >= self._opens_until:  # as in `accepting`
            raise Unavailable(f"The gateway cannot write its books now{self._why()}. Try again in a moment.")
        data = frame(OPEN, record)
        if len(data) > MAX_PAYLOAD:
            raise Unavailable("The call's record is too long for the journal.")
        try:
            self._append(data)
            if self._before_send:
                self.make_durable()
        except OSError as fault:
            self.fail(fault)
            raise Unavailable(f"The gateway cannot write its books now{self._why()}.") from fault
        live = self._live.get(record.call) if record.attempt else None
        if live is None:
            self._live[record.call] = _Live(data, [record])
        else:
            live.add(data, record)
        if self.broken:
            if live is None:  # it may not be durable; nothing was or will be sent
                self.settle(Settle(record.call, record.attempt, record.at, 503, Usage(), 0, 0, ()))
            raise Unavailable(f"The gateway cannot write its books now{self._why()}.")

    def mark(self, record: Mark) -> None:
        """Append a checkpoint of a stream. One that cannot be written is left out: it only narrows."""
        data = frame(MARK, record)
        live = self._live.get(record.call)
        if live is not None:
            live.mark = data
            live.records += 1
        try:
            self._append(data)
        except OSError as fault:
            self.fail(fault)

    def settle(self, record: Settle) -> None:
        """Append the settlement of an open call; when it cannot be written it is kept and tried again."""
        data = frame(SETTLE, record)
        if self._pending:
            self._pending.append((record, data))
            self.retry_pending()
            return
        try:
            self._append(data, record)
        except OSError as fault:
            self.fail(fault)
            self._pending.append((record, data))

    # ── what is asked of it ──────────────────────────────────────────────────────────────────────

    @property
    def position(self) -> Position:
        """Return the end of what was written."""
        return Position(self._segment, self._offset)

    @property
    def durable(self) -> Position:
        """Return the end of what a drain may copy. May be read from any thread."""
        return self._durable

    @property
    def undrained_bytes(self) -> int:
        """Return how many bytes the database does not have yet."""
        return max(0, self._start + self._offset - self._drained_bytes)

    @property
    def undrained_records(self) -> int:
        """Return how many records the database does not have yet."""
        return max(0, self._count - self._drained_count) + len(self._pending)

    @property
    def open_calls(self) -> int:
        """Return how many calls are open."""
        return len(self._live)

    def drained(self, position: Position, count: int) -> None:
        """Take note that the database has everything before a position; for the drain's thread.

        Args:
            position: committed with what it stands for.
            count: records since the last time.
        """
        self._drained_count += count
        start = self._starts.get(position.segment)
        if start is not None:
            self._drained_bytes = start + position.offset
            self._end = self._drained_bytes + self._bound_bytes
            self._decide()
            for number in list(self._starts):
                if number < position.segment:
                    del self._starts[number]
            remove_before(self.folder, position.segment)
        if position == self.position:
            self._drained_count = self._count

    def fall_behind(self, why: str) -> None:
        """Stop admission while the database takes nothing; an empty text: it does again. From any thread."""
        if why != self.late:
            self.late = why
            self._decide()

    def sync_soon(self) -> None:
        """Make what is written durable without waiting for the group."""
        self._syncer.hurry()

    def close(self) -> None:
        """Make everything durable and close; the unused end of the segment is cut off."""
        self.retry_pending()
        self._syncer.stop()
        if self._file.open:
            self._file.close(None if self.broken else self._offset)
        (self.folder / SPARE).unlink(missing_ok=True)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def _append(self, data: bytes, settled: Settle | None = None) -> None:
        end = self._offset + len(data)
        if end > self._file.reach:
            end = self._make_room(len(data))
        self._file.write(data)
        if settled is not None:  # handed over before the syncer, and so the drain, may see its end
            live = self._live.pop(settled.call, None)
            if live is not None:
                self.handover.give((self._segment, end), live.records + 1, Settled(live.opens, settled))
        self._offset = end
        self._count += 1
        if not self._dirty:
            self._dirty = True
            self._syncer.wake()

    def _make_room(self, size: int) -> int:
        """Let a record be written, in the next segment if this one is full; return where it will end."""
        if self._offset + size > self._file.size:
            self._rotate(size)
        end = self._offset + size
        if end > self._file.reach:
            self._file.advance(self._offset, size)
        return end

    def _rotate(self, size: int) -> None:
        """Begin the next segment with the records of the calls that are still open."""
        self._failpoints.hit("rotate")
        live = self._live.values()
        marks = [each.mark for each in live if each.mark]
        self._begin_segment(b"".join((*(each.frames for each in live), *marks)), size)
        for each in live:
            carried = len(each.opens) + bool(each.mark)
            each.records += carried
            self._count += carried

    def _begin_segment(self, carried: bytes, size: int = 0) -> None:
        number = self._segment + 1
        head = frame(HEAD, Head(number, self._clock.wall())) + carried
        room = max(self._segment_bytes, len(head) + size + self._segment_bytes // 4)
        path, spare = segment_path(self.folder, number), self.folder / SPARE
        if room == self._segment_bytes and spare.exists():
            spare.replace(path)
        else:
            preallocate(path, room)
        file = Segment(path)
        try:
            file.begin(head)
        except OSError:
            file.close()
            path.unlink()
            raise
        with self._turning:
            if self._starts:
                self._retired.append(self._file)
            self._start += self._offset
            self._starts[number] = self._start
            self._file, self._offset, self._segment = file, len(head), number
            self._spare_used = self._folder_dirty = True
        self._decide()

    def _why(self) -> str:
        reason = self.broken or self.full or self.late
        return f" ({reason})" if reason else " (the journal has reached its bound)"

    def fail(self, fault: OSError) -> None:
        """Stop admission: until there is space again, or for good. May be called from any thread."""
        reason = fault.strerror or str(fault)
        if fault.errno in FULL:
            self.full = reason
            self._syncer.wake()
        else:
            self.broken = reason
        self._decide()

    def _decide(self) -> None:
        with self._deciding:
            refusing = self.broken or self.full or self.late
            self._opens_until = 0 if refusing else self._end - self._start

    def retry_pending(self) -> None:
        """Write the settlements that wait in memory."""
        while self._pending:
            settled, data = self._pending[0]
            try:
                self._append(data, settled)
            except OSError:
                return  # still no room; admission is stopped and the syncer watches for space
            self._pending.popleft()

    # ── for the syncer's thread ──────────────────────────────────────────────────────────────────

    def make_durable(self) -> None:
        """Put everything written so far on the disk, and show it to the drain."""
        with self._syncing:
            with self._turning:
                self._dirty = False
                retired, self._retired = self._retired, []
                file, position = self._file, Position(self._segment, self._offset)
                folder_dirty, self._folder_dirty = self._folder_dirty, False
            if not self.broken:
                self._sync((*retired, file), folder_dirty)
            for each in retired:
                each.close()
            # After a failed fsync the drain still copies what can be read: the database syncs for itself.
            self._durable = max(self._durable, position)
        self.on_durable()

    def _sync(self, files: tuple[Segment, ...], folder_dirty: bool) -> None:
        try:
            for each in files:
                sync_data(each.fd)
            if folder_dirty:
                sync_folder(self.folder)
        except OSError as fault:
            self.broken = fault.strerror or str(fault)
            self._decide()

    def prepare_spare(self) -> None:
        """Make the next segment ready; with space for it, admission goes on."""
        if not (self._spare_used or self.full):
            return
        self._spare_used = False
        spare = self.folder / SPARE
        try:
            if not spare.exists():
                fresh = spare.with_suffix(".new")
                preallocate(fresh, self._segment_bytes)
                fresh.replace(spare)
        except OSError as fault:
            self.full = fault.strerror or str(fault)
            self._decide()
            return
        self.full = ""
        self._decide()

    @property
    def wants_space(self) -> bool:
        """Say whether the syncer should look for space again soon."""
        return bool(self.full)


def _nothing() -> None:
    """Nobody waits for durable records yet."""
