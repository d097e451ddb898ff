"""`headgate audit`: what was done and what was refused, by whom."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from headgate.cli import compose
from headgate.cli.naming import id_of
from headgate.cli.options import data_option, examples, json_option, last_option
from headgate.cli.output import date_text, newest, print_json, print_list, public
from headgate.ops.actors import LOCAL
from headgate.ops.audit import list_audit

_DETAIL = 70


@examples("audit list --last 20")
@click.group(name="audit")
def command() -> None:
    """Read what was done and what was refused, by whom. Nothing is ever taken out."""


@examples(
    "audit list",
    "audit list --action key.created --last 200 --json",
    "audit list --account acme --outcome refused",
)
@command.command(name="list")
@data_option
@click.option("--account", metavar="ID|NAME", default="", help="Only of this account's things.")
@click.option("--actor", metavar="ID", help="Only by this one: local, a member or a key.")
@click.option("--action", metavar="NAME", help="Only this: key.created, budget.changed, ...")
@click.option("--ref", metavar="ID", help="Only about this thing.")
@click.option("--outcome", type=click.Choice(["done", "refused"]), help="Only these.")
@last_option
@json_option
def list_(data: str | None, account: str, last: int, as_json: bool, **given: Any) -> None:
    """List the newest rows of the audit."""
    where = {name: value for name, value in given.items() if value}
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        rows = newest(lambda page: list_audit(LOCAL, desk, page, ref, **where), last)
    if as_json:
        print_json([public(row) for row in rows])
        return
    heads = ("when (UTC)", "by", "what", "about", "outcome", "detail")
    table = [
        (date_text(row.at), row.actor, row.action, row.ref, row.outcome, _short(row.detail)) for row in rows
    ]
    print_list(heads, table, "Nothing.")


def _short(detail: dict[str, object]) -> str:
    text = msgspec.json.encode(detail).decode() if detail else ""
    return text if len(text) <= _DETAIL else text[: _DETAIL - 1] + "…"
