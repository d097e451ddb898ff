"""Book what every journal of a data folder holds, before the first call is taken.

=====================  =====================================================================
found                  booked
=====================  =====================================================================
SETTLE                 exactly that
OPEN and MARK          the mark plus at most one checkpoint, estimated, never above the hold
OPEN, nothing after    the hold and its tokens, estimated; the house pays where the policy says so
=====================  =====================================================================

Only then a slot's slices go back to their pots; where a part of its journal cannot be read they stay away,
since they may have been spent.

Every slot that ever wrote is replayed, whatever `workers` says now. Dying in the middle is no harm: the
next start does the same again, and the books take a call once. At the end a slot holds one empty
segment, so that segment numbers never start anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.money.rules import cut_short
from headgate.stores.journal import records
from headgate.stores.journal.cursor import Cursor, Damage, OpenCalls, Settled
from headgate.stores.journal.segments import (
    DAMAGED,
    SPARE,
    Position,
    Segment,
    preallocate,
    remove_before,
    segment_numbers,
    segment_path,
    slot_folders,
    sync_data,
    sync_folder,
)
from headgate.stores.sql import batchmoney, doubts, pots
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.horizon import booked
from headgate.stores.sql.ledger import Books
from headgate.stores.sql.nodes import belongs, slot_name

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.ports import Clock, Open, Settle
    from headgate.stores.sql.connection import Connection

_BATCH = 2_000


class RecoveryReport(NamedTuple):
    """What a recovery did."""

    slots: int = 0
    records: int = 0  # read
    settled: int = 0  # booked exactly
    estimated: int = 0  # booked by a mark or a hold
    damaged: int = 0  # places that could not be read; their segments are kept aside


def recover(
    data: Path, sql: Connection, clock: Clock, *, node: str = "", absorb_unmarked: bool = False
) -> RecoveryReport:
    """Replay every journal of a data folder; what other nodes have is left alone.

    Args:
        data: the data folder, locked by this process.
        sql: its database.
        clock: when the estimates are made.
        node: that the data folder is; empty: the database is in it.
        absorb_unmarked: the house pays for calls without a mark, not the customer.

    Raises:
        JournalTooNew: a newer version wrote a journal.
        sqlite3.Error: the books cannot be written; nothing of the journals is lost.
    """
    books = Books(sql)
    total = RecoveryReport()
    for folder in slot_folders(data):
        place = _Place(folder, slot_name(node, folder.name))
        slot = _Slot(place, sql, books, clock, absorb_unmarked=absorb_unmarked)
        total = RecoveryReport(*(a + b for a, b in zip(total, slot.recover(), strict=True)))
    with writing(sql):
        for (name,) in sql.execute("SELECT DISTINCT slot FROM slices").fetchall():
            if belongs(name, node):
                pots.clear(sql, name, lost=True)  # its journal is gone
        for (name,) in sql.execute("SELECT slot FROM slots WHERE pid <> 0").fetchall():
            if belongs(name, node):
                sql.execute("UPDATE slots SET pid = 0 WHERE slot = ?", (name,))
        doubts.settle(sql)
        if pots.all_read(sql):
            batchmoney.recover(sql)
        pots.sweep(sql)
    return total


def recover_slot(data: Path, slot: str, sql: Connection, clock: Clock, *, node: str = "") -> RecoveryReport:
    """Replay the journal of one slot whose worker is dead, while the others go on; give back its slices.

    Raises:
        sqlite3.Error: the books cannot be written; nothing of the journal is lost.
    """
    place = _Place(data / "journal" / slot, slot_name(node, slot))
    if not place.folder.is_dir():
        with writing(sql):
            pots.clear(sql, place.slot, lost=True)
        return RecoveryReport()
    report = _Slot(place, sql, Books(sql), clock, absorb_unmarked=False).recover()
    with writing(sql):
        doubts.settle(sql)
    return report


class _Place(NamedTuple):
    """Where a slot's journal is, and what the database calls it."""

    folder: Path
    slot: str


class _Slot:
    """One slot's recovery."""

    def __init__(
        self, place: _Place, sql: Connection, books: Books, clock: Clock, *, absorb_unmarked: bool
    ) -> None:
        self._folder, self._name = place
        self._sql = sql
        self._books = books
        self._clock = clock
        self._absorb = absorb_unmarked
        self._calls = OpenCalls()
        row = sql.execute('SELECT segment, "offset" FROM drains WHERE slot = ?', (self._name,)).fetchone()
        self._done = Position(*row) if row else Position(0, 0)

    def recover(self) -> RecoveryReport:
        cursor = Cursor(self._folder, Position(self._done.segment, 0))
        count, settled = self._replay(cursor)
        numbers = segment_numbers(self._folder)
        if not count and not cursor.damage and numbers == [self._done.segment]:
            self._give_back(lost=False)
            return RecoveryReport(1)  # it was left empty
        left = [Settled(opens, self._cut(opens), recovered=True) for opens in self._calls.opens.values()]
        cut = [item for item in left if not booked(self._sql, item.settle)]
        if cut:
            self._books.post(cut, self._name, cursor.position)
        self._give_back(lost=bool(cursor.damage or self._calls.orphans))
        for damage in cursor.damage:
            self._keep(damage)
        self._start_anew(max(self._done.segment, *numbers, 0) + 1)
        damaged = len(cursor.damage) + len(self._calls.orphans)
        return RecoveryReport(1, count, settled, len(cut), damaged)

    def _replay(self, cursor: Cursor) -> tuple[int, int]:
        """Book every settlement behind the checkpoint; return the records read and the calls booked."""
        count = settled = 0
        batch: list[Settled] = []
        while True:
            before = cursor.position < self._done  # the books have it; only what is open matters
            found = cursor.read(_BATCH, self._done if before else None)
            if not found and not before:
                break
            count += sum(kind != records.HEAD for kind, _ in found)
            taken = [self._calls.take(kind, record) for kind, record in found]
            if not before:
                batch += [item for item in taken if item is not None]
            if len(batch) >= _BATCH:
                settled += self._books.post(batch, self._name, cursor.position)
                batch = []
        if batch:
            settled += self._books.post(batch, self._name, cursor.position)
        self._calls.orphans = [each for each in self._calls.orphans if not booked(self._sql, each)]
        return count, settled

    def _give_back(self, *, lost: bool) -> None:
        with writing(self._sql):
            pots.clear(self._sql, self._name, lost=lost)

    def _cut(self, opens: list[Open]) -> Settle:
        mark = self._calls.marks.get(opens[0].call)
        return cut_short(opens, mark, self._clock.wall(), absorb_unmarked=self._absorb)

    def _keep(self, damage: Damage) -> None:
        """Keep a damaged segment aside for people to look at."""
        path = segment_path(self._folder, damage.segment)
        if path.exists():
            path.rename(path.with_suffix(DAMAGED))

    def _start_anew(self, number: int) -> None:
        """Leave one empty segment, then move the checkpoint to it, then remove what is booked."""
        path = segment_path(self._folder, number)
        head = records.frame(records.HEAD, records.Head(number, self._clock.wall()))
        preallocate(path, len(head))
        file = Segment(path)
        file.begin(head)
        sync_data(file.fd)
        file.close()
        sync_folder(self._folder)
        self._books.post([], self._name, Position(number, len(head)))
        remove_before(self._folder, number)
        (self._folder / SPARE).unlink(missing_ok=True)
