"""`headgate db`: the schema of the books, and the books as a whole: checked, backed up, restored, moved."""

from __future__ import annotations

import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from headgate.cli import compose
from headgate.cli.exits import FOUND, Unreachable
from headgate.cli.options import data_option, examples, folder_option, json_option
from headgate.cli.output import counted, date_text, print_json, print_table
from headgate.money.amounts import format_usd
from headgate.program import advise
from headgate.stores.sql.bootstrap import SCHEMA, version
from headgate.stores.sql.database import Database, connect, folder_of, shown
from headgate.stores.sql.folder import lock_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.stores.sql.archive import Sum
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.nodes import NodeRow

_OFTEN_S: Final = 0.2
_RARELY_S: Final = 5.0


@examples("db check", "db backup")
@click.group(name="db")
def command() -> None:
    """Check, back up, restore, move and migrate the books."""


@examples("db migrate", "db migrate --data /srv/headgate")
@command.command()
@data_option
@json_option
def migrate(data: str | None, as_json: bool) -> None:
    """Bring the schema up to date. `serve` does it by itself.

    One process migrates, others wait for it; each step is done as a whole or not at all.
    """
    from alembic.util import CommandError

    from headgate.stores.sql.migrate import migrate as run

    place = compose.existing_place(data)
    with closing(connect(place, read_only=True, wait="managing")) as sql:
        before = after = version(sql)
    if before != SCHEMA:
        try:
            with _alone(place):
                before, after = run(place)
        except CommandError as fault:
            raise Unreachable(f"Cannot migrate {shown(place)}: {fault}.") from fault
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        click.echo(f"{shown(place)} is up to date: schema {after}.")
    else:
        click.echo(f"{shown(place)}: schema {before or 'none'} is now {after}.")


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Keep servers out that know only the old schema; where it is shared they go on with the new one."""
    if isinstance(place, Database):
        yield
    else:
        with lock_folder(place):
            yield


@examples("db status --json")
@command.command()
@data_option
@json_option
@click.pass_context
def status(context: click.Context, data: str | None, as_json: bool) -> None:
    """Say which schema the database has. Exits 1 when it is not this version's."""
    place = compose.existing_place(data)
    with closing(connect(place, read_only=True, wait="managing")) as sql:
        found = version(sql)
    current = found == SCHEMA
    if as_json:
        print_json({"schema": found, "known": SCHEMA, "current": current})
    else:
        advice = "up to date" if current else f"run `{advise('db migrate', folder_of(place))}`"
        if found > SCHEMA:
            advice = "a newer version made it; `serve` says whether this one can serve from it"
        click.echo(f"{shown(place)}: schema {found or 'none'}, this version has {SCHEMA}: {advice}.")
    context.exit(0 if current else FOUND)


@examples("db check", "db check --database postgresql://gateway@db/headgate --json")
@command.command()
@data_option
@json_option
@click.pass_context
def check(context: click.Context, data: str | None, as_json: bool) -> None:
    """Say whether the database is whole: its schema, its triggers, its file, and who shares it.

    Exits 0 when it is, 1 when not. What the books say is proven by `headgate ledger check`.
    """
    from headgate.stores.sql.soundness import look

    place = compose.existing_place(data)
    found = look(place)
    if as_json:
        print_json(found._asdict() | {"nodes": [node._asdict() for node in found.nodes]})
    else:
        for said in found.wrong:
            click.echo(said)
        if found.foreign:
            click.echo(f"Tables of somebody else, left alone: {', '.join(found.foreign)}.")
        for node in found.nodes:
            click.echo(node_text(node))
        wrong = len(found.wrong)
        click.echo(
            f"{shown(place)}: {counted(wrong, 'finding')}."
            if wrong
            else f"{shown(place)} is whole: schema {found.schema}, triggers in place."
        )
    context.exit(FOUND if found.wrong else 0)


def node_text(node: NodeRow) -> str:
    """Return a line about a data folder that shares a database."""
    workers = counted(node.workers, "worker")
    seen = f"{workers}, last seen {date_text(node.seen_at)} UTC" if node.workers else "not serving"
    return (
        f"Node {node.name}: {seen}; Headgate {node.version}, process {node.pid} on {node.host}; "
        f"{format_usd(node.lent)} of budgets and credit in hand."
    )


@examples("db backup", "db backup /backups/monday.backup --data /srv/headgate")
@command.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@data_option
@json_option
def backup(file: Path | None, data: str | None, as_json: bool) -> None:
    """Write the books into FILE, the server running or not.

    All of it is of one moment, with a hash of each table and of the whole. The same file restores into
    SQLite and into PostgreSQL. It has no key in it, only digests; the pepper that they are made with is a
    file of the data folder: keep a copy of that elsewhere. Calls that were not copied to the books yet
    (mostly those of the last second) are in the journals of their servers, and not in it.

    [default of FILE: headgate-DATE-TIME.backup]
    """
    from headgate.stores.sql.transfer import backup as run

    place = compose.existing_place(data)
    target = file or Path(time.strftime("headgate-%Y%m%d-%H%M%S.backup", time.gmtime()))
    found = run(place, target, compose.CLOCK.wall(), _Ticker(quiet=as_json))
    _tell(found, as_json, {"file": str(target)})
    if not as_json:
        size = target.stat().st_size / 1e6
        click.echo(f"{target}: {size:,.1f} MB. Keep {folder_of(place) / 'pepper'}, too, in another place.")


@examples(
    "db restore monday.backup --data /srv/headgate",
    "db restore monday.backup --database postgresql://gateway@db/headgate",
)
@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@json_option
@click.pass_context
def restore(context: click.Context, file: Path, data: str | None, as_json: bool) -> None:
    """Make new books of a backup, where there are none.

    FILE is read to its end and compared with its hashes first, and everything again once it is written. What
    servers had in hand of budgets and credit when it was made is free again. Ends with `ledger check`.
    """
    from headgate.stores.sql.archive import ArchiveError
    from headgate.stores.sql.transfer import restore as run

    place = compose.place_of(data)
    try:
        found = run(file, place, _Ticker(quiet=as_json))
    except ArchiveError as fault:
        raise Unreachable(f"{file} cannot be restored: {fault}.") from fault
    findings = compose.check(data).findings
    made = date_text(found.head.made_at)
    _tell(found.sum, as_json, {"made_at": made, "findings": [list(finding) for finding in findings]})
    if not as_json:
        for kind, detail in findings:
            click.echo(f"{kind}: {detail}")
        books = f"{counted(len(findings), 'finding')} in the books" if findings else "the books hold"
        click.echo(f"{shown(place)} has the books of {made} UTC: {books}.")
        if not (folder_of(place) / "pepper").exists():
            click.echo(f"Put the pepper of these books into {folder_of(place)} before you serve them.")
    context.exit(FOUND if findings else 0)


@examples("db move --to postgresql://gateway@db/headgate", "db move --to - --data /srv/headgate")
@command.command()
@click.option(
    "--to", "target", required=True, metavar="URL", help="Empty PostgreSQL database; -: read from input."
)
@folder_option
@json_option
def move(target: str, data: str | None, as_json: bool) -> None:
    """Copy the books of a data folder from SQLite to PostgreSQL, and prove that they are the same.

    Stop the server first. Every table is compared by its rows and their hash, and the money by its totals;
    where anything differs the target stays empty. The old file is left as it is. The data folder goes on
    being used: it has the pepper, and the journals.
    """
    from headgate.stores.sql.transfer import move as run

    folder, to = compose.move_of(data, target)
    found = run(folder, to, _Ticker(quiet=as_json))
    _tell(found, as_json, {"to": shown(to)})
    if not as_json:
        click.echo(
            f"{shown(to)} has the books now. Set it as `database` under [storage], with the "
            f"same data folder; {shown(folder)} is as it was, and no longer used then."
        )


class _Ticker:
    """Show how far a transfer is, on standard error: often at a terminal, else now and then."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._next = 0.0
        self._open = False

    def __call__(self, doing: str, table: str, rows: int, of: int, /) -> None:
        now, done = time.monotonic(), of and rows >= of
        if self._quiet or not rows or (now < self._next and not (done and self._live)):
            return
        self._next = now + (_OFTEN_S if self._live else _RARELY_S)
        text = f"{doing} {table}: {rows:,}" + (f" of {of:,} rows" if of else " rows")
        click.echo(f"\r\x1b[K{text}" if self._live else text, err=True, nl=not self._live or bool(done))


def _tell(found: Sum, as_json: bool, more: dict[str, object]) -> None:
    """Print what was written, table by table, and what it comes to."""
    if as_json:
        tables = {name: table._asdict() for name, table in found.tables.items()}
        print_json(more | {"tables": tables, "totals": found.totals})
        return
    rows = [
        (name, f"{table.rows:,}", table.sha256[:16]) for name, table in found.tables.items() if table.rows
    ]
    print_table(("table", "rows", "SHA-256"), rows, numbers=(1,))
    print_table(
        ("total", "value"), [(name, f"{value:,}") for name, value in found.totals.items()], numbers=(1,)
    )
