"""The books in a SQLite file. Standard library only."""

from __future__ import annotations

import sqlite3
import time
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Final

from headgate.stores.sql.connection import Form

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from headgate.stores.sql.connection import Values

_BUSY_S: Final = 10.0
_CHOICES: Final = 500
_NARROW: Final = 16  # columns, as entries have fewer of: twice as many rows take as long
_SMALLER: Final = 4  # times fewer rows in the next smaller statement


class SqliteConnection(sqlite3.Connection):
    """Implements `connection.Connection`."""

    calls_at_once: ClassVar[int] = 64  # about 200 µs of Python, and as much of SQLite
    months: ClassVar[None] = None  # all calls are in one table

    def fetch_each(self, sql: str, parameters: Sequence[Any], /) -> list[Any]:
        """Run one statement for each of many rows of values; return what all of them brought."""
        return [row for values in parameters for row in self.execute(sql, values).fetchall()]

    def scan(self, sql: str, values: Values = ()) -> Iterator[Any]:
        """Go through rows as they are read."""
        return self.execute(sql, values)

    def insert_new(self, table: str, rows: Sequence[Sequence[Any]]) -> int:
        """Insert whole rows, but for those whose key is there; return how many were inserted."""
        columns = len(rows[0]) if rows else 0
        size = self.calls_at_once if columns > _NARROW else 2 * self.calls_at_once
        return self._insert(("INSERT", table, _whole(columns), " ON CONFLICT DO NOTHING"), rows, size)

    def insert_all(self, table: str, rows: Sequence[tuple[Any, ...]], form: Form | None = None) -> None:
        """Insert rows, none of which may be there; SQLite keeps nothing to undo them alone."""
        columns = len(rows[0]) if rows else 0
        size = self.calls_at_once if columns > _NARROW or form else 2 * self.calls_at_once
        self._insert(("INSERT OR FAIL", table, form or _whole(columns), ""), rows, size)

    def _insert(self, how: tuple[str, str, Form, str], rows: Sequence[Sequence[Any]], size: int) -> int:
        """Insert rows; return how many.

        Statements take many rows at once, since each one that runs hands the interpreter to another thread
        and back.
        """
        start = new = 0
        while left := len(rows) - start:
            while size > left:  # the rest in few statements, and few forms of them
                size = max(1, size // _SMALLER)
            cells = list(chain.from_iterable(rows[start : start + size]))
            new += self.execute(_statement(*how, size), cells).rowcount
            start += size
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


@cache
def _whole(columns: int) -> Form:
    return Form(columns, (), (tuple(range(columns)),))


@cache  # a handful of them, of some kilobytes
def _statement(insert: str, table: str, form: Form, known: str, size: int) -> str:
    """Return a statement whose values have no names: SQLite lists those, and Python >= 3.12 asks for each."""
    words = ["?"] * form.cells + ["NULL" if value is None else repr(value) for value in form.constants]
    made = ", ".join(f"({', '.join(words[place] for place in places)})" for places in form.rows)
    return f"{insert} INTO {table} VALUES {', '.join([made] * size)}{known}"
