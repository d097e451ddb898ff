"""How targets have done, hour by hour, for ninety days: written by the workers, off the path of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.stores.sql.bootstrap import writing
from headgate.vitals import DAYS, DayRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

_HOUR_US: Final = 3_600_000_000
_DAY_HOURS: Final = 24


class Tried(NamedTuple):
    """What has become of attempts at a target since this was last said."""

    provider: str
    model: str
    probe: bool
    served: int
    failed: int


def add(sql: Connection, rows: Iterable[Tried], now: WallMicros) -> None:
    """Add to the hour that it is now."""
    hour = now // _HOUR_US
    with writing(sql):
        sql.executemany(
            "INSERT INTO uptime VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (hour, provider, model, probe)"
            " DO UPDATE SET served = uptime.served + excluded.served,"
            " failed = uptime.failed + excluded.failed",
            [(hour, *row) for row in rows],
        )


def kept(sql: Connection, now: WallMicros) -> list[DayRow]:
    """Return the days that are kept, today the last, in UTC."""
    rows = sql.execute(
        "SELECT hour / 24, provider, model, probe, sum(served), sum(failed) FROM uptime WHERE hour >= ?"
        " GROUP BY hour / 24, provider, model, probe",
        (_first(now),),
    )
    return [
        DayRow(day, provider, model, bool(probe), served, failed)
        for day, provider, model, probe, served, failed in rows
    ]


def prune(sql: Connection, now: WallMicros) -> None:
    """Forget what is older than the days that are kept."""
    with writing(sql):
        sql.execute("DELETE FROM uptime WHERE hour < ?", (_first(now),))


def _first(now: WallMicros) -> int:
    """Return the first hour that is kept."""
    return (now // _HOUR_US // _DAY_HOURS - DAYS + 1) * _DAY_HOURS
