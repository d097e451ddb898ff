"""Books that several tests begin with: filled for the first of them, and copied for the others.

A copy has the files of the data folder; in PostgreSQL the server copies the rows, out of plain tables without indexes. The clock
and the ids go on where they were when the books had been filled.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.postgres import link
from tests.stores.books import anywhere
from tests.stores.records import CLOCK, IDS

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import Place, folder_of, schema, url_of


class File(NamedTuple):
    """A file that may end with zeros, as journals do."""

    content: bytes
    size: int


class Filled(NamedTuple):
    """What came of books that were filled."""

    files: dict[Path, File]
    rows: str  # the script that puts them where there are none
    moment: tuple[int, int, int]


_filled: dict[tuple[object, bool], Filled] = {}


def lay_out(place: Place) -> None:
    """Make empty books."""
    folder_of(place).mkdir(parents=True, exist_ok=True)
    with closing(anywhere(place, wait="patient")) as sql, writing(sql):
        sql.define(schema())


def filled(
    place: Place, fill: Callable[[Place], object], empty: Callable[[Place], object] = lay_out
) -> Place:
    """Make books as `fill` does, which nothing else may change while tests run.

    Args:
        place: where there are none.
        fill: makes them with all that is in them, and closes what it opens.
        empty: makes as many tables in PostgreSQL, without rows.
    """
    known = _filled.get((fill, bool(url_of(place))))
    if known is None:
        fill(place)
        _filled[fill, bool(url_of(place))] = _taken(place)
        return place
    for name, file in known.files.items():
        path = folder_of(place) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as copy:
            copy.write(file.content)
            copy.truncate(file.size)
    if known.rows:
        empty(place)
        link().run(f"SET LOCAL search_path = {_schema_of(place)}; {known.rows}")
    CLOCK.now, CLOCK.ns, IDS._last = known.moment
    return place


def _taken(place: Place) -> Filled:
    folder = folder_of(place)
    files = {path.relative_to(folder): _file(path) for path in folder.rglob("*") if path.is_file()}
    rows = _rows(_schema_of(place)) if url_of(place) else ""
    return Filled(files, rows, (CLOCK.now, CLOCK.ns, IDS._last))


def _file(path: Path) -> File:
    content = path.read_bytes()
    return File(content.rstrip(b"\0"), len(content))


def _schema_of(place: Place) -> str:
    return url_of(place).rpartition("=")[2]


def _rows(schema: str) -> str:
    """Keep the rows of a schema in another one; return the script that copies them."""
    kept = f"filled_{secrets.token_hex(6)}"
    link().run(f"CREATE SCHEMA {kept}")
    script = ["SET LOCAL session_replication_role = replica"]  # in which triggers add nothing up
    tables = link().fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = CAST($1 AS regnamespace) AND relkind IN ('r', 'p')"
        " AND NOT relispartition",
        schema,
    )
    for (table,) in tables:
        if link().fetch(f"SELECT 1 FROM {schema}.{table} LIMIT 1"):
            link().run(f"CREATE TABLE {kept}.{table} AS TABLE {schema}.{table}")
            script.append(f"INSERT INTO {table} TABLE {kept}.{table}")
    numbers = link().fetch(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = $1 AND last_value IS NOT NULL",
        schema,
    )
    script += [f"SELECT setval('{name}', {last})" for name, last in numbers]
    return "; ".join(script)
