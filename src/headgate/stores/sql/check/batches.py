"""Check that each batch that is not done still has the money of its lines that are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.stores.sql.batchlines import booked
from headgate.wire.batchjobs import OPEN, RUNNING, BatchJob, left_of, slot_of

if TYPE_CHECKING:
    from headgate.stores.sql.check.findings import Findings
    from headgate.stores.sql.connection import Connection

_job = msgspec.json.Decoder(BatchJob).decode
_LINES = "SELECT start, bound, paid, state, call FROM batch_lines WHERE batch = ? AND state < 2"


def check_batches(sql: Connection, findings: Findings) -> None:
    """Compare the slices of batches with what their lines may still cost.

    What a running line was charged may be drained already although its output is not kept yet. Where nobody
    knows what it was charged it keeps its money, so there may be more than is needed, and never less.

    Args:
        sql: in a transaction, so that everything is of one moment.
        findings: where what is wrong goes.
    """
    states = ", ".join(f"'{status}'" for status in OPEN)
    batches = sql.execute(f"SELECT n, id, job FROM batches WHERE status IN ({states})").fetchall()
    for n, name, text in batches:
        job = _job(text)
        if not job.capped:
            continue
        has = dict(sql.execute("SELECT pot, amount FROM slices WHERE slot = ?", (slot_of(n),)).fetchall())
        for pot, amount in _needed(sql, n, job).items():
            if has.get(pot, 0) < amount:
                findings.add(
                    "batch", f"{name} has {has.get(pot, 0)} of pot {pot}, its lines may still cost {amount}"
                )


def _needed(sql: Connection, n: int, job: BatchJob) -> dict[int, int]:
    """Return what the lines of a batch that are not done may still cost, by pot."""
    needed: dict[int, int] = {}
    for start, bound, paid, state, call in sql.execute(_LINES, (n,)).fetchall():
        charged = paid + (booked(sql, bytes(call)) if state == RUNNING and call is not None else 0)
        for pot, amount in left_of(job, start, bound, min(charged, bound)):
            needed[pot] = needed.get(pot, 0) + amount
    return needed
