import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from alembic.script import ScriptDirectory

from headgate.identity.keys import mint_key
from headgate.stores.sql import migrate
from headgate.stores.sql.bootstrap import SCHEMA, prepare
from headgate.stores.sql.database import connect, last_change, load_budgets, schema
from headgate.stores.sql.directory import Directory
from headgate.stores.sql.engine import open_engine
from headgate.stores.sql.sqlite import statements


def drawn(sql: sqlite3.Connection) -> dict[str, str]:
    rows = sql.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
    return {name: text for name, text in rows if name != "alembic_version"}


def test_upgrading_an_empty_file_gives_exactly_the_schema(tmp_path: Path) -> None:
    assert migrate.migrate(tmp_path) == ("", SCHEMA)
    with closing(connect(tmp_path)) as upgraded, closing(sqlite3.connect(":memory:")) as fresh:
        for statement in statements(schema()):
            fresh.execute(statement)
        assert drawn(upgraded) == drawn(fresh)
        assert len(drawn(fresh)) > 15


def test_a_new_folder_is_stamped_with_the_newest_revision(tmp_path: Path) -> None:
    prepare(tmp_path, 1, mint_key)
    assert migrate.head() == SCHEMA
    assert migrate.migrate(tmp_path) == (SCHEMA, SCHEMA)


def test_an_older_folder_is_upgraded_when_it_is_prepared(tmp_path: Path) -> None:
    prepare(tmp_path, 1, mint_key)
    with closing(connect(tmp_path)) as sql:
        sql.execute("UPDATE alembic_version SET version_num = '0000'")
    # There is no revision 0000, so Alembic's refusal shows that it was asked, in its own process.
    with pytest.raises(Exception, match="0000"):
        prepare(tmp_path, 1, mint_key)


def test_a_step_that_fails_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)

    def twice() -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE a (x)")
            connection.exec_driver_sql("CREATE TABLE a (x)")

    with pytest.raises(sqlalchemy.exc.OperationalError):
        twice()
    engine.dispose()
    with closing(connect(tmp_path)) as sql:
        assert drawn(sql) == {}


def test_the_revisions_are_one_line_of_growing_names(tmp_path: Path) -> None:
    script = ScriptDirectory.from_config(migrate._config())
    names = [revision.revision for revision in script.walk_revisions()]
    assert names == sorted(names, reverse=True)
    assert len(script.get_heads()) == 1


def test_an_upgrade_keeps_what_people_made(tmp_path: Path) -> None:
    first = Path(migrate.__file__).parent / "migrations" / "versions" / "0001.sql"
    with closing(connect(tmp_path)) as sql:
        for statement in statements(first.read_text()):
            sql.execute(statement)
        sql.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        sql.execute("INSERT INTO alembic_version VALUES ('0001')")
        sql.execute("INSERT INTO accounts VALUES (1, 'acct_a', 'default', 5)")
        sql.execute("INSERT INTO projects VALUES (1, 'proj_a', 1, 'default', 5)")
        sql.execute("INSERT INTO members VALUES (1, 'mem_a', 1, 'Wang', 'owner', 5)")
        sql.execute(
            "INSERT INTO keys VALUES (7, 'key_a', x'01', 1, 0, 'live', 'first', 'sk…', 3, 40, 2, 5, 6, 7)"
        )
        sql.execute("INSERT INTO budgets VALUES (2, 'budget_a', 'key', 7, 0, 9, 'day', 'UTC', 'flag', 5)")
        sql.execute("INSERT INTO changes VALUES (11, 'key', 'key_a', 5)")
    assert migrate.migrate(tmp_path) == ("0001", SCHEMA)
    with closing(connect(tmp_path)) as sql:
        key = Directory(sql).get(b"\x01")
        assert key is not None
        assert (key.revoked, key.key) == (True, 7)
        assert (key.ceiling.rpm, key.ceiling.tpm, key.ceiling.concurrency) == (3, 40, 2)
        assert (key.account_id, key.project_id) == ("acct_a", "proj_a")
        (budget,) = load_budgets(sql)
        assert (budget.scope, budget.ref, budget.amount, budget.unit) == ("key", 7, 9, "day")
        assert last_change(sql) == 11
        assert sql.execute("SELECT name, role FROM members").fetchall() == [("Wang", "owner")]
