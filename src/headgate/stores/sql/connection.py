"""What the books ask of a database: a connection as `sqlite3` has it, and the few words that differ.

Whoever works with the books knows no more than this, so that they lie in SQLite or in PostgreSQL alike. Both
raise the exceptions of `sqlite3`, which are those of PEP 249, and give rows that unpack as tuples do. Money,
times and ids are `int`, ids of calls and digests `bytes`. Statements are those that both understand: `?` or
`:name` for values, `ON CONFLICT (columns)`, no types in expressions. SQL that is put together knows no value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Values: TypeAlias = "Sequence[Any] | Mapping[str, Any]"


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

    def insert_all(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        """Insert whole rows, none of which may be there: the quickest way, in a transaction.

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
