"""SQLAlchemy on the database of the books, for commands and migrations. A server does without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import QueuePool, StaticPool
from sqlalchemy.util import LRUCache

from headgate.stores.sql.database import connect, url_of

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection as Direct
    from headgate.stores.sql.database import Place, Wait

READING: Final = "reading"  # an execution option: this transaction takes no lock

_STATEMENTS: Final = 500  # as many as SQLAlchemy keeps for an engine


class SqliteDialect(SQLiteDialect_pysqlite):
    """SQLite as SQLAlchemy knows it: what is compiled for one engine serves the next."""

    supports_statement_cache = True
    compiled: Final[LRUCache[Any, Any]] = LRUCache(_STATEMENTS)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


registry.register("sqlite.headgate", __name__, "SqliteDialect")


def open_engine(place: Place, wait: Wait = "managing") -> Engine:
    """Return an engine whose transactions take the write lock at once, schema changes included.

    It has one connection, and one transaction at a time.
    """
    if url_of(place):
        engine = _on_postgres(place, wait)
    else:
        engine = create_engine(
            "sqlite+headgate://",
            creator=lambda: connect(place),
            poolclass=StaticPool,
            execution_options={"compiled_cache": SqliteDialect.compiled},
        )
    event.listen(engine, "begin", _begin)
    return engine


def _on_postgres(place: Place, wait: Wait) -> Engine:
    connect(place).close()  # says what is missing, if anything is
    from headgate.stores.postgres.alchemy import DriverConnection

    registry.register("postgresql.headgate", "headgate.stores.postgres.alchemy", "Dialect")
    return create_engine(
        "postgresql+headgate://",
        creator=lambda: DriverConnection(cast("Any", connect(place, wait=wait))),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
    )


def raw(connection: Connection) -> Direct:
    """Return the database's own connection, in the same transaction, for statements that servers share."""
    return cast("Direct", connection.connection.driver_connection)


def _begin(connection: Connection, *_: Any) -> None:
    reading = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
