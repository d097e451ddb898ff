"""`headgate usage`: what was used and what it cost."""

from __future__ import annotations

import csv
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli import compose
from headgate.cli.options import SECONDS, data_option, examples, json_option
from headgate.cli.output import print_json, print_table
from headgate.money.amounts import format_usd
from headgate.money.periods import zone
from headgate.ops import usage as ops
from headgate.ops.actors import LOCAL
from headgate.records import CallLine, UsageLine, UsageOrder
from headgate.values import Book, WallMicros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_THINGS: Final = ("account", "project", "member", "key")
_BOOKS: Final = {"real": Book.REAL, "sim": Book.SIM}


@examples(
    "usage",
    "usage --by model --since 2026-11-01 --until 2026-12-01",
    "usage --since 7d --tz Asia/Shanghai",
    "usage --by project --account acme",
    "usage --by model --project staging --since 30d",
    "usage --calls --csv > calls.csv",
)
@click.command(name="usage")
@data_option
@click.option(
    "--by",
    type=click.Choice(["day", "hour", "model", "key", "project", "account", "member", "provider"]),
    default="day",
    show_default=True,
    help="Group by this.",
)
@click.option("--account", "accounts", metavar="ID|NAME", multiple=True, help="Only of this account.")
@click.option("--project", "projects", metavar="ID|NAME", multiple=True, help="Only of this project.")
@click.option("--member", "members", metavar="ID|EMAIL", multiple=True, help="Only of this member.")
@click.option("--key", "keys", metavar="ID|NAME", multiple=True, help="Only of this key.")
@click.option(
    "--model", "models", metavar="NAME", multiple=True, help="Only of this model, as it was called."
)
@click.option("--calls", "each", is_flag=True, help="One row for each call instead.")
@click.option("--since", metavar="WHEN", help="From then on: 2026-11-01, 2026-11-01T12:00 or 7d.")
@click.option("--until", metavar="WHEN", help="Before then.")
@click.option("--book", type=click.Choice(list(_BOOKS)), help="Real or play money. [default: real, if any]")
@click.option("--tz", metavar="ZONE", default="UTC", show_default=True, help="Time zone of days and of WHEN.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
def command(data: str | None, each: bool, as_csv: bool, as_json: bool, **given: Any) -> None:
    """Show calls, tokens and cost by day, hour, model, key, project, account or member, from the books.

    Options that narrow it may be repeated, and hold together. The server may run or be dead: what it
    has not copied to the database yet is read from its journal.
    """
    if as_csv and as_json:
        raise click.UsageError("Choose one of --json and --csv.")
    reports = compose.reports(data)
    order = _order(given, _things(data, given))
    if each:
        _print_calls(ops.calls(LOCAL, reports, order), as_csv=as_csv, as_json=as_json)
        return
    used = ops.usage(LOCAL, reports, order)
    if as_json:
        print_json(used)
    elif as_csv:
        _print_csv(UsageLine.__struct_fields__, used.rows)
    else:
        _print_sums(used, _names(data, used))


def _things(data: str | None, given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the ids of the things that are asked about."""
    asked = {kind: given[f"{kind}s"] for kind in _THINGS if given[f"{kind}s"]}
    if not asked:
        return {}
    from headgate.cli.naming import ids_of

    with compose.admin(data) as desk:
        return {f"{kind}s": ids_of(desk, kind, wanted) for kind, wanted in asked.items()}


def _names(data: str | None, used: ops.Usage) -> dict[str, str]:
    """Return the names of the things in a report, by their ids."""
    if used.by not in _THINGS:
        return {}
    from headgate.cli.naming import Names

    with compose.admin(data) as desk:
        names = Names(desk)
        return {line.name: names.of(used.by, line.name) for line in used.rows if line.name}


def _order(given: Mapping[str, Any], things: Mapping[str, tuple[str, ...]]) -> UsageOrder:
    tz = given["tz"]
    try:
        zone(tz)
    except ValueError as fault:
        raise click.BadParameter(f"{fault}.", param_hint="--tz") from fault
    return UsageOrder(
        by=given["by"],
        since=_instant(given["since"], tz, "--since"),
        until=_instant(given["until"], tz, "--until"),
        book=_BOOKS.get(given["book"] or ""),
        tz=tz,
        models=given["models"],
        **things,
    )


def _instant(text: str | None, tz: str, option: str) -> WallMicros:
    """Read a date, a date with time, or how long ago."""
    if text is None:
        return 0
    ago = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if ago is not None:
        return max(1, compose.CLOCK.wall() - int(ago[1]) * SECONDS[ago[2]] * 1_000_000)
    try:
        local = datetime.fromisoformat(text)
    except ValueError as fault:
        raise click.BadParameter(
            f"{text!r} is no time: write 2026-11-01, 2026-11-01T12:00 or 7d.", param_hint=option
        ) from fault
    aware = local if local.tzinfo is not None else local.replace(tzinfo=zone(tz))
    return int(aware.astimezone(UTC).timestamp()) * 1_000_000


def _print_calls(rows: Iterable[CallLine], *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        _stream_json(rows)
    elif as_csv:
        _print_csv(CallLine.__struct_fields__, rows)
    else:
        heads = ("request", "opened (UTC)", "model", "provider", "status", "input", "output", "cost")
        print_table(heads, [_call_row(row) for row in rows], numbers=(4, 5, 6, 7))


def _call_row(row: CallLine) -> tuple[str, ...]:
    return (
        row.request_id,
        row.opened_at[:19].replace("T", " "),
        row.model,
        row.provider,
        str(row.status),
        f"{row.input_tokens:,}",
        f"{row.output_tokens:,}",
        format_usd(row.cost_nano_usd) + (" est." if row.estimated else ""),
    )


def _stream_json(rows: Iterable[CallLine]) -> None:
    """Print one JSON array, a call a line, without holding them all."""
    separator = "["
    for row in rows:
        click.echo(f"{separator}\n{msgspec.json.encode(row).decode()}", nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def _print_csv(names: tuple[str, ...], rows: Iterable[msgspec.Struct]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(value) for value in msgspec.structs.astuple(row)])


def _cell(value: object) -> object:
    """Return what a spreadsheet shows and does not run: models are named by callers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return _cell(_in_units(value))
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _in_units(units: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in units.items())


def _print_sums(used: ops.Usage, names: Mapping[str, str]) -> None:
    heads = [used.by, "calls", "failed", "estimated", "input", "output", "cached", "cost"]
    lines = used.rows if len(used.rows) == 1 else [*used.rows, used.total]
    rows = [
        [
            f"{names[line.name]} ({line.name})" if line.name in names else line.name or "none",
            *(f"{count:,}" for count in (line.calls, line.failed, line.estimated)),
            *(f"{count:,}" for count in (line.input_tokens, line.output_tokens, line.cached_tokens)),
            format_usd(line.cost_nano_usd),
        ]
        for line in lines
    ]
    if used.total.units:  # a column that most never need
        heads.append("other units")
        for row, line in zip(rows, lines, strict=True):
            row.append(_in_units(line.units))
    if not used.rows:
        click.echo("No calls.")
    else:
        print_table(heads, rows, numbers=range(1, 8))
    if used.book == Book.SIM.label:
        click.echo("Play money: answers of the simulator.")
