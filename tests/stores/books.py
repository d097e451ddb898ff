"""A data folder with books and a journal, for the tests of the stores."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

from tests.stores.records import CLOCK

from headgate.ports import Open, Settle
from headgate.stores.journal import JournalSettings, SlotJournal
from headgate.stores.journal.segments import Position
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import Place, Wait, connect, folder_of, schema, url_of
from headgate.stores.sql.drain import Copier

SLOT = "slot-0"


def make(place: Place) -> Place:
    """Make the database of a data folder, with one account, project and key."""
    folder_of(place).mkdir(parents=True, exist_ok=True)
    with closing(anywhere(place, wait="patient")) as sql:
        with writing(sql):
            sql.define(schema())
        sql.execute("INSERT INTO accounts (public_id, name, created_at) VALUES ('acct_one', 'default', 0)")
        sql.execute(
            "INSERT INTO projects (public_id, account, name, created_at) VALUES ('proj_one', 1, 'default', 0)"
        )
        sql.execute(
            "INSERT INTO keys (public_id, digest, project, kind, name, shown, created_at)"
            " VALUES ('key_one', ?, 1, 'live', 'first', 'sk-hg', 0)",
            (b"\0",),
        )
    return place


class Row(tuple[Any, ...]):
    """A row whose members have names, too."""

    names: list[str]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        return self.names


@contextmanager
def journal(data: Place, slot: str = SLOT, **options: Any) -> Iterator[SlotJournal]:
    made = SlotJournal(data / "journal" / slot, CLOCK, JournalSettings(**options))
    try:
        yield made
    finally:
        made.close()


def write(book: SlotJournal, calls: Sequence[tuple[Open, Settle | None]]) -> None:
    for record, end in calls:
        book.open(record)
        if end is not None:
            book.settle(end)


def copy_all(data: Place, slot: str = SLOT) -> None:
    """Copy a journal that nobody writes into the books."""
    with closing(connect(data)) as sql:
        copier = Copier(data / "journal" / slot, sql)
        while copier.copy(Position(2**62, 0)):
            pass


def rows(data: Place, question: str, *values: Any) -> list[Row]:
    with closing(anywhere(data)) as sql:
        found = sql.execute(question, values)
        names = [column[0] for column in found.description] if url_of(data) == "" else list(found.columns)
        made = [Row(row) for row in found]
    for row in made:
        row.names = names
    return made


def figures(data: Place, question: str, *values: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows(data, question, *values)]


def spoken(sql: Any, statement: str) -> str:
    """Return a statement of a test in the words of a database: of literals of bytes there are two kinds."""
    if isinstance(sql, sqlite3.Connection):
        return statement
    return re.sub(r"x'([0-9a-f]*)'", r"CAST('\\x\1' AS bytea)", statement)


@contextmanager
def unlocked(sql: Any) -> Iterator[None]:
    """Let tests change what is append-only."""
    tables = ("calls", "entries", "lost", "postings")
    if not isinstance(sql, sqlite3.Connection):
        for table in tables:
            sql.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for table in tables:
            sql.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        return
    triggers = sql.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        sql.execute(f"DROP TRIGGER {name}")
    yield
    for _, text in triggers:
        sql.execute(text)


def drop_trigger(sql: Any, table: str, deed: str) -> None:
    on = "" if isinstance(sql, sqlite3.Connection) else f" ON {table}"
    sql.execute(f"DROP TRIGGER {table}_keep_{deed}{on}")


class Elsewhere:
    """A connection whose work is done in a thread of its own, for tests that run on an event loop."""

    def __init__(self, place: Place, wait: Wait) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._sql = self._thread.submit(connect, place, wait=wait).result()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._sql, name)
        if not callable(found):
            return found
        return lambda *values: self._thread.submit(found, *values).result()

    def close(self) -> None:
        self._thread.submit(self._sql.close).result()
        self._thread.shutdown()


def anywhere(place: Place, wait: Wait = "serving") -> Any:
    """Open a database so that it may be used where an event loop runs."""
    return Elsewhere(place, wait) if url_of(place) else connect(place)
