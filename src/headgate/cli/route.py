"""`headgate route`: which targets would serve a call, and why the others would not."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

import click
import msgspec

from headgate.cli import compose
from headgate.cli.exits import Failed
from headgate.cli.options import (
    Pair,
    Tokens,
    config_option,
    data_option,
    env_option,
    examples,
    json_option,
    prices_option,
)
from headgate.cli.output import print_json, print_table
from headgate.money.amounts import format_usd
from headgate.money.cost import cost
from headgate.routing.cheapest import cheapest_first
from headgate.steering import USUAL_OUTPUT, apart, by_group
from headgate.values import Book, Holding, NanoUSD, Principal, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.routing.conditions import Described
    from headgate.routing.hedging import HedgeTerms
    from headgate.routing.routes import Routes
    from headgate.values import Demand, Target

_SETTINGS = ("config_file", "env_file", "prices")
_HOLDINGS: Final = get_args(Holding)
_HEADS: Final = ("asked", "provider", "model", "first for", "costs us", "note")


class _Asked(NamedTuple):
    """What is asked besides the call's own description."""

    usage: Usage
    demands: tuple[Demand, ...]
    over: Mapping[str, str]  # why canaries were rolled back, by their trials


class _Row(msgspec.Struct, frozen=True):
    """A target, and its place among those that are asked."""

    provider: str
    model: str
    asked: int  # 0: never
    share: float | None  # of the calls that it is the first for, in per cent; None: while it is the fastest
    cost: NanoUSD | None  # expected of such a call; None: it has no price
    note: str  # why it is never asked, or that it is a canary


@examples(
    "route gpt-4o",
    "route gpt-4o --key shop --input-tokens 9k --with images",
    "route gpt-4o --demand region=eu,data=no_training",
    "route gpt-4o --stream --with tools --with schema --metadata team=search --json",
)
@click.command(name="route")
@click.argument("model")
@click.option("--key", metavar="NAME", default="", help="Of a key of this name.")
@click.option("--project", metavar="ID", default="", help="In this project.")
@click.option("--tier", metavar="NAME", default="", help="Of an account in this tier.")
@click.option("--input-tokens", type=Tokens(), default=0, metavar="N", help="With an input of this size.")
@click.option(
    "--output-tokens",
    type=Tokens(),
    default=USUAL_OUTPUT,
    show_default=True,
    metavar="N",
    help="And an answer.",
)
@click.option(
    "--with", "holds", type=click.Choice(_HOLDINGS), multiple=True, help="With these. May be repeated."
)
@click.option("--stream", is_flag=True, help="With a streamed answer.")
@click.option(
    "--metadata", type=Pair(), multiple=True, metavar="NAME=TEXT", help="With this. May be repeated."
)
@click.option("--demand", metavar="LIST", default="", help="That demands: region=eu, data=no_training.")
@config_option
@data_option
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
    from headgate.routing.demands import read_demand

    settings = compose.settings(**{name: given.pop(name) for name in _SETTINGS})
    holds, metadata = frozenset(given.pop("holds")), dict(given.pop("metadata"))
    data = given.pop("data")
    output_tokens, demanded = given.pop("output_tokens"), given.pop("demand")
    demands = (read_demand(demanded),) if demanded else ()
    call = Described(model, holds=holds, metadata=metadata, **given)
    routes, book = compose.routes(settings)
    asked = _Asked(Usage(call.input_tokens, output_tokens), demands, compose.rolled_back(data, routes.trials))
    rows, refused = _rows(routes, book, call, asked)
    hedge = routes.extras_of(model)[1]
    if as_json:
        print_json({"model": model, "targets": rows, "hedge": hedge, "refused": refused or None})
        context.exit(bool(refused))
    if rows:
        print_table(_HEADS, [_line(row) for row in rows], numbers=(0, 3, 4))
    if hedge is not None and not refused:
        click.echo(_hedged(hedge, call, sum(row.asked > 0 for row in rows)))
    if refused:
        raise Failed(refused)


def _hedged(terms: HedgeTerms, call: Described, asked: int) -> str:
    """Return when the call would be sent to two targets."""
    if asked < 2:
        return "hedge: never, since there is no second target."
    if terms.keys and not any(fnmatchcase(call.key, pattern) for pattern in terms.keys):
        return f"hedge: never for this key, but for {', '.join(terms.keys)}."
    most = f"in at most {terms.most_percent:g} % of the calls"
    if terms.after_ms == "p95":
        return f"hedge: the next target is asked too where 95 in 100 answers had begun lately, {most}."
    return f"hedge: the next target is asked too after {terms.after_ms} ms, {most}."


def _line(row: _Row) -> tuple[str, ...]:
    share = f"{row.share:g} %" if row.share else "while fastest" if row.share is None else ""
    cost = "no price" if row.cost is None else format_usd(row.cost)
    return (str(row.asked or "never"), row.provider, row.model, share, cost, row.note)


def _rows(routes: Routes, book: Book, call: Described, asked: _Asked) -> tuple[list[_Row], str]:
    """Return every target, and what a caller would be told where none is for the call."""
    from headgate.errors import GatewayError
    from headgate.routing.conditions import fitting
    from headgate.routing.demands import meeting

    usage, demands = asked.usage, (*asked.demands, *routes.demanded(_caller(call)))
    try:
        found = routes.candidates(call.model, book, compose.CLOCK.wall())
    except GatewayError as error:
        return [], error.message
    targets, canaries = apart(found)
    taken: tuple[Target, ...] = ()
    refused = ""
    try:
        taken = fitting(meeting(targets, demands, call.model) if demands else targets, call)
    except GatewayError as error:
        refused = error.message
    taken = by_group(taken, partial(_chosen_first, usage))
    left_out = [target for target in targets if not any(target is each for each in taken)]
    rows, part = [], 0.0
    for target in canaries:
        canary, why = routes.trials[target.trial].canary, _why_not(target, call, demands)
        why = why or (f"rolled back: {asked.over[target.trial]}" if target.trial in asked.over else "")
        part = 0.0 if why or refused else canary.share_percent
        says = f"canary by {canary.sticky_by}"
        rows.append(_row(target, usage, int(part > 0), part, f"{says}, {why}" if why else says))
    shares = [None if share is None else share * (100 - part) / 100 for share in _shares(taken, usage)]
    rows += [
        _row(target, usage, number, share)
        for number, (target, share) in enumerate(zip(taken, shares, strict=True), 1)
    ]
    rows += [_row(each, usage, 0, 0.0, _why_not(each, call, demands)) for each in left_out]
    return rows + _shadow(routes, book, call, asked.usage, demands), refused


def _shadow(
    routes: Routes, book: Book, call: Described, usage: Usage, demands: tuple[Demand, ...]
) -> list[_Row]:
    settings = routes.extras_of(call.model)[0]
    if settings is None or book is Book.SIM:
        return []
    target = routes.shadow_target(call.model, compose.CLOCK.wall(), "")
    says = f"shadow of {settings.share_percent:g} % of the calls, within {settings.budget}"
    why = _why_not(target, call, demands)
    return [_row(target, usage, 0, 0.0, f"{says}, {why}" if why else says)]


def _why_not(target: Target, call: Described, demands: tuple[Demand, ...]) -> str:
    from headgate.routing.conditions import unfit
    from headgate.routing.demands import lacking

    return lacking(target, demands) or unfit(target, call)


def _caller(call: Described) -> Principal:
    return Principal(0, 0, 0, name=call.key, project_id=call.project, tier=call.tier)


def _row(target: Target, usage: Usage, asked: int, share: float | None, note: str = "") -> _Row:
    key = f" #{target.host.credential}" if target.host.credential else ""
    return _Row(target.host.name + key, target.model.name, asked, share, _cost(target, usage), note)


def _cost(target: Target, usage: Usage) -> NanoUSD | None:
    return None if target.costs is None else cost(usage, target.costs)


def _chosen_first(usage: Usage, group: tuple[Target, ...]) -> tuple[Target, ...]:
    if group[0].choice == "least_cost":
        return cheapest_first(group, [_cost(target, usage) for target in group], 0.0)
    return group  # by what each worker has measured


def _shares(asked: tuple[Target, ...], usage: Usage) -> list[float | None]:
    """Return for how many calls of a hundred each target is the first; None: while it is the fastest."""
    first = [target for target in asked if target.group == asked[0].group]
    weights: list[float | None]
    if first and first[0].choice == "least_latency":
        weights = [None] * len(first)
    elif first and first[0].choice == "least_cost":
        costs = [_cost(target, usage) for target in first]
        weights = [float(cost == costs[0]) for cost in costs]
    else:
        weights = [target.weight or float(not any(each.weight for each in first)) for target in first]
    total = sum(filter(None, weights))
    shares = [None if weight is None else round(100 * weight / total, 2) for weight in weights]
    return shares + [0.0] * (len(asked) - len(first))
