"""Calls in PostgreSQL: a table for each month of their ids, and one for those whose month has none.

Ids are UUIDv7, so they begin with the time; a call's key alone says in which table it is, and stays unique in
all of them. The tables of a month and of the next ones are made before they are needed. What comes to none of
them (by a clock that was set, by a journal as old as what was dropped) is in `calls_rest`; none is refused.

Old months are dropped whole. Their calls are added up before that, some at a time, in tables beside those of
all months. Then `dropped_hours` and `dropped_units` inherit what is there, and the calls go, in one short
transaction. A call that comes to such a month meanwhile voids what was added up, and it begins anew.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.connection import Month

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

REST: Final = "calls_rest"
AHEAD: Final = 2  # months after this one that have a table
_YEARS: Final = range(2020, 2100)  # other ids are of no clock that is right
_LATEST: Final = 4_102_444_799  # the last second of them
_MOVED: Final = 10_000  # calls that are moved out of the rest when their month gets a table; more stay there
_INHERITED: Final = ("dropped_hours", "dropped_units")
_ADDED: Final = ("horizon", "dropped_numbers", "dropped_entries", *_INHERITED)
_NAME: Final = re.compile(r"_\d{4}_\d\d")
_FOUND: Final = (
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = CAST(CAST(? AS text) AS regclass)"
)
_VOID: Final = "dropping_void"


def of_a_month(table: str) -> bool:
    """Say whether a table is one of a month: of its calls, or of what they are added up in."""
    base = table[:-8]
    return _NAME.fullmatch(table[-8:]) is not None and (base == "calls" or base in _ADDED)


def month_at(moment: datetime) -> Month:
    """Return the month of an instant in UTC."""
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    after = (first + timedelta(days=32)).replace(day=1)
    return Month(f"{first:%Y_%m}", *(_id_at(edge) for edge in (first, after)))


def month_of(call: bytes) -> Month | None:
    """Return the month of a call by its id; None where no clock that is right has made it."""
    seconds = int.from_bytes(call[:6]) // 1000
    if seconds > _LATEST:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return month_at(moment) if moment.year in _YEARS else None


def _id_at(edge: datetime) -> bytes:
    return (round(edge.timestamp()) * 1000).to_bytes(6) + bytes(10)


def _following(now: WallMicros) -> Iterator[Month]:
    """Yield the month of an instant, and those that are made ahead of it."""
    month = month_of((max(now, 0) // 1000).to_bytes(8)[2:])
    for _ in range(AHEAD + 1):
        if month is None:
            return
        yield month
        month = month_of(month.before)


class PostgresMonths:
    """Implements `sql.connection.Months`.

    Args:
        sql: the connection that it works on.
        table: the calls of all months.
    """

    def __init__(self, sql: Connection, table: str = "calls") -> None:
        self._sql = sql
        self._table = table

    def cover(self, ids: Iterable[bytes]) -> None:
        """Make the tables of calls whose months have none."""
        if self._is_there(REST):  # as it is not in books of before
            self._make_missing(month for call in ids if (month := month_of(call)) is not None)

    def ahead(self, now: WallMicros) -> None:
        """Make the tables of this month and the next ones."""
        following = list(_following(now))
        if {month.calls for month in following} <= self._names():
            return
        with writing(self._sql):
            self._sql.execute(f"LOCK TABLE {REST} IN ACCESS EXCLUSIVE MODE NOWAIT")  # keeps nobody waiting
            self._make_missing(following)

    def _names(self) -> set[str]:
        return {name for (name,) in self._sql.execute(_FOUND, (self._table,))}

    def _make_missing(self, months: Iterable[Month]) -> None:
        there = self._names()
        for month in sorted(set(months)):
            # A month that was dropped comes again only where a clock was set back.
            if month.calls not in there and not self._is_there(f"dropped_hours{month.suffix}"):
                self._make(month)

    def _make(self, month: Month) -> None:
        sql, span = self._sql, (month.first, month.before)
        inside = "call >= ? AND call < ?"
        (strays,) = sql.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {REST} WHERE {inside} LIMIT {_MOVED + 1}) AS strays", span
        ).fetchone()
        if strays > _MOVED:
            return
        sql.execute(f"CREATE TABLE {month.calls} (LIKE {self._table} INCLUDING DEFAULTS)")
        if strays:
            sql.execute(f"ALTER TABLE {REST} DISABLE TRIGGER USER")
            sql.execute(
                f"WITH moved AS (DELETE FROM {REST} WHERE {inside} RETURNING *)"
                f" INSERT INTO {month.calls} SELECT * FROM moved",
                span,
            )
            sql.execute(f"ALTER TABLE {REST} ENABLE TRIGGER USER")
        first, before = (rf"'\x{edge.hex()}'" for edge in span)
        values = f"FOR VALUES FROM ({first}) TO ({before})"
        sql.execute(f"ALTER TABLE {self._table} ATTACH PARTITION {month.calls} {values}")
        sql.execute(
            f"CREATE TRIGGER calls_keep_truncate BEFORE TRUNCATE ON {month.calls} FOR EACH STATEMENT"
            " EXECUTE FUNCTION headgate_refuse('calls are append-only')"
        )

    def _is_there(self, table: str) -> bool:
        query = "SELECT to_regclass(CAST(? AS text)) IS NOT NULL"
        return bool(self._sql.execute(query, (table,)).fetchone()[0])

    # ── months that are dropped ──────────────────────────────────────────────────────────────────

    def oldest(self, before: bytes) -> Month | None:
        """Return the oldest month whose ids are all below one."""
        names = sorted(self._names() - {REST})
        if not names:
            return None
        year, number = names[0].split("_")[1:]
        month = month_at(datetime(int(year), int(number), 1, tzinfo=UTC))
        return month if month.before <= before else None

    def begun(self, month: Month) -> bytes | None:
        """Return the id from which on its calls are not added up yet."""
        sql, of = self._sql, month.suffix
        if not self._is_there(month.calls):
            return None
        if self._is_there(f"horizon{of}"):
            row = sql.execute(f"SELECT before FROM horizon{of}").fetchone()
            if row is not None:
                return bytes(row[0])
            for table in _ADDED:
                sql.execute(f"DROP TABLE {table}{of}")
        for table in _ADDED:
            sql.execute(f"CREATE TABLE {table}{of} (LIKE {table} INCLUDING ALL)")
        sql.execute(f"DROP TRIGGER IF EXISTS {_VOID} ON {month.calls}")
        sql.execute(
            f"CREATE TRIGGER {_VOID} AFTER INSERT OR DELETE ON {month.calls} FOR EACH ROW"
            " EXECUTE FUNCTION headgate_void()"
        )
        sql.execute(f"INSERT INTO horizon{of} VALUES (1, ?, 0)", (month.first,))
        return month.first

    def lock(self, month: Month) -> None:
        """Lock a month, before anything else is read: whoever waits would keep others waiting."""
        if not self._is_there(month.calls):
            return
        for table in (f"ONLY {self._table}", month.calls):
            self._sql.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE NOWAIT")

    def drop(self, month: Month) -> None:
        """Drop the calls of a month, and let their sums count."""
        for table in _INHERITED:
            self._sql.execute(f"ALTER TABLE {table}{month.suffix} INHERIT {table}")
        gone = ", ".join(f"{table}{month.suffix}" for table in ("calls", *_ADDED) if table not in _INHERITED)
        self._sql.execute(f"DROP TABLE {gone}")
