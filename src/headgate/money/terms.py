"""On what terms accounts use this gateway: with or without credit, and what a new one begins with. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal, TypeAlias

import msgspec

from headgate.money.amounts import parse_usd
from headgate.money.credit import DAY_US
from headgate.values import NanoUSD, WallMicros

ModeName: TypeAlias = Literal["internal", "prepaid"]
_MAX_DAYS = 36_500


class ModeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether accounts need credit: `internal` (no), or `prepaid` (they spend nothing else)."""

    name: ModeName = "internal"  # `internal` or `prepaid`
    signup_usd: Decimal = Decimal(5)  # prepaid: what a new account is given, in each book; 0: nothing
    signup_days: int = 90  # and for how long; 0: for ever
    minimum_usd: Decimal = Decimal(5)  # prepaid: the smallest top-up
    tier: str = "free"  # prepaid: of a new account; empty: none, no tier limits


class PaymentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How payments are reported to us."""

    stripe_secret: str = ""  # of the webhook endpoint: `env:NAME`, `file:PATH` or itself; empty: it is off
    live: bool = True  # take live events, into real money; false: test events, into play money


class Terms(msgspec.Struct, frozen=True):
    """The same as values. Money is nano-USD."""

    prepaid: bool = False
    signup: NanoUSD = 0
    signup_days: int = 0
    minimum: NanoUSD = 0
    tier: str = ""

    def signup_until(self, now: WallMicros) -> WallMicros:
        """Return when a sign-up grant that is given now expires; 0: never."""
        return now + self.signup_days * DAY_US if self.signup_days else 0


def terms_of(settings: ModeSettings) -> Terms:
    """Return the terms that settings mean.

    Raises:
        ValueError: one is no amount, or out of bounds; names it.
    """
    amounts = {}
    for name in ("signup_usd", "minimum_usd"):
        try:
            amounts[name] = parse_usd(format(getattr(settings, name), "f"))
        except ValueError as fault:
            raise ValueError(f"mode.{name}: {fault}") from fault
    if not 0 <= settings.signup_days <= _MAX_DAYS:
        raise ValueError(f"mode.signup_days {settings.signup_days} is not between 0 and {_MAX_DAYS}")
    return Terms(
        settings.name == "prepaid",
        amounts["signup_usd"],
        settings.signup_days,
        amounts["minimum_usd"],
        settings.tier,
    )


DEFAULT_TERMS: Final = terms_of(ModeSettings())
