"""`headgate secrets`: providers' keys, sealed in the database."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headgate.cli import compose
from headgate.cli.exits import Unusable
from headgate.cli.options import config_option, data_option, env_option, examples, json_option
from headgate.cli.output import date_text, print_json, print_list, public
from headgate.ops import secrets as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import every
from headgate.vaults.envelope import SealError, kek_id, new_kek, parse_kek

if TYPE_CHECKING:
    from headgate.ops.secrets import StoredSecret


@examples("secrets new-kek", "secrets list")
@click.group(name="secrets")
def command() -> None:
    """Keep providers' keys in the database, sealed. The configuration names one `stored:NAME`.

    They are sealed under a key encryption key that is never in the database: HEADGATE_KEK, or `kek` of
    [secrets] in the configuration.
    """


@examples("secrets new-kek", "secrets new-kek > /etc/headgate/kek")
@command.command(name="new-kek")
@json_option
def new_kek_(as_json: bool) -> None:
    """Print a new key encryption key. Keep it apart from the data folder and its backups."""
    if as_json:
        print_json({"kek": new_kek()})
    else:
        click.echo(new_kek())


@examples("secrets store openai --host https://api.openai.com")
@command.command()
@click.argument("name")
@data_option
@config_option
@env_option
@click.option("--host", required=True, metavar="URL", help="Whose key it is; it is sent nowhere else.")
@json_option
def store(
    name: str, data: str | None, config_file: str | None, env_file: str, host: str, as_json: bool
) -> None:
    """Seal a key, in place of an earlier one of its name. It is asked for, or read from standard input."""
    value = click.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    keks = compose.settings(config_file, env_file).keks
    with compose.admin(data, create=True) as desk:
        stored = ops.store_secret(LOCAL, desk, keks, ops.SecretOrder(name=name, value=value, host=host))
    if as_json:
        print_json(public(stored))
        return
    click.echo(f'Stored. Name it in the configuration: api_key = "stored:{stored.id}"')


@examples("secrets list", "secrets list --json")
@command.command(name="list")
@data_option
@json_option
def list_(data: str | None, as_json: bool) -> None:
    """List what is stored, and for which hosts: never the keys."""
    with compose.admin(data) as desk:
        stored: list[StoredSecret] = list(every(lambda page: ops.list_secrets(LOCAL, desk, page)))
    if as_json:
        print_json([public(one) for one in stored])
        return
    rows = [(one.id, one.host, str(one.version), date_text(one.created_at)) for one in stored]
    print_list(("name", "host", "version", "stored (UTC)"), rows, "Nothing is stored.")


@examples("secrets remove openai")
@command.command()
@click.argument("name")
@data_option
@json_option
def remove(name: str, data: str | None, as_json: bool) -> None:
    """Remove a stored key."""
    with compose.admin(data) as desk:
        removed = ops.remove_secret(LOCAL, desk, name)
    if as_json:
        print_json(public(removed))
        return
    click.echo(f"Removed {removed.id}.")


@examples("secrets rotate-kek --new /etc/headgate/kek-2027")
@command.command(name="rotate-kek")
@data_option
@config_option
@env_option
@click.option(
    "--new", "new_file", required=True, metavar="FILE", type=click.Path(exists=True, dir_okay=False),
    help="Where the new key encryption key is.",
)  # fmt: skip
@json_option
def rotate_kek(
    data: str | None, config_file: str | None, env_file: str, new_file: str, as_json: bool
) -> None:
    """Wrap everything that is stored by a new key encryption key.

    First let the servers have both: the new one as HEADGATE_KEK, the present one as HEADGATE_KEK_OLD.
    """
    try:
        new = parse_kek(Path(new_file).read_text(encoding="ascii"))
    except (SealError, UnicodeDecodeError) as fault:
        raise Unusable(f"{new_file}: {fault}") from fault
    keks = compose.settings(config_file, env_file).keks
    with compose.admin(data) as desk:
        count = ops.rotate_kek(LOCAL, desk, keks, new)
    if as_json:
        print_json({"rewrapped": count, "kek": kek_id(new).hex()})
        return
    click.echo(f"Rewrapped {count}. The old key encryption key opens nothing of it any more.")
