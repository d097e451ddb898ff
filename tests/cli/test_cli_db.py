"""`headgate db`, as its user sees it."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.postgres import fresh_database

from headgate.identity.keys import mint_key
from headgate.stores.sql.bootstrap import SCHEMA, prepare
from headgate.stores.sql.database import connect


@pytest.fixture
def books(tmp_path: Path) -> str:
    prepare(tmp_path / "books", 1, mint_key)
    return str(tmp_path / "books")


def test_a_sound_database_is_said_to_be_whole(run: Run, books: str) -> None:
    done = run("db", "check", "--data", books)
    assert done.exit_code == 0
    assert done.stdout == f"{books}/headgate.sqlite is whole: schema {SCHEMA}, triggers in place.\n"
    with closing(connect(Path(books))) as sql:
        sql.execute("DROP TRIGGER entries_keep_delete")
        sql.execute("CREATE TABLE theirs (x)")
    done = run("db", "check", "--data", books)
    assert done.exit_code == 1
    assert "The trigger entries_keep_delete is missing: rows could be changed." in done.stdout
    assert "Tables of somebody else, left alone: theirs." in done.stdout
    found = json.loads(run("db", "check", "--data", books, "--json").stdout)
    assert (found["schema"], found["foreign"], len(found["wrong"])) == (SCHEMA, ["theirs"], 1)


@pytest.mark.parametrize(("schema", "said"), [("0001", "db migrate"), ("9998", "a newer version made it")])
def test_a_status_tells_an_older_schema_from_a_newer_one(
    run: Run, books: str, schema: str, said: str
) -> None:
    with closing(connect(Path(books))) as sql:
        sql.execute("UPDATE alembic_version SET version_num = ?", (schema,))
    done = run("db", "status", "--data", books)
    assert done.exit_code == 1
    assert f"schema {schema}, this version has {SCHEMA}: " in done.stdout
    assert said in done.stdout
    assert ("db migrate" in done.stdout) is (schema < SCHEMA)


@pytest.mark.parametrize("words", [("usage",), ("usage", "--calls"), ("ledger", "check")])
def test_who_reads_books_of_an_older_schema_is_told_how_to_bring_them_up_to_date(
    run: Run, books: str, words: tuple[str, ...]
) -> None:
    with closing(connect(Path(books))) as sql:
        sql.execute("UPDATE alembic_version SET version_num = '0009'")
        sql.execute("DROP TABLE usage_days")
    done = run(*words, "--data", books)
    assert done.exit_code == 3
    assert done.stderr == (
        f"Error: {books}/headgate.sqlite has schema 0009, older than this version's {SCHEMA}: run "
        f"`headgate db migrate --data {books}`, or start a server of this version.\n"
    )


def test_a_backup_is_written_shown_and_restored(run: Run, books: str, tmp_path: Path) -> None:
    done = run("db", "backup", "--data", books)
    assert done.exit_code == 0, done.output
    [file] = tmp_path.glob("headgate-*.backup")
    assert f"Keep {books}/pepper, too, in another place." in done.stdout
    assert "backup keys: 1 of 1 rows" in done.stderr or "backup meta" in done.stderr
    again = run("db", "backup", str(file), "--data", books)
    assert again.exit_code == 3
    assert "exists already: name another file." in again.stderr
    new = str(tmp_path / "new")
    done = run("db", "restore", str(file), "--data", new)
    assert done.exit_code == 0, done.output
    assert "the books hold." in done.stdout
    assert f"Put the pepper of these books into {new} before you serve them." in done.stdout
    twice = run("db", "restore", str(file), "--data", new)
    assert twice.exit_code == 3
    assert "has books already" in twice.stderr


def test_the_json_of_a_backup_has_hashes_and_totals(run: Run, books: str, tmp_path: Path) -> None:
    done = run("db", "backup", "one.backup", "--data", books, "--json")
    found = json.loads(done.stdout)
    assert (found["file"], found["tables"]["keys"]["rows"]) == ("one.backup", 1)
    assert len(found["tables"]["keys"]["sha256"]) == 64
    assert done.stderr == ""
    done = run("db", "restore", "one.backup", "--data", str(tmp_path / "new"), "--json")
    restored = json.loads(done.stdout)
    assert (restored["tables"], restored["findings"]) == (found["tables"], [])


def test_what_is_no_backup_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.backup").write_text("something else")
    done = run("db", "restore", "other.backup", "--data", str(tmp_path / "new"))
    assert done.exit_code == 3
    assert "other.backup cannot be restored: it does not begin as a backup of Headgate does." in done.stderr
    missing = run("db", "restore", "nothing.backup", "--data", str(tmp_path / "new"))
    assert missing.exit_code == 3
    assert "Cannot read nothing.backup: No such file or directory." in missing.stderr


@pytest.mark.services("postgresql")
def test_books_move_to_postgresql_and_are_found_there(run: Run, books: str) -> None:
    with fresh_database() as url:
        done = run("db", "move", "--to", "-", "--data", books, input=url + "\n")
        assert done.exit_code == 0, done.output
        assert "has the books now. Set it as `database` under [storage]" in done.stdout
        checked = run("ledger", "check", "--data", books, "--database", url)
        assert checked.stdout.startswith("The books hold")
        again = run("db", "move", "--to", url, "--data", books)
        assert again.exit_code == 3
        assert "already." in again.stderr


def test_books_do_not_move_to_anything_else(run: Run, books: str) -> None:
    done = run("db", "move", "--to", "mysql://db/headgate", "--data", books)
    assert done.exit_code == 2
    assert "does not begin with postgresql://" in done.stderr
