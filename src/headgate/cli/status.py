"""`headgate status`: how the providers do, the server running or dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from headgate.cli import compose
from headgate.cli.db import node_text
from headgate.cli.exits import FOUND
from headgate.cli.options import data_option, examples, json_option
from headgate.cli.output import date_text, print_json, print_list
from headgate.vitals import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.vitals import KeyReport, ProviderReport, Report, TargetReport

_OUT: Final = frozenset({"out", "panic"})
_HEADS: Final = (
    "provider",
    "model",
    "state",
    "uptime",
    "failed",
    "first byte",
    "attempts",
    "retries",
    "errors",
)
_NUMBERS: Final = (3, 4, 5, 6, 7)
_US: Final = 1_000_000


@examples("status", "status --data /srv/headgate --json")
@click.command(name="status")
@data_option
@json_option
@click.pass_context
def command(context: click.Context, data: str | None, as_json: bool) -> None:
    """Show how each provider, model and key does: breakers, failures, times, errors, uptime.

    `failed` and `first byte` are of the last five minutes, uptime is of 90 days, the rest since the server
    began. Exits 1 while all that is asked of some provider is out.
    """
    report = compose.status(data)
    out = any(provider.state in _OUT for provider in report.providers)
    if as_json:
        print_json(report)
    else:
        _show(report)
        for node in compose.nodes(data):
            click.echo(node_text(node))
    context.exit(FOUND if out and report.serving else 0)


def _show(report: Report) -> None:
    if not report.serving:
        when = date_text(report.at * _US) if report.workers else ""
        last = f"; the last one was so at {when} UTC" if when else ""
        click.echo(f"No server runs on this folder{last}.\n")
    rows = [row for provider in report.providers for row in _rows(provider)]
    nothing = "The simulator answers, in play money: no call has come yet." if report.simulated else (
        "No provider is configured, or none was ever asked."
    )  # fmt: skip
    print_list(_HEADS, rows, nothing, numbers=_NUMBERS)
    for provider in report.providers:
        if provider.says:
            click.echo(f"{provider.provider}: {provider.says}")
    if report.probes is not None:
        probes = report.probes
        click.echo(
            f"Probes: every {probes.every_s:g} s, {probes.served} of {probes.made} served, at most "
            f"{probes.budget}." + (f" They rest: {probes.paused}" if probes.paused else "")
        )


def _rows(provider: ProviderReport) -> list[tuple[str, ...]]:
    if not provider.targets:
        return [(provider.provider, "", "not asked yet", "", "", "", "", "", "")]
    rows = []
    for target in provider.targets:
        rows.append(
            (provider.provider, target.model, _state(target), *_figures(target), errors(target.errors))
        )
        for key in target.keys:
            until = f" until {_time(key.until)}" if key.until else ""
            name, failed = f"  key {key.key}", percent(key.failure_rate)
            counts = (f"{key.attempts:,}", f"{key.retries:,}", errors(key.errors))
            rows.append((provider.provider, name, key.state + until, "", failed, _ms(key), *counts))
    return rows


def _figures(target: TargetReport) -> tuple[str, ...]:
    return (
        percent(target.uptime),
        percent(target.failure_rate),
        _ms(target),
        f"{target.attempts:,}",
        f"{target.retries:,}",
    )


def _ms(each: TargetReport | KeyReport) -> str:
    return "" if each.first_byte_ms is None else f"{each.first_byte_ms:,} ms"


def _state(target: TargetReport) -> str:
    until = f" until {_time(target.until)}" if target.until else ""
    by = f" ({target.workers_out} workers)" if target.workers_out > 1 and not target.keys else ""
    return f"{target.state}{until}{by}"


def errors(counts: Mapping[str, int]) -> str:
    """Return counts of errors by their kinds."""
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items())


def _time(at: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"  # most are less than a minute away
