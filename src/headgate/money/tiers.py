"""Tiers as data: the limits, the monthly cap and the price of admission of each. Pure.

How an account moves from one to the next is promotion's.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from headgate.money.amounts import parse_usd
from headgate.money.pricedata import DATA
from headgate.values import Limits, NanoUSD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_DAYS = 36_500
_MAX_QUEUE_MS = 600_000
_DIMENSIONS = Limits.__struct_fields__


class LimitFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits as people write them; 0: none."""

    rpm: int = 0  # requests per minute
    tpm: int = 0  # tokens per minute
    rpd: int = 0  # requests per day
    tpd: int = 0  # tokens per day
    concurrency: int = 0  # calls at once


class ModelLimitRow(LimitFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that a model has instead of its tier's own."""

    model: str  # a name, or a pattern such as `gpt-4*`; the first row that matches holds


class TierRow(LimitFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an account may use by what it has paid."""

    name: str  # of a shipped tier, which it replaces, or of one of your own
    title: str = ""  # what people see; empty: the name
    paid: Decimal = Decimal(0)  # USD: top-ups that earn it, all together
    days: int = 0  # and days since the first of them
    cap: Decimal = Decimal(0)  # USD per month; 0: none
    queue_ms: int = 0  # how long a call may wait for a limit; 0: 429 at once
    models: tuple[ModelLimitRow, ...] = ()  # limits of some models, instead of the tier's


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tiers: tuple[TierRow, ...]


class Tier(msgspec.Struct, frozen=True, gc=False):
    """A tier. Money is nano-USD."""

    name: str
    title: str
    paid: NanoUSD  # top-ups that earn it
    days: int  # and days since the first of them
    cap: NanoUSD  # per month; 0: none
    queue_ms: int
    limits: Limits
    models: tuple[tuple[str, Limits], ...] = ()  # pattern, and the limits that hold instead


def load_tiers(own: Sequence[TierRow] = ()) -> tuple[Tier, ...]:
    """Return every tier, the cheapest first: the shipped ones, with rows of one's own over them.

    Raises:
        ValueError: a row that cannot be used; names it and the field.
    """
    shipped = msgspec.convert(tomllib.loads((DATA / "tiers.toml").read_text(encoding="utf-8")), _File)
    names = [row.name for row in own]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"tier {name!r} stands twice")
    rows = {row.name: row for row in (*shipped.tiers, *own)}
    return tuple(sorted((_tier(row) for row in rows.values()), key=lambda tier: (tier.paid, tier.days)))


def find_tier(tiers: Iterable[Tier], name: str) -> Tier | None:
    """Return a tier by its name."""
    return next((tier for tier in tiers if tier.name == name), None)


def _tier(row: TierRow) -> Tier:
    if not row.name or not row.name.isprintable():
        raise ValueError("a tier has a name")
    for field, most in (("days", _MAX_DAYS), ("queue_ms", _MAX_QUEUE_MS)):
        if not 0 <= getattr(row, field) <= most:
            raise ValueError(f"tier {row.name!r}: {field} is not between 0 and {most}")
    models = []
    for number, own in enumerate(row.models):
        if not own.model:
            raise ValueError(f"tier {row.name!r}: models[{number}] names no model")
        models.append((own.model, _limits(own, f"tier {row.name!r}, {own.model}")))
    return Tier(
        row.name,
        row.title or row.name,
        _usd(row.paid, f"tier {row.name!r}: paid"),
        row.days,
        _usd(row.cap, f"tier {row.name!r}: cap"),
        row.queue_ms,
        _limits(row, f"tier {row.name!r}"),
        tuple(models),
    )


def _usd(amount: Decimal, where: str) -> NanoUSD:
    try:
        return parse_usd(format(amount, "f"))
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}") from fault


def _limits(row: LimitFields, where: str) -> Limits:
    limits = Limits(*(getattr(row, name) for name in _DIMENSIONS))
    wrong = limits.wrong()
    if wrong:
        raise ValueError(f"{where}: {wrong}")
    return limits
