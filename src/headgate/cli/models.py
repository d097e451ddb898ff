"""`headgate models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate.cli import compose
from headgate.cli.exits import Failed
from headgate.cli.options import config_option, env_option, examples, json_option, prices_option
from headgate.cli.output import print_json, print_table
from headgate.program import advise

if TYPE_CHECKING:
    from headgate.cli.pricing import Priced, Shelf


@examples("models", "models gpt-5", "models --provider deepseek", "models --all claude --json")
@click.command(name="models")
@click.argument("words", nargs=-1, metavar="[WORD]...")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Of this one. May be repeated.")
@click.option("--all", "everywhere", is_flag=True, help="Of every provider whose prices are known.")
@config_option
@env_option
@prices_option
@json_option
def command(
    words: tuple[str, ...], providers: tuple[str, ...], everywhere: bool, as_json: bool, **given: str
) -> None:
    """List the models whose names contain each WORD.

    They are those of the providers that are configured here, else of OpenAI, which the simulator plays.
    """
    from headgate.cli.pricing import Shelf

    shelf = Shelf(compose.settings(**given))
    if everywhere:
        providers = shelf.book.data.providers
    found = [
        shelf.at(provider, name)
        for provider in providers or shelf.default_providers()
        for name in _names(shelf, provider)
        if all(word.lower() in name.lower() for word in words)
    ]
    if not found:
        raise Failed(
            f"No model matches. `{advise('models --all')}` searches every provider: "
            f"{', '.join(shelf.book.data.providers[:12])}, ..."
        )
    if as_json:
        print_json([_public(priced) for priced in found])
    else:
        _print(found)


def _names(shelf: Shelf, provider: str) -> list[str]:
    names = list(shelf.names(provider))
    if provider in shelf.default_providers():
        names += [name for name in shelf.config.routes if name not in names]
    return names


def _public(priced: Priced) -> dict[str, object]:
    from headgate.cli.pricing import public_prices

    model = priced.model
    return {
        "model": model.name,
        "provider": priced.provider,
        "context_window": priced.window,
        "max_output": model.max_output,
        "operations": model.operations,
        "tokenizer": model.tokenizer,
        "counted_exactly": model.exact,
        "prices": public_prices(priced.row),
    }


def _print(found: list[Priced]) -> None:
    from headgate.cli.pricing import per_million

    heads = ("model", "provider", "window", "max output", "input $/1M", "cached", "output", "prices of")
    rows = []
    for priced in found:
        window, output = priced.window, priced.model.max_output
        row = priced.row
        money = (
            ("unpriced", "", "", "")
            if row is None
            else (
                per_million(row.prices.input),
                per_million(row.prices.cached_input),
                per_million(row.prices.output),
                row.since or row.dated,
            )
        )
        rows.append(
            (
                priced.model.name,
                priced.provider,
                f"{window:,}" if window else "",
                f"{output:,}" if output else "",
                *money,
            )
        )
    print_table(heads, rows, numbers=(2, 3, 4, 5, 6))
    sources = dict.fromkeys(f"{p.row.source}, as of {p.row.dated}" for p in found if p.row is not None)
    click.echo("Prices from " + "; ".join(list(sources)[:4]) + (" and others." if len(sources) > 4 else "."))
