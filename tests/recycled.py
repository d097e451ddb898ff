"""Schemas of PostgreSQL that a test has left, emptied for the next one.

To make fifty tables with their indexes and triggers costs the server more than most tests ask of it. A schema is used again only
if its catalog is, after it, what it was when it was made; what else there is goes. Else all of it goes, as ever.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from tests.postgres import fresh_database, link

from headgate.stores.postgres.connection import PostgresConnection
from headgate.stores.sql.database import schema

MOST_BYTES = 4 << 20  # of its tables: a larger one is slower to read, with all its dead rows

# Of everything in a schema what it is, and the numbers that a thing has which was not made anew.
_CATALOG = """
WITH of AS (SELECT c.* FROM pg_class c WHERE c.relnamespace = CAST($1 AS regnamespace)),
parts (part) AS (
  SELECT concat_ws(' ', 'c', oid, relname, relkind, relnatts, relpersistence, relrowsecurity, reloptions) FROM of
  UNION ALL SELECT concat_ws(' ', 'a', attrelid, attnum, attname, atttypid, attnotnull, atthasdef, attidentity)
    FROM pg_attribute JOIN of ON of.oid = attrelid WHERE attnum > 0
  UNION ALL SELECT concat_ws(' ', 'd', d.oid, adrelid, adnum) FROM pg_attrdef d JOIN of ON of.oid = adrelid
  UNION ALL SELECT concat_ws(' ', 'i', indexrelid, indisvalid, indisunique) FROM pg_index JOIN of ON of.oid = indexrelid
  UNION ALL SELECT concat_ws(' ', 'h', inhrelid, inhparent) FROM pg_inherits JOIN of ON of.oid = inhparent
  UNION ALL SELECT concat_ws(' ', 't', t.oid, tgname, tgenabled) FROM pg_trigger t JOIN of ON of.oid = tgrelid
  UNION ALL SELECT concat_ws(' ', 'k', oid, conname, convalidated) FROM pg_constraint
    WHERE connamespace = CAST($1 AS regnamespace)
  UNION ALL SELECT concat_ws(' ', 'p', oid, proname, md5(prosrc), proconfig) FROM pg_proc
    WHERE pronamespace = CAST($1 AS regnamespace)
)
SELECT md5(string_agg(part, ',' ORDER BY part)) FROM parts
"""
_TABLES = """
SELECT c.oid, c.relname, pg_relation_size(c.oid) AS bytes FROM pg_class c
WHERE c.relnamespace = CAST($1 AS regnamespace) AND c.relkind = $2
"""


class Made(NamedTuple):
    """A schema as it was made."""

    catalog: str
    tables: frozenset[int]


_spares: list[tuple[str, Made]] = []
_define = PostgresConnection.define


@contextmanager
def recycled_database() -> Iterator[str]:
    """Give the address of an empty database; the schema of the books that is made in it may have been used."""
    with fresh_database() as url, pytest.MonkeyPatch.context() as patch:
        name = url.rpartition("=")[2]
        made: list[Made] = []

        def define(sql: PostgresConnection, script: str) -> None:
            if script == schema() and sql.execute("SELECT current_schema()").fetchone() == (name,):
                made[:] = [_taken(sql, name, script)]
            else:
                _define(sql, script)

        patch.setattr(PostgresConnection, "define", define)
        yield url
        if made:
            _put_by(name, made[0])


def _taken(sql: PostgresConnection, name: str, script: str) -> Made:
    """Give a spare schema this name, or make one."""
    if _spares:
        spare, made = _spares.pop()
        sql.execute(f"DROP SCHEMA {name}")
        sql.execute(f"ALTER SCHEMA {spare} RENAME TO {name}")
        return made
    _define(sql, script)
    (catalog,) = sql.execute(_CATALOG.replace("$1", f"'{name}'")).fetchone()
    tables = sql.execute(_TABLES.replace("$1", f"'{name}'").replace("$2", "'r'")).fetchall()
    return Made(catalog, frozenset(oid for oid, *_ in tables))


def _put_by(name: str, made: Made) -> None:
    """Empty a schema for another test, if it is still what it was; leave an empty one to be dropped."""
    tables = link().fetch(_TABLES, name, b"r")
    strange = [table["relname"] for table in tables if table["oid"] not in made.tables]
    for table in strange:
        link().run(f'DROP TABLE IF EXISTS {name}."{table}" CASCADE')
    if strange:
        tables = link().fetch(_TABLES, name, b"r")
    if [tuple(row) for row in link().fetch(_CATALOG, name)] != [(made.catalog,)]:
        return
    if sum(table["bytes"] for table in tables) > MOST_BYTES:
        return
    used = [f'{name}."{table["relname"]}"' for table in tables if table["bytes"]]
    counters = [f"'{name}.{row['relname']}'" for row in link().fetch(_TABLES, name, b"S")]
    spare = f"spare_{secrets.token_hex(6)}"
    link().run(
        "SET LOCAL session_replication_role = replica;"  # in which no trigger keeps a row
        + "".join(f"DELETE FROM {table};" for table in used)
        + f"SELECT setval(n, 1, false) FROM unnest(CAST(ARRAY[{','.join(counters)}] AS regclass[])) n;"
        + f"ALTER SCHEMA {name} RENAME TO {spare}; CREATE SCHEMA {name}"
    )
    _spares.append((spare, made))
