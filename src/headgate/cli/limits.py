"""`headgate limits`: how much accounts, projects and keys may use, of all models or some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from headgate.cli import compose
from headgate.cli.keyorders import limit_options
from headgate.cli.keys import limits_text
from headgate.cli.naming import Names
from headgate.cli.options import changes, data_option, examples, json_option
from headgate.cli.output import date_text, print_fields, print_json, print_list, public
from headgate.cli.scopes import scope_of, scope_options, within
from headgate.ops import limits as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import every

if TYPE_CHECKING:
    from headgate.records import LimitRecord

_model = click.option(
    "--model", metavar="PATTERN", default="", help="Only of this model, apart from the rest: gpt-4o, gpt-4*."
)


@examples("limits create --model 'o1*' --rpm 60", "limits list")
@click.group(name="limits")
def command() -> None:
    """Set, list, show, change and remove limits of requests, tokens and calls at once.

    A call passes those of its key, its project and its account. Those of an account go before its
    tier's. A key also has limits of its own: `keys change`.
    """


@examples(
    "limits create --project staging --rpm 60 --tpm 100000",
    "limits create --account acme --model 'gpt-4*' --rpm 10 --rpd 1000",
    "limits create --key alice --concurrency 5",
)
@command.command()
@data_option
@scope_options
@_model
@limit_options
@json_option
def create(data: str | None, account: str, project: str, key: str, as_json: bool, **given: Any) -> None:
    """Limit an account, a project or a key, in place of its earlier limit of the same models.

    Running servers follow within a second; what was used stays used. Without a scope it is the first
    account's.
    """
    members = {name: value for name, value in given.items() if value is not None}
    with compose.admin(data, create=True) as desk:
        scope, ref = scope_of(desk, account, project, key)
        record = ops.set_limit(
            LOCAL, desk, msgspec.convert({**members, "scope": scope, "ref": ref}, ops.LimitOrder)
        )
    _told("Set", record, as_json)


@examples("limits list", "limits list --project staging --json")
@command.command(name="list")
@data_option
@scope_options
@json_option
def list_(data: str | None, account: str, project: str, key: str, as_json: bool) -> None:
    """List the limits. Of an account: also those of its projects and keys."""
    with compose.admin(data) as desk:
        which = within(desk, account, project, key)
        records = list(every(lambda page: ops.list_limits(LOCAL, desk, page, which)))
        if as_json:
            print_json([public(record) for record in records])
            return
        names = Names(desk)
        heads = ("id", "of", "name", "models", "rpm", "tpm", "rpd", "tpd", "at once", "set by")
        rows = [
            (
                record.id,
                record.scope,
                names.of(record.scope, record.ref),
                record.model or "all",
                *(
                    f"{value:,}" if value else ""
                    for value in (record.rpm, record.tpm, record.rpd, record.tpd, record.concurrency)
                ),
                record.origin,
            )
            for record in records
        ]
    print_list(heads, rows, "No limits but those of keys and tiers.", numbers=range(4, 9))


@examples("limits show limit_4Wd…")
@command.command()
@data_option
@click.argument("limit", metavar="ID")
@json_option
def show(data: str | None, limit: str, as_json: bool) -> None:
    """Show a limit."""
    with compose.admin(data) as desk:
        record = ops.show_limit(LOCAL, desk, limit)
        name = Names(desk).of(record.scope, record.ref)
    if as_json:
        print_json(public(record))
        return
    print_fields(
        (
            ("id", record.id),
            ("of", f"{record.scope} {name} ({record.ref})"),
            ("models", record.model or "all"),
            ("limits", limits_text(record)),
            ("set by", record.origin),
            ("set", date_text(record.created_at)),
        )
    )


@examples("limits change limit_4Wd… --rpm 120", "limits change limit_4Wd… --tpm 0 --json")
@command.command()
@data_option
@click.argument("limit", metavar="ID")
@limit_options
@json_option
def change(data: str | None, limit: str, as_json: bool, **given: Any) -> None:
    """Change a limit. Running servers follow within a second. What is not given stays."""
    members = changes(given)
    with compose.admin(data) as desk:
        before = ops.show_limit(LOCAL, desk, limit)
        kept = {name: getattr(before, name) for name in ops.LimitOrder.__struct_fields__}
        record = ops.set_limit(LOCAL, desk, msgspec.convert({**kept, **members}, ops.LimitOrder))
    _told("Changed", record, as_json)


@examples("limits remove limit_4Wd…")
@command.command()
@data_option
@click.argument("limit", metavar="ID")
@json_option
def remove(data: str | None, limit: str, as_json: bool) -> None:
    """Remove a limit."""
    with compose.admin(data) as desk:
        record = ops.remove_limit(LOCAL, desk, limit)
    _told("Removed", record, as_json)


def _told(done: str, record: LimitRecord, as_json: bool) -> None:
    if as_json:
        print_json(public(record))
        return
    models = f" for {record.model}" if record.model else ""
    click.echo(f"{done} {record.id}: {limits_text(record)}{models}, {record.scope} {record.ref}.")
