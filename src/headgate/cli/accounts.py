"""`headgate accounts`: who pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate.cli import compose
from headgate.cli.naming import id_of
from headgate.cli.options import Factor, changes, data_option, examples, json_option, meta_option, noted
from headgate.cli.output import date_text, notes_text, print_fields, print_json, print_list, public
from headgate.ops import accounts as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import every, order_of

if TYPE_CHECKING:
    from headgate.records import AccountRecord

_multiplier = click.option(
    "--multiplier",
    "multiplier_ppm",
    type=Factor(),
    metavar="FACTOR",
    help="Of every price: 1.15 asks 15 % more, 0.8 gives 20 % off. [default: 1]",
)


@examples("accounts create acme", "accounts list")
@click.group(name="accounts")
def command() -> None:
    """Open, show, change, suspend and close accounts: who pays. A data folder begins with one."""


@examples(
    "accounts create acme",
    'accounts create "张记贸易" --prepaid --multiplier 1.15 --meta city=上海',
)
@command.command()
@data_option
@click.argument("name")
@click.option(
    "--prepaid/--postpaid",
    default=None,
    help="Whether it spends credit and nothing else. [default: as the last server's mode says]",
)
@_multiplier
@meta_option
@json_option
def create(data: str | None, meta: tuple[tuple[str, str], ...], as_json: bool, **given: Any) -> None:
    """Open an account, with a project `default`. A prepaid one begins with the sign-up grant."""
    members = {name: value for name, value in given.items() if value is not None}
    wanted = order_of({**members, "metadata": noted(meta)}, ops.AccountOrder)
    with compose.admin(data, create=True) as desk:
        made = ops.create_account(LOCAL, desk, wanted)
    if as_json:
        print_json(public(made))
    else:
        click.echo(f"Opened {made.id} ({made.name}).")


@examples("accounts list", "accounts list --all --json")
@command.command(name="list")
@data_option
@click.option("--all", "everything", is_flag=True, help="Also closed ones.")
@json_option
def list_(data: str | None, everything: bool, as_json: bool) -> None:
    """List the accounts."""
    with compose.admin(data) as desk:
        records = list(every(lambda page: ops.list_accounts(LOCAL, desk, page)))
    records = [record for record in records if everything or record.status != "closed"]
    if as_json:
        print_json([public(record) for record in records])
        return
    heads = ("id", "name", "status", "pays", "tier", "price", "opened (UTC)", "notes")
    rows = [
        (
            record.id,
            record.name,
            record.status,
            _pays(record),
            record.tier,
            _price(record),
            date_text(record.created_at),
            notes_text(record.metadata),
        )
        for record in records
    ]
    print_list(heads, rows, "No accounts.")


@examples("accounts show acme")
@command.command()
@data_option
@click.argument("account", metavar="ID|NAME")
@json_option
def show(data: str | None, account: str, as_json: bool) -> None:
    """Show an account."""
    with compose.admin(data) as desk:
        record = ops.show_account(LOCAL, desk, id_of(desk, "account", account))
    if as_json:
        print_json(public(record))
        return
    tier = f"{record.tier} (chosen: it stays)" if record.tier_fixed and record.tier else record.tier
    print_fields(
        (
            ("id", record.id),
            ("name", record.name),
            ("status", record.status),
            ("pays", _pays(record)),
            ("tier", tier),
            ("price", _price(record)),
            ("first payment", date_text(record.first_paid_at)),
            ("opened", date_text(record.created_at)),
            ("notes", notes_text(record.metadata)),
        )
    )


@examples(
    "accounts change acme --multiplier 0.8",
    "accounts change acme --status suspended",
    'accounts change acme --rename "ACME Ltd" --meta city=',
)
@command.command()
@data_option
@click.argument("account", metavar="ID|NAME")
@click.option("--rename", "name", metavar="NAME", help="Its new name.")
@click.option(
    "--status",
    type=click.Choice(["active", "suspended", "closed"]),
    help="Suspended: its calls are refused until it is active again. Closed: for good.",
)
@click.option("--prepaid/--postpaid", default=None, help="Whether it spends credit and nothing else.")
@_multiplier
@meta_option
@json_option
def change(data: str | None, account: str, as_json: bool, **given: Any) -> None:
    """Change an account. Running servers follow within a second."""
    given["metadata"] = given.pop("meta")
    members = changes(given)
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        if "metadata" in members:
            before = ops.show_account(LOCAL, desk, ref)
            members["metadata"] = noted(members["metadata"], before.metadata)
        record = ops.change_account(LOCAL, desk, ref, order_of(members, ops.AccountChange))
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"Changed {record.id} ({record.name}): {record.status}, {_pays(record)}.")


def _pays(record: AccountRecord) -> str:
    return "prepaid" if record.prepaid else "no credit needed"


def _price(record: AccountRecord) -> str:
    """Return what an account pays of the price: `x 1.15`."""
    whole, rest = divmod(record.multiplier_ppm, 1_000_000)
    if (whole, rest) == (1, 0):
        return ""
    return f"x {whole}.{rest:06d}".rstrip("0").rstrip(".")
