"""`headgate credit codes` and `credit redeem`: credit to hand out as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import click
import msgspec

from headgate.cli import compose
from headgate.cli.naming import Names, id_of
from headgate.cli.options import (
    Duration,
    Money,
    Tokens,
    account_option,
    data_option,
    examples,
    json_option,
    play_option,
)
from headgate.cli.output import counted, date_text, print_json, print_list, public
from headgate.money.amounts import format_usd
from headgate.ops import codes as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import every
from headgate.values import Book

if TYPE_CHECKING:
    from headgate.records import CodeRecord, GrantRecord


class Worth(Protocol):
    """What is given: an amount of money, or tokens of a model."""

    @property
    def amount(self) -> int:
        """Return the money, in nano-USD."""
        ...

    @property
    def tokens(self) -> int:
        """Return the tokens."""
        ...

    @property
    def model(self) -> str:
        """Return of which model."""
        ...


class Gift(Worth, Protocol):
    """The same for some days."""

    @property
    def valid_days(self) -> int:
        """Return for how many; 0: for ever."""
        ...


_GIFT = (
    click.option("--tokens", type=Tokens(), default=0, metavar="N", help="Tokens instead of money: 500k."),
    click.option("--model", metavar="PATTERN", default="", help="Of this model: gpt-4o-mini, gpt-4*."),
    click.option(
        "--days",
        "valid_days",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="Expires after so many. [default: never]",
    ),
    play_option,
)  # fmt: skip


def gift_options(what: Any) -> Any:
    """Give a command the options of what is given."""
    for option in reversed(_GIFT):
        what = option(what)
    return what


def worth_text(gift: Worth) -> str:
    """Return what is given, for people."""
    return f"{gift.tokens:,} tokens of {gift.model}" if gift.tokens else format_usd(gift.amount)


def days_text(gift: Gift) -> str:
    """Return for how long, for people; empty: for ever."""
    return f" for {counted(gift.valid_days, 'day')}" if gift.valid_days else ""


@examples("credit codes create 10 --count 5 --days 90", "credit codes list")
@click.group(name="codes")
def codes() -> None:
    """Make, list and revoke codes that accounts redeem for credit, each once."""


@examples(
    "credit codes create 10 --count 5 --days 90",
    "credit codes create --tokens 1m --model gpt-4o-mini --expires 30d",
)
@codes.command()
@data_option
@click.argument("amount", type=Money(), metavar="[USD]", required=False, default=0)
@click.option(
    "--count", type=click.IntRange(1, ops.MOST_CODES), default=1, show_default=True, help="So many codes."
)
@gift_options
@click.option(
    "--expires",
    "expires_in_s",
    type=Duration(),
    default=0,
    metavar="TIME",
    help="Redeemed within: 30d. [default: any time]",
)
@json_option
def create(data: str | None, play: bool, as_json: bool, **given: Any) -> None:
    """Make codes and print them: this once, they are stored nowhere."""
    order = msgspec.convert({**given, "book": Book.SIM if play else Book.REAL}, ops.CodeOrder)
    with compose.admin(data) as desk:
        made = ops.create_codes(LOCAL, desk, order)
    if as_json:
        print_json([{"code": one.text, **public(one.record)} for one in made])
        return
    for one in made:
        click.echo(one.text)
    click.echo(f"Shown only now. Each gives {worth_text(order)}{days_text(order)}.", err=True)


@examples("credit codes list", "credit codes list --all --json")
@codes.command(name="list")
@data_option
@click.option("--all", "everything", is_flag=True, help="Also redeemed, revoked and expired ones.")
@json_option
def list_(data: str | None, everything: bool, as_json: bool) -> None:
    """List the codes: what is shown of them, what they give, what became of them."""
    now = compose.CLOCK.wall()
    with compose.admin(data) as desk:
        rows = list(every(lambda page: ops.list_codes(LOCAL, desk, page)))
        rows = [row for row in rows if everything or _state(row, now) == "open"]
        if as_json:
            print_json([{**public(row), "state": _state(row, now)} for row in rows])
            return
        names = Names(desk)
        heads = ("id", "code", "gives", "days", "expires (UTC)", "state", "account", "made (UTC)")
        table = [
            (
                row.id,
                row.shown,
                worth_text(row) + (" of play money" if row.book == Book.SIM and row.amount else ""),
                str(row.valid_days or ""),
                date_text(row.expires_at),
                _state(row, now),
                names.of("account", row.redeemed_by),
                date_text(row.created_at),
            )
            for row in rows
        ]
    print_list(heads, table, "No codes.", numbers=(3,))


@examples("credit codes revoke code_5Rt…")
@codes.command()
@data_option
@click.argument("code", metavar="ID")
@json_option
def revoke(data: str | None, code: str, as_json: bool) -> None:
    """Make a code worthless, by its id."""
    with compose.admin(data) as desk:
        record = ops.revoke_code(LOCAL, desk, code)
    if as_json:
        print_json({**public(record), "state": "revoked"})
    else:
        click.echo(f"Revoked {record.id} ({record.shown}).")


@examples("credit redeem HG-7Q2MK-…", "credit redeem HG-7Q2MK-… --account acme")
@click.command()
@data_option
@click.argument("code")
@account_option
@json_option
def redeem(data: str | None, code: str, account: str, as_json: bool) -> None:
    """Turn a code into credit of an account."""
    with compose.admin(data) as desk:
        grant = ops.redeem(LOCAL, desk, code, id_of(desk, "account", account))
    if as_json:
        print_json(public(grant))
        return
    until = f", until {date_text(grant.expires_at)} UTC" if grant.expires_at else ""
    click.echo(f"{grant.account} has {_given(grant)} more{until}: {grant.id}.")


def _given(grant: GrantRecord) -> str:
    return f"{grant.amount:,} tokens of {grant.model}" if grant.model else format_usd(grant.amount)


def _state(row: CodeRecord, now: int) -> str:
    if row.redeemed_at:
        return "redeemed"
    if row.revoked_at:
        return "revoked"
    return "expired" if row.expires_at and row.expires_at <= now else "open"
