"""Keys that have had their secret for too long: counted, and told of once in `events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.records import DAY_US, OLD_DAYS, OVERDUE_DAYS
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.postings import Event, add_event

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

_AT_ONCE: Final = 1000  # events of one look
_SINCE: Final = "max(k.created_at, k.rotated_at)"
_IN_USE: Final = "k.revoked_at = 0 AND (k.expires_at = 0 OR k.expires_at > :now)"
_COUNT: Final = (
    f"SELECT coalesce(sum(CASE WHEN {_SINCE} <= :old THEN 1 ELSE 0 END), 0),"
    f" coalesce(sum(CASE WHEN {_SINCE} <= :overdue THEN 1 ELSE 0 END), 0)"
    f" FROM keys k WHERE {_IN_USE}"
)
_NAME: Final = f"CAST(:kind AS TEXT) || k.public_id || ':' || {_SINCE}"
_UNTOLD: Final = (
    f"SELECT p.account, k.public_id, k.name, {_SINCE}"
    f" FROM keys k JOIN projects p ON p.id = k.project WHERE {_IN_USE} AND {_SINCE} <= :since"
    f" AND NOT EXISTS (SELECT 1 FROM events e WHERE e.name = {_NAME}) LIMIT {_AT_ONCE}"
)


class Ages(NamedTuple):
    """How many keys have had their secret for 90 days, and for 180."""

    old: int = 0
    overdue: int = 0


def note_ages(sql: Connection, now: WallMicros) -> Ages:
    """Count old keys, and write an event for each that has become old or overdue since the last look.

    Raises:
        sqlite3.Error: nothing was written.
    """
    limits = {days: now - days * DAY_US for days in (OLD_DAYS, OVERDUE_DAYS)}
    counts = {"now": now, "old": limits[OLD_DAYS], "overdue": limits[OVERDUE_DAYS]}
    ages = Ages(*sql.execute(_COUNT, counts).fetchone())
    if ages.old:
        with writing(sql):
            for days, since in limits.items():
                _tell(sql, days, since, now)
    return ages


def _tell(sql: Connection, days: int, since: WallMicros, now: WallMicros) -> None:
    rows = sql.execute(_UNTOLD, {"now": now, "kind": f"key.old:{days}:", "since": since}).fetchall()
    for account, key, name, at in rows:
        detail = {"days": days, "name": name, "secret_at": at}
        add_event(sql, Event(account, "key.old", key, f"{days}:{key}:{at}", now, detail))
