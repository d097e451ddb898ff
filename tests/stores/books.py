"""A data folder with books and a journal, for the tests of the stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.stores.records import CLOCK

from headgate.ports import Open, Settle
from headgate.stores.journal import JournalSettings, SlotJournal
from headgate.stores.journal.segments import Position
from headgate.stores.sql.database import connect, schema
from headgate.stores.sql.drain import Copier

SLOT = "slot-0"


def make(folder: Path) -> Path:
    """Make the database of a data folder, with one account, project and key."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(connect(folder)) as sql:
        sql.executescript(schema())
        sql.execute(
            "INSERT INTO accounts (id, public_id, name, created_at) VALUES (1, 'acct_one', 'default', 0)"
        )
        sql.execute(
            "INSERT INTO projects (id, public_id, account, name, created_at) VALUES (1, 'proj_one', 1, 'default', 0)"
        )
        sql.execute(
            "INSERT INTO keys (id, public_id, digest, project, kind, name, shown, created_at)"
            " VALUES (1, 'key_one', x'00', 1, 'live', 'first', 'sk-hg', 0)"
        )
    return folder


@contextmanager
def journal(data: Path, slot: str = SLOT, **options: Any) -> Iterator[SlotJournal]:
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


def copy_all(data: Path, slot: str = SLOT) -> None:
    """Copy a journal that nobody writes into the books."""
    with closing(connect(data)) as sql:
        copier = Copier(data / "journal" / slot, sql)
        while copier.copy(Position(2**62, 0)):
            pass


def rows(data: Path, question: str, *values: Any) -> list[sqlite3.Row]:
    with closing(connect(data, read_only=True)) as sql:
        sql.row_factory = sqlite3.Row
        return sql.execute(question, values).fetchall()


def figures(data: Path, question: str, *values: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows(data, question, *values)]
