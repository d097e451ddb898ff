"""The step that parts calls into months: what was written stays, whoever writes meanwhile, killed anywhere."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.postgres import fresh_database
from tests.stores.books import copy_all, figures, journal, make, write
from tests.stores.records import START, opened, settled
from tests.stores.test_check import write_one
from tests.stores.test_retention import DAY, id_at
from tests.stores.test_upgrades import found, made_at, migrating
from tests.upgrade.older import fingerprints

from headgate.stores.postgres import connection
from headgate.stores.sql import migrate, retention
from headgate.stores.sql.bootstrap import SCHEMA, writing
from headgate.stores.sql.check import check
from headgate.stores.sql.connection import LockedError
from headgate.stores.sql.database import Database, connect
from headgate.stores.sql.migrations.versions import r0014_months as step
from headgate.stores.sql.soundness import look

pytestmark = pytest.mark.services("postgresql")

KEPT = ("calls", "entries", "lost", "balances", "usage_hours", "usage_days", "books")
# A process that moves seven rows at a time, and says so; after some times it stands still.
SLOWLY = """
from headgate.stores.sql.migrations.versions import r0014_months as step
import time
original, times = migrate._ahead, []
def ahead(script, of, sql):
    script.get_revision(of).module.AT_ONCE = 7
    more = original(script, of, sql)
    times.append(of)
    if len(times) == {times}:
        print("half", flush=True)
        time.sleep(60)
    return more
migrate._ahead = ahead
"""
_COLUMNS = (
    "SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default, collation_name"
    " FROM information_schema.columns WHERE table_schema = current_schema() AND table_name IN"
    " ('calls', 'entries', 'calls_rest') ORDER BY 1, 2"
)
_INDEXES = (
    "SELECT indexname, replace(indexdef, current_schema() || '.', '') FROM pg_indexes"
    " WHERE schemaname = current_schema() AND tablename IN ('calls', 'entries') ORDER BY 1"
)
_TRIGGERS = (
    "SELECT c.relname, tgname, tgtype FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
    " WHERE c.relnamespace = CAST(current_schema() AS regnamespace) AND c.relname IN"
    " ('calls', 'entries', 'calls_rest') ORDER BY 1, 2"
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Database]:
    """Books of the schema before, with calls of every kind and of three months, and of times far off."""
    with fresh_database() as url:
        made = Database(tmp_path, url)
        made_at(made, "0013")
        with closing(connect(made)) as sql:
            sql.execute("INSERT INTO accounts (public_id, name, created_at) VALUES ('acct_one', 'a', 0)")
        with journal(made) as book:
            for index in range(60):
                write_one(book, index)
        copy_all(made)
        at_times(made, *(START + days * DAY for days in (-9_000, -40, -39, 0, 20, 9_000, 40_000)))
        yield made


def at_times(place: Database, *at: int) -> None:
    with journal(place, "slot-9") as made:
        records = [opened(id_at(each, each % 89), at=each) for each in at]
        write(made, [(record, settled(record)) for record in records])
    copy_all(place, "slot-9")


def shape(place: Database) -> list[object]:
    return [figures(place, question) for question in (_COLUMNS, _INDEXES, _TRIGGERS)]


def test_books_are_what_they_were_and_shaped_as_new_ones(place: Database, tmp_path: Path) -> None:
    before = fingerprints(place, KEPT)
    assert migrate.migrate(place) == ("0013", SCHEMA)
    assert fingerprints(place, KEPT) == before
    assert check(place, START).findings == []
    assert look(place).wrong == look(place).foreign == []
    with fresh_database() as url:
        assert shape(place) == shape(make(Database(tmp_path / "fresh", url)))  # type: ignore[arg-type]
    left = figures(place, "SELECT proname FROM pg_proc WHERE proname LIKE '%\\_moving' ORDER BY 1")
    own = figures(place, "SELECT count(*) FROM calls_rest")
    assert (left, own) == ([], [(2,)])  # of no year that a clock has


def test_every_index_is_made_before_the_last_transaction_locks_all(place: Database) -> None:
    indexed = "SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema() AND tablename = ?"
    with closing(connect(place)) as sql:
        before = sql.execute(indexed, ("calls",)).fetchone()
        going_on = True
        while going_on:
            with writing(sql):
                going_on = step.ahead(sql)
        assert sql.execute(indexed, ("calls_next",)).fetchone() == before
    migrate.migrate(place)
    with closing(connect(place)) as sql:
        assert sql.execute(indexed, ("calls",)).fetchone() == before


def test_a_step_that_is_killed_while_others_write_goes_on_where_it_was(place: Database) -> None:
    for times in (3, 9):
        process = migrating(place, SLOWLY.format(times=times))
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "half":
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert found(place) == "0013"
        # Servers of before go on: a call below what was moved, one above, and some that are dropped.
        at_times(place, START - (60 + times) * DAY, START + times * DAY)
        with closing(connect(place)) as sql, writing(sql):
            first, before = (
                bytes(figures(place, f"SELECT call FROM calls ORDER BY call LIMIT 1 OFFSET {n}")[0][0])
                for n in (0, 2)
            )
            assert retention._drop(sql, retention._ALL, retention._Step(first, before)) == 2
    before_it = fingerprints(place, KEPT)
    assert migrate.migrate(place) == ("0013", SCHEMA)
    assert fingerprints(place, KEPT) == before_it
    assert check(place, START).findings == []


def test_of_many_that_migrate_at_once_all_move_and_one_ends_it(place: Database) -> None:
    before = fingerprints(place, KEPT)
    running = [migrating(place, SLOWLY.format(times=-1)) for _ in range(3)]
    assert [process.communicate(timeout=60)[0].split()[-1] for process in running] == [SCHEMA] * 3
    assert fingerprints(place, KEPT) == before
    assert look(place).wrong == []


def test_a_server_of_before_books_on_with_its_next_connection(
    place: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it once asked the database of its tables is no more true: rows as wide as before are refused."""
    rows = figures(place, "SELECT * FROM calls")
    row = rows[-1]
    with monkeypatch.context() as patch:
        patch.setattr(connection, "NAME", "headgate")
        old = connect(place)
    new = connect(place)

    def copied(sql: object, number: int) -> None:
        sql.execute("BEGIN IMMEDIATE")  # type: ignore[attr-defined]
        try:
            sql.insert_all("calls", [(number.to_bytes(16), *row[1:])])  # type: ignore[attr-defined]
        finally:
            sql.execute("ROLLBACK")  # type: ignore[attr-defined]

    with closing(old), closing(new):
        (pid,) = new.execute("SELECT pg_backend_pid()").fetchone()
        copied(old, 7)
        migrate.migrate(place)
        with pytest.raises(sqlite3.OperationalError):
            copied(old, 8)
        copied(old, 8)
        assert new.execute("SELECT pg_backend_pid()").fetchone() == (pid,)


def test_the_end_waits_for_who_reads_and_others_go_on_meanwhile(place: Database) -> None:
    with closing(connect(place, wait="patient")) as reader:
        reader.execute("BEGIN")
        before = reader.execute("SELECT count(*) FROM calls").fetchone()
        process = migrating(place)
        wait_until(place, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'calls'::regclass")
        at_times(place, START + DAY)  # in a turn between two tries
        assert found(place) == "0013"
        assert reader.execute("SELECT count(*) FROM calls").fetchone() == before
        reader.execute("COMMIT")
    assert process.communicate(timeout=60)[0].split()[-1] == SCHEMA
    assert figures(place, "SELECT count(*) FROM calls") == [(before[0] + 1,)]
    assert check(place, START).findings == []


def wait_until(place: Database, question: str) -> None:
    until = time.monotonic() + 60
    while not figures(place, question)[0][0]:
        assert time.monotonic() < until, question
        time.sleep(0.05)


def test_the_minute_for_a_locked_table_is_bounded(place: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "_LOCKED_S", 0.1)
    with closing(connect(place)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM calls")
        with pytest.raises(LockedError):
            migrate.migrate(place)
    assert found(place) == "0013"
    assert migrate.migrate(place) == ("0013", SCHEMA)


def test_absurd_counts_of_before_are_moved_as_the_most_that_there_can_be(place: Database) -> None:
    with closing(connect(place)) as sql:
        sql.execute("ALTER TABLE calls DISABLE TRIGGER USER")
        sql.execute("UPDATE calls SET input = 3000000000 WHERE call IN (SELECT call FROM calls LIMIT 1)")
    assert migrate.migrate(place) == ("0013", SCHEMA)
    assert figures(place, "SELECT CAST(max(input) AS bigint) FROM calls") == [(2**31 - 1,)]


def test_books_in_sqlite_stay_as_they_are(tmp_path: Path) -> None:
    made_at(tmp_path, "0013")
    question = (
        "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'storage%' ORDER BY name"  # 0015 made these
    )
    before = figures(tmp_path, question)
    assert migrate.migrate(tmp_path) == ("0013", SCHEMA)
    assert figures(tmp_path, question) == before
