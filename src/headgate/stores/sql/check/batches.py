"""Check that each batch has the money of its lines that are not done, and none when all are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.money.rules import TOKENS
from headgate.stores.sql.batchmoney import booked
from headgate.stores.sql.doubts import DOUBTED
from headgate.wire.batchjobs import OPEN, RUNNING, BatchJob, left_of, slot_of

if TYPE_CHECKING:
    from headgate.stores.sql.check.findings import Findings
    from headgate.stores.sql.connection import Connection

_job = msgspec.json.Decoder(BatchJob).decode
_LINES = (
    "SELECT start, bound, paid, state, call FROM batch_lines WHERE batch = ?"
    f" AND (state <= {RUNNING} AND unsure = 0 OR state = {DOUBTED})"  # a doubt has the money
)


def check_batches(sql: Connection, findings: Findings) -> None:
    """Compare the slices of batches with what their lines may still cost.

    What a running line was charged may be drained already although its output is not kept yet. Where nobody
    knows what it was charged it keeps its money, so there may be more than is needed, and never less. A batch
    that is done has only what is not drained yet, or in doubt.

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
    _check_done(sql, findings, states)


def _check_done(sql: Connection, findings: Findings, states: str) -> None:
    """Find what batches that are done hold of which nobody will spend any more."""
    rows = sql.execute(
        "SELECT b.n, b.id, b.job, b.charge, s.pot, s.amount FROM slices s JOIN batches b"
        f" ON 'batch-' || b.n = s.slot WHERE s.amount > 0 AND b.status NOT IN ({states})"
    ).fetchall()
    for n, name, text, charge, pot, amount in rows:
        job = _job(text)
        most = _needed(sql, n, job).get(pot, 0)
        if amount > most:
            most += max(0, charge - _drained(sql, n, job))
        if amount > most:
            findings.add(
                "batch", f"{name} is done and has {amount} of pot {pot} still, its calls may cost {most}"
            )


def _drained(sql: Connection, n: int, job: BatchJob) -> int:
    """Return what the lines of a batch were charged by the books, without what is in doubt."""
    query = "SELECT coalesce(sum(charge), 0) FROM calls WHERE parent = ?"
    if job.in_tokens:
        query = (
            f"SELECT coalesce(sum(e.amount), 0) FROM entries e JOIN calls c ON c.call = e.call"
            f" WHERE c.parent = ? AND e.kind = {TOKENS}"
        )
    (charge,) = sql.execute(query, (job.call,)).fetchone()
    doubted = f"SELECT call FROM batch_lines WHERE batch = ? AND state = {DOUBTED}"
    return int(charge) - sum(booked(sql, bytes(call)) for (call,) in sql.execute(doubted, (n,)).fetchall())


def _needed(sql: Connection, n: int, job: BatchJob) -> dict[int, int]:
    """Return what the lines of a batch that are not done may still cost, by pot."""
    needed: dict[int, int] = {}
    for start, bound, paid, state, call in sql.execute(_LINES, (n,)).fetchall():
        charged = paid + (booked(sql, bytes(call)) if state in {RUNNING, DOUBTED} and call is not None else 0)
        for pot, amount in left_of(job, start, bound, min(charged, bound)):
            needed[pot] = needed.get(pot, 0) + amount
    return needed
