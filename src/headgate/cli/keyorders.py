"""`headgate keys create` and `keys change`: what a key may be, as options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli import compose
from headgate.cli.naming import id_of, place_of
from headgate.cli.options import (
    NOTHING,
    Cap,
    Duration,
    When,
    account_option,
    data_option,
    examples,
    json_option,
    meta_option,
    noted,
)
from headgate.cli.output import print_json
from headgate.ops import keys as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import PageOrder, order_of
from headgate.ops.keyrules import ENDPOINTS, Cap as KeyCap, KeyChange, KeyOrder
from headgate.ops.projects import list_projects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.records import KeyRecord
    from headgate.values import WallMicros

_EVERYTHING: Final = "all"
_LISTS: Final = ("models", "endpoints", "networks", "rights")


def key_options(what: click.Command | Callable[..., None]) -> Any:
    """Give a command the options of what a key may do."""
    for option in reversed(_OPTIONS):
        what = option(what)
    return what


def _count(name: str, says: str) -> Callable[..., Any]:
    return click.option(
        f"--{name}", type=click.IntRange(0), metavar="N", help=f"{says}. [default: 0, no limit]"
    )


_LIMITS: Final = (
    _count("rpm", "Requests per minute"),
    _count("tpm", "Tokens per minute"),
    _count("rpd", "Requests per day"),
    _count("tpd", "Tokens per day"),
    _count("concurrency", "Calls at once"),
)


def limit_options(what: Any) -> Any:
    """Give a command the options of limits."""
    for option in reversed(_LIMITS):
        what = option(what)
    return what


_OPTIONS: Final = (
    click.option(
        "--model",
        "models",
        metavar="PATTERN",
        multiple=True,
        help="Only this model: gpt-4o, gpt-4*. `all`: any.",
    ),
    click.option(
        "--endpoint",
        "endpoints",
        type=click.Choice([*ENDPOINTS, _EVERYTHING]),
        multiple=True,
        help="Only this kind of call.",
    ),
    click.option(
        "--network",
        "networks",
        metavar="CIDR",
        multiple=True,
        help="Only from there: 10.0.0.0/8, 2001:db8::/32, one address. `all`: anywhere.",
    ),
    click.option(
        "--right",
        "rights",
        metavar="PERMISSION",
        multiple=True,
        help="Of an admin key: only this, such as usage.read. `all`: those of its member.",
    ),
    *_LIMITS,
    click.option(
        "--queue",
        type=Duration(zero=True),
        metavar="TIME",
        help="Wait so long for a limit instead of 429: 10s. `0s`: not.",
    ),
    click.option(
        "--priority", type=click.Choice(["interactive", "batch"]), help="Batch waits behind interactive."
    ),
    click.option(
        "--expires", type=When(), metavar="END", help="90d, 2027-01-31 or never."
    ),
    meta_option,
)  # fmt: skip


@examples(
    "keys create --name alice",
    "keys create --name ci --kind test --json",
    "keys create --name app --project staging --rpm 60 --tpm 100000 --cap 20/month --expires 90d",
    "keys create --name bot --model 'gpt-4o*' --endpoint chat --network 10.0.0.0/8 --queue 10s",
    "keys create --name reports --kind admin --member li@example.com --right usage.read",
)
@click.command()
@data_option
@click.option("--name", required=True, help="Whose or what for.")
@click.option(
    "--kind",
    type=click.Choice(["live", "test", "admin"]),
    default="live",
    show_default=True,
    help="A test key is answered by the simulator, in play money; an admin key makes no calls.",
)
@account_option
@click.option("--project", metavar="ID|NAME", default="", help="In this project. [default: the first]")
@click.option("--member", metavar="ID|EMAIL", default="", help="Whose it is. [default: the gateway's]")
@click.option(
    "--cap", type=Cap(), metavar="USD[/PERIOD]", help="Hard spending cap: 20/month, 5/day, 100/total."
)
@click.option(
    "--tz", metavar="ZONE", default="UTC", show_default=True, help="Time zone of the cap's periods."
)
@key_options
@json_option
def create(data: str | None, account: str, as_json: bool, **given: Any) -> None:
    """Create a key and print it: this once, it is stored nowhere.

    Makes the data folder where it is missing.
    """
    cap, tz = given.pop("cap"), given.pop("tz")
    budget = KeyCap(amount=cap[0], unit=cap[1], tz=tz) if cap else None
    project, member = given.pop("project"), given.pop("member")
    members = {**_members(given), "metadata": noted(given["meta"]), "budget": budget}
    end = members.pop("expires", None)
    if end is not None:
        members |= {"expires_in_s": end.in_s} if end.in_s else {"expires_at": end.at}
    with compose.admin(data, create=True) as desk:
        account, project = place_of(desk, account, project)
        if account and not project:
            project = list_projects(LOCAL, desk, PageOrder(limit=1), account).first_id
        whose = id_of(desk, "member", member, account)
        order = order_of({**members, "project": project, "member": whose}, KeyOrder)
        made = ops.create_key(LOCAL, desk, order)
    print_created(made, as_json)


@examples(
    "keys change alice --rpm 100 --model gpt-4o --model gpt-4o-mini",
    "keys change app --model all --expires never",
    "keys change app --rename web --meta team=search",
)
@click.command()
@data_option
@click.argument("reference", metavar="ID|NAME")
@click.option("--rename", "name", metavar="NAME", help="Its new name.")
@key_options
@json_option
def change(data: str | None, reference: str, as_json: bool, **given: Any) -> None:
    """Change a key. Running servers follow within a second. What is not given stays."""
    pairs = given.pop("meta")
    members = _members(given)
    if pairs:
        members["metadata"] = dict(pairs)
    if not members:
        raise click.UsageError(NOTHING)
    if "expires" in members:
        members["expires_at"] = members.pop("expires").instant(compose.CLOCK.wall())
    with compose.admin(data) as desk:
        before = ops.show_key(LOCAL, desk, reference)
        if pairs:
            members["metadata"] = noted(pairs, before.metadata)
        record = ops.change_key(LOCAL, desk, before.id, order_of(members, KeyChange))
    if as_json:
        print_json(described(record, compose.CLOCK.wall()))
    else:
        click.echo(f"Changed {record.id} ({record.name}).")


def print_created(made: ops.CreatedKey, as_json: bool) -> None:
    """Print a key with a new secret: alone on standard output."""
    if as_json:
        print_json({"key": made.text, **described(made.record, made.record.created_at)})
        return
    click.echo(made.text)
    click.echo(f"Shown only now. Its id is {made.record.id}.", err=True)


def described(record: KeyRecord, now: WallMicros) -> dict[str, object]:
    """Return a key as scripts read it."""
    return {**msgspec.structs.asdict(record), "state": state(record, now)}


def state(record: KeyRecord, now: WallMicros) -> str:
    """Return whether a key can be used."""
    if record.revoked_at:
        return "revoked"
    return "expired" if record.expires_at and now >= record.expires_at else "active"


def _members(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a key that were given as options."""
    members = {
        name: value for name, value in given.items() if value is not None and value != () and name != "meta"
    }
    if "queue" in members:
        members["queue_ms"] = members.pop("queue") * 1000
    for name in _LISTS:
        if _EVERYTHING in members.get(name, ()):
            members[name] = ()
    return members
