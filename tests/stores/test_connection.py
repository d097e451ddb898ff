"""What the books ask of a database, of SQLite and of PostgreSQL alike."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.postgres import database_with

from headgate.stores.sql.bootstrap import prepare, writing
from headgate.stores.sql.connection import Connection, Form
from headgate.stores.sql.database import Database, Place, connect, schema
from headgate.stores.sql.sqlite import SqliteConnection


@pytest.fixture
def sql(place: Place) -> Iterator[Connection]:
    with closing(connect(place)) as opened:
        with writing(opened):
            opened.define(
                "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, what BLOB);"
            )
        yield opened


def test_values_come_back_as_they_went_in(sql: Connection) -> None:
    largest = 2**63 - 1
    for row in ((1, "naïve ?:x 漢字 '", b"\0\xff"), (largest, "", None), (-largest, "b", b"")):
        sql.execute("INSERT INTO things VALUES (?, ?, ?)", row)
        assert sql.execute("SELECT * FROM things WHERE id = ?", (row[0],)).fetchall() == [row]
    (total, count) = sql.execute("SELECT sum(id), count(*) FROM things").fetchone()
    assert (total, count) == (1, 3)
    assert type(total) is int


def test_what_no_text_may_be_is_asked_for_as_anything_else_that_is_not_there(sql: Connection) -> None:
    sql.execute("INSERT INTO things (name) VALUES ('a')")
    assert sql.execute("SELECT id FROM things WHERE name = ?", ("a\0",)).fetchone() is None
    assert sql.execute("SELECT id FROM things WHERE name = :name", {"name": "\0"}).fetchone() is None
    with writing(sql):
        sql.execute("INSERT INTO things (name) VALUES (?)", ("\0b",))
    assert sql.execute("SELECT count(*) FROM things").fetchone() == (2,)


def test_large_values_are_packed_quickly_where_the_server_can(sql: Connection) -> None:
    if sql.months is not None:  # PostgreSQL's default takes seconds for what a request for embeddings answers
        able = sql.execute(
            "SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'"
        ).fetchone()
        packed = sql.execute("SELECT current_setting('default_toast_compression', true)").fetchone()
        assert (packed == ("lz4",)) is ("lz4" in (able or ([],))[0])


def test_marks_inside_of_literals_are_text_and_names_may_come_twice(sql: Connection) -> None:
    sql.execute("INSERT INTO things VALUES (:id, :name, NULL)", {"id": 7, "name": "seven"})
    row = sql.execute("SELECT '?', 'it''s :id', id FROM things WHERE id = :id OR id = :id + 1", {"id": 7})
    assert row.fetchone() == ("?", "it's :id", 7)
    assert row.fetchone() is None


def test_a_change_says_how_many_rows_it_changed_and_what_it_gave(sql: Connection) -> None:
    sql.executemany("INSERT INTO things (name) VALUES (?)", [("a",), ("b",), ("c",)])
    assert sql.execute("UPDATE things SET what = ? WHERE name <> 'a'", (b"x",)).rowcount == 2
    assert sql.execute("DELETE FROM things WHERE name = 'nobody'").rowcount == 0
    made = sql.execute("INSERT INTO things (name) VALUES ('d') RETURNING id").fetchone()
    assert made == (4,)
    assert sql.execute("INSERT INTO things (name) VALUES ('d') ON CONFLICT DO NOTHING").rowcount == 0


def test_a_statement_for_many_rows_gives_what_each_brought(sql: Connection) -> None:
    sql.executemany("INSERT INTO things (name) VALUES (?)", [("a",), ("b",)])
    change = "UPDATE things SET id = id + ? WHERE name = ? RETURNING name, id"
    assert sql.fetch_each(change, [(10, "b"), (10, "nobody"), (20, "a"), (5, "b")]) == [
        ("b", 12),
        ("a", 21),
        ("b", 17),
    ]
    assert sql.fetch_each(change, []) == []


def test_rows_that_are_there_are_not_inserted_again(sql: Connection) -> None:
    rows = [(number, f"n{number}", None) for number in range(700)]
    assert sql.insert_new("things", rows[100:101]) == 1
    assert sql.insert_new("things", rows) == 699
    assert sql.insert_new("things", [*rows, (700, "n5", b"")]) == 0  # by another key
    assert sql.insert_new("things", []) == 0


def test_rows_of_which_one_is_there_are_refused_and_nothing_of_them_stays(sql: Connection) -> None:
    rows = [(number, f"n{number}", bytearray(b"x") if number % 2 else None) for number in range(3000)]
    with writing(sql):
        sql.insert_all("things", rows)
        sql.insert_all("things", [])
    assert sql.execute("SELECT count(*), sum(id), count(what) FROM things").fetchone() == (
        3000,
        4498500,
        1500,
    )
    again = [*((number, f"m{number}", None) for number in range(3000, 6000)), (7000, "n5", None)]
    with pytest.raises(sqlite3.IntegrityError), writing(sql):
        sql.insert_all("things", again)
    assert sql.execute("SELECT id, what FROM things ORDER BY id DESC").fetchone() == (2999, b"x")
    with writing(sql):
        sql.insert_all("things", again[:-1])
    assert sql.execute("SELECT count(*) FROM things").fetchone() == (6000,)


def test_rows_are_made_of_fewer_cells(sql: Connection) -> None:
    form = Form(3, (None, "fixed"), ((0, 4, 3), (1, 2, 3)))
    with writing(sql):
        sql.insert_all("things", [], form)
        sql.insert_all("things", [(0, 1000, "n0")], form)
        sql.execute("UPDATE things SET name = 'other' WHERE id = 0")
        sql.insert_all("things", [(1, 1001, "n1")], form)
    assert sorted(sql.execute("SELECT id, name, what FROM things").fetchall()) == [
        (0, "other", None), (1, "fixed", None), (1000, "n0", None), (1001, "n1", None),
    ]  # fmt: skip
    whole = Form(3, (), ((0, 1, 2),))
    rows = [(number, f"m{number}", b"x") for number in range(2, 901)]
    with pytest.raises(sqlite3.IntegrityError), writing(sql):
        sql.insert_all("things", [*rows, (1001, "m", b"x")], whole)
    assert sql.execute("SELECT count(*) FROM things").fetchone() == (4,)
    with writing(sql):
        sql.insert_all("things", rows, whole)
    assert sql.execute("SELECT count(*), sum(id), count(what) FROM things").fetchone() == (
        903, 405_449 + 2_002, 899,
    )  # fmt: skip


def test_the_values_of_many_rows_have_no_names_in_sqlite() -> None:
    seen: list[tuple[str, list[Any]]] = []

    class Seen(SqliteConnection):
        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            seen.append((sql, parameters))
            return super().execute(sql, parameters)

    with closing(sqlite3.connect(":memory:", factory=Seen)) as sql:
        sql.execute("CREATE TABLE things (id, name)")
        sql.insert_all("things", [(number, "a") for number in range(200)])
        sql.insert_new("things", [(number, "a") for number in range(200)])
        sql.insert_all("things", [(number,) for number in range(200)], Form(1, ("a",), ((0, 1),)))
    for said, values in seen[1:]:
        assert said.count("?") == said.count("?,") + said.count("?)") == len(values)
    assert sum(len(values) for _, values in seen) == 2 * 400 + 200


def test_several_scans_go_side_by_side(sql: Connection) -> None:
    sql.insert_new("things", [(number, f"n{number}", None) for number in range(2500)])
    sql.execute("BEGIN")
    one, two = (
        sql.scan(f"SELECT id FROM things WHERE id > ? ORDER BY id {way}", (9,)) for way in ("", "DESC")
    )
    assert sum(a[0] + b[0] for a, b in zip(one, two, strict=True)) == 2490 * 2509
    sql.execute("ROLLBACK")


def test_a_transaction_is_all_or_nothing(sql: Connection) -> None:
    def begin(then: str) -> None:
        with writing(sql):
            sql.execute("INSERT INTO things (name) VALUES ('a')")
            assert sql.in_transaction
            sql.execute(then)

    with pytest.raises(sqlite3.Error):
        begin("SELECT nonsense")
    assert not sql.in_transaction
    with pytest.raises(sqlite3.IntegrityError):
        begin("INSERT INTO things (name) VALUES ('a')")
    assert sql.execute("SELECT count(*) FROM things").fetchone() == (0,)
    with pytest.raises(sqlite3.Error):
        sql.execute("SELECT nonsense")
    assert sql.execute("SELECT 1").fetchone() == (1,)


def test_a_reader_sees_one_moment(sql: Connection, place: Place) -> None:
    with closing(connect(place)) as other:
        sql.execute("BEGIN")
        assert sql.execute("SELECT count(*) FROM things").fetchone() == (0,)
        with writing(other):
            other.execute("INSERT INTO things (name) VALUES ('a')")
        assert sql.execute("SELECT count(*) FROM things").fetchone() == (0,)
        sql.execute("ROLLBACK")
        assert sql.execute("SELECT count(*) FROM things").fetchone() == (1,)


def test_writers_take_turns_and_no_number_is_given_twice(sql: Connection, place: Place) -> None:
    def add() -> None:
        with closing(connect(place)) as own:
            own.wait_for_writers(20.0)
            for _ in range(20):
                with writing(own):
                    (last,) = own.execute("SELECT coalesce(max(id), 0) FROM things").fetchone()
                    own.execute("INSERT INTO things VALUES (?, ?, NULL)", (last + 1, f"n{last + 1}"))

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sql.execute("SELECT count(*), max(id) FROM things").fetchone() == (120, 120)


@pytest.mark.services("postgresql")
@pytest.mark.parametrize(
    ("name", "default"),
    [("isolation", "repeatable read"), ("isolation", "serializable"), ("read_only", "on")],
)
def test_a_writer_sees_what_the_one_before_wrote_whatever_the_servers_default(
    name: str, default: str, tmp_path: Path
) -> None:
    with database_with(**{f"default_transaction_{name}": default}) as url:
        place = Database(tmp_path, url)
        with closing(connect(place)) as one, closing(connect(place)) as two:
            (settings,) = one.execute(
                "SELECT setconfig FROM pg_db_role_setting WHERE setdatabase ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchone()
            assert f"default_transaction_{name}={default}" in settings
            with writing(one):
                one.define("CREATE TABLE things (id INTEGER PRIMARY KEY);")
            one.execute("BEGIN IMMEDIATE")
            one.execute("INSERT INTO things VALUES (1)")
            second = threading.Thread(target=two.execute, args=("BEGIN IMMEDIATE",))
            second.start()
            second.join(0.3)  # it waits for the first
            assert second.is_alive()
            one.execute("COMMIT")
            second.join()
            assert two.execute("UPDATE things SET id = 2 RETURNING id").fetchone() == (2,)
            two.execute("COMMIT")


def test_a_writer_waits_for_another_no_longer_than_it_says(sql: Connection, place: Place) -> None:
    with closing(connect(place)) as other, writing(other):
        sql.wait_for_writers(0.1)
        with pytest.raises(sqlite3.OperationalError), writing(sql):
            raise AssertionError("two write")
    with writing(sql):
        sql.execute("INSERT INTO things (name) VALUES ('a')")


def test_what_is_append_only_stays(place: Place) -> None:
    prepare(place, 1, None)
    with closing(connect(place)) as sql:
        sql.execute("INSERT INTO entries VALUES (?, 1, 1, 0, 0, 1, 2, 5)", (b"c" * 16,))
        for deed in ("UPDATE entries SET amount = 6", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="entries are append-only"):
                sql.execute(deed)
        assert {
            f"{table}_keep_delete" for table in ("calls", "entries", "lost", "postings")
        } <= sql.triggers()
        assert "calls" in sql.tables()
        assert sql.damage() == []


def test_two_values_have_a_larger_one_and_json_is_bytes(sql: Connection) -> None:
    sql.execute("INSERT INTO things VALUES (3, 'it\"s', NULL)")
    packed, pairs = sql.packed("id, name"), sql.packed_pairs("name", "id")
    row = sql.execute(f"SELECT max(id, 2), max(0, id - ?), {packed} FROM things", (9,)).fetchone()
    assert (row[0], row[1], row[2].replace(b" ", b"")) == (3, 0, b'[3,"it\\"s"]')
    (found,) = sql.execute(f"SELECT {pairs} FROM things").fetchone()
    assert found.replace(b" ", b"") == b'{"it\\"s":3}'


def test_the_schema_is_the_same_everywhere(place: Place) -> None:
    with closing(connect(place)) as sql:
        with writing(sql):
            sql.define(schema())
        assert len(sql.tables()) == schema().count("\nCREATE TABLE")
