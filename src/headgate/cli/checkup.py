"""What `headgate doctor` looks at. Each check returns what it saw, and raises nothing."""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import os
import platform
import shutil
import socket
import sqlite3
import ssl
import stat
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate import __version__
from headgate.cli import accountcheck, answercheck, bucketcheck, compose, queuecheck, redischeck
from headgate.cli.client import Client
from headgate.cli.output import counted
from headgate.cli.reach import State, reach
from headgate.config import Config, ServeOptions, load
from headgate.program import advise
from headgate.providers.registry import BATCH_CALLS
from headgate.settings.upstreams import ConfigError
from headgate.stores.sql.bootstrap import SCHEMA, version
from headgate.stores.sql.database import FILE, Database, connect
from headgate.stores.sql.folder import holder
from headgate.stores.sql.pepper import FILE as PEPPER, DataFolderError, check_pepper
from headgate.stores.sql.whereabouts import noted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OLD_PRICES_DAYS: Final = 90
_LOW_DISK: Final = 1 << 30  # the journal, its drain and a day of books
_FEW_FILES: Final = 4096
_YEAR_OF_BIRTH: Final = 2026
_FAST: Final = ("uvloop",)


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    about: str
    state: State
    says: str
    advice: str = ""
    measured: dict[str, float] = {}  # milliseconds, by step


def examine(given: Mapping[str, Any], *, offline: bool = False) -> list[Finding]:
    """Look at everything, in the order in which it would stop a start; `offline`: but what others run."""
    findings = list(_versions())
    try:
        config = load(msgspec.convert(given, ServeOptions))
    except ConfigError as fault:
        findings.append(Finding("configuration", "fault", str(fault), "Mend it, then run this again."))
        return findings
    data = Path(config.storage.data)
    place = Database(data, config.storage.database or noted(data))
    findings += _configuration(config)
    findings += _prices(config)
    findings += _folder(place)
    findings += _clock(place)
    findings.append(_server(config))
    findings += _batch_calls(config)
    if not offline:
        findings += _redis(config)
        findings += _queue(config)
        findings += _reach(config)
        findings += _batches(config)
    return findings


def _redis(config: Config) -> Iterator[Finding]:
    if config.storage.redis:
        seen = redischeck.look(config.storage)
        yield Finding("redis", seen.state, seen.says, seen.advice, dict(seen.measured))
    elif config.storage.database:
        says = "none: every replica on this database lets the whole of each limit through"
        yield Finding("redis", "note", says, "Set storage.redis before a second replica.")


def _queue(config: Config) -> Iterator[Finding]:
    if config.storage.queue:
        seen = queuecheck.look(config)
        yield Finding("queue", seen.state, seen.says, seen.advice, dict(seen.measured))


def _batches(config: Config) -> Iterator[Finding]:
    for provider, seen in (*bucketcheck.look(config), *accountcheck.look(config), *answercheck.look(config)):
        yield Finding(f"batches of {provider}", seen.state, seen.says, seen.advice, dict(seen.measured))


def _batch_calls(config: Config) -> Iterator[Finding]:
    """Say by which names lines of batches are asked for, where they are calls at a batch API."""
    for host in config.hosts:
        calls = BATCH_CALLS.get(host.batches)
        routed = [
            target.model
            for route in config.routes.values()
            for target in route.targets
            if target.provider == host.name and (target.batch or host.batch) != "own"
        ]
        if calls is None or (host.batch == "own" and not routed):
            continue
        names = {model: calls.named(host, model) for model in (*host.handover.models, *routed)}
        says = ", ".join(f"{model} is asked for as {name}" for model, name in names.items())
        if names and all(name.startswith(calls.endpoint) for name in names.values()):
            yield Finding(f"batches of {host.name}", "ok", says)
            continue
        advice = f"Make an endpoint for batches ({calls.endpoint}...) there, and name it in batch_models."
        yield Finding(
            f"batches of {host.name}", "warning", says or "no model has an endpoint for batches", advice
        )


def _versions() -> Iterator[Finding]:
    what = (
        f"Headgate {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{ssl.OPENSSL_VERSION}, {platform.system()} {platform.release()}"
    )
    yield Finding("versions", "ok", what)
    missing = [name for name in _FAST if importlib.util.find_spec(name) is None]
    if missing and sys.platform != "win32":
        yield Finding("speed", "warning", f"{', '.join(missing)} is missing.", "Run `make env` again.")
    if sys.platform != "win32":
        yield _open_files()


def _open_files() -> Finding:
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most == resource.RLIM_INFINITY or most >= _FEW_FILES:
        return Finding("open files", "ok", "no limit" if most < 0 else f"up to {most:,}")
    advice = f"Each client takes one: raise it to {_FEW_FILES:,} or more, by LimitNOFILE or `ulimit -n`."
    return Finding("open files", "warning", f"at most {most:,}", advice)


def _configuration(config: Config) -> Iterator[Finding]:
    if config.found:
        yield Finding("providers", "ok", ", ".join(config.found))
    else:
        yield Finding(
            "providers",
            "note",
            "none: in a new data folder the simulator answers, in play money.",
            "For real models set OPENAI_API_KEY, DEEPSEEK_API_KEY, ... in the environment or in .env.",
        )
    keyless = [host.name for host in config.hosts if host.keyless]
    if keyless:
        advice = "Set their variables, or api_key in the file."
        yield Finding("provider keys", "warning", f"missing for {', '.join(keyless)}", advice)
    if config.ignored:
        yield Finding("left to your programs", "ok", ", ".join(config.ignored))


def _reach(config: Config) -> Iterator[Finding]:
    """Measure the way to each provider in its region, with each of its keys, at each of its addresses."""
    for found in reach(config):
        host = found.host
        place = f" ({host.region or host.location})" if host.region or host.location else ""
        key = f", key {host.credential}" if host.credential and not found.address else ""
        address = f", address {found.address}" if found.address else ""
        about = f"provider {host.name}{place}{key}{address}"
        yield Finding(about, found.state, found.says, found.advice, found.measured)


def _prices(config: Config) -> Iterator[Finding]:
    try:
        book = compose.price_book(config)
    except click.ClickException as fault:
        yield Finding("prices", "fault", fault.message, "Mend [prices] in the file, or --prices.")
        return
    dated = datetime.fromisoformat(book.data.dated).replace(tzinfo=UTC)
    age = (datetime.fromtimestamp(compose.CLOCK.wall() / 1e6, UTC) - dated).days
    old = age > _OLD_PRICES_DAYS
    advice = "Install a newer version, or lay own rows over them: [prices] in the file." if old else ""
    says = f"{book.data.source}, as of {book.data.dated} ({counted(age, 'day')} ago)"
    yield Finding("prices", "warning" if old else "ok", says, advice)


def _folder(place: Database) -> Iterator[Finding]:
    folder, where = place.folder, compose.called(place)
    if not place.url and not (folder / FILE).is_file():
        yield _no_folder(folder)
        return
    try:
        with closing(connect(place, read_only=True)) as sql:
            found = version(sql)
            row = sql.execute("SELECT value FROM meta WHERE name = 'pepper_fingerprint'").fetchone()
        check_pepper(folder, row[0] if row else "")
    except (DataFolderError, sqlite3.Error) as fault:
        yield Finding("data folder", "fault", f"{where}: {fault}")
        return
    if found > SCHEMA:
        advice = "Install the version that made it, or name another folder with --data."
        yield Finding(
            "data folder", "fault", f"{compose.called(place)} has schema {found}, newer than {SCHEMA}", advice
        )
    else:
        newer = f", upgraded to {SCHEMA} at the next start" if found != SCHEMA else ""
        yield Finding("data folder", "ok", f"{where}, schema {found}{newer}")
    yield from _permissions(folder)
    yield _disk(folder)


def _no_folder(folder: Path) -> Finding:
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if os.access(parent, os.W_OK):
        return Finding("data folder", "note", f"{folder} is not there yet; the first start makes it.")
    advice = "Name another folder with --data, or make this one and give it to this user."
    return Finding("data folder", "fault", f"{folder} cannot be made: {parent} is not writable", advice)


def _permissions(folder: Path) -> Iterator[Finding]:
    pepper, path = folder / PEPPER, folder / FILE
    path = path if path.exists() else folder  # in PostgreSQL there is none
    if not os.access(folder, os.W_OK) or not os.access(path, os.W_OK):
        advice = "Give the folder and its files to the user that serves."
        yield Finding("permissions", "fault", f"{folder} is not writable", advice)
    elif sys.platform != "win32" and stat.S_IMODE(pepper.stat().st_mode) & 0o077:
        says = f"{pepper} can be read by others"
        yield Finding("permissions", "warning", says, f"chmod 600 {pepper}")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    says = f"{free / (1 << 30):,.1f} GiB free"
    if free < _LOW_DISK:
        return Finding("disk", "warning", says, "With a full disk priced calls are refused. Make room.")
    return Finding("disk", "ok", says)


def _clock(place: Database) -> Iterator[Finding]:
    now = compose.CLOCK.wall()
    said = datetime.fromtimestamp(now / 1e6, UTC)
    newest = _newest(place)
    advice = "Set the clock (timedatectl set-ntp true): budgets and prices go by it."
    if said.year < _YEAR_OF_BIRTH:
        yield Finding("clock", "fault", f"it says {said:%Y-%m-%d %H:%M} UTC", advice)
    elif newest > now:
        then = datetime.fromtimestamp(newest / 1e6, UTC)
        says = f"it says {said:%Y-%m-%d %H:%M} UTC, yet the books have {then:%Y-%m-%d %H:%M}"
        yield Finding("clock", "fault", says, advice)
    else:
        yield Finding("clock", "ok", f"{said:%Y-%m-%d %H:%M} UTC")


def _newest(place: Database) -> int:
    """Return the latest instant that the books know; 0 where there are none."""
    try:
        with closing(connect(place, read_only=True)) as sql:
            row = sql.execute("SELECT max(at) FROM changes").fetchone()
            # Ids of calls begin with their milliseconds, so the last of the primary key is the latest.
            last = sql.execute("SELECT call FROM calls ORDER BY call DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return 0  # reported as the data folder's fault
    return max(row[0] or 0, int.from_bytes(last[0][:6]) * 1000 if last else 0)


def _server(config: Config) -> Finding:
    """Say whether the port is free, ours, or somebody else's."""
    host, port = config.server.host, config.server.port
    where = f"{host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as fault:
        if fault.errno == errno.EADDRINUSE:
            return _taken(where, config)
        advice = "Choose another with --host and --port."
        return Finding("address", "fault", f"{where} cannot be had: {fault.strerror}", advice)
    folder = Path(config.storage.data)
    if (serving := holder(folder)) is not None:
        says = f"{where} is free: process {serving} serves {folder} at another address"
        return Finding("address", "ok", says)
    return Finding("address", "ok", f"{where} is free; start with `{advise('serve')}`")


def _taken(where: str, config: Config) -> Finding:
    host = config.server.host
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:  # a name
        everywhere = False
    url = f"http://{'127.0.0.1' if everywhere else host}:{config.server.port}"
    try:
        status, body = Client(url, "").get("/readyz")
    except click.ClickException:
        status, body = 0, {}
    if status == 200:
        return Finding("address", "ok", f"a gateway serves on {where}")
    reason = body.get("reason") if isinstance(body, dict) else None
    if reason:
        return Finding("address", "fault", f"the gateway on {where} is not ready: {reason}")
    return Finding("address", "fault", f"{where} is taken by another program", "Choose another with --port.")
