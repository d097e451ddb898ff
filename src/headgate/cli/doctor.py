"""`headgate doctor`: look at everything that may keep a gateway from serving, and say what to do."""

from __future__ import annotations

import click

from headgate.cli.exits import FOUND
from headgate.cli.options import config_option, data_option, env_option, examples, json_option
from headgate.cli.output import print_json

_MARKS = {"ok": ("ok", "green"), "note": ("--", "cyan"), "warning": ("!!", "yellow"), "fault": ("XX", "red")}


@examples("doctor", "doctor --offline", "doctor --port 9000 --data /srv/headgate --json")
@click.command(name="doctor")
@data_option
@config_option
@env_option
@click.option("--host", metavar="H", help="Address that `serve` is given.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="P", help="Port that `serve` is given.")
@click.option("--offline", is_flag=True, help="Ask no provider, no Redis, no broker and no bucket.")
@json_option
@click.pass_context
def command(context: click.Context, /, as_json: bool, offline: bool, **given: str | int | None) -> None:
    """Check environment, configuration, data folder, port, clock and the way to each provider.

    Each provider is asked for its list of models, which costs nothing: how long name, connection, TLS and
    first byte take, and whether it takes the key. So are Redis, the broker of `storage.queue` and the buckets
    of batches, where they are set, and batch APIs that have an account or answers elsewhere. Changes
    nothing. Exits 1 on a fault.
    """
    from headgate.cli.checkup import examine

    given["config"] = given.pop("config_file")
    findings = examine(given, offline=offline)
    faults = sum(finding.state == "fault" for finding in findings)
    if as_json:
        print_json({"healthy": not faults, "findings": findings})
        context.exit(FOUND if faults else 0)
    for finding in findings:
        mark, colour = _MARKS[finding.state]
        click.echo(f"{click.style(mark, fg=colour)}  {finding.about}: {finding.says}")
        if finding.advice:
            click.echo(f"      {finding.advice}")
    click.echo("Nothing is wrong." if not faults else f"{faults} to mend.")
    context.exit(FOUND if faults else 0)
