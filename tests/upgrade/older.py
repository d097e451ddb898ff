"""A database of an older revision with rows in it: today's, less what later steps added."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from tests.stores.test_upgrades import made_at

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.connection import Connection
from headgate.stores.sql.database import Database, connect

BENCH = Path(__file__).parents[2] / "bench"
_HERE = "current_schema()"
_TABLES = f"SELECT tablename FROM pg_tables WHERE schemaname = {_HERE}"
_COLUMNS = f"SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = {_HERE}"
_COLUMNS_OF = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = 'older' AND table_name = ?"
)
_INDEXES = f"SELECT indexname FROM pg_indexes WHERE schemaname = {_HERE}"
_TRIGGERS = (
    "SELECT c.relname, tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
    f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {_HERE} AND NOT tgisinternal"
)


_INSIDE = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'older' AND tablename = ?"
_GUARDS = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = to_regclass(?) AND NOT tgisinternal"


def write_calls(place: Database, calls: int) -> None:
    """Book so many calls, of a seed, by the ledger's own code."""
    sys.path.append(str(BENCH))
    try:
        from growth import write
    finally:
        sys.path.remove(str(BENCH))
    write(place, calls, 1)


def make_older(place: Database, revision: str) -> int:
    """Take away what steps after a revision have added, rows of it too; return how many things that was."""
    other = Database(place.folder, f"{place.url}?search_path=older")
    with closing(connect(place)) as sql:
        sql.execute("CREATE SCHEMA older")
    made_at(other, revision)
    taken = 0
    with closing(connect(other)) as old, closing(connect(place, wait="patient")) as sql, writing(sql):
        for table in ("calls", "entries"):
            make_whole(sql, table)
        for question, statement in (
            (_TRIGGERS, 'DROP TRIGGER "{1}" ON "{0}"'),
            (_TABLES, 'DROP TABLE "{0}"'),
            (_COLUMNS, 'ALTER TABLE "{0}" DROP COLUMN "{1}"'),
            (_INDEXES, 'DROP INDEX "{0}"'),
        ):
            for row in _added(question, old, sql):
                sql.execute(statement.format(*row))
                taken += 1
        sql.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        sql.execute("DELETE FROM meta WHERE name = 'serves_from'")
    with closing(connect(place)) as sql:
        sql.execute("DROP SCHEMA older CASCADE")
    return taken


def make_whole(sql: Connection, table: str) -> None:
    """Make a table what it is in the schema `older`: not parted, and as wide as it was."""
    sql.execute(f"CREATE TABLE {table}_whole (LIKE older.{table} INCLUDING DEFAULTS)")
    columns = [name for (name,) in sql.execute(f"{_COLUMNS_OF} ORDER BY ordinal_position", (table,))]
    sql.execute(f"INSERT INTO {table}_whole SELECT {', '.join(columns)} FROM {table}")
    sql.execute(f"DROP TABLE {table}")
    sql.execute(f"ALTER TABLE {table}_whole RENAME TO {table}")
    for question, of in ((_INSIDE, table), (_GUARDS, f"older.{table}")):
        for (definition,) in sql.execute(question, (of,)).fetchall():
            sql.execute(definition.replace("older.", ""))


def _added(question: str, old: Connection, new: Connection) -> list[tuple[str, ...]]:
    before = {tuple(row) for row in old.execute(question)}
    return sorted(tuple(row) for row in new.execute(question) if tuple(row) not in before)


def fingerprints(place: Database, tables: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Return the number of rows of tables, and a hash of them that no order changes."""
    with closing(connect(place, wait="patient")) as sql:
        return {
            table: tuple(
                sql.execute(
                    f"SELECT count(*), coalesce(sum(hashtextextended(CAST({table} AS text), 0)), 0) FROM {table}"
                ).fetchone()
            )
            for table in tables
        }
