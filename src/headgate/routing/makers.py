"""What routing is told of models and hosts: where prices and facts come from, how a host is addressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from headgate.money.batchterms import BatchSettings
from headgate.routing.demands import DemandSettings
from headgate.values import Deadlines, Host, KeyRules, Model, Pairs, Prices, WallMicros

if TYPE_CHECKING:
    from headgate.values import Holding


class PriceSource(Protocol):
    """What routing asks of the price book."""

    def find(self, provider: str, model: str, at: WallMicros) -> Priced | None:
        """Return what the customer pays."""
        ...

    def find_cost(self, provider: str, model: str, at: WallMicros) -> Priced | None:
        """Return what the provider takes."""
        ...

    def valid(self, provider: str, model: str, at: WallMicros) -> tuple[WallMicros, WallMicros]:
        """Return since when and until when (exclusive) what both say of `at` holds."""
        ...


class Priced(Protocol):
    """A row of the price book."""

    @property
    def prices(self) -> Prices:
        """Return the unit prices."""
        ...

    @property
    def tiers(self) -> Mapping[str, Prices]:
        """Return the unit prices of other service tiers."""
        ...

    @property
    def context_window(self) -> int:
        """Return the model's window in tokens; 0: the row does not say."""
        ...


class Facts(Protocol):
    """What routing asks of the catalogue."""

    def model(self, provider: str, name: str) -> Model:
        """Return what is known of a model."""
        ...

    def names(self, provider: str) -> tuple[str, ...]:
        """Return the current models of a provider."""
        ...

    def end(self, host: Host, name: str) -> tuple[str, Pairs]:
        """Return the day on which a model is shut down there, and the response headers that say so."""
        ...

    def cannot(self, host: Host, name: str) -> tuple[Holding, ...]:
        """Return what a model cannot do with, as far as that is known."""
        ...


class Makers(msgspec.Struct, frozen=True):
    """Where prices and facts of a model come from, and how a host is addressed."""

    facts: Facts
    prices: PriceSource
    price_names: Mapping[str, str]  # a host's name in the price book, where it differs
    headers: Callable[[Host], tuple[tuple[str, str], ...]]
    base_path: Callable[[Host], str]
    deadlines: Deadlines = Deadlines()  # where a route has none of its own
    sellers: tuple[str, ...] = ()  # of the price book, makers first: whose prices the simulator plays
    key_rules: Mapping[str, KeyRules] = {}  # for the calls of a key, by its name
    demands: tuple[DemandSettings, ...] = ()  # of all calls
    batch: BatchSettings = BatchSettings()
