"""What commands work with, opened and closed: settings, prices, the data folder, its stores.

The only module of the command line that names stores; a server does the same in `app`.
"""

from __future__ import annotations

import secrets
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec

from headgate.cli.exits import Unreachable, Unusable
from headgate.cli.options import chosen_database, read_address
from headgate.config import ServeOptions, data_folder, database_url_of, load
from headgate.ops.desk import Desk
from headgate.ports import SystemClock
from headgate.program import advise, without_password
from headgate.stores.sql.database import FILE, Database, connect, folder_of, shown, url_of
from headgate.stores.sql.reports import SqlReports
from headgate.stores.sql.whereabouts import noted
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from headgate.config import Config
    from headgate.money.prices import PriceBook
    from headgate.routing.routes import Routes
    from headgate.stores.sql.check import Result
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.nodes import NodeRow
    from headgate.stores.sql.single import Charge
    from headgate.vitals import Report

CLOCK = SystemClock()
_TRIES, _TRY_EVERY_S = 40, 0.05


def place_of(data: str | None) -> Place:
    """Return where the books are that the user means: by options, variables, or what the folder notes."""
    folder = data_folder(data)
    url = database_url_of(chosen_database()) or noted(folder)
    return Database(folder, url) if url else folder


def move_of(data: str | None, target: str) -> tuple[Path, Database]:
    """Return the folder whose SQLite books a user means, and where they are to go.

    Raises:
        Unreachable: there are none, or they are elsewhere already.
    """
    folder = data_folder(data)
    if url := noted(folder):
        raise Unreachable(f"The books of {folder} are in {url} already.")
    if not (folder / FILE).is_file():
        raise Unreachable(f"There are no books in {folder}: name another folder with --data.")
    return folder, Database(folder, database_url_of(read_address(target)))


def called(place: Place) -> str:
    """Return what people call the books: their database, or the folder that has it."""
    return shown(place) if url_of(place) else str(folder_of(place))


def storage_shown(config: Config) -> dict[str, object]:
    """Return the settings of the books without a password."""
    storage = msgspec.structs.asdict(config.storage)
    return storage | {name: without_password(storage[name]) for name in ("database", "redis", "queue")}


def has_books(place: Place) -> bool:
    """Say whether there are books, or a database that may have them."""
    return bool(url_of(place)) or (folder_of(place) / FILE).is_file()


def existing_place(data: str | None) -> Place:
    """Return where the books are that the user means.

    Raises:
        Unreachable: there are none; says how to make them.
    """
    place = place_of(data)
    folder = folder_of(place)
    if not has_books(place):
        raise Unreachable(
            f"There are no books in {folder}. Start a server with `{advise('serve', folder)}`, or name "
            "another folder with --data."
        )
    return place


def _current_place(data: str | None) -> Place:
    """Return where the books are that the user means, for those who read and change no schema.

    Raises:
        Unreachable: there are none, or an older version made them; says what to do.
    """
    from headgate.stores.sql.bootstrap import SCHEMA, version

    place = existing_place(data)
    with closing(connect(place, read_only=True, wait="managing")) as sql:
        found = version(sql) if "alembic_version" in sql.tables() else ""
    if found and found < SCHEMA:
        raise Unreachable(
            f"{shown(place)} has schema {found}, older than this version's {SCHEMA}: run "
            f"`{advise('db migrate', folder_of(place))}`, or start a server of this version."
        )
    return place


@contextmanager
def admin(data: str | None, *, create: bool = False) -> Iterator[Desk]:
    """Open what people manage in a data folder, on the terms and with the tiers of its last server.

    Args:
        data: the folder as the user gave it.
        create: make it where it is missing; else that is an error.
    """
    from headgate.stores.sql.admin import SqlAdminStore
    from headgate.stores.sql.bootstrap import prepare
    from headgate.stores.sql.terms import kept_terms

    place = place_of(data) if create else existing_place(data)
    prepared = prepare(place, CLOCK.wall(), None)
    with closing(connect(place, read_only=True)) as sql:
        terms, tiers = kept_terms(sql)
    with closing(SqlAdminStore(place)) as store:
        yield Desk(store, CLOCK, prepared.pepper, terms, tiers)


def new_reference() -> str:
    """Return a reference that nothing has: what is asked for happens each time."""
    return secrets.token_hex(12)


def charge(place: Place, request_id: str) -> Charge | None:
    """Return what a call that has just ended cost, once the server has copied it to the books."""
    from headgate.stores.sql.single import charge_of

    if not has_books(place):
        return None
    with closing(connect(place, read_only=True)) as sql:
        for _ in range(_TRIES):
            if found := charge_of(sql, request_id):
                return found
            time.sleep(_TRY_EVERY_S)
    return None


def rolled_back(data: str | None, trials: Collection[str]) -> dict[str, str]:
    """Return which of some canaries are rolled back by the books of a data folder, and why."""
    from headgate.stores.sql.canaries import rolled_back as find

    place = place_of(data)
    if not trials or not has_books(place):
        return {}
    with closing(connect(place, read_only=True)) as sql:
        return find(sql, trials)


def reports(data: str | None) -> SqlReports:
    """Return what was used, from the books of a data folder."""
    return SqlReports(_current_place(data))


def check(data: str | None) -> Result:
    """Check the books of a data folder."""
    from headgate.stores.sql.check import check as run
    from headgate.stores.sql.nodes import read_node

    place = _current_place(data)
    node = read_node(folder_of(place)) if url_of(place) else None
    return run(place, CLOCK.wall(), node.name if node is not None else "")


def nodes(data: str | None) -> list[NodeRow]:
    """Return the data folders that share a database; of SQLite there are none."""
    from headgate.stores.sql.bootstrap import SCHEMA, version
    from headgate.stores.sql.nodes import roll

    with closing(connect(existing_place(data), read_only=True, wait="managing")) as sql:
        return roll(sql) if version(sql) == SCHEMA else []


def write_off(data: str | None, node: str) -> int:
    """Write off a lost node; return how many slices it had."""
    from headgate.stores.sql.nodes import write_off as run

    with closing(connect(existing_place(data))) as sql:
        return run(sql, node)


def settings(config_file: str | None = None, env_file: str = ".env", prices: str | None = None) -> Config:
    """Return the settings as a server would have them."""
    return load(ServeOptions(config=config_file, env_file=env_file, prices=prices))


def price_book(config: Config) -> PriceBook:
    """Return the price book of some settings.

    Raises:
        Unusable: there is no such book, or a row of it is none.
    """
    from headgate.money.pricedata import PriceData
    from headgate.money.prices import PriceBook
    from headgate.providers.registry import book_names

    data, prices = PriceData.load(), config.prices
    names = book_names(config.hosts, data)
    try:
        return PriceBook.load(prices.rows, prices.margins, prices.book, data, names)
    except ValueError as fault:
        raise Unusable(f"{fault}") from fault


def routes(config: Config) -> tuple[Routes, Book]:
    """Return the table of models of some settings, and the book that a key would spend from."""
    from headgate.process.outward import build_routes

    return build_routes(config, ""), Book.REAL if config.hosts or config.has_file else Book.SIM


def unserved(config: Config) -> list[str]:
    """Return the aliases and fallbacks of some settings that no provider of theirs serves."""
    from headgate.errors import GatewayError

    (table, book), now = routes(config), CLOCK.wall()
    named = [*config.aliases, *(name for route in config.routes.values() for name in route.fallback)]
    missing = []
    for name in dict.fromkeys(named):
        try:
            table.candidates(name, book, now)
        except GatewayError:
            missing.append(name)
    return missing


def status(data: str | None) -> Report:
    """Return how the providers do: what the workers of a server see, or those of the last one saw.

    Raises:
        Unreachable: there is no data folder, or another version of Headgate serves it.
    """
    from headgate.observe.scoreboard import shown as boards
    from headgate.process.lookout import BOARDS
    from headgate.stores.sql import uptime
    from headgate.stores.sql.bootstrap import SCHEMA, version
    from headgate.stores.sql.folder import holder
    from headgate.vitals import Scene, report

    place = existing_place(data)
    folder = folder_of(place)
    try:
        seen, at = boards(folder / BOARDS)
    except msgspec.DecodeError as fault:
        raise Unreachable(f"{folder} is served by another version of Headgate: ask with that one.") from fault
    serving = holder(folder) is not None
    now = CLOCK.wall()
    with closing(connect(place, read_only=True)) as sql:
        days = uptime.kept(sql, now) if version(sql) == SCHEMA else []
    return report(Scene(seen, days, now if serving or not at else at, serving=serving))
