"""The price book: what a model costs us, and what a customer pays for it, at an instant.

Three layers, the first that knows a model wins: rows of the configuration, rows of a chosen book
(such as `guide-2025`), the shipped data. Margins then turn the provider's price into the
customer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.money.ownprices import (
    BOOKS,
    PriceBookFile,
    PriceOverride,
    PriceParts,
    convert,
    read_book,
)
from headgate.money.pricedata import PriceData, day_micros
from headgate.values import Prices, WallMicros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.values import PicoUSD

__all__ = [
    "BOOKS",
    "Margin",
    "PriceBook",
    "PriceBookFile",
    "PriceOverride",
    "PriceParts",
    "PriceRow",
    "read_book",
]

PAR: Final = 1_000_000  # millionths: the price as it is
_FOREVER: Final = 2**63 - 1
_CACHED = 4_096  # resolved models kept; callers choose the names


class Margin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a customer pays on top of the provider's price, in millionths (+20 %: 200,000).

    The most specific margin applies: provider and model, then model, then provider, then all.
    """

    ppm: int  # millionths: 100,000 is 10 %
    provider: str = "*"  # of this one alone
    model: str = "*"  # of this one alone


class PriceRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs at an instant, where that is known from and as of when."""

    provider: str
    model: str
    prices: Prices
    batch: Prices | None = None
    tiers: Mapping[str, Prices] = {}  # other service tiers: flex, priority, fast, …
    source: str
    dated: str
    since: str = ""  # the day from which the price holds, where known
    context_window: int = 0


class _OwnRow(msgspec.Struct, frozen=True):
    provider: str
    model: str
    begins: bool  # `model` is the beginning of a name
    since: WallMicros
    rank: tuple[int, bool, int, bool, int, int]  # layer, whole, length, provider, since, position
    row: PriceRow


class _Span(msgspec.Struct, frozen=True, gc=False):
    start: int
    end: int
    cost: PriceRow | None
    customer: PriceRow | None


class PriceBook:
    """All prices that a server knows.

    Args:
        data: the shipped prices.
        layers: own rows, the weakest layer first.
        margins: what customers pay on top.
        names: of providers in the shipped prices, by the names that they have here, where they differ.

    Raises:
        ValueError: a row is negative, finer than a pico-USD per token, or of an unknown date.
    """

    def __init__(
        self,
        data: PriceData,
        layers: Sequence[Sequence[PriceOverride]] = (),
        margins: Sequence[Margin] = (),
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data
        self._names = names or {}
        self._own = tuple(
            _own_row(row, layer, position)
            for layer, rows in enumerate(layers)
            for position, row in enumerate(rows)
        )
        self._margins = tuple(_checked(margin) for margin in margins)
        self._spans: dict[tuple[str, str], _Span] = {}

    @classmethod
    def load(
        cls,
        overrides: Sequence[PriceOverride] = (),
        margins: Sequence[Margin] = (),
        book: str = "default",
        data: PriceData | None = None,
        names: Mapping[str, str] | None = None,
    ) -> PriceBook:
        """Read the shipped prices and lay a named book and own rows over them.

        Args:
            overrides: rows of the configuration.
            margins: of the configuration.
            book: `default`, `guide-2025`, or the path of a TOML file of the same form.
            data: the shipped prices, where they are loaded already.
            names: as above.

        Raises:
            ValueError: no such book, or a row that is not one.
        """
        return cls(data or PriceData.load(), (read_book(book), overrides), margins, names)

    def find(self, provider: str, model: str, at: WallMicros) -> PriceRow | None:
        """Return what a customer pays, margin included; None: unpriced."""
        return self._span(provider, model, at).customer

    def find_cost(self, provider: str, model: str, at: WallMicros) -> PriceRow | None:
        """Return what the provider charges us; None: unpriced."""
        return self._span(provider, model, at).cost

    def valid(self, provider: str, model: str, at: WallMicros) -> tuple[WallMicros, WallMicros]:
        """Return since when and until when (exclusive) both answers above hold."""
        span = self._span(provider, model, at)
        return span.start, span.end

    def _span(self, provider: str, model: str, at: WallMicros) -> _Span:
        span = self._spans.get((provider, model))
        if span is None or not span.start <= at < span.end:
            span = self._resolve(provider, model, at)
            if len(self._spans) >= _CACHED:
                self._spans.clear()
            self._spans[provider, model] = span
        return span

    def _resolve(self, provider: str, model: str, at: WallMicros) -> _Span:
        provider_id = self._names.get(provider) or self.data.provider_id(provider) or provider
        own = [row for row in self._own if _applies(row, provider, provider_id, model)]
        shipped, edges = self._shipped(provider_id, model, at)
        edges += [row.since for row in own]
        cost = max((row for row in own if row.since <= at), key=lambda row: row.rank, default=None)
        found = shipped if cost is None else cost.row
        if found is not None:
            found = msgspec.structs.replace(found, provider=provider, model=model)
        return _Span(
            max((edge for edge in edges if edge <= at), default=0),
            min((edge for edge in edges if edge > at), default=_FOREVER),
            found,
            found and _with_margin(found, self._margin(provider, provider_id, model)),
        )

    def _shipped(
        self, provider_id: str, model: str, at: WallMicros
    ) -> tuple[PriceRow | None, list[WallMicros]]:
        found = self.data.model(provider_id, model)
        if found is None:
            return None, []
        provider, priced = found
        edges = [edge for row in priced.rows for edge in row.edges(at)]
        row = priced.row(at)
        if row is None or row.prices is None:
            return None, edges
        source = f"{self.data.source}, {provider.source}".rstrip(", ")
        shipped = PriceRow(
            provider=provider_id,
            model=model,
            prices=row.prices,
            batch=row.tiers.get("batch"),
            tiers=row.tiers,
            source=source,
            dated=self.data.dated,
            since=priced.since(row),
            context_window=priced.context_window,
        )
        return shipped, edges

    def _margin(self, provider: str, provider_id: str, model: str) -> int:
        best: tuple[tuple[int, bool, bool], int] = ((-1, False, False), 0)
        for margin in self._margins:
            if margin.provider not in {"*", provider, provider_id}:
                continue
            begins = margin.model.endswith("*")
            name = margin.model.removesuffix("*")
            if not _names(name, model, begins):
                continue
            # A longer beginning is more specific; any model outweighs any provider.
            weight = (len(name), not begins, margin.provider != "*")
            if weight >= best[0]:
                best = (weight, margin.ppm)
        return best[1]


def _own_row(own: PriceOverride, layer: int, position: int) -> _OwnRow:
    prices, batch = convert(own)
    try:
        since = day_micros(own.since)
    except ValueError as error:
        raise ValueError(f"price of {own.model}: since: {error}") from error
    row = PriceRow(
        provider="",
        model="",
        prices=prices,
        batch=batch,
        tiers={} if batch is None else {"batch": batch},
        source=own.source or "config",
        dated=own.dated or own.since,
        since=own.since,
        context_window=own.context_window,
    )
    begins = own.model.endswith("*")
    name = own.model.removesuffix("*").lower()
    rank = (layer, not begins, len(name), own.provider != "*", since, position)
    return _OwnRow(own.provider.lower(), name, begins, since, rank, row)


def _checked(margin: Margin) -> Margin:
    if margin.ppm < -PAR:
        raise ValueError(f"a margin of {margin.ppm} ppm would make prices negative")
    return msgspec.structs.replace(margin, provider=margin.provider.lower(), model=margin.model.lower())


def _applies(row: _OwnRow, provider: str, provider_id: str, model: str) -> bool:
    if row.provider not in {"*", provider.lower(), provider_id}:
        return False
    return _names(row.model, model, row.begins)


def _names(pattern: str, model: str, begins: bool) -> bool:
    model = model.lower()
    return model.startswith(pattern) if begins else model == pattern


def _with_margin(row: PriceRow, ppm: int) -> PriceRow:
    if not ppm:
        return row
    tiers = {name: scaled(prices, PAR + ppm) for name, prices in row.tiers.items()}
    return msgspec.structs.replace(
        row, prices=scaled(row.prices, PAR + ppm), batch=tiers.get("batch"), tiers=tiers
    )


def scaled(prices: Prices, ppm: int) -> Prices:
    """Return every unit price times so many millionths, rounded up to a pico-USD."""

    def up(pico: PicoUSD) -> PicoUSD:
        return -(-pico * ppm // PAR)

    return Prices(
        input=up(prices.input),
        output=up(prices.output),
        cached_input=up(prices.cached_input),
        cache_write=up(prices.cache_write),
        reasoning=up(prices.reasoning),
        input_audio=up(prices.input_audio),
        output_audio=up(prices.output_audio),
        request=up(prices.request),
        long_above=prices.long_above,
        long=None if prices.long is None else scaled(prices.long, ppm),
        more=tuple((name, up(pico)) for name, pico in prices.more),
    )
