"""What `headgate models` prints: a list, a comparison side by side, JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from headgate.cli.output import print_table
from headgate.cli.pricing import per_million, public_prices
from headgate.money.cards import cards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.cli.pricing import Priced

_LIST = ("model", "provider", "window", "max output", "takes", "can", "input $/1M", "cached", "output")


def public(priced: Priced) -> dict[str, object]:
    """Return a model for JSON; what is not known of it is null."""
    model, card = priced.model, priced.card
    known: dict[str, object] = dict.fromkeys(
        ("made_by", "input_modalities", "output_modalities", "capabilities"), None
    ) | dict.fromkeys(("deprecated", "shutdown_date", "replacement", "dates_source"), None)
    if card is not None:
        source = cards().sources.get(card.source)
        known = {
            "made_by": card.by,
            "input_modalities": card.takes.split(),
            "output_modalities": card.gives.split(),
            "capabilities": card.can.split(),
            "deprecated": card.deprecated or None,
            "shutdown_date": card.shutdown or None,
            "replacement": card.instead or None,
            "dates_source": source.url if source is not None else None,
        }
    return {
        "model": model.name,
        "provider": priced.provider,
        "context_window": priced.window,
        "max_output": priced.output,
        "operations": model.operations,
        "tokenizer": model.tokenizer,
        "counted_exactly": model.exact,
        **known,
        "prices": public_prices(priced.row),
    }


def print_models(found: Sequence[Priced]) -> None:
    """Print a line for each model, and where prices and days are from."""
    rows = [
        (
            priced.model.name,
            priced.provider,
            *_sizes(priced),
            _kinds(priced),
            priced.card.can if priced.card is not None else "",
            *_prices(priced),
            _end(priced),
        )
        for priced in found
    ]
    print_table((*_LIST, "prices of", "shut down"), rows, numbers=(2, 3, 6, 7, 8))
    _print_sources(found)


def print_side_by_side(found: Sequence[Priced]) -> None:
    """Print a column for each model."""
    heads = ("", *(f"{priced.model.name} ({priced.provider})" for priced in found))
    sizes, prices = [_sizes(priced) for priced in found], [_prices(priced) for priced in found]
    lines = {
        "window": [size[0] for size in sizes],
        "max output": [size[1] for size in sizes],
        "takes > gives": [_kinds(priced) for priced in found],
        "can": [priced.card.can if priced.card is not None else "" for priced in found],
        "input $/1M": [price[0] for price in prices],
        "cached input": [price[1] for price in prices],
        "output": [price[2] for price in prices],
        "prices of": [price[3] for price in prices],
        "counted exactly": ["yes" if priced.model.exact else "no" for priced in found],
        "shut down": [_end(priced) for priced in found],
    }
    print_table(heads, [(name, *values) for name, values in lines.items() if any(values)])
    _print_sources(found)


def _sizes(priced: Priced) -> tuple[str, str]:
    window, output = priced.window, priced.output
    return (f"{window:,}" if window else "", f"{output:,}" if output else "")


def _kinds(priced: Priced) -> str:
    card = priced.card
    if card is None:
        return ""
    return card.takes if card.gives == "text" else f"{card.takes} > {card.gives}"


def _prices(priced: Priced) -> tuple[str, str, str, str]:
    row = priced.row
    if row is None:
        return ("unpriced", "", "", "")
    prices = row.prices
    parts = [per_million(price) for price in (prices.input, prices.cached_input, prices.output)]
    return (parts[0], parts[1], parts[2], row.since or row.dated)


def _end(priced: Priced) -> str:
    card = priced.card
    if card is None or not (card.shutdown or card.deprecated):
        return ""
    return (card.shutdown or "announced") + (f", use {card.instead}" if card.instead else "")


def _print_sources(found: Sequence[Priced]) -> None:
    prices = list(dict.fromkeys(f"{p.row.source}, as of {p.row.dated}" for p in found if p.row is not None))
    if prices:
        click.echo("Prices from " + "; ".join(prices[:4]) + (" and others." if len(prices) > 4 else "."))
    known = cards()
    if any(priced.card is not None for priced in found):
        click.echo(f"Modalities and abilities from {known.facts}.")
    named = (p.card.source for p in found if p.card is not None and p.card.source)
    for name in dict.fromkeys(named):
        source = known.sources[name]
        click.echo(f"Days of shut-down from {source.url}, read {source.read}.")
