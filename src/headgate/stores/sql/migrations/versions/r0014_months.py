"""Calls in months, and narrower rows of calls and entries: in PostgreSQL alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import op

from headgate.stores.sql.engine import raw

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

AT_ONCE: Final = 5_000  # rows: a transaction of a tenth of a second, for which those who book wait
_LINE: Final = "-- ───"
_COLUMNS: Final = {
    "calls": "call, seq, book, account, project, key, member, parent, attempt, operation, model, provider,"
    " upstream, opened_at, settled_at, status, flags, input, output, cached, cache_write, reasoning,"
    " input_audio, output_audio, prices, costs, hold, charge, absorbed, cost, first_byte_us, duration_us,"
    " more",
    "entries": "call, kind, attempt, n, book, debit, credit, amount",
}
_TOKENS: Final = {"input", "output", "cached", "cache_write", "reasoning", "input_audio", "output_audio"}
_MOST: Final = 2**31 - 1  # tokens, which only a provider's slip is above


def _script() -> str:
    return Path(__file__).with_name("0014.sql").read_text(encoding="utf-8")


def ahead(sql: Connection) -> bool:
    """Move some rows to where they will be; say whether there were any.

    Args:
        sql: in a transaction that writes, as each server of before needs to be in to book.
    """
    if sql.months is None:
        return False
    if "moved" not in sql.tables():
        _begin(sql)
        return True
    return any(_move(sql, table) for table in _COLUMNS)


def upgrade() -> None:
    raw(op.get_bind()).define(_script())


def downgrade() -> None:
    raise NotImplementedError("The books are never taken back: restore a backup instead.")


def _begin(sql: Connection) -> None:
    """Make the new tables, and let what servers of before write and drop meanwhile be so there, too."""
    from headgate.stores.postgres.months import PostgresMonths

    sql.define(_script().partition(_LINE)[0])
    now = time.time_ns() // 1_000_000
    PostgresMonths(sql, "calls_next").cover((now + days * 86_400_000).to_bytes(6) for days in (0, 31, 62))
    for table, names in _COLUMNS.items():
        own = _narrowed(names, "NEW.")
        sql.execute(
            f"CREATE OR REPLACE FUNCTION {table}_moving() RETURNS trigger LANGUAGE plpgsql AS $do$ BEGIN"
            f" IF TG_OP = 'INSERT' THEN INSERT INTO {table}_next VALUES ({own}) ON CONFLICT DO NOTHING;"
            f" ELSE DELETE FROM {table}_next WHERE call = OLD.call; END IF; RETURN NULL; END $do$"
        )
        deeds = "INSERT OR DELETE" if table == "calls" else "INSERT"  # entries are never dropped
        sql.execute(
            f"CREATE TRIGGER {table}_moving AFTER {deeds} ON {table} FOR EACH ROW"
            f" EXECUTE FUNCTION {table}_moving()"
        )


def _narrowed(names: str, row: str = "") -> str:
    """Return the columns of a row, in the width that they will have."""
    columns = names.split(", ")
    return ", ".join(f"least({row}{each}, {_MOST})" if each in _TOKENS else row + each for each in columns)


def _move(sql: Connection, table: str) -> bool:
    """Copy the next rows of a table, in the order of their calls; say whether there were any."""
    from headgate.stores.postgres.months import PostgresMonths

    (begin,) = sql.execute("SELECT before FROM moved WHERE name = ?", (table,)).fetchone()
    rows = f"FROM {table} WHERE call >= ? ORDER BY call"
    end = sql.execute(f"SELECT call {rows} OFFSET ? LIMIT 1", (begin, AT_ONCE)).fetchone()
    if end is None:  # what is left is no more than that; one call has fewer entries
        last = sql.execute(f"SELECT call {rows} DESC LIMIT 1", (begin,)).fetchone()
        if last is None:
            return False
        before = (int.from_bytes(bytes(last[0])) + 1).to_bytes(16)
    else:
        before = bytes(end[0])
    part = f"FROM {table} WHERE call >= ? AND call < ?"
    if table == "calls":
        ids = sql.execute(f"SELECT call {part}", (begin, before))
        PostgresMonths(sql, "calls_next").cover(bytes(call) for (call,) in ids)
    sql.execute(
        f"INSERT INTO {table}_next SELECT {_narrowed(_COLUMNS[table])} {part} ON CONFLICT DO NOTHING",
        (begin, before),
    )
    sql.execute("UPDATE moved SET before = ? WHERE name = ?", (before, table))
    return True
