"""How far calls were dropped: below the horizon the books have their entries and sums, and no calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.ports import Settle
    from headgate.stores.sql.connection import Connection


def horizon(sql: Connection) -> bytes:
    """Return the id below which calls were dropped; empty: none was."""
    row = sql.execute("SELECT before FROM horizon").fetchone()
    return b"" if row is None else bytes(row[0])


def booked(sql: Connection, settle: Settle) -> bool:
    """Say whether the books have a settled call, or had it until it was dropped.

    A call below the horizon without money has left no trace of its own, so it counts as one that was dropped.
    """
    call = settle.call
    if sql.execute("SELECT 1 FROM calls WHERE call = ?", (call,)).fetchone() is not None:
        return True
    if call >= horizon(sql):
        return False
    free = not (settle.charge or settle.absorbed or settle.promoted or settle.tokens or any(settle.costs))
    return free or sql.execute("SELECT 1 FROM entries WHERE call = ? LIMIT 1", (call,)).fetchone() is not None
