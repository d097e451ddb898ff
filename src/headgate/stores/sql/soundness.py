"""Whether a database is what this version needs: its schema, its files, and who else is in it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from headgate.stores.sql.bootstrap import SCHEMA, version
from headgate.stores.sql.database import connect
from headgate.stores.sql.layout import tables, triggers
from headgate.stores.sql.nodes import roll

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
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
        if {"blobs", "storage"} <= there:
            wrong += _storage(sql)
        wrong += [f"The file is damaged: {said}." for said in sql.damage()]
        foreign = sorted(there - ours - {"alembic_version"})
        return Soundness(found, SCHEMA, wrong, foreign, roll(sql) if "nodes" in there else [])


def _missing(trigger: str) -> str:
    came = "sums of days are not kept"
    if "_keep_" in trigger:
        came = "rows could be changed"
    elif trigger.startswith("storage_"):
        came = "quotas do not see what files come and go"
    return f"The trigger {trigger} is missing: {came}."


def _storage(sql: Connection) -> list[str]:
    """Return which sums of files are not what the files come to."""
    told = []
    for scope, name in enumerate(("project", "account")):
        rows = sql.execute(  # one statement, since files come and go meanwhile
            f"""SELECT ref, sum(due), sum(noted) FROM (
              SELECT {name} AS ref, bytes AS due, 0 AS noted FROM blobs WHERE state <> 2
              UNION ALL SELECT ref, 0, bytes FROM storage WHERE scope = ?
            ) AS sums GROUP BY ref HAVING sum(due) <> sum(noted) ORDER BY ref""",
            (scope,),
        ).fetchall()
        told += [
            f"The files of {name} {ref} have {due:,} bytes, and {noted:,} are noted."
            for ref, due, noted in rows
        ]
    return told
