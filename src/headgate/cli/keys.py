"""`headgate keys`: create, list, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from headgate.cli import compose
from headgate.cli.options import Duration, data_option, examples, json_option
from headgate.cli.output import date_text, print_json, print_table
from headgate.ops import keys as ops
from headgate.ops.actors import LOCAL
from headgate.ops.keyrules import KeyOrder

if TYPE_CHECKING:
    from headgate.records import KeyRecord
    from headgate.values import WallMicros


@click.group(name="keys")
def command() -> None:
    """Create, list and revoke keys. Running servers follow within a second."""


@examples(
    "keys create --name alice",
    "keys create --name ci --kind test --json",
    "keys create --name app --rpm 60 --tpm 100000 --expires 90d",
)
@command.command()
@data_option
@click.option("--name", required=True, help="Whose or what for.")
@click.option(
    "--kind",
    type=click.Choice(["live", "test", "admin"]),
    default="live",
    show_default=True,
    help="A test key is answered by the simulator, in play money; an admin key makes no calls.",
)
@click.option("--rpm", type=click.IntRange(0), default=0, help="Requests per minute. [default: no limit]")
@click.option("--tpm", type=click.IntRange(0), default=0, help="Tokens per minute. [default: no limit]")
@click.option("--concurrency", type=click.IntRange(0), default=0, help="Calls at once. [default: no limit]")
@click.option("--expires", type=Duration(), default=0, help="Lives for, such as 90d. [default: for ever]")
@json_option
def create(data: str | None, expires: int, as_json: bool, **order: object) -> None:
    """Create a key and print it: this once, it is stored nowhere.

    Makes the data folder where it is missing.
    """
    wanted = msgspec.convert({**order, "expires_in_s": expires}, KeyOrder)
    with compose.admin(data, create=True) as desk:
        made = ops.create_key(LOCAL, desk, wanted)
    if as_json:
        print_json({"key": made.text, **_public(made.record, made.record.created_at)})
        return
    click.echo(made.text)
    click.echo(f"Shown only now. Its id is {made.record.id}.", err=True)


@examples("keys list", "keys list --all --json")
@command.command(name="list")
@data_option
@click.option("--all", "everything", is_flag=True, help="Also revoked and expired ones.")
@json_option
def list_(data: str | None, everything: bool, as_json: bool) -> None:
    """List the keys: what is shown of them, their limits, since when and until when."""
    with compose.admin(data) as desk:
        records = list(ops.every_key(LOCAL, desk))
    now = compose.CLOCK.wall()
    records = [record for record in records if everything or _state(record, now) == "active"]
    if as_json:
        print_json([_public(record, now) for record in records])
        return
    heads = ("id", "name", "kind", "key", "rpm", "tpm", "at once", "created (UTC)", "expires", "state")
    rows = [
        (
            record.id,
            record.name,
            record.kind,
            record.shown,
            *(str(limit or "") for limit in (record.rpm, record.tpm, record.concurrency)),
            date_text(record.created_at),
            date_text(record.expires_at),
            _state(record, now),
        )
        for record in records
    ]
    print_table(heads, rows, numbers=(4, 5, 6))


@examples("keys revoke alice", "keys revoke key_Kq3…")
@command.command()
@data_option
@click.argument("reference", metavar="ID|NAME")
@json_option
def revoke(data: str | None, reference: str, as_json: bool) -> None:
    """Revoke a key by its id or its name."""
    with compose.admin(data) as desk:
        record = ops.revoke_key(LOCAL, desk, reference)
    if as_json:
        print_json(_public(record, record.revoked_at))
        return
    click.echo(f"Revoked {record.id} ({record.name}). Running servers refuse it within a second.")


def _public(record: KeyRecord, now: WallMicros) -> dict[str, object]:
    return {**msgspec.structs.asdict(record), "state": _state(record, now)}


def _state(record: KeyRecord, now: WallMicros) -> str:
    if record.revoked_at:
        return "revoked"
    return "expired" if record.expires_at and now >= record.expires_at else "active"
