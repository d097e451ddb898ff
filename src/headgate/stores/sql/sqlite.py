"""The books in a SQLite file. Standard library only."""

from __future__ import annotations

import sqlite3
import time
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from headgate.stores.sql.connection import Values

_BUSY_S: Final = 10.0
_CHOICES: Final = 500
_NARROW: Final = 16  # columns, as entries have fewer of: twice as many rows take as long


class SqliteConnection(sqlite3.Connection):
    """Implements `connection.Connection`."""

    calls_at_once: ClassVar[int] = 32  # about 300 µs

    def fetch_each(self, sql: str, parameters: Sequence[Any], /) -> list[Any]:
        """Run one statement for each of many rows of values; return what all of them brought."""
        return [row for values in parameters for row in self.execute(sql, values).fetchall()]

    def scan(self, sql: str, values: Values = ()) -> Iterator[Any]:
        """Go through rows as they are read."""
        return self.execute(sql, values)

    def insert_new(self, table: str, rows: Sequence[Sequence[Any]]) -> int:
        """Insert whole rows, but for those whose key is there; return how many were inserted."""
        return self._insert(table, rows, " ON CONFLICT DO NOTHING")

    def insert_all(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert whole rows, none of which may be there."""
        self._insert(table, rows, "")

    def _insert(self, table: str, rows: Sequence[Sequence[Any]], known: str) -> int:
        """Insert whole rows; return how many.

        Statements take many rows at once, since each one that runs hands the interpreter to another thread
        and back.
        """
        if not rows:
            return 0
        columns, new = len(rows[0]), 0
        size = self.calls_at_once if columns > _NARROW else 2 * self.calls_at_once
        whole = len(rows) - len(rows) % size
        for start in range(0, whole, size):
            flat = tuple(chain.from_iterable(rows[start : start + size]))
            new += self.execute(_insert(table, columns, size) + known, flat).rowcount
        if whole < len(rows):
            new += self.executemany(_insert(table, columns, 1) + known, rows[whole:]).rowcount
        return new

    def define(self, script: str) -> None:
        """Run statements of a schema."""
        for statement in statements(script):
            self.execute(statement)

    def wait_for_writers(self, seconds: float) -> None:
        """Wait no longer than this for another writer from now on."""
        self.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def sync_less(self) -> None:
        """Sync at checkpoints only."""
        self.execute("PRAGMA synchronous = NORMAL")

    def packed(self, columns: str) -> str:
        """Return the expression of some columns as one JSON array, in bytes."""
        return f"CAST(json_array({columns}) AS BLOB)"

    def packed_pairs(self, key: str, value: str) -> str:
        """Return the aggregate of two columns as one JSON object, in bytes."""
        return f"CAST(json_group_object({key}, {value}) AS BLOB)"

    def tables(self) -> set[str]:
        """Return the names of all tables."""
        return self._named("table")

    def triggers(self) -> set[str]:
        """Return the names of all triggers."""
        return self._named("trigger")

    def _named(self, kind: str) -> set[str]:
        rows = self.execute("SELECT name FROM sqlite_master WHERE type = ?", (kind,))
        return {name for (name,) in rows if not name.startswith("sqlite_")}  # its own

    def numbers(self) -> dict[str, int]:
        """Return the last number that each table gave which never uses one again."""
        if "pots" not in self.tables():
            return {}
        return dict(self.execute("SELECT name, seq FROM sqlite_sequence").fetchall())

    def number_on(self, last: Mapping[str, int]) -> None:
        """Let tables go on behind these numbers; behind their rows they do by themselves."""
        numbered = self.numbers()
        for table, number in last.items():
            if table in numbered:
                self.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, table))
            else:
                self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, number))

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong with the file."""
        return [said for (said,) in self.execute("PRAGMA quick_check(5)").fetchall() if said != "ok"]


def open_file(path: Path, *, read_only: bool = False) -> SqliteConnection:
    """Open a SQLite file; transactions are explicit."""
    address = f"file:{path}?mode=ro" if read_only else str(path)
    connection = sqlite3.connect(
        address,
        uri=read_only,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_S,
        factory=SqliteConnection,
    )
    if not read_only:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def statements(script: str) -> Iterable[str]:
    """Yield the statements of an SQL script, triggers whole, comments kept."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if any(line.strip() and not line.strip().startswith("--") for line in pending.splitlines()):
        raise ValueError(f"unfinished statement: {pending.strip()[:80]}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Choose the write-ahead log, which stays chosen.

    SQLite answers at once, whatever the timeout, when another process is choosing it too.
    """
    for last in (*[False] * _CHOICES, True):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as fault:
            if last or fault.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(_BUSY_S / _CHOICES)
        else:
            return


def _insert(table: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return " ".join(("INSERT INTO", table, "VALUES", ", ".join([row] * rows)))
