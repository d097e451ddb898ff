"""Say which secrets are old: of keys in use, since they were made or last rotated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import CallerError
from headgate.ops.keys import every_key
from headgate.records import KeyRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk
    from headgate.values import WallMicros

OLD_DAYS: Final = 90
VERY_OLD_DAYS: Final = 180
_DAY_US: Final = 86_400_000_000


class AgedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key whose secret is old."""

    key: KeyRecord
    days: int  # whole ones
    very_old: bool  # 180 days or more


def age_days(key: KeyRecord, now: WallMicros) -> int:
    """Return for how many whole days a key has had its secret."""
    return max(0, now - (key.rotated_at or key.created_at)) // _DAY_US


def old_keys(actor: Actor, desk: Desk, days: int = OLD_DAYS, **where: str) -> list[AgedKey]:
    """Return the keys in force whose secrets are older than some days, the oldest first.

    Args:
        actor: who sees of them what `list_keys` shows.
        desk: where.
        days: whole ones.
        where: as of `list_keys`.

    Raises:
        CallerError: there is no such age.
        PermissionRefused: the actor may not.
    """
    if days < 1:
        raise CallerError("days must be 1 or more.", param="days")
    now = desk.clock.wall()
    aged = [
        AgedKey(key=key, days=age, very_old=age >= VERY_OLD_DAYS)
        for key in every_key(actor, desk, **where)
        if not key.revoked_at
        and not (key.expires_at and key.expires_at <= now)
        and (age := age_days(key, now)) >= days
    ]
    return sorted(aged, key=lambda one: -one.days)
