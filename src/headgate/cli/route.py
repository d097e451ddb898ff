"""`headgate route`: which targets would serve a call, and why the others would not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

import click
import msgspec

from headgate.cli import compose
from headgate.cli.exits import Failed
from headgate.cli.options import Pair, Tokens, config_option, env_option, examples, json_option, prices_option
from headgate.cli.output import print_json, print_table
from headgate.values import Holding

if TYPE_CHECKING:
    from headgate.routing.conditions import Described
    from headgate.routing.routes import Routes
    from headgate.values import Book, Target

_SETTINGS = ("config_file", "env_file", "prices")
_HOLDINGS: Final = get_args(Holding)
_HEADS: Final = ("asked", "provider", "model", "first for", "why not")


class _Row(msgspec.Struct, frozen=True):
    """A target, and its place among those that are asked."""

    provider: str
    model: str
    asked: int  # 0: never
    share: float  # of the calls that it is the first for, in per cent
    why_not: str


@examples(
    "route gpt-4o",
    "route gpt-4o --key shop --input-tokens 9k --with images",
    "route gpt-4o --stream --with tools --with schema --metadata team=search --json",
)
@click.command(name="route")
@click.argument("model")
@click.option("--key", metavar="NAME", default="", help="Of a key of this name.")
@click.option("--project", metavar="ID", default="", help="In this project.")
@click.option("--tier", metavar="NAME", default="", help="Of an account in this tier.")
@click.option("--input-tokens", type=Tokens(), default=0, metavar="N", help="With an input of this size.")
@click.option(
    "--with", "holds", type=click.Choice(_HOLDINGS), multiple=True, help="With these. May be repeated."
)
@click.option("--stream", is_flag=True, help="With a streamed answer.")
@click.option(
    "--metadata", type=Pair(), multiple=True, metavar="NAME=TEXT", help="With this. May be repeated."
)
@config_option
@env_option
@prices_option
@json_option
@click.pass_context
def command(context: click.Context, /, model: str, as_json: bool, **given: Any) -> None:
    """Show which targets a call of MODEL takes by the settings, in the order in which they are asked.

    Nothing is asked of a server or a provider, so what is out or slow just now is not seen. Exits 1 where the
    call would be refused.
    """
    from headgate.routing.conditions import Described

    settings = compose.settings(**{name: given.pop(name) for name in _SETTINGS})
    holds, metadata = frozenset(given.pop("holds")), dict(given.pop("metadata"))
    call = Described(model, holds=holds, metadata=metadata, **given)
    rows, refused = _rows(*compose.routes(settings), call)
    if as_json:
        print_json({"model": model, "targets": rows, "refused": refused or None})
        context.exit(bool(refused))
    if rows:
        print_table(_HEADS, [_line(row) for row in rows], numbers=(0, 3))
    if refused:
        raise Failed(refused)


def _line(row: _Row) -> tuple[str, ...]:
    share = f"{row.share:g} %" if row.share else ""
    return (str(row.asked or "never"), row.provider, row.model, share, row.why_not)


def _rows(routes: Routes, book: Book, call: Described) -> tuple[list[_Row], str]:
    """Return every target, and what a caller would be told where none is for the call."""
    from headgate.errors import GatewayError
    from headgate.routing.conditions import fitting, unfit

    try:
        targets = routes.candidates(call.model, book, compose.CLOCK.wall())
    except GatewayError as error:
        return [], error.message
    refused = ""
    try:
        asked = fitting(targets, call)
    except GatewayError as error:
        asked, refused = (), error.message
    shares = _shares(asked)
    rows = [
        _Row(target.host.name, target.model.name, number, share, "")
        for number, (target, share) in enumerate(zip(asked, shares, strict=True), 1)
    ]
    rows += [
        _Row(target.host.name, target.model.name, 0, 0.0, unfit(target, call))
        for target in targets
        if not any(target is each for each in asked)
    ]
    return rows, refused


def _shares(asked: tuple[Target, ...]) -> list[float]:
    """Return for how many calls of a hundred each target is the first."""
    first = [target for target in asked if target.group == asked[0].group]
    total = sum(target.weight for target in first)
    if not total:
        return [100.0 if not index else 0.0 for index in range(len(asked))]
    return [
        round(100 * target.weight / total, 2) if target.group == asked[0].group else 0.0 for target in asked
    ]
