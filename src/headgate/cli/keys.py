"""`headgate keys`: credentials of programs and of administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from headgate.cli import compose
from headgate.cli.exits import FOUND
from headgate.cli.keyorders import change, create, described, print_created, state
from headgate.cli.naming import Names, id_of
from headgate.cli.options import Duration, data_option, examples, json_option
from headgate.cli.output import counted, date_text, notes_text, print_fields, print_json, print_list
from headgate.money.amounts import format_usd
from headgate.ops import keys as ops
from headgate.ops.actors import LOCAL
from headgate.ops.ages import age_of, list_old_keys
from headgate.ops.budgets import list_budgets, standings
from headgate.ops.desk import every
from headgate.records import DAY_US, OLD_DAYS

if TYPE_CHECKING:
    from headgate.ops.budgets import BudgetStanding
    from headgate.records import KeyRecord
    from headgate.values import WallMicros

_LIMITS = (
    ("rpm", "requests/min"),
    ("tpm", "tokens/min"),
    ("rpd", "requests/day"),
    ("tpd", "tokens/day"),
    ("concurrency", "at once"),
)


@examples("keys create --name me", "keys list")
@click.group(name="keys")
def command() -> None:
    """Create, list, show, change, rotate and revoke keys. Running servers follow within a second."""


command.add_command(create)


@examples("keys list", "keys list --project staging", "keys list --all --json")
@command.command(name="list")
@data_option
@click.option("--account", metavar="ID|NAME", default="", help="Only of this account.")
@click.option("--project", metavar="ID|NAME", default="", help="Only in this project.")
@click.option("--member", metavar="ID|EMAIL", default="", help="Only of this member.")
@click.option("--kind", type=click.Choice(["live", "test", "admin"]), help="Only of this kind.")
@click.option("--all", "everything", is_flag=True, help="Also revoked and expired ones.")
@json_option
def list_(data: str | None, everything: bool, as_json: bool, **given: Any) -> None:
    """List the keys: what is shown of them, their limits, when they were used, and until when they live."""
    with compose.admin(data) as desk:
        where = _where(desk, given)
        now = compose.CLOCK.wall()
        records = [
            record
            for record in ops.every_key(LOCAL, desk, **where)
            if everything or state(record, now) == "active"
        ]
        if as_json:
            print_json([described(record, now) for record in records])
            return
        names = Names(desk)
        rows = [
            (
                record.id,
                record.name,
                record.kind,
                record.shown,
                names.of("project", record.project),
                names.of("member", record.member),
                limits_text(record),
                date_text(record.used_at),
                date_text(record.expires_at),
                state(record, now),
            )
            for record in records
        ]
    heads = ("id", "name", "kind", "key", "project", "member", "limits", "last used", "expires", "state")
    print_list(heads, rows, "No keys.")


@examples("keys show alice", "keys show key_Kq3… --json")
@command.command()
@data_option
@click.argument("reference", metavar="ID|NAME")
@json_option
def show(data: str | None, reference: str, as_json: bool) -> None:
    """Show a key: what it may do, its caps and what is spent of them, its age, its last use."""
    now = compose.CLOCK.wall()
    with compose.admin(data) as desk:
        record = ops.show_key(LOCAL, desk, reference)
        caps = list(every(lambda page: list_budgets(LOCAL, desk, page, key=record.id)))
        names = Names(desk)
        where = [f"{names.of('project', record.project)} ({record.project})"]
        where.append(f"{names.of('account', record.account)} ({record.account})")
        where.append(f"{names.of('member', record.member)} ({record.member})" if record.member else "")
    budgets = standings(caps, compose.reports(data), now)
    if as_json:
        print_json({**described(record, now), "budgets": [_spent(budget) for budget in budgets]})
        return
    print_fields(_fields(record, now, where))
    for one in budgets:
        spent, amount = format_usd(one.spent), format_usd(one.budget.amount)
        click.echo(f"Cap {one.budget.id}: {spent} of {amount} is spent in {one.period}.")


command.add_command(change)


@examples("keys rotate app --grace 24h", "keys rotate key_Kq3… --json")
@command.command()
@data_option
@click.argument("reference", metavar="ID|NAME")
@click.option(
    "--grace",
    type=Duration(),
    default=0,
    metavar="TIME",
    help="The old secret stays valid so long: 24h. At most 30d.",
)
@json_option
def rotate(data: str | None, reference: str, grace: int, as_json: bool) -> None:
    """Give a key a new secret and print it: this once. Its id, limits and caps stay."""
    with compose.admin(data) as desk:
        made = ops.rotate_key(LOCAL, desk, reference, grace)
    print_created(made, as_json)
    if not as_json and made.record.old_until:
        click.echo(f"The old secret is valid until {date_text(made.record.old_until)} UTC.", err=True)


@examples("keys revoke alice", "keys revoke key_Kq3…", "keys revoke boss --made-too")
@command.command()
@data_option
@click.argument("reference", metavar="ID|NAME")
@click.option("--made-too", is_flag=True, help="Also the keys that this admin key has made.")
@json_option
def revoke(data: str | None, reference: str, made_too: bool, as_json: bool) -> None:
    """Revoke a key by its id or its name."""
    with compose.admin(data) as desk:
        record = ops.revoke_key(LOCAL, desk, reference, made_too=made_too)
    if as_json:
        print_json(described(record, record.revoked_at))
        return
    click.echo(f"Revoked {record.id} ({record.name}). Running servers refuse it within a second.")


@examples("keys old", "keys old --days 180 --json")
@command.command()
@data_option
@click.option("--days", type=click.IntRange(1), default=OLD_DAYS, show_default=True, help="Since when.")
@json_option
@click.pass_context
def old(context: click.Context, data: str | None, days: int, as_json: bool) -> None:
    """Report keys in use whose secret is old: rotate them. Exits 1 when there are any.

    Those of 180 days or more are overdue.
    """
    now = compose.CLOCK.wall()
    with compose.admin(data) as desk:
        aged = list(every(lambda page: list_old_keys(LOCAL, desk, page, days)))
        aged.sort(key=lambda record: -_days(record, now))
        if as_json:
            ages = ({"days": _days(record, now), "age": age_of(record, now)} for record in aged)
            print_json([{**described(record, now), **age} for record, age in zip(aged, ages, strict=True)])
            context.exit(FOUND if aged else 0)
        names = Names(desk)
        rows = [
            (
                record.id,
                record.name,
                names.of("project", record.project),
                str(_days(record, now)),
                date_text(record.used_at) or "never",
                age_of(record, now),
            )
            for record in aged
        ]
    heads = ("id", "name", "project", "days", "last used", "age")
    print_list(heads, rows, f"No key is {counted(days, 'day')} old.", numbers=(3,))
    context.exit(FOUND if rows else 0)


def _where(desk: Any, given: dict[str, Any]) -> dict[str, str]:
    account = id_of(desk, "account", given["account"])
    found = {"account": account, "kind": given["kind"] or ""}
    for thing in ("project", "member"):
        found[thing] = id_of(desk, thing, given[thing], account)
    return {name: ref for name, ref in found.items() if ref}


def limits_text(record: Any) -> str:
    """Return limits as people read them: `60 requests/min, 5 at once`."""
    given = ((getattr(record, name), says) for name, says in _LIMITS)
    return ", ".join(f"{value:,} {says}" for value, says in given if value)


def _fields(record: KeyRecord, now: WallMicros, where: list[str]) -> list[tuple[str, str]]:
    project, account, member = where
    until = date_text(record.old_until) if record.old_until > now else ""
    return [
        ("id", record.id),
        ("name", record.name),
        ("kind", record.kind),
        ("key", record.shown),
        ("state", state(record, now)),
        ("project", project),
        ("account", account),
        ("member", member),
        ("models", ", ".join(record.models) or "all"),
        ("endpoints", ", ".join(record.endpoints) or "all"),
        ("networks", ", ".join(record.networks) or "all"),
        ("rights", ", ".join(record.rights)),
        ("limits", limits_text(record) or "none of its own"),
        ("waits for a limit", f"{record.queue_ms / 1000:g} s" if record.queue_ms else ""),
        ("priority", record.priority),
        ("made", f"{date_text(record.created_at)} by {record.created_by}"),
        ("secret is", f"{counted(_days(record, now), 'day')} old"),
        ("old secret until", until),
        ("expires", date_text(record.expires_at) or "never"),
        ("revoked", date_text(record.revoked_at)),
        ("last used", date_text(record.used_at) or "never"),
        ("notes", notes_text(record.metadata)),
    ]


def _days(record: KeyRecord, now: WallMicros) -> int:
    """Return for how many whole days a key has had its secret."""
    return (now - max(record.created_at, record.rotated_at)) // DAY_US


def _spent(standing: BudgetStanding) -> dict[str, object]:
    from headgate.cli.budgets import described as budget

    return budget(standing)
