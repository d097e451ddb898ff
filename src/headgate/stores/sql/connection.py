"""What the books ask of a database: a connection as `sqlite3` has it, and the few words that differ.

Whoever works with the books knows no more than this, so that they lie in SQLite or in PostgreSQL alike. Both
raise the exceptions of `sqlite3`, which are those of PEP 249, and give rows that unpack as tuples do. Money,
times and ids are `int`, ids of calls and digests `bytes`. Statements are those that both understand: `?` or
`:name` for values, `ON CONFLICT (columns)`, no types in expressions. SQL that is put together knows no value.
"""

from __future__ import annotations

import sqlite3
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from headgate.values import WallMicros

Values: TypeAlias = "Sequence[Any] | Mapping[str, Any]"


class LockedError(sqlite3.OperationalError):
    """Somebody else has what is to be locked. Raised where a server has locks, not by SQLite."""


class Month(NamedTuple):
    """A month that has a table of calls of its own."""

    name: str  # 2026_11
    first: bytes  # the ids of its calls begin here
    before: bytes  # and end before this one

    @property
    def calls(self) -> str:
        """Return the table of its calls."""
        return f"calls_{self.name}"

    @property
    def suffix(self) -> str:
        """Return what is behind the name of each table that its calls are added up in."""
        return f"_{self.name}"


class Months(Protocol):
    """The tables that calls are in, one for each month. `calls` is all of them; for one thread at a time."""

    def cover(self, ids: Iterable[bytes]) -> None:
        """Make the tables of calls whose months have none; in a transaction that writes."""
        ...

    def ahead(self, now: WallMicros) -> None:
        """Make the tables of this month and the next ones; transactions are this method's.

        Raises:
            LockedError: somebody reads calls of the months that have no table; nothing was made.
        """
        ...

    def oldest(self, before: bytes) -> Month | None:
        """Return the oldest month whose ids are all below one."""
        ...

    def begun(self, month: Month) -> bytes | None:
        """Return the id from which on its calls are not added up yet; in a transaction that writes.

        Begins with tables for that, where nobody has begun or a call came or went meanwhile. None: there is
        no such month any more.
        """
        ...

    def lock(self, month: Month) -> None:
        """Lock a month whose calls are added up; first in a transaction that writes.

        Raises:
            LockedError: somebody reads them now.
        """
        ...

    def drop(self, month: Month) -> None:
        """Drop the calls of a month that is locked, and let their sums count from now on."""
        ...


class Form(NamedTuple):
    """How rows of a table are made of fewer cells than they have.

    A place in a row is that of one of the cells or, behind them, of a constant. The cells are each in one
    place, in their order.
    """

    cells: int  # that are given at once
    constants: tuple[int | str | None, ...]
    rows: tuple[tuple[int, ...], ...]  # that are made of these: the places that their columns come from

    def full(self, given: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return whole rows."""
        made = [itemgetter(*places) for places in self.rows]
        return [row(cells + self.constants) for cells in given for row in made]


class Cursor(Protocol):
    """What a statement has brought."""

    @property
    def rowcount(self) -> int:
        """Return how many rows a statement has changed; -1 where nobody can say."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Go through the rows that are left."""
        ...


class Connection(Protocol):
    """One connection, for one thread at a time. Transactions are explicit: `BEGIN`, `BEGIN IMMEDIATE`.

    `BEGIN` reads one moment's state. `BEGIN IMMEDIATE` writes, alone in the whole database: whoever else
    begins so waits, as long as `wait_for_writers` says.

    Raises:
        sqlite3.IntegrityError: from any statement: a key is there already, or a table is append-only.
        sqlite3.Error: from any statement: the database refuses, or does not answer in time. What becomes of
            a `COMMIT` that ends so is not known: its work must be idempotent, or be read again.
    """

    calls_at_once: ClassVar[int]  # how many calls one statement inserts, between two pauses

    @property
    def months(self) -> Months | None:
        """Return the tables that calls are in; None where they are in one."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Say whether a transaction was begun that has not ended."""
        ...

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """Run one statement for each of many rows of values."""
        ...

    def fetch_each(self, sql: str, parameters: Sequence[Any], /) -> list[Any]:
        """Run one statement for each of many rows of values; return what all of them brought."""
        ...

    def scan(self, sql: str, values: Values = ()) -> Iterator[Any]:
        """Go through more rows than memory should hold, in a transaction; several at once, where wanted."""
        ...

    def insert_new(self, table: str, rows: Sequence[Sequence[Any]]) -> int:
        """Insert whole rows, but for those whose key is there; return how many were inserted."""
        ...

    def insert_all(self, table: str, rows: Sequence[tuple[Any, ...]], form: Form | None = None) -> None:
        """Insert rows, none of which may be there: the quickest way, in a transaction.

        Args:
            table: where they go.
            rows: whole ones, or the cells that they are made of.
            form: how they are made.

        Raises:
            sqlite3.IntegrityError: one is there; the transaction can only be undone.
        """
        ...

    def define(self, script: str) -> None:
        """Run statements of a schema as `schema.sql` has them, in a transaction of the caller."""
        ...

    def wait_for_writers(self, seconds: float) -> None:
        """Wait no longer than this for another writer from now on."""
        ...

    def sync_less(self) -> None:
        """Let commits be lost to a power cut that ends every worker too, where syncing them costs much."""
        ...

    def packed(self, columns: str) -> str:
        """Return the expression of some columns as one JSON array, in bytes."""
        ...

    def packed_pairs(self, key: str, value: str) -> str:
        """Return the aggregate of two columns as one JSON object, in bytes."""
        ...

    def tables(self) -> set[str]:
        """Return the names of all tables."""
        ...

    def triggers(self) -> set[str]:
        """Return the names of all triggers."""
        ...

    def numbers(self) -> dict[str, int]:
        """Return the last number that each table gave which numbers its rows and never uses one again."""
        ...

    def number_on(self, last: Mapping[str, int]) -> None:
        """Let tables that were filled from elsewhere go on behind their rows, and behind these numbers."""
        ...

    def damage(self) -> list[str]:
        """Return what the database says is wrong with its own files, where it can tell."""
        ...

    def close(self) -> None:
        """Close it; what was not committed is undone."""
        ...
