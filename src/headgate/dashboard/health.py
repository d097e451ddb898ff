"""How the providers do, as the page of it shows: every text made, nothing left to work out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from headgate.vitals import OTHER, Day, percent, uptime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.vitals import KeyReport, ProviderReport, Report, State, TargetReport

_FINE, _FAIR = 0.99, 0.9
_GOOD_STATES = frozenset({"well"})
_BAD_STATES = frozenset({"out", "panic"})


class Cell(NamedTuple):
    """One day."""

    kind: str  # good, fair, bad, none
    title: str


class Row(NamedTuple):
    """One target, or one of its keys."""

    model: str
    state: str
    colour: str
    until: str
    failures: str
    first_byte: str
    attempts: str
    retries: str
    errors: str
    uptime: str
    is_key: bool


class Panel(NamedTuple):
    """One provider."""

    name: str
    state: str
    colour: str
    says: str
    uptime: str
    cells: tuple[Cell, ...]
    rows: tuple[Row, ...]


class Health(NamedTuple):
    """The page."""

    state: str
    colour: str
    at: str
    workers: int
    panels: tuple[Panel, ...]
    probes: str
    simulated: bool


def drawn(report: Report, words: Mapping[str, str]) -> Health:
    """Return a report in the words of a language."""
    return Health(
        state=words[f"all_{_colour(report.state)}"],
        colour=_colour(report.state),
        at=_clock(report.at),
        workers=report.workers,
        panels=tuple(_panel(each, report, words) for each in report.providers),
        probes=_probes(report, words),
        simulated=report.simulated,
    )


def _panel(provider: ProviderReport, report: Report, words: Mapping[str, str]) -> Panel:
    return Panel(
        name=provider.provider,
        state=words[f"state_{provider.state}"],
        colour=_colour(provider.state),
        says=words.get(f"advice_{provider.kind}", ""),
        uptime=percent(provider.uptime),
        cells=_cells(provider.days, report.at, report.days_kept),
        rows=tuple(row for target in provider.targets for row in _rows(target, words)),
    )


def _rows(target: TargetReport, words: Mapping[str, str]) -> list[Row]:
    rows = [
        Row(
            model=words["other_models"] if target.model == OTHER else target.model,
            state=words[f"state_{target.state}"],
            colour=_colour(target.state),
            until=_time(target.until),
            failures=percent(target.failure_rate),
            first_byte=_ms(target),
            attempts=f"{target.attempts:,}",
            retries=f"{target.retries:,}",
            errors=_errors(target.errors, words),
            uptime=percent(target.uptime),
            is_key=False,
        )
    ]
    rows.extend(_key_row(key, words) for key in target.keys)
    return rows


def _key_row(key: KeyReport, words: Mapping[str, str]) -> Row:
    return Row(
        model=f"{words['key_number']} {key.key}",
        state=words[f"state_{key.state}"],
        colour=_colour(key.state),
        until=_time(key.until),
        failures=percent(key.failure_rate),
        first_byte=_ms(key),
        attempts=f"{key.attempts:,}",
        retries=f"{key.retries:,}",
        errors=_errors(key.errors, words),
        uptime="",
        is_key=True,
    )


def _ms(each: TargetReport | KeyReport) -> str:
    return "" if each.first_byte_ms is None else f"{each.first_byte_ms:,} ms"


def _cells(days: Sequence[Day], at: int, count: int) -> tuple[Cell, ...]:
    """Return a cell for each day, today the last."""
    known = {day.date: day for day in days}
    today = datetime.fromtimestamp(at, UTC)
    dates = [(today - timedelta(days=back)).strftime("%Y-%m-%d") for back in range(count - 1, -1, -1)]
    return tuple(_cell(date, known.get(date)) for date in dates)


def _cell(date: str, day: Day | None) -> Cell:
    share = None if day is None else uptime((day,))
    if day is None or share is None:
        return Cell("none", date)
    kind = "good" if share >= _FINE else "fair" if share >= _FAIR else "bad"
    failed = day.failed + day.probes_failed
    total = failed + day.served + day.probes_served
    return Cell(kind, f"{date}: {percent(share)} ({total - failed:,}/{total:,})")


def _probes(report: Report, words: Mapping[str, str]) -> str:
    probes = report.probes
    if probes is None:
        return ""
    said = words["probes"].format(every=f"{probes.every_s:g}", made=probes.made, served=probes.served)
    return f"{said} {words['probes_paused']}" if probes.paused else said


def _errors(errors: Mapping[str, int], words: Mapping[str, str]) -> str:
    return ", ".join(f"{words[f'error_{kind}']} {count:,}" for kind, count in errors.items())


def _colour(state: State) -> str:
    if state in _GOOD_STATES:
        return "good"
    return "bad" if state in _BAD_STATES else "fair"


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC") if at else ""
