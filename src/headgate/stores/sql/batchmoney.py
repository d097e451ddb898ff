"""The money of batches: slices of a slot of their own, out of which the charges of their calls are drained.

A slice holds, always, what the lines that are not done may cost, and what those that are done were charged
and the drain has not booked yet. Each line gives back what it did not use in the transaction that keeps its
output, and the drain takes its charge in the transaction that books it; which of them comes first is all one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import Fenced, Unavailable
from headgate.money.rules import TOKENS
from headgate.stores.sql import pots
from headgate.stores.sql.bootstrap import writing
from headgate.wire.batchjobs import Quota

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.stores.sql.connection import Connection
    from headgate.wire.batchjobs import KeptBatch, Loan

_encode = msgspec.json.encode
_CHILDREN: Final = 129  # calls that a line may be, with the ids that follow its own: `n` is at most 128
_DONE: Final = "('failed', 'completed', 'expired', 'cancelled')"
GIVE: Final = (
    "INSERT INTO slices (pot, slot, amount) VALUES (?, ?, ?)"
    " ON CONFLICT (pot, slot) DO UPDATE SET amount = slices.amount + excluded.amount"
)
_ENQUEUED: Final = "SELECT coalesce(sum(tokens), 0) FROM batches WHERE status = 'in_progress' AND model = ?"


def begin(
    sql: Connection, batch: KeptBatch, tokens: int, limits: tuple[int, int, int], loan: Loan
) -> Quota | None:
    """Put a batch in progress, with its money; or return which quota has no room.

    Raises:
        Fenced: who reads the batch is another one now, or it is cancelled: nothing is done.
        Unavailable: the worker is another one now: nothing is done.
    """
    with writing(sql):
        full = _full(sql, batch, tokens, limits)
        if full is not None:
            return full
        started = sql.execute(
            "UPDATE batches SET status = 'in_progress', tokens = ?, total = ?, model = ?, until = 0, job = ?"
            " WHERE n = ? AND fence = ? AND status = 'validating'",
            (
                tokens,
                batch.counts.total,
                batch.job.model,
                _encode(batch.job).decode(),
                batch.n,
                batch.fence,
            ),
        ).rowcount
        if not started:
            raise Fenced("Somebody else has this batch now.")
        if loan.taken:
            _move(sql, batch.slot, loan)
    return None


def _full(sql: Connection, batch: KeptBatch, tokens: int, limits: tuple[int, int, int]) -> Quota | None:
    job = batch.job
    scopes = (("key", " AND key = ?", (job.key,)), ("project", " AND project = ?", (job.project,)))
    for limit, (scope, where, values) in zip(limits, (*scopes, ("organization", "", ())), strict=True):
        if not limit:
            continue
        (used,) = sql.execute(
            f"{_ENQUEUED} AND book = ?{where}", (job.model, int(job.book), *values)
        ).fetchone()
        if used + tokens > limit:
            return Quota(scope, limit, int(used))
    return None


def _move(sql: Connection, slot: str, loan: Loan) -> None:
    row = sql.execute("SELECT epoch FROM slots WHERE slot = ?", (loan.place.slot,)).fetchone()
    if row is None or row[0] != loan.place.epoch:
        raise Unavailable("This worker of the gateway has ended. Try again in a moment.")
    for pot, amount in loan.taken:
        moved = sql.execute(
            "UPDATE slices SET amount = amount - ? WHERE pot = ? AND slot = ? AND amount >= ?",
            (amount, pot, loan.place.slot, amount),
        ).rowcount
        if not moved:
            raise Unavailable("The money of this batch is no longer held. Try again in a moment.")
        sql.execute(GIVE, (pot, slot, amount))


def give_back(sql: Connection, slot: str, amounts: Mapping[int, int]) -> None:
    """Free what lines did not use; in a transaction of the caller."""
    for pot, amount in amounts.items():
        if amount:
            sql.execute(pots.LESS, (amount, pot, slot))
            pots.settle_down(sql, pot)


def release(sql: Connection, slot: str) -> None:
    """Free all that a batch holds of which no line has run; in a transaction of the caller."""
    for (pot,) in sql.execute("SELECT pot FROM slices WHERE slot = ?", (slot,)).fetchall():
        sql.execute("DELETE FROM slices WHERE pot = ? AND slot = ?", (pot, slot))
        pots.settle_down(sql, pot)


def sweep(sql: Connection) -> None:
    """Remove the empty slices of batches that are done; in a transaction of the caller."""
    sql.execute(
        "DELETE FROM slices WHERE amount = 0 AND slot LIKE 'batch-%' AND EXISTS (SELECT 1 FROM batches"
        f" WHERE 'batch-' || batches.n = slices.slot AND batches.status IN {_DONE}"
        " AND NOT EXISTS (SELECT 1 FROM batch_lines WHERE batch = batches.n AND n < 0))"
    )


def booked(sql: Connection, call: bytes) -> int:
    """Return what a call was charged, and those that came apart from it, by the books: money, or tokens."""
    low = int.from_bytes(call[8:])
    last = call[:8] + min(low + _CHILDREN, 2**64 - 1).to_bytes(8)
    (charge,) = sql.execute(
        "SELECT coalesce(sum(charge), 0) FROM calls WHERE call >= ? AND call <= ?", (call, last)
    ).fetchone()
    (tokens,) = sql.execute(
        f"SELECT coalesce(sum(amount), 0) FROM entries WHERE kind = {TOKENS} AND call >= ? AND call <= ?",
        (call, last),
    ).fetchone()
    return int(charge) + int(tokens)


def recover(sql: Connection) -> None:
    """Free what batches that are done hold still: every journal is in the books, so nobody spends it."""
    rows = sql.execute(
        "SELECT s.pot, s.slot, b.n FROM slices s JOIN batches b ON 'batch-' || b.n = s.slot"
        f" WHERE b.status IN {_DONE}"
    ).fetchall()
    for pot, slot, n in rows:
        sql.execute("DELETE FROM slices WHERE pot = ? AND slot = ?", (pot, slot))
        sql.execute("DELETE FROM batch_lines WHERE batch = ? AND n < 0", (n,))
        pots.settle_down(sql, pot)
