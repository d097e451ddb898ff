"""Open the database of the books, and read from it what a server needs at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from headgate.money.credit import rank
from headgate.money.pots import BudgetTerms, GrantTerms
from headgate.program import without_password
from headgate.stores.sql.pepper import DataFolderError
from headgate.stores.sql.sqlite import open_file
from headgate.values import Book, Limits

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD, WallMicros

FILE = "headgate.sqlite"
RECORDINGS = "recordings.sqlite"  # beside it, once somebody wanted an answer recorded
_HOUR_US = 3_600_000_000
_SCOPES = {"account": "account", "project": "project", "key": "key"}


@dataclass(frozen=True, slots=True)
class Database:
    """Where the books of a gateway are.

    Args:
        folder: the data folder: the journals, the pepper, what is of this machine alone.
        url: of the PostgreSQL database that has the books; empty: SQLite has them, in the folder.
    """

    folder: Path
    url: str = ""

    def __truediv__(self, name: str) -> Path:
        """Return what is called so in the data folder."""
        return self.folder / name


Wait: TypeAlias = Literal["serving", "managing", "patient"]
Place: TypeAlias = Path | Database  # a folder alone has SQLite


def folder_of(place: Place) -> Path:
    """Return the data folder."""
    return place.folder if isinstance(place, Database) else place


def url_of(place: Place) -> str:
    """Return the address of the database; empty: SQLite."""
    return place.url if isinstance(place, Database) else ""


def shown(place: Place) -> str:
    """Return what messages may say of where the books are: without a password."""
    url = url_of(place)
    if url:
        return without_password(url)
    return str(folder_of(place) / FILE)


def connect(place: Place, *, read_only: bool = False, wait: Wait = "serving") -> Connection:
    """Open the database of the books; transactions are explicit.

    Args:
        place: where it is.
        read_only: nothing is made where nothing is.
        wait: for whom: PostgreSQL is given 2 s for calls, 10 s for people, minutes for all of the books.

    Raises:
        sqlite3.Error: it cannot be opened.
        DataFolderError: the extra that it needs is not installed.
    """
    url = url_of(place)
    if not url:
        return open_file(folder_of(place) / FILE, read_only=read_only)
    try:
        from headgate.stores.postgres.connection import BOUNDS, PostgresConnection
    except ImportError as fault:
        raise DataFolderError(
            f"The books are in {shown(place)}, which needs a package that is not installed: "
            "pip install 'headgate[postgres]'."
        ) from fault
    return PostgresConnection(url, BOUNDS[wait])


def schema() -> str:
    """Return the statements of a new database."""
    return Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")


def load_budgets(sql: Connection) -> list[BudgetTerms]:
    """Return every hard budget. A soft one refuses nothing, so only the drain looks at it."""
    rows = sql.execute("SELECT id, scope, ref, book, amount, unit, tz FROM budgets WHERE hard = 1")
    return [
        BudgetTerms(number, scope, ref, Book(book), amount, unit, tz)
        for number, scope, ref, book, amount, unit, tz in rows
    ]


def load_grants(sql: Connection) -> list[GrantTerms]:
    """Return every grant that is not closed, each account's in the order in which they are spent."""
    rows = sql.execute(
        "SELECT id, account, book, model, expires_at, kind FROM grants WHERE closed_at = 0"
    ).fetchall()
    rows.sort(key=lambda row: rank(row[5], row[3], row[4], row[0]))
    return [
        GrantTerms(number, account, Book(book), model, expires_at)
        for number, account, book, model, expires_at, _ in rows
    ]


def load_limits(sql: Connection) -> list[tuple[str, int, str, Limits]]:
    """Return every limit: its scope, the id within the scope, the pattern of its models, the numbers."""
    rows = sql.execute("SELECT scope, ref, model, rpm, tpm, rpd, tpd, concurrency FROM limits ORDER BY id")
    return [(scope, ref, model, Limits(*numbers)) for scope, ref, model, *numbers in rows]


def spent(sql: Connection, scope: str, ref: int, book: Book, since: WallMicros) -> NanoUSD:
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
    # A call of a batch is made up to a day after the instant that it belongs to.
    low, high = (_id_at(at) for at in (since - _HOUR_US, (first_whole + 27) * _HOUR_US))
    (part,) = sql.execute(
        f"SELECT coalesce(sum(charge), 0) FROM calls WHERE call >= ? AND call < ? AND {column} = ?"
        " AND book = ? AND opened_at >= ? AND opened_at < ?",
        (low, high, ref, int(book), since, first_whole * _HOUR_US),
    ).fetchone()
    return int(whole) + int(part)


def _id_at(at: WallMicros) -> bytes:
    """Return what no id of a call made at an instant is below: UUIDv7 begins with its milliseconds."""
    return max(0, at // 1000).to_bytes(6) + bytes(10)


def changes_since(sql: Connection, seq: int, most: int = 2**62) -> list[tuple[int, str, str]]:
    """Return the number, the kind and the public id of the changes behind a number, in order."""
    query = "SELECT seq, kind, ref FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
    rows = sql.execute(query, (seq, most))
    return [(number, kind, ref) for number, kind, ref in rows]


def last_change(sql: Connection) -> int:
    """Return the sequence number of the last change that `ops` made."""
    (seq,) = sql.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()
    return int(seq)
