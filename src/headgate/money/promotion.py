"""Tiers that an account earns by what it has paid. Pure; which tiers there are is data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.money.credit import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.values import NanoUSD, WallMicros


class Step(NamedTuple):
    """One tier, as far as promotion goes."""

    name: str
    paid: NanoUSD  # by top-ups, all together, less what was refunded
    days: int = 0  # since the first payment
    cap: NanoUSD = 0  # per month; 0: none


class Distance(NamedTuple):
    """How far an account is from its next tier."""

    tier: str  # the next one
    missing: NanoUSD  # to be paid
    not_before: WallMicros  # 0: at once, or as many days after the first payment as the tier asks
    days: int


def earned(
    steps: Sequence[Step], current: str, paid: NanoUSD, paid_since: tuple[WallMicros, WallMicros]
) -> str:
    """Return the tier that an account has earned: never below the current one.

    Args:
        steps: every tier, the lowest first.
        current: its tier; one that is none of the steps is kept.
        paid: all its top-ups.
        paid_since: when it first paid (0: never), and now.
    """
    index = _index(steps, current)
    if index is None:
        return current
    first, now = paid_since
    for step in reversed(steps[index + 1 :]):
        if paid >= step.paid and (not step.days or (first and now >= first + step.days * DAY_US)):
            return step.name
    return current


def distance(
    steps: Sequence[Step], current: str, paid: NanoUSD, first_paid_at: WallMicros
) -> Distance | None:
    """Return what is missing to the next tier; None at the last one, or outside of the tiers."""
    index = _index(steps, current)
    if index is None or index + 1 == len(steps):
        return None
    step = steps[index + 1]
    not_before = first_paid_at + step.days * DAY_US if first_paid_at and step.days else 0
    return Distance(step.name, max(0, step.paid - paid), not_before, step.days)


def find(steps: Sequence[Step], name: str) -> Step | None:
    """Return a tier by its name."""
    return next((step for step in steps if step.name == name), None)


def _index(steps: Sequence[Step], name: str) -> int | None:
    return next((index for index, step in enumerate(steps) if step.name == name), None)
