"""Price rows that people write: in the configuration, or in a book of their own (TOML)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.money.pricedata import DATA
from headgate.values import Prices

if TYPE_CHECKING:
    from headgate.values import PicoUSD

BOOKS: Final = ("default", "guide-2025")

_PICO_PER_USD = 10**12
_DEAREST: Final[PicoUSD] = 10**18  # a million USD for a token or a call is a slip of the pen


class PriceParts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices as people write them: USD for `per` tokens of the row that they stand in.

    A part that is left out costs what it is part of: cached input the input's price, and so on.
    """

    input: Decimal  # USD for `per` tokens, like all below
    output: Decimal  # USD
    cached_input: Decimal | None = None  # not given: as input
    cache_write: Decimal | None = None  # not given: as input
    reasoning: Decimal | None = None  # not given: as output
    input_audio: Decimal | None = None  # not given: as input
    output_audio: Decimal | None = None  # not given: as output
    units: Mapping[str, Decimal] = {}  # USD for one `image`, `second`, `character`, …, on top of the tokens


class PriceOverride(PriceParts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price row of one's own, perhaps valid only from a day on.

    `model` is a whole name, or the beginning of one with a trailing `*`. A whole name wins over a
    beginning, a longer beginning over a shorter one, a provider's own row over one for all, a later
    `since` over an earlier one, a later row over one before it.
    """

    model: str  # a name, or the beginning of one with `*`: the row with the longest that fits holds
    provider: str = "*"  # of this one alone: before rows for all
    per: int = 1_000_000  # tokens: 1, 1000 or 1000000
    request: Decimal = Decimal(0)  # a fee per call, in USD
    long_above: int = 0  # with `long`: prices of calls whose input is longer
    long: PriceParts | None = None  # the prices of such calls
    batch: PriceParts | None = None  # prices of batches
    since: str = ""  # ISO date, UTC: the latest that has come holds
    source: str = ""  # where the prices are from, shown with them
    dated: str = ""  # as of when, shown with them
    context_window: int = 0  # tokens; 0: not known


class PriceBookFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A book of rows in a TOML file, with where they come from."""

    source: str
    dated: str = ""
    prices: tuple[PriceOverride, ...] = ()


def read_book(name: str) -> tuple[PriceOverride, ...]:
    """Read the rows of a shipped book, or of a TOML file.

    Raises:
        ValueError: there is no such book or file, or it is not one.
    """
    if name == "default":
        return ()
    path = DATA / f"{name}.toml" if name in BOOKS else Path(name)
    if name not in BOOKS and path.suffix != ".toml":
        raise ValueError(f"no price book {name!r}: one of {', '.join(BOOKS)}, or a .toml file")
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text, parse_float=Decimal)
        book = msgspec.convert(content, PriceBookFile)
    except (OSError, ValueError) as error:  # TOML's and msgspec's errors are ValueErrors
        raise ValueError(f"price book {name}: {error}") from error
    return tuple(
        msgspec.structs.replace(row, source=row.source or book.source, dated=row.dated or book.dated)
        for row in book.prices
    )


def convert(own: PriceOverride) -> tuple[Prices, Prices | None]:
    """Return the unit prices of a row in pico-USD, and of its batches.

    Raises:
        ValueError: a price is negative or finer than a pico-USD per token.
    """
    if own.per not in {1, 1_000, 1_000_000}:
        raise ValueError(f"price of {own.model}: per must be 1, 1000 or 1000000 tokens")
    if bool(own.long_above) != (own.long is not None) or own.long_above < 0:
        raise ValueError(f"price of {own.model}: long_above and long go together")
    prices = _prices(own, own)
    if own.long is not None:
        long = _prices(own.long, own)
        prices = msgspec.structs.replace(prices, long_above=own.long_above, long=long)
    return prices, None if own.batch is None else _prices(own.batch, own)


def _prices(parts: PriceParts, own: PriceOverride) -> Prices:
    def unit(usd: Decimal | None, fallback: PicoUSD) -> PicoUSD:
        return fallback if usd is None else _pico(usd, own.per, own.model)

    text_in, text_out = unit(parts.input, 0), unit(parts.output, 0)
    return Prices(
        input=text_in,
        output=text_out,
        cached_input=unit(parts.cached_input, text_in),
        cache_write=unit(parts.cache_write, text_in),
        reasoning=unit(parts.reasoning, text_out),
        input_audio=unit(parts.input_audio, text_in),
        output_audio=unit(parts.output_audio, text_out),
        request=_pico(own.request, 1, own.model),
        more=tuple((name, _pico(usd, 1, own.model)) for name, usd in (parts.units or own.units).items()),
    )


def _pico(usd: Decimal, per: int, model: str) -> PicoUSD:
    pico = usd * _PICO_PER_USD / per if usd.is_finite() else Decimal(-1)
    if not 0 <= pico <= _DEAREST or pico != int(pico):
        raise ValueError(
            f"price of {model}: {usd} USD per {per} must be at least 0 "
            "and a whole number of pico-USD per token"
        )
    return int(pico)
