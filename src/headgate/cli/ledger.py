"""`headgate ledger`: prove the books, and write off what nobody can prove any more."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from headgate.cli import compose
from headgate.cli.exits import FOUND
from headgate.cli.options import data_option, examples, json_option
from headgate.cli.output import counted, print_json


@examples("ledger check", "ledger write-off gateway-2")
@click.group(name="ledger")
def command() -> None:
    """Prove the books."""


@examples("ledger write-off gateway-2", "ledger write-off gateway-2 --yes --json")
@command.command(name="write-off")
@click.argument("node")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@json_option
def write_off(node: str, yes: bool, data: str | None, as_json: bool) -> None:
    """Book what a lost node may have spent as spent.

    NODE is a data folder on a shared database (see `headgate db check`) that is lost for good, journals and
    all. What it had in hand never comes back to its budgets and grants, since calls may have spent it.
    Refused while the node lives. A node that can be started again needs none of this: its start books
    everything.
    """
    if not yes:
        click.confirm(
            f"Write off {node}: what it had in hand is spent for good. Is its data folder really lost?",
            abort=True,
            err=True,
        )
    out = compose.write_off(data, node)
    if as_json:
        print_json({"node": node, "slices": out})
    else:
        slices = counted(out, "slice")
        click.echo(f"{node} is written off: {slices} of budgets and grants that it had are spent.")


@examples("ledger check", "ledger check --data /srv/headgate --json")
@command.command()
@data_option
@json_option
@click.pass_context
def check(context: click.Context, data: str | None, as_json: bool) -> None:
    """Recompute every charge, entry, balance and sum. Exits 0 when the books hold, 1 when not.

    Reads the database and the journals, the server running or dead, and changes nothing.
    """
    result = compose.check(data)
    if as_json:
        findings = [{"kind": kind, "detail": detail} for kind, detail in result.findings]
        figures = {"calls": result.calls, "entries": result.entries, "dropped": result.dropped}
        print_json({"holds": not findings, **figures, "findings": findings})
    else:
        for kind, detail in result.findings:
            click.echo(f"{kind}: {detail}")
        what = f"{counted(result.calls, 'call')}, {counted(result.entries, 'entry', 'entries')}"
        if result.dropped:
            day = datetime.fromtimestamp(result.before / 1_000_000, UTC).date()
            were = "was dropped, its" if result.dropped == 1 else "were dropped, their"
            what += f"; {counted(result.dropped, 'call')} from before {day} {were} entries stay"
        wrong = len(result.findings)
        click.echo(f"{counted(wrong, 'finding')} in {what}." if wrong else f"The books hold: {what}.")
    context.exit(FOUND if result.findings else 0)
