"""Make a data folder, or check one, before it is served. Standard library only.

Two processes may race: everything happens in one `BEGIN IMMEDIATE`, so the second one finds what the
first one made.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import string
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from headgate.stores.sql.database import FILE, connect, folder_of, schema, shown, url_of
from headgate.stores.sql.pepper import (
    DataFolderError,
    check_pepper,
    fingerprint,
    make_pepper,
    read_pepper,
)
from headgate.stores.sql.pots import remove, resize
from headgate.stores.sql.whereabouts import check_place, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.database import Place
    from headgate.values import Book, NanoUSD, WallMicros

SCHEMA: Final = "0015"  # the newest Alembic revision, which schema.sql is
SERVES_FROM: Final = "0007"  # the oldest revision whose code can serve from this schema, too
DEFAULT_ACCOUNT: Final = 1
DEFAULT_PROJECT: Final = 1
FLAG: Final = "flag"  # origin of the budgets that `--cap` writes
VERSION_TABLE: Final = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
_SERVES: Final = "serves_from"
_LETTERS = string.digits + string.ascii_letters


class NewKey(Protocol):
    """A key as it was minted."""

    @property
    def text(self) -> str:
        """Return the key itself, to be shown once."""
        ...

    @property
    def digest(self) -> bytes:
        """Return what is stored of it."""
        ...

    @property
    def shown(self) -> str:
        """Return what people see of it later."""
        ...


class Prepared(NamedTuple):
    """A data folder that can be served."""

    pepper: bytes
    first_key: str  # the text of the key that was made now; empty when there were keys


def public_id(prefix: str) -> str:
    """Return a new id such as `key_…`: 24 random characters."""
    return prefix + "_" + "".join(secrets.choice(_LETTERS) for _ in range(24))


def prepare(place: Place, now: WallMicros, mint: Callable[[bytes], NewKey] | None) -> Prepared:
    """Make the folder where it is missing, bring its schema up to date, check its pepper.

    Args:
        place: the data folder, and where the books are.
        now: wall time.
        mint: makes a live key with a pepper, called when there is no key yet; None makes none.

    Raises:
        DataFolderError: it cannot be written, is not ours or newer than we are, or the pepper is wrong.
    """
    check_place(place)
    make_folder(place)
    try:
        upgrade(place)
        with closing(connect(place, wait="managing")) as sql:
            prepared = _prepare(folder_of(place), sql, now, mint)
    except sqlite3.Error as fault:
        raise DataFolderError(f"Cannot use {shown(place)}: {fault}.") from fault
    note(place)
    return prepared


def upgrade(place: Place) -> bool:
    """Bring an older schema up to date in a process of its own; say whether that was needed.

    Raises:
        DataFolderError: the schema is newer than this version, not ours, or the migration failed.
    """
    with closing(connect(place, wait="managing")) as sql:
        found = version(sql)
        newer = found > SCHEMA
        if not found or found == SCHEMA or (newer and _serves_from(sql) <= SCHEMA):
            return False
    if newer:
        raise DataFolderError(
            f"{shown(place)} has schema {found}, made by a newer Headgate; this one knows {SCHEMA}. "
            "Install that version or use another --data folder or database."
        )
    # Alembic brings megabytes that a server would carry for ever, so it runs elsewhere.
    command = [sys.executable, "-m", "headgate", "db", "migrate", "--data", str(folder_of(place))]
    url = url_of(place)
    if url:
        command += ["--database", "-"]  # from its input: everybody may read arguments
    done = subprocess.run(command, input=url, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataFolderError(f"Cannot upgrade {shown(place)}: {done.stderr.strip() or done.stdout.strip()}")
    return True


def _serves_from(sql: Connection) -> str:
    """Return the oldest revision whose code can serve from the schema of a database, as its maker says."""
    row = sql.execute("SELECT value FROM meta WHERE name = ?", (_SERVES,)).fetchone()
    return str(row[0]) if row is not None else "9999"


def put_serves(sql: Connection) -> None:
    """Say in a database of this version's schema whose code can serve from it."""
    put_meta(sql, _SERVES, SERVES_FROM)


def version(sql: Connection) -> str:
    """Return the schema's revision; empty for a database without tables.

    Raises:
        DataFolderError: it has tables and none of ours.
    """
    tables = sql.tables()
    if "alembic_version" in tables:
        row = sql.execute("SELECT version_num FROM alembic_version").fetchone()
        if row is not None:
            return str(row[0])
    if tables:
        raise DataFolderError(
            "The database has tables and none of Headgate's: use another --data folder or database."
        )
    return ""


class BudgetPlace(NamedTuple):
    """What a budget that the settings write is found by: they have one at each place."""

    origin: str
    account: int
    book: Book


def put_flag_budget(
    sql: Connection, book: Book, amount: NanoUSD | None, unit: str, tz: str, now: WallMicros
) -> None:
    """Make the flag's budget on the default account what `--cap` says; None removes it. Atomic."""
    put_budget(
        sql, BudgetPlace(FLAG, DEFAULT_ACCOUNT, book), None if amount is None else (amount, unit, tz), now
    )


def put_budget(
    sql: Connection, place: BudgetPlace, cap: tuple[NanoUSD, str, str] | None, now: WallMicros
) -> None:
    """Make the budget of a place a cap: an amount, its period and a time zone; None removes it. Atomic.

    Nothing is written when it says so already. Budgets of other origins stay.
    """
    which = (place.origin, place.account, int(place.book))
    with writing(sql):
        row = sql.execute(
            "SELECT id, public_id, amount, unit, tz FROM budgets"
            " WHERE origin = ? AND scope = 'account' AND ref = ? AND book = ?",
            which,
        ).fetchone()
        if (row[2:] if row else None) == cap:
            return
        name = row[1] if row else public_id("budget")
        if row and cap is None:
            remove(sql, row[0])
            sql.execute("DELETE FROM budgets WHERE id = ?", (row[0],))
        elif row and cap is not None:
            sql.execute("UPDATE budgets SET amount = ?, unit = ?, tz = ? WHERE id = ?", (*cap, row[0]))
            resize(sql, "budget", row[0], cap[0])
        elif cap is not None:
            sql.execute(
                "INSERT INTO budgets (public_id, scope, ref, book, amount, unit, tz, origin, created_at)"
                " VALUES (?, 'account', ?, ?, ?, ?, ?, ?, ?)",
                (name, *which[1:], *cap, place.origin, now),
            )
        note_change(sql, "budget", name, now)


@contextmanager
def writing(sql: Connection) -> Iterator[None]:
    """Run a block as one immediate transaction: committed on success, rolled back on any exception."""
    sql.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        sql.execute("ROLLBACK")
        raise
    sql.execute("COMMIT")


def make_folder(place: Place) -> None:
    """Make a data folder where it is missing, and the file of its books, for its owner alone."""
    folder = folder_of(place)
    path = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not url_of(place) and not path.exists():  # before SQLite makes it readable for everyone
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as fault:
        raise DataFolderError(f"Cannot write the data folder {folder}: {fault.strerror}.") from fault


def _prepare(
    folder: Path, sql: Connection, now: WallMicros, mint: Callable[[bytes], NewKey] | None
) -> Prepared:
    with writing(sql):
        if not version(sql):
            _create(folder, sql, now)
        row = sql.execute("SELECT value FROM meta WHERE name = 'pepper_fingerprint'").fetchone()
        pepper = check_pepper(folder, row[0] if row else "")
        if mint is None or sql.execute("SELECT 1 FROM keys LIMIT 1").fetchone():
            return Prepared(pepper, "")
        key = mint(pepper)
        name = public_id("key")
        sql.execute(
            "INSERT INTO keys (public_id, digest, project, kind, name, shown, created_at)"
            " VALUES (?, ?, ?, 'live', 'first', ?, ?)",
            (name, key.digest, DEFAULT_PROJECT, key.shown, now),
        )
        note_change(sql, "key", name, now)
        return Prepared(pepper, key.text)


def _create(folder: Path, sql: Connection, now: WallMicros) -> None:
    sql.define(schema())
    if sql.months is not None:
        sql.months.cover([(now // 1000).to_bytes(6) + bytes(10)])  # and a server makes those that follow
    sql.execute(VERSION_TABLE)
    sql.execute("INSERT INTO alembic_version VALUES (?)", (SCHEMA,))
    # A start that died between the file and the commit left a pepper that no key was made with.
    pepper = read_pepper(folder) or make_pepper(folder)
    put_serves(sql)
    meta = {"pepper_fingerprint": fingerprint(pepper), "ever_had_provider": "0", "created_at": str(now)}
    sql.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    sql.execute(
        "INSERT INTO accounts (public_id, name, created_at) VALUES (?, 'default', ?)",
        (public_id("acct"), now),
    )  # the first of a new table: its id is 1, as that of the project
    sql.execute(
        "INSERT INTO projects (public_id, account, name, created_at) VALUES (?, ?, 'default', ?)",
        (public_id("proj"), DEFAULT_ACCOUNT, now),
    )


def put_meta(sql: Connection, name: str, value: str) -> None:
    """Keep a fact about this database."""
    sql.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def note_change(sql: Connection, kind: str, ref: str, now: WallMicros) -> None:
    """Note that something has changed, for the workers to follow."""
    sql.execute("INSERT INTO changes (kind, ref, at) VALUES (?, ?, ?)", (kind, ref, now))
