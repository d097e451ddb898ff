"""Amounts of money as people write them, exactly: text to integer nano-USD and back."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

from headgate.values import NANO_PER_USD, NanoUSD

Unit: TypeAlias = Literal["day", "week", "month", "total"]

UNITS: Final[tuple[Unit, ...]] = ("day", "week", "month", "total")
MAX_NANO: Final[NanoUSD] = 2**63 - 1  # what the books can hold: 9.2 billion USD

_AMOUNT = re.compile(r"\$?([0-9]{1,12})(?:\.([0-9]{1,9}))?")


def parse_usd(text: str) -> NanoUSD:
    """Read an amount such as `20`, `0.85` or `$20`.

    Raises:
        ValueError: it is no such amount, is negative, is finer than a nano-USD, or is more than
            the books can hold.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is not an amount of USD: write it like 20, 0.85 or $20 "
            "(no sign, no thousands separators, at most 9 decimals)"
        )
    whole, fraction = match.groups()
    nano = int(whole) * NANO_PER_USD + int((fraction or "").ljust(9, "0"))
    if nano > MAX_NANO:
        raise ValueError(f"{text!r} is more than the books can hold (9.2 billion USD)")
    return nano


def format_usd(nano: NanoUSD) -> str:
    """Return the exact amount with at least two decimals: `$0.85`, `-$0.000000001`."""
    whole, rest = divmod(abs(nano), NANO_PER_USD)
    fraction = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}${whole}.{fraction}"


def parse_cap(text: str) -> tuple[NanoUSD, Unit]:
    """Read a cap: `20/month`, `5/day`, `100/total`; without a unit it is per month.

    Raises:
        ValueError: the amount or the unit is none.
    """
    amount, slash, unit = text.partition("/")
    unit = unit.strip() if slash else "month"
    if unit not in UNITS:
        raise ValueError(f"{text!r} has no known period: write amount/{'|'.join(UNITS)}")
    return parse_usd(amount), unit
