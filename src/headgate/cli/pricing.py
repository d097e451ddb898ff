"""Find a model by its name, with its provider and its price; write prices for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.cli import compose
from headgate.cli.exits import Failed
from headgate.money.amounts import format_usd
from headgate.money.cards import Card, cards
from headgate.money.catalogue import Catalogue
from headgate.money.prices import PriceBook, PriceRow, read_book
from headgate.program import advise
from headgate.providers.registry import known_hosts
from headgate.values import Model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.config import Config
    from headgate.values import PicoUSD, Prices

_MILLION = 1_000_000


class Priced(msgspec.Struct, frozen=True):
    """A model of a provider, with its price where it has one."""

    provider: str
    model: Model
    row: PriceRow | None
    window: int = 0  # tokens; 0: not known
    card: Card | None = None

    @property
    def output(self) -> int:
        """Return how many tokens it makes at most; 0: not known."""
        return (self.card.output if self.card is not None else 0) or self.model.max_output


class Shelf:
    """All models and prices that some settings know."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.book: PriceBook = compose.price_book(config)
        self.catalogue = Catalogue.load(self.book.data)
        self._now = compose.CLOCK.wall()
        self._urls = {host.name: host.base_url for host in config.hosts}

    def find(self, name: str, provider: str | None = None) -> Priced:
        """Return a model by its name, which may say its provider: `deepseek/deepseek-flash`.

        Raises:
            Failed: no provider that is known here has it.
        """
        name = self.config.aliases.get(name, name)
        prefix, _, rest = name.partition("/")
        if provider is None and rest and self.book.data.provider_id(prefix):
            provider, name = prefix, rest
        for candidate in (provider,) if provider else self._providers():
            found = self.at(candidate, name)
            if found.row is not None:
                return found
        known = self.catalogue.model(provider or "openai", name)
        if known.tokenizer and provider in {None, "openai"}:
            return Priced("openai", known, None, known.context_window)
        where = f" at {provider}" if provider else ""
        raise Failed(
            f"No price is known for the model {name!r}{where}. List the ones there are with "
            f"`{advise('models --all')} {prefix[:4]}`, or name its provider with --provider."
        )

    def guess(self, name: str) -> Priced:
        """Return a model by its name; one that nobody knows as the first provider's, without a price."""
        try:
            return self.find(name)
        except Failed:
            return self.at(self.default_providers()[0], name)

    def at(self, provider: str, name: str) -> Priced:
        """Return a model of one provider."""
        row = self.book.find(provider, name, self._now)
        model = self.catalogue.model(provider, name)
        card = cards().find(provider, name, self._urls.get(provider, ""))
        # A row of the catalogue may be right for many models of a maker, a card is of this one.
        window = (card.window if card is not None else 0) or model.context_window
        if row is not None and row.context_window and not row.source.startswith(self.book.data.source):
            window = row.context_window  # a price book of one's own may tell of another time
        return Priced(provider, model, row, window, card)

    def names(self, provider: str) -> tuple[str, ...]:
        """Return the current models of a provider."""
        return self.catalogue.names(provider)

    def all_names(self, provider: str) -> tuple[str, ...]:
        """Return the models of a provider, those too that are not called by chat, or have ended."""
        made = (card.name for card in cards().made_by(provider))
        found = {name.lower(): name for name in (*made, *self.names(provider))}
        return tuple(found.values())

    def book_models(self) -> tuple[str, ...]:
        """Return the models of the chosen price book; none of the default one, which has all."""
        return tuple(dict.fromkeys(row.model for row in read_book(self.config.prices.book)))

    def providers(self) -> tuple[str, ...]:
        """Return every provider that is known, of prices or of models."""
        others = (
            name for name, row in known_hosts().items() if not self.book.data.provider_id(row.prices or name)
        )
        return (*self.book.data.providers, *(name for name in others if any(cards().made_by(name))))

    def default_providers(self) -> tuple[str, ...]:
        """Return the providers whose models are meant when none is said."""
        return tuple(host.name for host in self.config.hosts) or ("openai",)

    def _providers(self) -> Iterable[str]:
        """Yield providers in the order in which they are asked for a model."""
        makers = (row.prices or name for name, row in known_hosts().items())
        return dict.fromkeys((*self.default_providers(), "openai", *makers, *self.book.data.providers))


def per_million(price: PicoUSD) -> str:
    """Return a price per token as USD for a million tokens, exactly."""
    return per_call(price * _MILLION)


def per_call(price: PicoUSD) -> str:
    """Return pico-USD as USD, exactly."""
    nano, rest = divmod(price, 1000)
    text = format_usd(nano)
    return f"{text} + {rest} pico" if rest else text


def listed(prices: Prices) -> str:
    """Return the unit prices in words, with a fee per call and the prices of long inputs."""
    parts = {"input": prices.input, "cached": prices.cached_input, "output": prices.output}
    text = ", ".join(f"{name} {per_million(price)}" for name, price in parts.items())
    if prices.request:
        text += f"; {per_call(prices.request)} for each call"
    if prices.long is not None:
        text += f"; above {prices.long_above:,} input tokens: {listed(prices.long)}"
    return text


def provenance(row: PriceRow) -> str:
    """Return where a price is from and as of when."""
    since = f", in force since {row.since}" if row.since else ""
    return f"{row.source}, as of {row.dated or 'unknown date'}{since}"


def public_prices(row: PriceRow | None) -> dict[str, Any] | None:
    """Return a price row for JSON: pico-USD per token."""
    if row is None:
        return None
    return {
        "pico_usd_per_token": {
            name: value
            for name, value in msgspec.structs.asdict(row.prices).items()
            if isinstance(value, int) and name not in {"long_above", "request"}
        },
        "per_call_pico_usd": row.prices.request,
        "pico_usd_per_unit": dict(row.prices.more),
        "long_above_tokens": row.prices.long_above,
        "source": row.source,
        "dated": row.dated,
        "since": row.since,
    }


def unit_prices(row: PriceRow, *, batch: bool) -> Prices:
    """Return the prices of a row, or of its batches.

    Raises:
        Failed: it has no price for batches.
    """
    if not batch:
        return row.prices
    if row.batch is None:
        raise Failed(f"No batch price is known for {row.model} at {row.provider}.")
    return row.batch
