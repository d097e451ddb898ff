"""`headgate cost`: what calls cost, from the price book alone."""

from __future__ import annotations

import re

import click
import msgspec

from headgate.cli import compose
from headgate.cli.exits import Failed
from headgate.cli.options import Tokens, config_option, env_option, examples, json_option, prices_option
from headgate.cli.output import counted, print_json, print_table
from headgate.cli.pricing import Priced, Shelf, listed, per_million, provenance, public_prices, unit_prices
from headgate.cli.ratios import ratios_of_samples
from headgate.money.amounts import format_usd
from headgate.money.cost import cost
from headgate.money.prices import PriceRow
from headgate.values import NanoUSD, Usage

_SNAPSHOT = re.compile(r"-(20\d\d-\d\d-\d\d|\d{4})$")


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that are asked about."""

    input: int
    output: int
    cached: int
    count: int  # in all
    per_day: int  # 0: a plain number of calls
    days: int
    batch: bool

    @property
    def usage(self) -> Usage:
        """Return the usage of one call."""
        return Usage(self.input, self.output, cached_tokens=self.cached)

    @property
    def text(self) -> str:
        """Say which calls these are."""
        cached = f" ({self.cached:,} cached)" if self.cached else ""
        one = f"{self.input:,} input{cached} and {self.output:,} output tokens"
        batch = ", by batch" if self.batch else ""
        if self.per_day:
            days = counted(self.days, "day")
            return f"{counted(self.per_day, 'call')} a day for {days}, each of {one}{batch}"
        return f"{counted(self.count, 'call')} of {one}{batch}"


class Quote(msgspec.Struct, frozen=True):
    """What the calls cost with one model."""

    priced: Priced
    row: PriceRow
    one: NanoUSD
    total: NanoUSD


@examples(
    "cost --model gpt-4o --input 300 --output 200",
    "cost --model gpt-3.5-turbo --input 300 --output 200 --calls 1000 --prices guide-2025",
    "cost --model gpt-4o --input 300 --output 200 --per-day 1000 --days 30",
    "cost --compare --input 300 --output 200 --calls 1000",
    "cost --compare --provider deepseek --provider openai --input 1200 --output 800",
    "cost --tokens-per",
)
@click.command(name="cost")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Of this model. May be repeated.")
@click.option("--input", "input_", type=Tokens(), metavar="TOKENS", help="Input tokens of one call.")
@click.option("--output", type=Tokens(), metavar="TOKENS", help="Output tokens of one call.")
@click.option("--cached", type=Tokens(), default=0, metavar="TOKENS", help="Of the input, cached ones.")
@click.option("--calls", type=Tokens(), default=1, metavar="N", help="How many calls. [default: 1]")
@click.option("--per-day", type=Tokens(), default=0, metavar="N", help="Calls a day, instead of --calls.")
@click.option("--days", type=click.IntRange(1), default=30, show_default=True, help="Days, with --per-day.")
@click.option("--batch", is_flag=True, help="By the prices of batches.")
@click.option("--compare", is_flag=True, help="A table over models, the cheapest first.")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Of this provider.")
@click.option("--tokens-per", is_flag=True, help="Instead: tokens per 汉字, word and character.")
@config_option
@env_option
@prices_option
@json_option
def command(
    models: tuple[str, ...], providers: tuple[str, ...], compare: bool, as_json: bool, **given: object
) -> None:
    """Say what calls cost: one, many, or a month of them. Exact; every price has its date and source."""
    if given.pop("tokens_per"):
        _print_tokens_per(as_json)
        return
    calls = _calls(given)
    shelf = _shelf(given)
    if not models and not compare:
        raise click.UsageError("Say which model: --model gpt-4o, or --compare for a table.")
    quotes = (
        _compared(shelf, models, providers, calls) if compare else _asked(shelf, models, providers, calls)
    )
    if as_json:
        _print_json(quotes, calls, compare=compare)
    elif compare:
        _print_comparison(quotes, calls)
    else:
        for quote in quotes:
            _print_quote(quote, calls)


def _calls(given: dict[str, object]) -> Calls:
    input_, output = given["input_"], given["output"]
    if input_ is None or output is None:
        raise click.UsageError("Say how many tokens one call has: --input 300 --output 200.")
    values = msgspec.convert({**given, "input": input_, "count": 1}, Calls)
    if values.cached > values.input:
        raise click.UsageError(f"--cached {values.cached} is more than --input {values.input}.")
    count = values.per_day * values.days if values.per_day else msgspec.convert(given["calls"], int)
    return msgspec.structs.replace(values, count=count)


def _shelf(given: dict[str, object]) -> Shelf:
    names = {name: given[name] for name in ("config_file", "env_file", "prices")}
    return Shelf(compose.settings(**names))  # type: ignore[arg-type]  # click has made them texts


def _asked(shelf: Shelf, models: tuple[str, ...], providers: tuple[str, ...], calls: Calls) -> list[Quote]:
    provider = providers[0] if providers else None
    return [_quote(shelf.find(name, provider), calls) for name in models]


def _compared(shelf: Shelf, models: tuple[str, ...], providers: tuple[str, ...], calls: Calls) -> list[Quote]:
    """Quote every model that is meant and has a price, the cheapest first."""
    if models:
        quotes = _asked(shelf, models, providers, calls)
    else:
        quotes = [
            _quote(priced, calls) for priced in _candidates(shelf, providers) if _comparable(priced, calls)
        ]
    if not quotes:
        raise Failed("No model here has a price for that. Name others with --provider or --model.")
    return sorted(quotes, key=lambda quote: quote.total)


def _candidates(shelf: Shelf, providers: tuple[str, ...]) -> list[Priced]:
    own = [name for name in shelf.book_models() if not name.endswith("*")]
    if own and not providers:
        return [shelf.find(name) for name in own]
    names = [
        (provider, name)
        for provider in providers or shelf.default_providers()
        for name in shelf.names(provider)
    ]
    return [shelf.at(provider, name) for provider, name in names if not _SNAPSHOT.search(name)]


def _comparable(priced: Priced, calls: Calls) -> bool:
    """Say whether a model can serve the calls, as far as is known."""
    if priced.row is None or (calls.batch and priced.row.batch is None):
        return False
    fits = not priced.window or calls.input + calls.output <= priced.window
    return fits and "chat" in priced.model.operations and priced.row.prices.output > 0


def _quote(priced: Priced, calls: Calls) -> Quote:
    row = priced.row
    if row is None:
        raise Failed(
            f"The model {priced.model.name} has no price here. Give it one: [prices] rows in the file."
        )
    one = cost(calls.usage, unit_prices(row, batch=calls.batch))
    return Quote(priced, row, one, one * calls.count)


def _saving(quotes: list[Quote], quote: Quote) -> str:
    dearest = quotes[-1].total
    return f"{(dearest - quote.total) / dearest:.1%}" if dearest else ""


def _print_json(quotes: list[Quote], calls: Calls, *, compare: bool) -> None:
    rows = [
        {
            "model": quote.priced.model.name,
            "provider": quote.priced.provider,
            "input_tokens": calls.input,
            "output_tokens": calls.output,
            "cached_tokens": calls.cached,
            "calls": calls.count,
            "cost_nano_usd": quote.one,
            "total_nano_usd": quote.total,
            "total_usd": format_usd(quote.total).removeprefix("$"),
            **({"saving_nano_usd": quotes[-1].total - quote.total} if compare else {}),
            "prices": public_prices(quote.row),
        }
        for quote in quotes
    ]
    print_json(rows if compare or len(rows) > 1 else rows[0])


def _print_quote(quote: Quote, calls: Calls) -> None:
    prices = unit_prices(quote.row, batch=calls.batch)
    click.echo(
        f"{format_usd(quote.total)}  {quote.priced.model.name} ({quote.priced.provider}): {calls.text}"
    )
    if calls.count != 1:
        click.echo(f"  one call {format_usd(quote.one)}")
    click.echo(f"  per million tokens: {listed(prices)}")
    click.echo(f"  {provenance(quote.row)}")


def _print_comparison(quotes: list[Quote], calls: Calls) -> None:
    click.echo(f"{calls.text[0].upper()}{calls.text[1:]}")
    heads = ("model", "provider", "cost", "saving", "input $/1M", "output", "window", "prices of")
    rows = [
        (
            quote.priced.model.name,
            quote.priced.provider,
            format_usd(quote.total),
            _saving(quotes, quote),
            per_million(quote.row.prices.input),
            per_million(quote.row.prices.output),
            f"{quote.priced.window:,}" if quote.priced.window else "",
            quote.row.since or quote.row.dated,
        )
        for quote in quotes
    ]
    print_table(heads, rows, numbers=(2, 3, 4, 5, 6))
    click.echo(f"Saving: against the dearest, {quotes[-1].priced.model.name}.")
    for source in dict.fromkeys(f"{quote.row.source}, as of {quote.row.dated}" for quote in quotes):
        click.echo(f"Prices from {source}.")


def _print_tokens_per(as_json: bool) -> None:
    rows = ratios_of_samples()
    if as_json:
        print_json(rows)
        return
    heads = ("tokenizer", "of", "per 汉字", "per word", "per character, Chinese", "English")
    print_table(
        heads,
        [(row.tokenizer, row.models, *(f"{value:.2f}" for value in row.values())) for row in rows],
        numbers=(2, 3, 4, 5),
    )
    click.echo("Counted on a paragraph of each language; `headgate count --stats` counts yours.")
