"""`headgate prices`: what changed between two price books."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from headgate.cli.exits import FOUND, OK, Unusable
from headgate.cli.options import examples, json_option
from headgate.cli.output import counted, print_json, print_table

if TYPE_CHECKING:
    from headgate.money.drift import Change, DatedBook, Drift

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_KINDS: Final = ("changed", "added", "removed")


@examples("prices drift 2026-06-01")
@click.group(name="prices")
def command() -> None:
    """Compare price books."""


@examples(
    "prices drift 2026-06-01",
    "prices drift 2026-06-01 2026-11-01 --provider openai",
    "prices drift old-prices.json --kind changed --json",
    "prices drift guide-2025",
)
@command.command("drift")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="[NEW]", default="default")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Of this one. May be repeated.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(_KINDS), help="Only these. May be repeated."
)
@click.option("--on", "day", metavar="DATE", help="The day on which books are compared. [default: today]")
@json_option
@click.pass_context
def drift_command(
    context: click.Context,
    /,
    old: str,
    new: str,
    *,
    day: str | None,
    as_json: bool,
    **chosen: tuple[str, ...],
) -> None:
    """Show the rows that changed between two price books. Exits 1 where any did, 0 where none.

    OLD and NEW are: `default`, the book that is shipped; a date, the shipped book on that day (its rows have
    dates); the prices.json of another release; `guide-2025` or a TOML file of your own, which is
    compared in the models that it names.
    """
    from headgate.money.drift import drift

    day = day or datetime.now(UTC).date().isoformat()
    providers = {provider.lower() for provider in chosen["providers"]}
    kinds = chosen["kinds"] or _KINDS
    found = [
        row
        for row in drift(_book(old, day), _book(new, day))
        if row.kind in kinds and (not providers or row.provider in providers)
    ]
    if as_json:
        print_json({"old": old, "new": new, "on": day, "drifted": len(found), "rows": found})
    else:
        _print(found, old, new)
    context.exit(FOUND if found else OK)


def _book(name: str, day: str) -> DatedBook:
    """Return a book by what people call it.

    Raises:
        Unusable: it is none.
    """
    from headgate.money.drift import OwnBook, ShippedBook
    from headgate.money.ownprices import read_book
    from headgate.money.pricedata import PriceData
    from headgate.providers.registry import known_hosts

    dated = name if _DAY.fullmatch(name) else day
    try:
        if name not in {dated, "default"} and not name.endswith(".json"):
            return OwnBook(read_book(name), day)
        data = PriceData(Path(name).read_bytes()) if name.endswith(".json") else PriceData.load()
        makers = (data.provider_id(row.prices or host) for host, row in known_hosts().items())
        return ShippedBook(data, dated, tuple(dict.fromkeys((*filter(None, makers), *data.providers))))
    except (OSError, ValueError, msgspec.MsgspecError) as fault:
        raise Unusable(
            f"{name} is no price book: {fault}. Give a date, `default`, `guide-2025`, "
            "a prices.json or a .toml file."
        ) from fault


def _print(found: list[Drift], old: str, new: str) -> None:
    rows = [
        (
            drifted.provider,
            drifted.model,
            drifted.kind,
            change.part,
            _usd(change.old),
            _usd(change.new),
            _by(change),
        )
        for drifted in found
        for change in drifted.changes
    ]
    if rows:
        heads = ("provider", "model", "row", "price", old, new, "by")
        print_table(heads, rows, numbers=(4, 5, 6))
        click.echo("USD for a million tokens (of `request`: for one call).")
    counts = ", ".join(f"{sum(row.kind == kind for row in found)} {kind}" for kind in _KINDS)
    differ = counted(len(found), "row") + (" differs" if len(found) == 1 else " differ")
    click.echo(f"{differ}: {counts}." if found else "No row differs.")


def _usd(pico: int | None) -> str:
    from headgate.cli.pricing import per_million

    return "" if pico is None else per_million(pico)


def _by(change: Change) -> str:
    if not change.old or change.new is None:
        return ""
    return f"{(change.new - change.old) / change.old:+.1%}"
