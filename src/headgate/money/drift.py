"""What changed between two price books: rows that came, went, or cost something else. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import msgspec

from headgate.money.ownprices import convert
from headgate.money.pricedata import day_micros
from headgate.values import PicoUSD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headgate.money.ownprices import PriceOverride
    from headgate.money.pricedata import PriceData, PricedModel
    from headgate.values import Prices

Key: TypeAlias = tuple[str, str]  # provider and model
Parts: TypeAlias = dict[str, int]  # unit prices in pico-USD by what they are of

ANY: Final = "*"  # a row for whoever sells the model
_SECOND_US: Final = 1_000_000


class Change(msgspec.Struct, frozen=True):
    """One unit price before and after, in pico-USD; None: there was or is none."""

    part: str
    old: PicoUSD | None
    new: PicoUSD | None


class Drift(msgspec.Struct, frozen=True):
    """A model of a provider whose row is not what it was."""

    provider: str
    model: str
    kind: Literal["changed", "added", "removed"]
    changes: tuple[Change, ...]


class DatedBook(Protocol):
    """A price book as it is on one day."""

    whole: bool  # it means to name every model, so that what it lacks is gone

    def keys(self) -> Iterable[Key]:
        """Return the rows that are in force."""
        ...

    def find(self, key: Key, *, exact: bool) -> Parts:
        """Return the unit prices of a row, by its own name or also by what the name means; {}: none."""
        ...


class ShippedBook:
    """A book of the form that is shipped, on a day.

    Args:
        data: the book.
        day: ISO date, UTC; where prices depend on the hour, each span of hours is a part of its own.
        sellers: whom to ask, in this order, for a model of whoever sells it.
    """

    whole = True

    def __init__(self, data: PriceData, day: str, sellers: Sequence[str] = ()) -> None:
        self._data = data
        self._midnight = day_micros(day)
        self._sellers = sellers or data.providers
        models = (
            (provider, model) for provider in data.providers for model in data.provider(provider).models
        )
        rows = ((provider, model, self._parts(model)) for provider, model in models)
        self._rows = {(provider, model.id): parts for provider, model, parts in rows if parts}

    def keys(self) -> Iterable[Key]:
        """Return the rows that are in force."""
        return self._rows

    def find(self, key: Key, *, exact: bool) -> Parts:
        """Return the unit prices of a row, by its own name or also by what the name means; {}: none."""
        own = self._rows.get(key)
        if own is not None or exact:
            return own or {}
        provider, name = key
        for seller in self._sellers if provider == ANY else (self._data.provider_id(provider),):
            found = self._data.model(seller, name)
            if found is not None and (parts := self._parts(found[1])):
                return parts
        return {}

    def _parts(self, model: PricedModel) -> Parts:
        hours = dict.fromkeys((row.start_s, row.end_s) for row in model.rows if row.end_s)
        parts = _flat(model, self._midnight + _outside(list(hours)) * _SECOND_US, "")
        for start, end in hours:
            parts |= _flat(model, self._midnight + start * _SECOND_US, f" {_clock(start)}-{_clock(end)}")
        return parts


class OwnBook:
    """Rows that people wrote, on a day: the last that has begun counts. It names only what it changes."""

    whole = False

    def __init__(self, rows: Iterable[PriceOverride], day: str) -> None:
        at = day_micros(day)
        self._rows: dict[Key, Parts] = {}
        for row in sorted((row for row in rows if day_micros(row.since) <= at), key=_begins):
            prices, batch = convert(row)
            parts = dict(_units(prices, ""))
            if batch is not None:
                parts |= _units(batch, "batch ")
            self._rows[row.provider.lower(), row.model] = parts

    def keys(self) -> Iterable[Key]:
        """Return the rows that are in force, without those for the beginnings of names."""
        return (key for key in self._rows if not key[1].endswith(ANY))

    def find(self, key: Key, *, exact: bool) -> Parts:
        """Return the unit prices of a row, also of one for whoever sells the model; {}: none."""
        del exact  # it has no other names
        return self._rows.get(key) or self._rows.get((ANY, key[1])) or {}


def drift(old: DatedBook, new: DatedBook) -> Iterator[Drift]:
    """Yield what differs, by provider and model; of a book that is not whole only what it names."""
    named = [book.keys() for book in (old, new) if not book.whole]
    exact = not named
    for key in sorted({key for keys in named or (old.keys(), new.keys()) for key in keys}):
        before, after = old.find(key, exact=exact), new.find(key, exact=exact)
        changes = tuple(
            Change(part, before.get(part), after.get(part))
            for part in dict.fromkeys((*before, *after))
            if before.get(part) != after.get(part)
        )
        if changes:
            kind: Literal["changed", "added", "removed"] = "changed"
            if not before or not after:
                kind = "added" if after else "removed"
            yield Drift(*key, kind, changes)


def _flat(model: PricedModel, at: int, when: str) -> Parts:
    row = model.row(at)
    if row is None or row.prices is None:
        return {}
    parts = {f"{part}{when}": pico for part, pico in _units(row.prices, "").items()}
    for tier, prices in row.tiers.items():
        parts |= {f"{part}{when}": pico for part, pico in _units(prices, f"{tier} ").items()}
    return parts


def _units(prices: Prices, prefix: str) -> Parts:
    """Return the unit prices that a row has; what only falls back to another part is left out."""
    parts: Parts = {}
    fall = {"cached_input": "input", "cache_write": "input", "reasoning": "output", "request": ""}
    fall |= {"input_audio": "input", "output_audio": "output"}
    for name in prices.__struct_fields__:
        value = getattr(prices, name)
        if name == "long" and value is not None:
            parts |= _units(value, f"{prefix}above {prices.long_above} ")
        elif name == "more":
            parts |= {f"{prefix}{unit}": pico for unit, pico in value}
        elif isinstance(value, int) and name != "long_above" and value != _fallback(prices, fall.get(name)):
            parts[f"{prefix}{name}"] = value
    return parts


def _fallback(prices: Prices, name: str | None) -> int | None:
    """Return what a part costs that is not said: its whole; nothing at all where `name` is empty."""
    if name is None:
        return None
    return getattr(prices, name) if name else 0


def _outside(hours: list[tuple[int, int]]) -> int:
    """Return a second of the day that no span of hours covers."""
    second = 0
    for start, end in sorted(hours):
        if start <= second < end:
            second = end
    return second


def _clock(second: int) -> str:
    return f"{second // 3600:02d}:{second % 3600 // 60:02d}"


def _begins(row: PriceOverride) -> int:
    return day_micros(row.since)
