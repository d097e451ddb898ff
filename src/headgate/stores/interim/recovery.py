"""Replay every journal that a dead process left behind.

=====================  =====================================================================
found                  booked
=====================  =====================================================================
SETTLE                 exactly that
OPEN and MARK          the mark plus at most one checkpoint, estimated, never above the hold
OPEN, nothing after    the hold, estimated
=====================  =====================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.money.cost import cost
from headgate.ports import Mark, Open, Settle
from headgate.stores.interim.journal import read, segments
from headgate.values import Usage

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from headgate.ports import Clock
    from headgate.stores.interim.ledger import Books

CHECKPOINT_TOKENS = 256
_BATCH = 2_000
_INTERRUPTED = 499


class Report(NamedTuple):
    """What a recovery did."""

    settled: int
    estimated: int


class Replay:
    """The state of one slot's journal as its records say."""

    def __init__(self) -> None:
        self.open: dict[bytes, Open] = {}
        self.marks: dict[bytes, Mark] = {}
        self.settled: list[tuple[Open, Settle, bool]] = []

    def take(self, record: Open | Mark | Settle) -> None:
        """Apply one record."""
        if isinstance(record, Open):
            self.open[record.call] = record
            self.marks.pop(record.call, None)
        elif isinstance(record, Mark):
            self.marks[record.call] = record
        else:
            opened = self.open.pop(record.call, None)
            self.marks.pop(record.call, None)
            if opened is not None:
                self.settled.append((opened, record, False))


def replay(folder: Path) -> Replay:
    """Read a slot's journal from its first segment."""
    state = Replay()
    for _, path in segments(folder):
        try:
            for record, _ in read(path):
                state.take(record)
        except FileNotFoundError:  # drained and removed while we looked: SQL has it
            continue
    return state


def recover(data: Path, books: Books, sql: sqlite3.Connection, clock: Clock) -> Report:
    """Book what every journal of a data folder holds, and remove the journals."""
    total = estimated = 0
    for folder in sorted((data / "journal").glob("slot-*")):
        state = replay(folder)
        known = _settled_before(sql, state)
        guessed = [
            (opened, estimate(opened, state.marks.get(opened.call), clock), True)
            for opened in state.open.values()
            if opened.call not in known
        ]
        rows = state.settled + guessed
        last = max((number for number, _ in segments(folder)), default=0)
        for start in range(0, len(rows) or 1, _BATCH):
            total += books.write(rows[start : start + _BATCH], folder.name, last, 0)
        estimated += len(guessed)
        for _, path in segments(folder):
            path.unlink()
    return Report(total, estimated)


def _settled_before(sql: sqlite3.Connection, state: Replay) -> set[bytes]:
    """Return the open calls that the database has: their SETTLE was in a segment that is gone."""
    return {
        call for call in state.open if sql.execute("SELECT 1 FROM calls WHERE call = ?", (call,)).fetchone()
    }


def estimate(opened: Open, mark: Mark | None, clock: Clock) -> Settle:
    """Return the settlement of a call that was cut: by its last mark, else by its hold."""
    if mark is not None and opened.prices is not None:
        seen = mark.usage
        usage = Usage(seen.input_tokens, seen.output_tokens + CHECKPOINT_TOKENS)
        charge = min(cost(usage, opened.prices), opened.hold)
    else:
        usage = mark.usage if mark is not None else Usage(opened.input_bound, 0)
        charge = opened.hold if opened.prices is not None else 0
    own = charge if opened.costs is not None else 0
    costs = (*([0] * opened.attempt), own)
    return Settle(opened.call, opened.attempt, clock.wall(), _INTERRUPTED, usage, charge, 0, costs, True)
