"""Which keys have had their secret for too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from headgate.ops.keys import list_keys
from headgate.records import DAY_US, OLD_DAYS, OVERDUE_DAYS, Above, Below, KeyRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk, Page, PageOrder, Value
    from headgate.values import WallMicros

Age: TypeAlias = Literal["", "old", "overdue"]


def age_of(record: KeyRecord, now: WallMicros) -> Age:
    """Return whether a key is old, after 90 days, or overdue, after 180; one that is over is neither."""
    if record.revoked_at or (record.expires_at and record.expires_at <= now):
        return ""
    days = (now - max(record.created_at, record.rotated_at)) // DAY_US
    return "overdue" if days >= OVERDUE_DAYS else "old" if days >= OLD_DAYS else ""


def list_old_keys(actor: Actor, desk: Desk, page: PageOrder, days: int = OLD_DAYS, **where: Value) -> Page:
    """Return a page of the keys that can be used and have had their secret for so many days.

    Raises:
        as `list_keys`.
    """
    now = desk.clock.wall()
    since = Below(now - days * DAY_US + 1)
    return list_keys(actor, desk, page, revoked_at=0, ends_at=Above(now), secret_at=since, **where)
