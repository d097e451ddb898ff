"""SQLAlchemy on our own connection to PostgreSQL, for commands and migrations: a driver of PEP 249.

The errors are those of `sqlite3`, as everywhere in the books.
"""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.dialects.postgresql.base import PGDialect

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.stores.postgres.connection import PostgresConnection, Rows

_ERRORS: Final = (
    "Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError", "IntegrityError",
    "InternalError", "ProgrammingError", "NotSupportedError",
)  # fmt: skip
DRIVER: Final = SimpleNamespace(
    apilevel="2.0",
    threadsafety=1,
    paramstyle="qmark",
    Binary=bytes,
    **{name: getattr(sqlite3, name) for name in _ERRORS},
)


class Dialect(PGDialect):
    """PostgreSQL as SQLAlchemy knows it, by our driver."""

    driver = "headgate"
    default_paramstyle = "qmark"
    supports_statement_cache = True
    supports_sane_multi_rowcount = False

    @classmethod
    def import_dbapi(cls) -> Any:
        """Return the driver."""
        return DRIVER

    def get_driver_connection(self, connection: Any) -> Any:
        """Return the connection that the stores use, below the driver's."""
        return connection.direct


class DriverConnection:
    """A connection as PEP 249 has it."""

    def __init__(self, direct: PostgresConnection) -> None:
        self.direct = direct

    def cursor(self) -> DriverCursor:
        """Return a new cursor."""
        return DriverCursor(self.direct)

    def commit(self) -> None:
        """Commit what was begun."""
        if self.direct.in_transaction:
            self.direct.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was begun."""
        self.direct.execute("ROLLBACK")

    def close(self) -> None:
        """Close it."""
        self.direct.close()


class DriverCursor:
    """A cursor as PEP 249 has it."""

    arraysize = 1
    lastrowid = None

    def __init__(self, direct: PostgresConnection) -> None:
        self._direct = direct
        self._rows: Rows | None = None

    @property
    def rowcount(self) -> int:
        """Return how many rows the last statement has changed."""
        return -1 if self._rows is None else self._rows.rowcount

    @property
    def description(self) -> list[tuple[Any, ...]] | None:
        """Return the columns of the last statement, where it has any."""
        names = () if self._rows is None else self._rows.columns
        return [(name, *[None] * 6) for name in names] or None

    def execute(self, text: str, values: Sequence[Any] = ()) -> None:
        """Run one statement."""
        self._rows = self._direct.execute(text, tuple(values or ()))

    def executemany(self, text: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for many rows of values."""
        self._rows = self._direct.executemany(text, rows)

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return None if self._rows is None else self._rows.fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return some rows."""
        rows = (self.fetchone() for _ in range(size or self.arraysize))
        return [row for row in rows if row is not None]

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return [] if self._rows is None else self._rows.fetchall()

    def close(self) -> None:
        """Forget the rows."""
        self._rows = None
