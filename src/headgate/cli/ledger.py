"""`headgate ledger`: prove the books."""

from __future__ import annotations

import click

from headgate.cli import compose
from headgate.cli.exits import FOUND
from headgate.cli.options import data_option, examples, json_option
from headgate.cli.output import print_json


@examples("ledger check")
@click.group(name="ledger")
def command() -> None:
    """Prove the books."""


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
        print_json(
            {"holds": not findings, "calls": result.calls, "entries": result.entries, "findings": findings}
        )
    else:
        for kind, detail in result.findings:
            click.echo(f"{kind}: {detail}")
        what = f"{result.calls:,} calls, {result.entries:,} entries"
        wrong = len(result.findings)
        click.echo(f"{wrong} findings in {what}." if wrong else f"The books hold: {what}.")
    context.exit(FOUND if result.findings else 0)
