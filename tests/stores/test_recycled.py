"""A schema that a test has left is as good as new for the next one, or is not used again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.recycled import recycled_database
from tests.stores.books import figures, make

from headgate.stores.sql.database import Database, connect

pytestmark = pytest.mark.services("postgresql")

OID = "SELECT CAST('accounts' AS regclass)::oid"
ACCOUNT = "INSERT INTO accounts (public_id, name, created_at) VALUES ('acct_two', 'two', 0)"


def left(folder: Path, *statements: str) -> Any:
    """Make books, do something with them, leave them; return which table of accounts they had."""
    with recycled_database() as url:
        place = make(Database(folder, url))
        assert figures(place, "SELECT id, public_id FROM accounts") == [(1, "acct_one")]
        assert figures(place, "SELECT count(*) FROM pg_class WHERE relname = 'own'") == [(0,)]
        with closing(connect(place)) as sql:
            for statement in statements:
                sql.execute(statement)
        return figures(place, OID)


def test_what_only_has_other_rows_and_tables_is_emptied(tmp_path: Path) -> None:
    first = left(tmp_path, ACCOUNT, "CREATE TABLE own (id INTEGER)")
    assert left(tmp_path, ACCOUNT) == first
    assert left(tmp_path) == first


CHANGES = (
    "DROP TRIGGER entries_keep_delete ON entries",
    "ALTER TABLE entries DISABLE TRIGGER USER",
    "ALTER TABLE accounts ADD COLUMN own INTEGER",
    "ALTER TABLE accounts ALTER COLUMN name SET DEFAULT 'own'",
    "CREATE OR REPLACE FUNCTION headgate_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_more_what_was_made_is_not_used_again(tmp_path: Path, change: str) -> None:
    first = left(tmp_path)
    assert left(tmp_path, change) == first
    assert left(tmp_path) != first
