"""`headgate credit`: what prepaid accounts have, and what is put in and taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from headgate.cli import compose
from headgate.cli.codes import codes, days_text, gift_options, redeem, worth_text
from headgate.cli.naming import Names, id_of
from headgate.cli.options import (
    Money,
    Tokens,
    account_option,
    data_option,
    examples,
    json_option,
    last_option,
    play_option,
)
from headgate.cli.output import date_text, newest, print_fields, print_json, print_list, public
from headgate.money.amounts import format_usd
from headgate.ops import credit as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import every
from headgate.ops.payments import list_payments
from headgate.records import GrantRecord
from headgate.values import Book

if TYPE_CHECKING:
    from headgate.ops.desk import Desk
    from headgate.records import PostingRecord

_note = click.option("--note", metavar="TEXT", default="", help="Why, for people.")
_reference = click.option(
    "--reference",
    metavar="NAME",
    required=True,
    help="Of the payment: the same one is booked once, however often.",
)


@examples("credit top-up 20 --reference invoice-117", "credit balance")
@click.group(name="credit")
def command() -> None:
    """Show, give, take, refund and redeem credit. All works while a server runs."""


@examples("credit balance", "credit balance --account acme --json")
@command.command()
@data_option
@account_option
@play_option
@json_option
def balance(data: str | None, account: str, play: bool, as_json: bool) -> None:
    """Show what an account has, what it owes, and how far its next tier is."""
    with compose.admin(data) as desk:
        standing = ops.credit_standing(LOCAL, desk, id_of(desk, "account", account), _book(play))
        name = Names(desk).of("account", standing.account)
    if as_json:
        print_json(public(standing))
        return
    print_fields(
        (
            ("account", f"{name} ({standing.account})"),
            ("left", format_usd(standing.left) + (" in play money" if play else "")),
            ("tokens", ", ".join(f"{left:,} of {model}" for model, left in standing.tokens.items())),
            ("owes", format_usd(standing.owed) if standing.owed else ""),
            ("has paid", format_usd(standing.paid)),
            ("tier", standing.tier or "none"),
            ("next tier", next_tier_text(standing)),
        )
    )


def next_tier_text(standing: ops.CreditStanding) -> str:
    """Return what is missing to the next tier; empty where there is none."""
    if not standing.next_tier:
        return ""
    when = f", and not before {date_text(standing.not_before)} UTC" if standing.not_before else ""
    what = f"after {format_usd(standing.missing)} more is paid" if standing.missing else "is paid for"
    return f"{standing.next_tier} {what}{when}"


@examples("credit grants", "credit grants --account acme --all")
@command.command()
@data_option
@account_option
@click.option("--all", "everything", is_flag=True, help="Also used up and expired ones.")
@json_option
def grants(data: str | None, account: str, everything: bool, as_json: bool) -> None:
    """List what an account was given and has paid in, each with its own expiry.

    What expires first is spent first, and the paid balance last.
    """
    now = compose.CLOCK.wall()
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        rows = list(every(lambda page: ops.list_grants(LOCAL, desk, page, ref)))
    rows = [row for row in rows if everything or _left(row, now)]
    if as_json:
        print_json([{**public(row), "left": _left(row, now)} for row in rows])
        return
    heads = ("id", "kind", "in", "given", "spent", "left", "expires (UTC)", "note")
    table = [
        (
            row.id,
            row.kind,
            row.model or ("play money" if row.book == Book.SIM else "money"),
            *(_amount(row, value) for value in (row.amount, row.spent, _left(row, now))),
            date_text(row.expires_at),
            row.note,
        )
        for row in rows
    ]
    print_list(heads, table, "No credit.", numbers=(3, 4, 5))


@examples(
    "credit top-up 20 --reference invoice-2026-117",
    "credit top-up 100 --account acme --reference bank-4711 --note 银行转账",
)
@command.command(name="top-up")
@data_option
@click.argument("amount", type=Money(), metavar="USD")
@account_option
@_reference
@play_option
@_note
@json_option
def top_up(data: str | None, account: str, play: bool, as_json: bool, **given: Any) -> None:
    """Book a payment that was received. It may earn the account a higher tier, at once."""
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        order = msgspec.convert({**given, "account": ref, "book": _book(play)}, ops.TopUpOrder)
        made = ops.top_up(LOCAL, desk, order)
        _told(desk, made, f"Booked {format_usd(order.amount)}", as_json)


@examples(
    "credit gift 5 --days 30 --note welcome", "credit gift --tokens 1m --model gpt-4o-mini --account acme"
)
@command.command()
@data_option
@click.argument("amount", type=Money(), metavar="[USD]", required=False, default=0)
@gift_options
@account_option
@click.option(
    "--reference", metavar="NAME", default="", help="The same one is given once. [default: each time]"
)
@_note
@json_option
def gift(data: str | None, account: str, play: bool, as_json: bool, **given: Any) -> None:
    """Give credit that nobody paid for: money, or tokens of a model. It earns no tier."""
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        order = msgspec.convert({**given, "account": ref, "book": _book(play)}, ops.GiftOrder)
        made = ops.give(LOCAL, desk, order)
    if as_json:
        print_json(public(made))
    else:
        click.echo(f"Gave {worth_text(order)} to {made.account}{days_text(order)}: {made.id}.")


@examples(
    "credit refund 12.50 --reference refund-117",
    "credit refund 20 --account acme --reference chargeback-9 --debt",
)
@command.command()
@data_option
@click.argument("amount", type=Money(), metavar="USD")
@account_option
@_reference
@click.option("--debt", is_flag=True, help="What is spent already is owed: the next top-up pays it first.")
@play_option
@_note
@json_option
def refund(data: str | None, account: str, play: bool, as_json: bool, **given: Any) -> None:
    """Take paid money out of an account, to be given back outside.

    Running servers first give back what they do not hold. What is spent or held by open calls cannot be
    taken: without --debt it is refused.
    """
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        order = msgspec.convert({**given, "account": ref, "book": _book(play)}, ops.RefundOrder)
        made = ops.refund(LOCAL, desk, order)
        _told(desk, made, f"Took {format_usd(order.amount)}", as_json)


@examples(
    "credit adjust grant_8Fk… --add 1.50 --note 'outage of 3 May'",
    "credit adjust grant_8Fk… --take 200k --note 'given twice'",
)
@command.command()
@data_option
@click.argument("grant", metavar="GRANT")
@click.option("--add", metavar="AMOUNT", help="So much more: USD, or tokens of a grant in tokens.")
@click.option("--take", metavar="AMOUNT", help="So much less.")
@click.option("--note", metavar="TEXT", required=True, help="Why, for people.")
@click.option(
    "--reference", metavar="NAME", default="", help="The same one is booked once. [default: each time]"
)
@json_option
def adjust(data: str | None, grant: str, as_json: bool, **given: Any) -> None:
    """Put a grant right, up or down, by an entry of its own. Its ids stand in `credit grants`."""
    if bool(given["add"]) == bool(given["take"]):
        raise click.UsageError("Give one of --add and --take.")
    with compose.admin(data) as desk:
        with desk.reading() as register:
            found = register.get(GrantRecord, id=grant)
        kind = Tokens() if found is not None and found.model else Money()
        size = kind.convert(given["add"] or given["take"], None, click.get_current_context())
        order = ops.AdjustOrder(
            grant=grant,
            change=size if given["add"] else -size,
            reference=given["reference"] or compose.new_reference(),
            note=given["note"],
        )
        made = ops.adjust(LOCAL, desk, order)
        _told(desk, made, f"{'Added' if given['add'] else 'Took'} {_moved(made).lstrip('+-')}", as_json)


command.add_command(redeem)
command.add_command(codes)


@examples("credit history", "credit history --account acme --last 200 --json")
@command.command()
@data_option
@account_option
@last_option
@json_option
def history(data: str | None, account: str, last: int, as_json: bool) -> None:
    """List what was put into an account's credit and taken out, other than by calls."""
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        rows = newest(lambda page: ops.list_postings(LOCAL, desk, page, ref), last)
    if as_json:
        print_json([public(row) for row in rows])
        return
    heads = ("when (UTC)", "what", "amount", "grant", "reference", "by", "note")
    table = [
        (
            date_text(row.at),
            row.kind + (", play money" if row.book == Book.SIM else ""),
            _moved(row),
            row.grant,
            row.reference,
            row.actor,
            row.note,
        )
        for row in rows
    ]
    print_list(heads, table, "Nothing.", numbers=(2,))


@examples("credit payments", "credit payments --json")
@command.command()
@data_option
@last_option
@json_option
def payments(data: str | None, last: int, as_json: bool) -> None:
    """List what payment providers have reported, and what came of it."""
    with compose.admin(data) as desk:
        rows = newest(lambda page: list_payments(LOCAL, desk, page), last)
        if as_json:
            print_json([public(row) for row in rows])
            return
        names = Names(desk)
        heads = ("event", "when (UTC)", "from", "account", "kind", "amount", "outcome")
        table = [
            (
                row.event,
                date_text(row.at),
                row.source,
                names.of("account", row.account),
                row.kind,
                format_usd(row.amount),
                row.outcome,
            )
            for row in rows
        ]
    print_list(heads, table, "No payments.", numbers=(5,))


def _told(desk: Desk, made: PostingRecord, what: str, as_json: bool) -> None:
    """Say what a posting has done, and what the account has now."""
    if as_json:
        print_json(public(made))
        return
    now = ops.credit_standing(LOCAL, desk, made.account, made.book)
    tier = f", tier {now.tier}" if now.tier else ""
    owes = f", owes {format_usd(now.owed)}" if now.owed else ""
    click.echo(f"{what}: {made.id}. {made.account} has {format_usd(now.left)}{owes}{tier}.")


def _book(play: bool) -> Book:
    return Book.SIM if play else Book.REAL


def _left(row: GrantRecord, now: int) -> int:
    gone = row.closed_at or (row.expires_at and row.expires_at <= now)
    return 0 if gone else row.amount - row.spent


def _amount(row: GrantRecord, value: int) -> str:
    return f"{value:,}" if row.model else format_usd(value)


def _moved(row: PostingRecord) -> str:
    """Return what a posting adds to an account, with its sign."""
    if row.tokens:
        return f"{row.tokens:+,} tokens"
    amount = row.amount - row.debt
    return ("+" if amount > 0 else "") + format_usd(amount)
