"""SQLAlchemy on the books' SQLite file, for commands and migrations. A server does without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from headgate.stores.sql.database import connect

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection as Direct
    from headgate.stores.sql.database import Place

READING: Final = "reading"  # an execution option: this transaction takes no lock


def open_engine(place: Place) -> Engine:
    """Return an engine whose transactions take the write lock at once, schema changes included."""
    engine = create_engine("sqlite://", creator=lambda: connect(place), poolclass=StaticPool)
    event.listen(engine, "begin", _begin)
    return engine


def raw(connection: Connection) -> Direct:
    """Return the database's own connection, in the same transaction, for statements that servers share."""
    return cast("Direct", connection.connection.driver_connection)


def _begin(connection: Connection, *_: Any) -> None:
    reading = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
