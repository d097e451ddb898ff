"""SQLAlchemy on the database of the books, for commands and migrations. A server does without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from headgate.stores.sql.database import connect, url_of

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection as Direct
    from headgate.stores.sql.database import Place, Wait

READING: Final = "reading"  # an execution option: this transaction takes no lock


def open_engine(place: Place, wait: Wait = "managing") -> Engine:
    """Return an engine whose transactions take the write lock at once, schema changes included.

    It has one connection, and one transaction at a time.
    """
    if url_of(place):
        engine = _on_postgres(place, wait)
    else:
        engine = create_engine("sqlite://", creator=lambda: connect(place), poolclass=StaticPool)
    event.listen(engine, "begin", _begin)
    return engine


def _on_postgres(place: Place, wait: Wait) -> Engine:
    connect(place).close()  # says what is missing, if anything is
    from sqlalchemy.dialects import registry

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
