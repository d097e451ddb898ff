"""Runs of lines of which nobody knows what they were charged: whoever ran them fell silent.

A doubt is a row beside its line, under the line's number with a minus: who ran it, as which call, and what is
held for it. The line runs again meanwhile, at the house's expense. A doubt is over when its call is in the
books, or the journal of who ran it: then what the call did not cost is free again. When that journal is lost
for good, what was held for it is booked as lost. Every function runs inside a transaction of its caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.stores.sql import batchmoney, pots
from headgate.wire.batchjobs import RUNNING, WAITING, BatchJob, left_of, slot_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from headgate.stores.sql.connection import Connection

DOUBTED: Final = 4  # the state of such a row
_job = msgspec.json.Decoder(BatchJob).decode
_COLUMNS: Final = "l.batch, l.n, l.start, l.bound, l.call"
_KEEP: Final = (
    "INSERT INTO batch_lines (batch, n, at, size, custom_id, start, bound, state, slot, epoch, call)"
    f" SELECT batch, -n, 0, 0, '', start, bound, {DOUBTED}, slot, epoch, call FROM batch_lines"
    " WHERE batch = ? AND n = ? AND bound > 0 AND EXISTS (SELECT 1 FROM slices WHERE slices.slot = ?)"
)
_OVER: Final = (
    f"SELECT {_COLUMNS} FROM batch_lines l LEFT JOIN slots ON slots.slot = l.slot"
    f" WHERE l.batch = ? AND l.state = {DOUBTED} AND (slots.pid = 0 OR slots.epoch > l.epoch"
    " OR EXISTS (SELECT 1 FROM calls WHERE calls.call = l.call))"
)
_UNHELD: Final = (
    f"FROM batch_lines WHERE state = {DOUBTED} AND batch IN"
    " (SELECT n FROM batches WHERE 'batch-' || n NOT IN (SELECT slot FROM slices))"
)
_UNKNOWN: Final = " AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.call = l.call)"


class _Run(NamedTuple):
    """A run that is in doubt, or of a worker that is lost."""

    batch: int
    n: int
    start: int
    bound: int
    call: bytes


def keep(sql: Connection, batch: int, n: int) -> None:
    """Keep what is known of a run that its line is being taken from, if money is held for it."""
    sql.execute(_KEEP, (batch, n, slot_of(batch)))


def any_over(sql: Connection) -> bool:
    """Say whether `settle` has anything to do."""
    return bool(_over(sql)) or sql.execute(f"SELECT 1 {_UNHELD} LIMIT 1").fetchone() is not None


def _over(sql: Connection) -> list[_Run]:
    return [_Run._make(row) for batch in _holding(sql) for row in sql.execute(_OVER, (batch,)).fetchall()]


def _holding(sql: Connection) -> list[int]:
    """Return the batches that hold money: with others no doubt has anything to wait for."""
    found = sql.execute("SELECT DISTINCT slot FROM slices WHERE slot LIKE 'batch-%'").fetchall()
    return [int(slot.removeprefix(slot_of(0)[:-1])) for (slot,) in found]


def settle(sql: Connection) -> int:
    """End the doubts that are over, and those for which nothing is held; return how many."""
    settled = sum(_settle(sql, run) for run in _over(sql))
    return settled + sql.execute(f"DELETE {_UNHELD}").rowcount  # such a line runs again free, as it was told


def _settle(sql: Connection, run: _Run) -> bool:
    row = sql.execute(
        "SELECT state FROM batch_lines WHERE batch = ? AND n = ?", (run.batch, -run.n)
    ).fetchone()
    if row is not None and row[0] == RUNNING:  # whoever runs it was told that it is free
        return False
    charge = batchmoney.booked(sql, run.call)
    if row is not None and row[0] == WAITING:
        sql.execute(
            "UPDATE batch_lines SET paid = ?, unsure = 0 WHERE batch = ? AND n = ?",
            (charge, run.batch, -run.n),
        )
    else:
        sql.execute("UPDATE batches SET charge = charge + ? WHERE n = ?", (charge, run.batch))
        for pot, amount in _left(sql, run, charge):
            batchmoney.give_back(sql, slot_of(run.batch), {pot: amount})
    _forget(sql, run)
    return True


def write_off(sql: Connection, slots: Collection[str]) -> None:
    """Book as lost what is held for runs in journals that nobody will read; their lines run again, free."""
    for slot in slots:
        running = (
            f"SELECT {_COLUMNS} FROM batch_lines l WHERE l.state = {RUNNING} AND l.slot = ?"
            f" AND l.paid = 0 AND l.unsure = 0{_UNKNOWN}"
        )
        for row in sql.execute(running, (slot,)).fetchall():
            run = _Run._make(row)
            _lose(sql, run)
            sql.execute(
                f"UPDATE batch_lines SET state = {WAITING}, due = 0, unsure = 1, fence = fence + 1"
                " WHERE batch = ? AND n = ?",
                run[:2],
            )
    doubted = (
        f"SELECT {_COLUMNS}, l.slot FROM batch_lines l WHERE l.batch = ? AND l.state = {DOUBTED}{_UNKNOWN}"
    )
    for batch in _holding(sql):
        for *row, slot in sql.execute(doubted, (batch,)).fetchall():
            if slot in slots:
                run = _Run._make(row)
                _lose(sql, run)
                _forget(sql, run)


def _lose(sql: Connection, run: _Run) -> None:
    for pot, amount in _left(sql, run, batchmoney.booked(sql, run.call)):
        sql.execute(pots.LESS, (amount, pot, slot_of(run.batch)))
        sql.execute(batchmoney.GIVE, (pot, pots.LOST, amount))


def _left(sql: Connection, run: _Run, charge: int) -> tuple[tuple[int, int], ...]:
    """Return what is held for a run beyond what it was charged, by pot."""
    (text,) = sql.execute("SELECT job FROM batches WHERE n = ?", (run.batch,)).fetchone()
    return left_of(_job(text), run.start, run.bound, min(charge, run.bound))


def _forget(sql: Connection, run: _Run) -> None:
    sql.execute("DELETE FROM batch_lines WHERE batch = ? AND n = ?", run[:2])
