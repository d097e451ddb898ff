"""`headgate db`: the schema of a data folder."""

from __future__ import annotations

from contextlib import closing

import click

from headgate.cli import compose
from headgate.cli.exits import FOUND, Unreachable
from headgate.cli.options import data_option, examples, json_option
from headgate.cli.output import print_json
from headgate.program import advise
from headgate.stores.sql.bootstrap import SCHEMA, version
from headgate.stores.sql.database import connect, folder_of


@examples("db status")
@click.group(name="db")
def command() -> None:
    """Migrate the database of a data folder."""


@examples("db migrate", "db migrate --data /srv/headgate")
@command.command()
@data_option
@json_option
def migrate(data: str | None, as_json: bool) -> None:
    """Bring the schema up to date. `serve` does it by itself."""
    from alembic.util import CommandError

    from headgate.stores.sql.folder import lock_folder
    from headgate.stores.sql.migrate import migrate as run

    place = compose.existing_place(data)
    with closing(connect(place, read_only=True)) as sql:
        before = after = version(sql)
    if before != SCHEMA:
        try:
            with lock_folder(folder_of(place)):  # never under a server that knows only the old one
                before, after = run(place)
        except CommandError as fault:
            raise Unreachable(f"Cannot migrate {compose.called(place)}: {fault}.") from fault
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        click.echo(f"{compose.called(place)} is up to date: schema {after}.")
    else:
        click.echo(f"{compose.called(place)}: schema {before or 'none'} is now {after}.")


@examples("db status --json")
@command.command()
@data_option
@json_option
@click.pass_context
def status(context: click.Context, data: str | None, as_json: bool) -> None:
    """Say which schema the database has. Exits 1 when it is not this version's."""
    place = compose.existing_place(data)
    with closing(connect(place, read_only=True)) as sql:
        found = version(sql)
    current = found == SCHEMA
    if as_json:
        print_json({"schema": found, "known": SCHEMA, "current": current})
    else:
        advice = "up to date" if current else f"run `{advise('db migrate', folder_of(place))}`"
        click.echo(f"{compose.called(place)}: schema {found or 'none'}, this version has {SCHEMA}: {advice}.")
    context.exit(0 if current else FOUND)
