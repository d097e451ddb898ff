"""Whether a database is what this version needs: its schema, its files, and who else is in it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from headgate.stores.sql.bootstrap import SCHEMA, version
from headgate.stores.sql.database import connect
from headgate.stores.sql.layout import tables, triggers
from headgate.stores.sql.nodes import roll

if TYPE_CHECKING:
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.nodes import NodeRow


class Soundness(NamedTuple):
    """What a look at a database found."""

    schema: str  # its revision; empty: no books
    known: str  # this version's
    wrong: list[str]  # in sentences; empty: nothing is
    foreign: list[str]  # tables of somebody else, which are left alone
    nodes: list[NodeRow]  # data folders that share it


def look(place: Place) -> Soundness:
    """Look at a database; changes nothing.

    Raises:
        DataFolderError: it has tables, and none of ours.
        sqlite3.Error: it cannot be read.
    """
    with closing(connect(place, read_only=True, wait="managing")) as sql:
        found = version(sql)
        if found != SCHEMA:
            said = f"The schema is {found or 'none'}, this version has {SCHEMA}."
            said = said if found else f"{said[:-1]}: run `headgate db migrate`."
            return Soundness(found, SCHEMA, [said], [], [])
        ours, there = {table.name for table in tables()}, sql.tables()
        wrong = [f"The table {name} is missing." for name in sorted(ours - there)]
        wrong += [_missing(name) for name in sorted(triggers() - sql.triggers())]
        wrong += [f"The file is damaged: {said}." for said in sql.damage()]
        foreign = sorted(there - ours - {"alembic_version"})
        return Soundness(found, SCHEMA, wrong, foreign, roll(sql) if "nodes" in there else [])


def _missing(trigger: str) -> str:
    came = "rows could be changed" if "_keep_" in trigger else "sums of days are not kept"
    return f"The trigger {trigger} is missing: {came}."
