"""`headgate events`: what happened by itself."""

from __future__ import annotations

from typing import Any

import click

from headgate.cli import compose
from headgate.cli.naming import Names, id_of
from headgate.cli.options import data_option, examples, json_option, last_option
from headgate.cli.output import date_text, newest, print_json, print_list, public
from headgate.money.amounts import format_usd
from headgate.ops.actors import LOCAL
from headgate.ops.events import list_events

_NANO = "_nano_usd"


@examples("events list --kind budget.threshold")
@click.group(name="events")
def command() -> None:
    """Read what happened by itself: caps that fill up, old keys, tiers earned, expired credit, canaries."""


@examples("events list", "events list --kind budget.threshold --last 200 --json")
@command.command(name="list")
@data_option
@click.option("--account", metavar="ID|NAME", default="", help="Only of this account.")
@click.option(
    "--kind", metavar="NAME", help="Only this: budget.threshold, key.old, tier.promoted, grant.expired, ..."
)
@click.option("--ref", metavar="ID", help="Only about this thing.")
@last_option
@json_option
def list_(data: str | None, account: str, last: int, as_json: bool, **given: Any) -> None:
    """List the newest events. Each is told once: a threshold of a cap in each of its periods."""
    where = {name: value for name, value in given.items() if value}
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        rows = newest(lambda page: list_events(LOCAL, desk, page, ref, **where), last)
        if as_json:
            print_json([public(row) for row in rows])
            return
        names = Names(desk)
        table = [
            (
                date_text(row.at),
                row.kind,
                names.of("account", row.account),
                row.ref,
                ", ".join(_said(*each) for each in row.detail.items()),
            )
            for row in rows
        ]
    print_list(("when (UTC)", "what", "account", "about", "detail"), table, "Nothing.")


def _said(name: str, value: object) -> str:
    if name.endswith(_NANO) and isinstance(value, int):
        return f"{name.removesuffix(_NANO)} {format_usd(value)}"
    return f"{name} {value}"
