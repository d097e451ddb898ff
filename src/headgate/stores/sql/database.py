"""Open the books' SQLite file, and read from it what a server needs at start. Standard library only."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.money.credit import rank
from headgate.money.pots import BudgetTerms, GrantTerms
from headgate.values import Book, Limits

if TYPE_CHECKING:
    from headgate.values import NanoUSD, WallMicros

FILE = "headgate.sqlite"
RECORDINGS = "recordings.sqlite"  # beside it, once somebody wanted an answer recorded
_BUSY_S = 10.0
_CHOICES = 500
_HOUR_US = 3_600_000_000
_SCOPES = {"account": "account", "project": "project", "key": "key"}


def connect(folder: Path, *, read_only: bool = False, file: str = FILE) -> sqlite3.Connection:
    """Open the database of a data folder, or another file there; transactions are explicit."""
    path = folder / file
    address = f"file:{path}?mode=ro" if read_only else str(path)
    connection = sqlite3.connect(
        address, uri=read_only, isolation_level=None, check_same_thread=False, timeout=_BUSY_S
    )
    if not read_only:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


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


def schema() -> str:
    """Return the statements of a new database."""
    return Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


def load_budgets(sql: sqlite3.Connection) -> list[BudgetTerms]:
    """Return every hard budget. A soft one refuses nothing, so only the drain looks at it."""
    rows = sql.execute("SELECT id, scope, ref, book, amount, unit, tz FROM budgets WHERE hard = 1")
    return [
        BudgetTerms(number, scope, ref, Book(book), amount, unit, tz)
        for number, scope, ref, book, amount, unit, tz in rows
    ]


def load_grants(sql: sqlite3.Connection) -> list[GrantTerms]:
    """Return every grant that is not closed, each account's in the order in which they are spent."""
    rows = sql.execute(
        "SELECT id, account, book, model, expires_at, kind FROM grants WHERE closed_at = 0"
    ).fetchall()
    rows.sort(key=lambda row: rank(row[5], row[3], row[4], row[0]))
    return [
        GrantTerms(number, account, Book(book), model, expires_at)
        for number, account, book, model, expires_at, _ in rows
    ]


def load_limits(sql: sqlite3.Connection) -> list[tuple[str, int, str, Limits]]:
    """Return every limit: its scope, the id within the scope, the pattern of its models, the numbers."""
    rows = sql.execute("SELECT scope, ref, model, rpm, tpm, rpd, tpd, concurrency FROM limits ORDER BY id")
    return [(scope, ref, model, Limits(*numbers)) for scope, ref, model, *numbers in rows]


def spent(sql: sqlite3.Connection, scope: str, ref: int, book: Book, since: WallMicros) -> NanoUSD:
    """Return what a scope has been charged in the calls that opened at `since` or later.

    Whole hours come from the roll-ups, the hour that `since` falls into from the calls themselves, so
    it is exact for time zones that are not a whole hour off. A call is in the period of its first OPEN.
    """
    column = _SCOPES[scope]
    first_whole = -(-since // _HOUR_US)
    (whole,) = sql.execute(
        f"SELECT coalesce(sum(charge), 0) FROM usage_hours WHERE {column} = ? AND book = ? AND hour >= ?",
        (ref, int(book), first_whole),
    ).fetchone()
    if first_whole * _HOUR_US == since:
        return int(whole)
    # Ids of calls are ordered by time. One is made a little before its OPEN, or after it where the
    # wall clock was set back.
    low, high = (_id_at(at) for at in (since - _HOUR_US, (first_whole + 1) * _HOUR_US))
    (part,) = sql.execute(
        f"SELECT coalesce(sum(charge), 0) FROM calls WHERE call >= ? AND call < ? AND {column} = ?"
        " AND book = ? AND opened_at >= ? AND opened_at < ?",
        (low, high, ref, int(book), since, first_whole * _HOUR_US),
    ).fetchone()
    return int(whole) + int(part)


def _id_at(at: WallMicros) -> bytes:
    """Return what no id of a call made at an instant is below: UUIDv7 begins with its milliseconds."""
    return max(0, at // 1000).to_bytes(6) + bytes(10)


def changes_since(sql: sqlite3.Connection, seq: int, most: int = -1) -> list[tuple[int, str, str]]:
    """Return the number, the kind and the public id of the changes behind a number, in order."""
    query = "SELECT seq, kind, ref FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
    rows = sql.execute(query, (seq, most))
    return [(number, kind, ref) for number, kind, ref in rows]


def last_change(sql: sqlite3.Connection) -> int:
    """Return the sequence number of the last change that `ops` made."""
    (seq,) = sql.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()
    return int(seq)
