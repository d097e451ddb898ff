"""The shipped price data: which provider charges what for which model, since when.

The file is generated (`tools/make_prices.py`). It is read whole but decoded by provider, on first
use: of two thousand models a server needs a handful.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.values import Prices

if TYPE_CHECKING:
    from headgate.values import WallMicros

DATA: Final = Path(__file__).parent.parent / "data"

_DAY_S = 86_400
_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


class DatedPrices(msgspec.Struct, frozen=True, array_like=True):
    """A model's prices from a day on, perhaps only in a window of every day (seconds UTC)."""

    since: str  # ISO date; empty: always
    start_s: int
    end_s: int  # 0: all day
    prices: Prices | None  # None: not charged by token
    tiers: dict[str, Prices] = {}  # batch, flex, priority, fast, …

    def covers(self, at: WallMicros) -> bool:
        """Say whether this row is in force at an instant, later rows apart."""
        if at < day_micros(self.since):
            return False
        return not self.end_s or self.start_s <= at // 1_000_000 % _DAY_S < self.end_s

    def edges(self, at: WallMicros) -> tuple[WallMicros, ...]:
        """Return the instants around `at` at which this row comes or goes."""
        since = (day_micros(self.since),)
        if not self.end_s:
            return since
        midnight = at // 1_000_000 // _DAY_S * _DAY_S
        days = (midnight - _DAY_S, midnight, midnight + _DAY_S)
        hours = (day + second for day in days for second in (self.start_s, self.end_s))
        return (*since, *(second * 1_000_000 for second in hours))


class PricedModel(msgspec.Struct, frozen=True, array_like=True):
    """One model of a provider: the names it answers to and what it has cost."""

    id: str
    context_window: int
    current: bool  # the id is a name that the provider takes, and not deprecated
    match: list[Any]
    rows: list[DatedPrices]

    def matches(self, name: str) -> bool:
        """Say whether a name (in lower case) means this model."""
        return any(_matches(clause, name) for clause in self.match)

    def row(self, at: WallMicros) -> DatedPrices | None:
        """Return the row in force at an instant; before the first one, the first."""
        for row in reversed(self.rows):
            if row.covers(at):
                return row
        return self.rows[0] if self.rows else None

    def since(self, row: DatedPrices) -> str:
        """Return the day from which a row's standard prices hold; empty: not known."""
        same_hours = [other for other in self.rows if other.start_s == row.start_s]
        since = row.since
        for other in reversed(same_hours[: same_hours.index(row)]):
            if other.prices != row.prices:
                break
            since = other.since
        return since


class PricedProvider(msgspec.Struct, frozen=True):
    """One provider: where its prices were read, and its models in order of precedence."""

    name: str
    source: str
    fallback: tuple[str, ...]
    models: list[PricedModel]


class _File(msgspec.Struct, frozen=True):
    source: str
    dated: str
    aliases: dict[str, str]  # what people and our host rows call providers
    hosts: dict[str, str]
    providers: dict[str, msgspec.Raw]


class PriceData:
    """The shipped prices, decoded as they are asked for.

    Args:
        content: the data file. Some milliseconds and a megabyte; keep one instance.
    """

    def __init__(self, content: bytes) -> None:
        file = msgspec.json.decode(content, type=_File)
        self.source = file.source
        self.dated = file.dated  # the day on which the data was right
        self._aliases = file.aliases
        self._hosts = file.hosts
        self._raw = file.providers
        self._providers: dict[str, PricedProvider] = {}
        self._decoder = msgspec.json.Decoder(PricedProvider)

    @classmethod
    def load(cls) -> PriceData:
        """Read the file that is shipped with the package."""
        return cls((DATA / "prices.json").read_bytes())

    @property
    def providers(self) -> tuple[str, ...]:
        """Return the ids of all providers."""
        return tuple(self._raw)

    def provider_id(self, name: str, base_url: str = "") -> str:
        """Return the id of a provider by its usual name, else by its URL; empty: not known.

        A name that merely contains a known one is not taken for it: prices are not guessed.
        """
        name = name.lower().strip()
        name = self._aliases.get(name, name)
        if name in self._raw:
            return name
        if base_url:
            for provider, pattern in self._hosts.items():
                if re.match(pattern, base_url):
                    return provider
        return ""

    def provider(self, provider_id: str) -> PricedProvider:
        """Return a provider by its id.

        Raises:
            KeyError: no such provider.
        """
        found = self._providers.get(provider_id)
        if found is None:
            found = self._decoder.decode(self._raw[provider_id])
            self._providers[provider_id] = found
        return found

    def model(self, provider_id: str, name: str) -> tuple[PricedProvider, PricedModel] | None:
        """Return the model that a name means at a provider, and whose price list it is on.

        Clouds that sell other makers' models fall back to the makers' lists.
        """
        if provider_id not in self._raw:
            return None
        name = name.lower()
        if name.startswith("arn:"):  # a cloud's full name of a model or a profile ends with its id
            name = name.rpartition("/")[2]
        dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", name)  # gpt-5.2-20251211, as some routers say
        for spelling in dict.fromkeys((name, dashed)):
            found = self._match(provider_id, spelling)
            if found is not None:
                return found
        return None

    def _match(self, provider_id: str, name: str) -> tuple[PricedProvider, PricedModel] | None:
        own = self.provider(provider_id)
        for provider in (own, *(self.provider(other) for other in own.fallback)):
            for model in provider.models:
                if model.matches(name):
                    return provider, model
        return None


def day_micros(day: str) -> WallMicros:
    """Return the first instant of an ISO date in UTC; of an empty one the beginning of time.

    Raises:
        ValueError: it is no ISO date.
    """
    if not day:
        return 0
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1_000_000


def _matches(clause: Any, name: str) -> bool:
    if isinstance(clause, str):
        return clause == name
    kind, argument = clause[0], clause[1]
    match kind:
        case "^":
            return name.startswith(argument)
        case "$":
            return name.endswith(argument)
        case "*":
            return argument in name
        case "~":
            return re.search(argument, name) is not None
        case _:  # "&": every part, each a list of alternatives
            return all(any(_matches(part, name) for part in parts) for parts in clause[1:])
