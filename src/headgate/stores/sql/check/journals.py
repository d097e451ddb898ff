"""Check the journals against SQL: nothing cut off, nothing lost between, nothing open for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from headgate.stores.journal.cursor import Cursor, Damage, OpenCalls, Settled
from headgate.stores.journal.segments import (
    DAMAGED,
    Position,
    segment_numbers,
    segment_path,
    slot_folders,
)
from headgate.stores.sql.check.arithmetic import Tokens, nano_usd, read_row, tokens
from headgate.stores.sql.check.books import RECOVERED
from headgate.stores.sql.check.dropped import was_dropped
from headgate.stores.sql.check.findings import name_of
from headgate.stores.sql.check.grants import paid_of, split_of
from headgate.stores.sql.check.rows import CallRow, find_call, find_lost
from headgate.stores.sql.nodes import belongs, slot_name
from headgate.wire.batchjobs import RUNNING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from headgate.ports import Open
    from headgate.stores.sql.check.findings import Findings
    from headgate.stores.sql.connection import Connection
    from headgate.values import Prices, Usage, WallMicros

OVERDUE_US: Final = 650_000_000  # the longest call and a minute


class Slot(NamedTuple):
    """What one slot's journal held when it was read."""

    name: str  # in the database
    folder: Path
    checkpoint: Position  # of the books, read before the journal
    drained: list[Settled]  # before the checkpoint
    behind: list[Settled]  # behind it
    open: dict[bytes, list[Open]]
    orphans: list[Any]  # settlements without an OPEN
    damage: list[Damage]
    numbers: list[int]  # of its segments


def read_slots(data: Path, checkpoints: Mapping[str, Position], node: str = "") -> list[Slot]:
    """Read every journal of a folder; the checkpoints must be older, the other questions to SQL newer.

    Journals of other nodes are not here: each node checks its own.
    """
    names = {slot_name(node, folder.name) for folder in slot_folders(data)}
    names |= {name for name in checkpoints if belongs(name, node)}
    return [_read(data, name, checkpoints.get(name, Position(0, 0))) for name in sorted(names)]


def _read(data: Path, name: str, checkpoint: Position) -> Slot:
    folder = data / "journal" / name.rpartition("/")[2]
    numbers = segment_numbers(folder)
    cursor, calls = Cursor(folder, Position(checkpoint.segment, 0)), OpenCalls()
    drained: list[Settled] = []
    behind: list[Settled] = []
    while True:
        before = cursor.position < checkpoint
        found = cursor.read(1000, checkpoint if before else None)
        if not found and not before:
            break
        items = [calls.take(kind, record) for kind, record in found]
        (drained if before else behind).extend(item for item in items if item is not None)
    return Slot(name, folder, checkpoint, drained, behind, calls.opens, calls.orphans, cursor.damage, numbers)


class JournalsCheck:
    """Compare journals with the books.

    Args:
        sql: in a transaction that began after the journals were read.
        findings: where what is wrong goes.
        served: a process is serving this data folder.
        now: for the age of open calls.
    """

    def __init__(self, sql: Connection, findings: Findings, *, served: bool, now: WallMicros) -> None:
        self._sql = sql
        self._say = findings.add
        self._served = served
        self._held: set[bytes] | None = None
        self._now = now

    def run(self, slots: list[Slot]) -> None:
        """Check every slot."""
        for slot in slots:
            self._check_files(slot)
            for item in slot.drained:
                self._check_drained(slot, item)
            for item in slot.behind:
                self._check_behind(item)
            for orphan in slot.orphans:
                if find_call(self._sql, orphan.call) is None and not was_dropped(self._sql, orphan):
                    self._say("journal", f"{name_of(orphan.call)}: it is settled and was never opened")
            for call, opens in slot.open.items():
                self._check_open(call, opens)

    # ── files ────────────────────────────────────────────────────────────────────────────────────

    def _check_files(self, slot: Slot) -> None:
        """Find a journal that is shorter than what was copied from it, and what cannot be read."""
        name, now = slot.name, self._checkpoint(slot)
        for damage in slot.damage:
            if now.segment > damage.segment and not segment_path(slot.folder, damage.segment).exists():
                continue  # copied and removed while it was read
            if damage.segment == slot.checkpoint.segment and damage.resumed == slot.checkpoint.offset:
                self._say(
                    "journal",
                    f"{name}: segment {damage.segment} ends at {damage.offset}, "
                    f"{damage.resumed} bytes were copied from it",
                )
            else:
                self._say(
                    "journal",
                    f"{name}: bytes {damage.offset} to {damage.resumed} of segment {damage.segment} "
                    "cannot be read",
                )
        expected = range(slot.checkpoint.segment, max(slot.numbers, default=0) + 1)
        for number in set(expected) - set(slot.numbers) - {0}:
            if number > now.segment:
                self._say("journal", f"{name}: segment {number} is missing")
        for path in sorted(slot.folder.glob(f"*{DAMAGED}")):
            self._say("journal", f"{name}: {path.name} was damaged and is kept for you; remove it when done")

    def _checkpoint(self, slot: Slot) -> Position:
        """Return the checkpoint as it is in the snapshot: a server may have moved it."""
        row = self._sql.execute(
            'SELECT segment, "offset" FROM drains WHERE slot = ?', (slot.name,)
        ).fetchone()
        return Position(*row) if row else Position(0, 0)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    def _check_drained(self, slot: Slot, item: Settled) -> None:
        row = find_call(self._sql, item.settle.call)
        if row is None and not was_dropped(self._sql, item.settle):
            self._say(
                "settlement",
                f"{name_of(item.settle.call)}: {slot.name} settled it for {item.settle.charge}, "
                "the books passed over it",
            )
        elif row is not None:
            self._compare(item, row)

    def _check_behind(self, item: Settled) -> None:
        row = find_call(self._sql, item.settle.call)
        if row is not None:
            self._compare(item, row)
        opened, settle = item.served, item.settle
        due = _price(_tokens(item.settle.usage), opened.prices)
        paid = settle.charge + settle.promoted
        if (paid, settle.absorbed) != (min(due, opened.hold), max(0, due - opened.hold)):
            self._say(
                "amount",
                f"{name_of(settle.call)}: {settle.charge} charged, {settle.promoted} promoted and "
                f"{settle.absorbed} absorbed in the journal, its usage costs {due} of a hold of "
                f"{opened.hold}",
            )

        costs = tuple(_costs(item))
        if settle.costs != costs:
            self._say(
                "provider cost",
                f"{name_of(settle.call)}: its attempts cost {settle.costs} in the journal, due {costs}",
            )

    def _compare(self, item: Settled, row: CallRow) -> None:
        """Compare a settlement with what the books made of it."""
        settle = item.settle
        due = (settle.charge, settle.absorbed, sum(settle.costs), settle.status, _tokens(settle.usage))
        booked = (row.charge, row.absorbed, row.cost, row.status, row.tokens)
        if due != booked or row.flags & RECOVERED:
            self._say("settlement", f"{name_of(row.call)}: the journal says {due}, the books {booked}")
        lost = [(each.attempt, _tokens(each.usage)) for each in settle.lost]
        known = [(each.attempt, each.tokens) for each in find_lost(self._sql, row.call)]
        if lost != known:
            self._say(
                "settlement", f"{name_of(row.call)}: it lost {lost} by the journal, {known} by the books"
            )
        sources = item.opens[-1].sources
        if not sources:
            return
        split = split_of(sources, settle)
        found = paid_of(self._sql, row.call)
        if found != split:
            self._say("split", f"{name_of(row.call)}: due from its grants {split}, the books have {found}")

    def _check_open(self, call: bytes, opens: list[Open]) -> None:
        """Find a hold that nothing will release."""
        began = int.from_bytes(call[:6]) * 1000  # a call of a batch belongs to when that was made
        age = self._now - max(began, opens[0].at)
        if self._served and (age <= OVERDUE_US or {call, opens[0].parent} & self._waiting()):
            return
        if find_call(self._sql, call) is not None:
            return
        if self._served:
            self._say("hold", f"{name_of(call)}: open for {age // 1_000_000} s and never settled")
        else:
            self._say("hold", f"{name_of(call)}: open when the server ended; the next start settles it")

    def _waiting(self) -> set[bytes]:
        """Return the calls of lines that their workers hold on to: a provider may keep them for hours."""
        if self._held is None:
            running = f"SELECT call FROM batch_lines WHERE state = {RUNNING} AND until > ?"
            self._held = {bytes(call) for (call,) in self._sql.execute(running, (self._now,)).fetchall()}
        return self._held


def _tokens(usage: Usage) -> Tokens:
    return tokens(msgspec.structs.astuple(usage)[:7], usage.more)


def _costs(item: Settled) -> Iterator[int]:
    """Yield what each attempt costs us, by what it used."""
    settle = item.settle
    used = {settle.attempt: settle.usage} | {lost.attempt: lost.usage for lost in settle.lost}
    prices = {opened.attempt: opened.costs for opened in item.opens}
    for attempt in range(len(settle.costs)):
        usage = used.get(attempt)
        yield 0 if usage is None else _price(_tokens(usage), prices.get(attempt))


def _price(used: Tokens, prices: Prices | None) -> int:
    if prices is None:
        return 0
    row = read_row(msgspec.json.encode(prices).decode())
    return 0 if row is None else nano_usd(used, row)
