"""Tiers that an account earns by what it has paid. Pure; which tiers there are is data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.money.credit import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.money.tiers import Tier
    from headgate.values import NanoUSD, WallMicros


class Distance(NamedTuple):
    """How far an account is from its next tier."""

    tier: str  # the next one
    missing: NanoUSD  # to be paid
    not_before: WallMicros  # 0: at once, or as many days after the first payment as the tier asks
    days: int


def earned(
    tiers: Sequence[Tier], current: str, paid: NanoUSD, paid_since: tuple[WallMicros, WallMicros]
) -> str:
    """Return the tier that an account has earned: never below the current one.

    Args:
        tiers: every tier, the lowest first.
        current: its tier; one that is none of the tiers stays.
        paid: all its top-ups.
        paid_since: when it first paid (0: never), and now.
    """
    index = _index(tiers, current)
    if index is None:
        return current
    first, now = paid_since
    for tier in reversed(tiers[index + 1 :]):
        if paid >= tier.paid and (not tier.days or (first and now >= first + tier.days * DAY_US)):
            return tier.name
    return current


def distance(
    tiers: Sequence[Tier], current: str, paid: NanoUSD, first_paid_at: WallMicros
) -> Distance | None:
    """Return what is missing to the next tier; None at the last one, or outside of the tiers."""
    index = _index(tiers, current)
    if index is None or index + 1 == len(tiers):
        return None
    tier = tiers[index + 1]
    not_before = first_paid_at + tier.days * DAY_US if first_paid_at and tier.days else 0
    return Distance(tier.name, max(0, tier.paid - paid), not_before, tier.days)


def _index(tiers: Sequence[Tier], name: str) -> int | None:
    return next((index for index, tier in enumerate(tiers) if tier.name == name), None)
