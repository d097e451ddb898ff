"""`headgate budgets`: caps of accounts, projects and keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli import compose
from headgate.cli.naming import Names
from headgate.cli.options import (
    Cap,
    Money,
    changes,
    data_option,
    examples,
    json_option,
)
from headgate.cli.output import date_text, print_fields, print_json, print_list, public
from headgate.cli.scopes import scope_of, scope_options, within
from headgate.money.amounts import format_usd
from headgate.ops import budgets as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import every
from headgate.values import Book

if TYPE_CHECKING:
    from headgate.ops.budgets import BudgetStanding
    from headgate.records import BudgetRecord


_BOOKS: Final = {"real": Book.REAL, "sim": Book.SIM}


class Shares(click.ParamType[tuple[int, ...]]):
    """Percentages such as 50,80,100."""

    name = "percentages"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read them."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip().removesuffix("%") for part in str(value).split(",") if part.strip()]
        if not all(re.fullmatch(r"\d{1,4}", part) for part in parts):
            self.fail(f"{value!r} are no percentages such as 50,80,100.", param, ctx)
        return tuple(int(part) for part in parts)


_alerts = click.option(
    "--alerts",
    "thresholds",
    type=Shares(),
    metavar="PERCENT,...",
    help="Write events there. [default: 50,80,100]",
)
_tz = click.option("--tz", metavar="ZONE", help="Time zone in which its periods begin. [default: UTC]")


@examples("budgets create 20/month", "budgets list")
@click.group(name="budgets")
def command() -> None:
    """Set, list, show, change and remove caps, and say what is spent of them."""


@examples(
    "budgets create 20/month",
    "budgets create 5/day --project staging --tz Asia/Shanghai",
    "budgets create 100/total --key alice --soft --alerts 80,100",
)
@command.command()
@data_option
@click.argument("cap", type=Cap(), metavar="USD[/PERIOD]")
@scope_options
@_tz
@click.option("--soft", is_flag=True, help="It tells, and refuses nothing.")
@_alerts
@click.option(
    "--book",
    "only",
    type=click.Choice(list(_BOOKS)),
    help="Only of real, or only of play money. [default: both]",
)
@json_option
def create(data: str | None, cap: tuple[int, str], only: str | None, as_json: bool, **given: Any) -> None:
    """Cap an account, a project or a key: per day, week, month or in total.

    The period is that of the local time in --tz. A call that may cost more than what is left is
    refused; with --soft it is served, and an event is written. Without a scope it caps the first
    account. Real and play money have a cap of their own each. It takes the place of your earlier one
    of the same scope and period; a soft one never that of a hard one. A call that is open then is not
    held in it; what it costs is counted.
    """
    members: dict[str, Any] = {
        "amount": cap[0],
        "unit": cap[1],
        "hard": not given["soft"],
    }
    members |= {name: given[name] for name in ("tz", "thresholds") if given[name] is not None}
    with compose.admin(data, create=True) as desk:
        scope, ref = scope_of(desk, given["account"], given["project"], given["key"])
        members |= {"scope": scope, "ref": ref}
        made = [
            ops.set_budget(LOCAL, desk, msgspec.convert({**members, "book": book}, ops.BudgetOrder))
            for name, book in _BOOKS.items()
            if only in {None, name}
        ]
    if as_json:
        print_json([public(record) for record in made])
        return
    for record in made:
        click.echo(f"Set {record.id}: {_cap(record)} for {record.scope} {record.ref}, {_force(record)}.")


@examples("budgets list", "budgets list --project staging --json")
@command.command(name="list")
@data_option
@scope_options
@json_option
def list_(data: str | None, account: str, project: str, key: str, as_json: bool) -> None:
    """List the caps, with what is spent of each in the period in force.

    Of an account: also those of its projects and keys.
    """
    with compose.admin(data) as desk:
        account, project, key = within(desk, account, project, key)
        records = list(every(lambda page: ops.list_budgets(LOCAL, desk, page, account, project, key=key)))
        found = ops.standings(records, compose.reports(data), compose.CLOCK.wall())
        if as_json:
            print_json([described(one) for one in found])
            return
        names = Names(desk)
        heads = ("id", "of", "name", "cap", "spent", "left", "period", "kind", "set by")
        rows = [
            (
                one.budget.id,
                one.budget.scope,
                names.of(one.budget.scope, one.budget.ref),
                _cap(one.budget),
                format_usd(one.spent),
                format_usd(one.left),
                one.period,
                _force(one.budget),
                one.budget.origin,
            )
            for one in found
        ]
    print_list(heads, rows, "No caps.", numbers=(4, 5))


@examples("budgets show budget_7Hq…")
@command.command()
@data_option
@click.argument("budget", metavar="ID")
@json_option
def show(data: str | None, budget: str, as_json: bool) -> None:
    """Show a cap and what is spent of it in the period in force."""
    with compose.admin(data) as desk:
        record = ops.show_budget(LOCAL, desk, budget)
        name = Names(desk).of(record.scope, record.ref)
    [one] = ops.standings([record], compose.reports(data), compose.CLOCK.wall())
    if as_json:
        print_json(described(one))
        return
    alerts = ", ".join(
        f"{share} %" + (" (passed)" if share in one.passed else "") for share in record.thresholds
    )
    print_fields(
        (
            ("id", record.id),
            ("of", f"{record.scope} {name} ({record.ref})"),
            ("cap", _cap(record)),
            ("kind", _force(record)),
            ("period", one.period),
            ("spent", format_usd(one.spent)),
            ("left", format_usd(one.left)),
            ("begins anew", f"{date_text(one.until)} UTC" if one.until else "never"),
            ("alerts", alerts),
            ("set by", record.origin),
            ("set", date_text(record.created_at)),
        )
    )


@examples("budgets change budget_7Hq… --amount 50", "budgets change budget_7Hq… --soft --alerts 90")
@command.command()
@data_option
@click.argument("budget", metavar="ID")
@click.option(
    "--amount", type=Money(), metavar="USD", help="So much per period from now on, also if more is spent."
)
@_tz
@click.option("--hard/--soft", default=None, help="Refuse calls that do not fit, or only tell.")
@_alerts
@json_option
def change(data: str | None, budget: str, as_json: bool, **given: Any) -> None:
    """Change a cap. Running servers follow within a second; open calls keep what they hold."""
    wanted = msgspec.convert(changes(given), ops.BudgetChange)
    with compose.admin(data) as desk:
        record = ops.change_budget(LOCAL, desk, budget, wanted)
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"Changed {record.id}: {_cap(record)} for {record.scope} {record.ref}, {_force(record)}.")


@examples("budgets remove budget_7Hq…")
@command.command()
@data_option
@click.argument("budget", metavar="ID")
@json_option
def remove(data: str | None, budget: str, as_json: bool) -> None:
    """Remove a cap."""
    with compose.admin(data) as desk:
        record = ops.remove_budget(LOCAL, desk, budget)
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"Removed {record.id}: {_cap(record)} for {record.scope} {record.ref}.")


def described(standing: BudgetStanding) -> dict[str, object]:
    """Return a cap and how it stands, as scripts read it."""
    rest = msgspec.structs.asdict(standing)
    return {**public(rest.pop("budget")), **rest}


def _cap(record: BudgetRecord) -> str:
    amount = format_usd(record.amount)
    return f"{amount} in total" if record.unit == "total" else f"{amount} per {record.unit}"


def _force(record: BudgetRecord) -> str:
    return ("hard" if record.hard else "soft") + (", play money" if record.book == Book.SIM else "")
