"""`headgate config promote`: take from one environment's file what another shall have of it.

Models, demands, prices and limits move; where providers are, and the keys that they are asked with, belong
to an environment and stay. Nothing of a provider is printed but which settings differ.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
import msgspec

from headgate.cli import compose
from headgate.cli.exits import Failed
from headgate.cli.options import env_option, examples, json_option
from headgate.cli.output import print_json, print_table
from headgate.cli.tomltext import with_sections
from headgate.settings.upstreams import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SECTIONS: Final = (
    "models",
    "demands",
    "aliases",
    "prices",
    "deadlines",
    "keys",
    "tiers",
    "limits",
    "retries",
    "breaker",
)
_AT_START: Final = frozenset(
    {"tiers", "limits", "retries", "breaker"}
)  # a running server reads the others anew


class Difference(NamedTuple):
    """One setting that differs; None: it is not there."""

    setting: str
    now: Any
    then: Any


class _File(NamedTuple):
    """A file as it is read here: nothing that it refers to is looked up."""

    path: Path
    text: str
    settings: dict[str, Any]


@examples(
    "config promote staging.toml production.toml",
    "config promote staging.toml production.toml --only models --yes",
)
@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--only", multiple=True, type=click.Choice(SECTIONS), help="Only this; repeatable.")
@click.option("--yes", "apply", is_flag=True, help="Write it. Without this it is shown.")
@env_option
@json_option
def promote(
    source: str, target: str, only: tuple[str, ...], apply: bool, env_file: str, as_json: bool
) -> None:
    """Show what TO would take over of FROM: models, demands, prices, limits, rules of keys.

    With --yes, write it.

    Providers and their keys stay as they are in TO, and so does every comment outside of what changes. The
    new file is checked before it takes the place of the old one, which is kept beside it; a running server
    goes on with it within two seconds.
    """
    given, own = _read(source), _read(target)
    if given.path == own.path:
        raise Failed("FROM and TO are the same file.")
    sections = [name for name in SECTIONS if name in (only or SECTIONS)]
    found = {
        name: list(_differences(name, own.settings.get(name), given.settings.get(name))) for name in sections
    }
    changed = [name for name in sections if found[name]]
    rows = [row for name in changed for row in found[name]]
    backup = None
    if changed:
        backup = _write(own, _promoted(own, given, changed), env_file, apply=apply)
    later = sorted(_AT_START.intersection(changed))
    staying = list(_staying(given, own))
    if as_json:
        shown = [row._asdict() for row in rows]
        kept = str(backup) if backup else None
        print_json(
            {"differences": shown, "stays": staying, "written": bool(backup), "backup": kept, "waits": later}
        )
        return
    _show(rows, staying, str(target))
    if backup:
        click.echo(f"Written. The file as it was: {backup}")
        if later:
            click.echo(f"Waits for the next start: {', '.join(later)}.")
    elif changed:
        click.echo("Nothing was written. It can be used: add --yes to write it.")


def _read(name: str) -> _File:
    path = Path(name).resolve()
    try:
        text = path.read_text(encoding="utf-8")
        return _File(path, text, tomllib.loads(text))
    except OSError as fault:
        raise Failed(f"Cannot read {name}: {fault.strerror}.") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise Failed(f"{name}: not valid TOML: {fault}.") from fault


def _promoted(own: _File, given: _File, names: Sequence[str]) -> str:
    """Return the new file; it says of these sections what the other says, and of all others what it said."""
    text = with_sections(own.text, given.text, names)
    wanted = {name: value for name, value in own.settings.items() if name not in names}
    wanted |= {name: given.settings[name] for name in names if name in given.settings}
    if tomllib.loads(text) != wanted:
        raise Failed(f"{own.path} is laid out in a way that cannot be edited here: change it by hand.")
    return text


def _write(own: _File, text: str, env_file: str, *, apply: bool) -> Path | None:
    """Check the new file; if it shall be, put it in the place of the old one and return where that is."""
    handle, name = tempfile.mkstemp(prefix=own.path.name + ".", suffix=".new", dir=own.path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as fresh:
            fresh.write(text)
            fresh.flush()
            os.fsync(fresh.fileno())
        _check(name, own.path, env_file)
        if not apply:
            return None
        os.chmod(name, own.path.stat().st_mode & 0o7777)
        backup = _kept(own)
        os.replace(name, own.path)
    except OSError as fault:
        raise Failed(f"Cannot write beside {own.path}: {fault.strerror}.") from fault
    else:
        return backup
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _check(name: str, path: Path, env_file: str) -> None:
    try:
        compose.price_book(compose.settings(name, env_file))
    except (ConfigError, click.ClickException) as fault:
        said = fault.format_message() if isinstance(fault, click.ClickException) else str(fault)
        raise Failed(f"The promoted file could not be used: {said.replace(name, str(path))}") from fault


def _kept(own: _File) -> Path:
    """Keep the file as it was, with its rights; one that was kept before stays, too."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        backup = own.path.with_name(f"{own.path.name}.{stamp}{f'-{number}' if number else ''}.bak")
        with suppress(FileExistsError):
            os.link(own.path, backup)
            return backup
    raise Failed(f"There are too many backups of {own.path} from this second.")


# ── what differs ────────────────────────────────────────────────────────────────────────────────


def _differences(setting: str, now: Any, then: Any) -> Iterator[Difference]:
    """Yield the settings that differ; rows of a list are told apart by their names, where they have some."""
    if now == then:
        return
    if isinstance(now, dict) and isinstance(then, dict):
        for name in [*now, *(name for name in then if name not in now)]:
            yield from _differences(f"{setting}.{name}", now.get(name), then.get(name))
        return
    rows, others = _named(now), _named(then)
    if (rows or others) and rows is not None and others is not None:
        for name in [*rows, *(name for name in others if name not in rows)]:
            yield from _differences(f"{setting} {name}", rows.get(name), others.get(name))
        return
    yield Difference(setting, now, then)


def _named(value: Any) -> dict[str, Any] | None:
    """Return the rows of a list by name; None where they have no names of their own."""
    if value is None:
        return {}
    if not isinstance(value, list) or not all(isinstance(row, dict) and "name" in row for row in value):
        return None
    rows = {str(row["name"]): row for row in value}
    return rows if len(rows) == len(value) else None


def _staying(given: _File, own: _File) -> Iterator[str]:
    """Yield what is different of the providers, by the names of settings alone."""
    theirs, ours = _providers(given), _providers(own)
    for name in sorted({*theirs, *ours}):
        if name not in ours:
            yield f"provider {name!r} is only in {given.path.name}"
        elif name not in theirs:
            yield f"provider {name!r} is only in {own.path.name}"
        elif theirs[name] != ours[name]:
            there, here = theirs[name], ours[name]
            names = sorted(each for each in {*there, *here} if there.get(each) != here.get(each))
            yield f"provider {name!r} has its own {', '.join(names)}"


def _providers(file: _File) -> Mapping[str, Any]:
    return _named(file.settings.get("providers")) or {}


def _show(rows: list[Difference], staying: list[str], target: str) -> None:
    if rows:
        print_table(
            (f"in {target}", "now", "then"), [(row.setting, _said(row.now), _said(row.then)) for row in rows]
        )
    else:
        click.echo(f"Of what can be promoted, {target} has it all.")
    for line in staying:
        click.echo(f"Stays: {line}.")


def _said(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
