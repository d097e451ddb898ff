"""`headgate tiers`: limits by what was paid, and wishes for more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from headgate.cli import compose
from headgate.cli.credit import next_tier_text
from headgate.cli.exits import Failed
from headgate.cli.naming import Names, id_of
from headgate.cli.options import account_option, data_option, examples, json_option
from headgate.cli.output import counted, date_text, print_fields, print_json, print_list, public
from headgate.money.amounts import format_usd
from headgate.money.tiers import find_tier
from headgate.ops import tiers as ops
from headgate.ops.actors import LOCAL
from headgate.ops.credit import credit_standing
from headgate.ops.desk import every

if TYPE_CHECKING:
    from headgate.money.tiers import Tier
    from headgate.records import LimitRequestRecord
    from headgate.values import Limits

_NONE = "none"


@examples("tiers list", "tiers next")
@click.group(name="tiers")
def command() -> None:
    """Show tiers, choose an account's, and decide wishes for higher limits.

    They are those of the last server on the data folder: the shipped ones, and [[tiers]] of its
    configuration over them.
    """


@examples("tiers list", "tiers list --json")
@command.command(name="list")
@data_option
@json_option
def list_(data: str | None, as_json: bool) -> None:
    """List the tiers: what earns them, and what they allow. Nothing stands where there is no limit."""
    with compose.admin(data, create=True) as desk:
        tiers = desk.tiers
    if as_json:
        print_json([_described(tier) for tier in tiers])
        return
    heads = (
        "tier",
        "title",
        "paid",
        "days",
        "cap/month",
        "rpm",
        "tpm",
        "rpd",
        "tpd",
        "at once",
        "queue",
        "models",
    )
    rows = [
        (
            tier.name,
            tier.title,
            format_usd(tier.paid),
            str(tier.days or ""),
            format_usd(tier.cap) if tier.cap else "",
            *_numbers(tier.limits),
            _queue(tier),
            ", ".join(model for model, _ in tier.models),
        )
        for tier in tiers
    ]
    print_list(heads, rows, "No tiers.", numbers=range(2, 10))


@examples("tiers show tier2")
@command.command()
@data_option
@click.argument("tier")
@json_option
def show(data: str | None, tier: str, as_json: bool) -> None:
    """Show a tier, with what it allows of some models."""
    with compose.admin(data, create=True) as desk:
        tiers = desk.tiers
    found = find_tier(tiers, tier)
    if found is None:
        raise Failed(f"{tier!r} is no tier: {', '.join(each.name for each in tiers)}.")
    if as_json:
        print_json(_described(found))
        return
    ago = f", {counted(found.days, 'day')} ago" if found.days else ""
    print_fields(
        (
            ("tier", f"{found.name} ({found.title})"),
            (
                "earned by",
                f"{format_usd(found.paid)} paid" + ago,
            ),
            ("cap", f"{format_usd(found.cap)} per month" if found.cap else "none"),
            ("limits", _limits_text(found.limits)),
            ("queue", _queue(found)),
            *((f"for {model}", _limits_text(limits)) for model, limits in found.models),
        )
    )


@examples("tiers set acme tier3", "tiers set acme tier1 --promote", "tiers set acme none")
@command.command(name="set")
@data_option
@click.argument("account", metavar="ID|NAME")
@click.argument("tier", metavar="TIER|none")
@click.option("--promote", is_flag=True, help="Payments may still earn it a higher one. [default: it stays]")
@json_option
def set_(data: str | None, account: str, tier: str, promote: bool, as_json: bool) -> None:
    """Choose an account's tier. Running servers follow within a second."""
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        record = ops.set_tier(LOCAL, desk, ref, "" if tier == _NONE else tier, fixed=not promote)
    if as_json:
        print_json(public(record))
        return
    stays = ", whatever it pays" if record.tier_fixed else ", until it has paid for a higher one"
    click.echo(f"{record.id} ({record.name}) is in {record.tier or 'no tier'}{stays}.")


@examples("tiers next", "tiers next --account acme --json")
@command.command(name="next")
@data_option
@account_option
@json_option
def next_(data: str | None, account: str, as_json: bool) -> None:
    """Say which tier an account is in, and what is missing to the next one."""
    with compose.admin(data) as desk:
        standing = credit_standing(LOCAL, desk, id_of(desk, "account", account))
    if as_json:
        names = ("account", "tier", "paid", "next_tier", "missing", "not_before")
        print_json({name: getattr(standing, name) for name in names})
        return
    print_fields(
        (
            ("account", standing.account),
            ("tier", standing.tier or "none"),
            ("has paid", format_usd(standing.paid)),
            ("next tier", next_tier_text(standing) or "none that it could earn"),
        )
    )


@examples("tiers requests", "tiers requests --account acme --all --json")
@command.command()
@data_option
@click.option("--account", metavar="ID|NAME", default="", help="Only of this account.")
@click.option("--all", "everything", is_flag=True, help="Also decided ones.")
@json_option
def requests(data: str | None, account: str, everything: bool, as_json: bool) -> None:
    """List what accounts have asked for."""
    status = "" if everything else "open"
    with compose.admin(data) as desk:
        ref = id_of(desk, "account", account)
        rows = list(every(lambda page: ops.list_requests(LOCAL, desk, page, ref, status)))
        if as_json:
            print_json([public(row) for row in rows])
            return
        names = Names(desk)
        heads = ("id", "account", "member", "wants", "reason", "status", "asked (UTC)")
        table = [
            (
                row.id,
                names.of("account", row.account),
                names.of("member", row.member),
                _wanted(row),
                row.reason,
                row.status,
                date_text(row.created_at),
            )
            for row in rows
        ]
    print_list(heads, table, "No requests.")


@examples("tiers approve limreq_3Zp…")
@command.command()
@data_option
@click.argument("request", metavar="ID")
@json_option
def approve(data: str | None, request: str, as_json: bool) -> None:
    """Give an account what it asked for, at once."""
    _decide(data, request, as_json, approve=True)


@examples("tiers refuse limreq_3Zp…")
@command.command()
@data_option
@click.argument("request", metavar="ID")
@json_option
def refuse(data: str | None, request: str, as_json: bool) -> None:
    """Refuse what an account asked for."""
    _decide(data, request, as_json, approve=False)


def _decide(data: str | None, request: str, as_json: bool, *, approve: bool) -> None:
    with compose.admin(data) as desk:
        record = ops.decide_request(LOCAL, desk, request, approve=approve)
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"{record.status.capitalize()} {record.id}: {_wanted(record)} for {record.account}.")


def _described(tier: Tier) -> dict[str, Any]:
    """Return a tier as scripts read it."""
    plain: dict[str, Any] = msgspec.to_builtins(tier)
    plain |= plain.pop("limits")
    plain["models"] = [{"model": model, **msgspec.structs.asdict(limits)} for model, limits in tier.models]
    return plain


def _numbers(limits: Limits) -> tuple[str, ...]:
    values = (limits.rpm, limits.tpm, limits.rpd, limits.tpd, limits.concurrency)
    return tuple(f"{value:,}" if value else "" for value in values)


def _limits_text(limits: Limits) -> str:
    from headgate.cli.keys import limits_text

    return limits_text(limits) or "none"


def _queue(tier: Tier) -> str:
    return f"waits {tier.queue_ms / 1000:g} s" if tier.queue_ms else ""


def _wanted(row: LimitRequestRecord) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.wanted.items())
