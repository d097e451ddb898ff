"""Upgrades: one process migrates and the others wait, a killed one is gone on with, nothing foreign is touched."""

import asyncio
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.postgres import fresh_database
from tests.stores.books import figures, journal, write
from tests.stores.records import opened, settled

from headgate.identity.keys import mint_key
from headgate.stores.journal.segments import Position
from headgate.stores.sql import bootstrap, migrate, migrations
from headgate.stores.sql.bootstrap import SCHEMA, SERVES_FROM, VERSION_TABLE, prepare, upgrade, version
from headgate.stores.sql.database import Database, Place, connect, folder_of, url_of
from headgate.stores.sql.drain import Copier
from headgate.stores.sql.pepper import DataFolderError
from headgate.stores.sql.soundness import look

SCRIPTS = Path(migrations.__file__).parent / "versions"
FIRST_SHARED = "0007"  # PostgreSQL was never given an older one


def made_at(place: Place, revision: str) -> None:
    """Make a database of an older revision."""
    folder_of(place).mkdir(exist_ok=True)
    with closing(connect(place)) as sql, bootstrap.writing(sql):
        steps = [script for script in sorted(SCRIPTS.glob("*.sql")) if script.stem <= revision]
        for script in steps:
            sql.define(script.read_text(encoding="utf-8"))
        sql.execute(VERSION_TABLE)
        sql.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


def found(place: Place) -> str:
    with closing(connect(place)) as sql:
        return version(sql)


def migrating(place: Place, code: str = "") -> subprocess.Popen[str]:
    """Start a process that migrates, after some code of the test's."""
    lines = (
        "import sys, time; from pathlib import Path",
        "from headgate.stores.sql import migrate",
        "from headgate.stores.sql.database import Database",
        f"place = Database(Path({str(folder_of(place))!r}), {url_of(place)!r})",
        code,
        "print(*migrate.migrate(place), flush=True)",
    )
    return subprocess.Popen([sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True)


# A step of this test's: a table that takes a second to make, and one that fills another one.
SLOW = """
original = migrate.command.upgrade
def slowly(config, step):
    original(config, step)
    print(step, flush=True)
    time.sleep({seconds})
migrate.command.upgrade = slowly
"""


def test_of_many_that_migrate_at_once_each_step_is_done_by_one(tmp_path: Path) -> None:
    made_at(tmp_path, "0001")
    running = [migrating(tmp_path, SLOW.format(seconds=0.2)) for _ in range(3)]
    said = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    steps = sorted(word for words in said for word in words[:-2])
    assert steps == [f"{number:04}" for number in range(2, int(SCHEMA) + 1)]
    assert {words[-1] for words in said} == {SCHEMA}
    assert look(tmp_path).wrong == []


def test_what_is_killed_in_a_step_goes_on_there(tmp_path: Path) -> None:
    made_at(tmp_path, "0001")
    process = migrating(tmp_path, SLOW.format(seconds="0.0 if step < '0004' else 60.0"))
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "0004":
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert found(tmp_path) == "0003"  # the fourth was not committed
    assert migrate.migrate(tmp_path) == ("0003", SCHEMA)
    assert look(tmp_path).wrong == []


def test_a_schema_that_no_version_had_is_refused_by_its_name(place: Place) -> None:
    prepare(place, 1, mint_key)
    with closing(connect(place)) as sql:
        sql.execute("UPDATE alembic_version SET version_num = '0000x'")
    with pytest.raises(DataFolderError, match="0000x"):
        upgrade(place)
    assert found(place) == "0000x"


def test_a_newer_schema_is_refused_unless_it_serves_this_code_too(place: Place) -> None:
    prepare(place, 1, mint_key)
    with closing(connect(place)) as sql:
        sql.execute("UPDATE alembic_version SET version_num = '9999'")
        assert upgrade(place) is False  # its maker said that it only added to ours
        sql.execute("UPDATE meta SET value = '9998' WHERE name = 'serves_from'")
    with pytest.raises(
        DataFolderError, match=f"has schema 9999, made by a newer Headgate; this one knows {SCHEMA}"
    ):
        prepare(place, 2, None)


def test_tables_of_somebody_else_are_left_alone(place: Place) -> None:
    old = "0003" if not isinstance(place, Database) else FIRST_SHARED
    made_at(place, old)
    with closing(connect(place)) as sql:
        sql.execute("CREATE TABLE theirs (a INTEGER PRIMARY KEY, b TEXT)")
        sql.execute("INSERT INTO theirs VALUES (1, 'one'), (2, 'two')")
    assert migrate.migrate(place) == (old, SCHEMA)
    with closing(connect(place)) as sql:
        assert sql.execute("SELECT * FROM theirs ORDER BY a").fetchall() == [(1, "one"), (2, "two")]
    assert look(place).foreign == ["theirs"]


@pytest.mark.services("postgresql")
@pytest.mark.parametrize(
    "script", sorted(Path(__file__).parent.glob("served-*.sql")), ids=lambda path: path.stem
)
def test_what_servers_of_an_earlier_version_say_is_still_understood(script: Path, tmp_path: Path) -> None:
    """They go on while the schema is new, and begin again on it: so steps only add, with defaults."""
    assert SERVES_FROM <= script.stem.removeprefix("served-") <= SCHEMA
    with fresh_database() as url:
        made_at(Database(tmp_path, url), SCHEMA)
        assert misunderstood(url, script) == []
        with closing(connect(Database(tmp_path, url))) as sql:
            for table in sql.tables() - {"alembic_version"}:
                sql.execute(f"ALTER TABLE {table} ADD COLUMN later BIGINT NOT NULL DEFAULT 7")
        assert misunderstood(url, script) == []
        with closing(connect(Database(tmp_path, url))) as sql:
            sql.execute("ALTER TABLE calls RENAME COLUMN charge TO price")
        assert len(misunderstood(url, script)) >= 3  # and what is taken away is found


def misunderstood(url: str, script: Path) -> list[str]:
    """Return the statements of a file that a database does not understand."""
    return asyncio.run(_misunderstood(url, script.read_text(encoding="utf-8").splitlines()))


async def _misunderstood(url: str, statements: list[str]) -> list[str]:
    link, failed = await asyncpg.connect(url), []
    for text in statements:
        try:
            await link.prepare(text)
        except asyncpg.PostgresError as fault:
            failed.append(f"{text}: {fault}")
    await link.close()
    return failed


@pytest.mark.services("postgresql")
def test_an_earlier_version_books_into_tables_that_have_grown(tmp_path: Path) -> None:
    with fresh_database() as url:
        place = Database(tmp_path, url)
        prepare(place, 1, mint_key)
        with closing(connect(place)) as sql:
            for table in ("calls", "entries", "lost"):
                sql.execute(f"ALTER TABLE {table} ADD COLUMN later BIGINT NOT NULL DEFAULT 7")
        with journal(tmp_path) as book:
            write(book, [(call, settled(call)) for call in (opened(), opened())])
        with closing(connect(place)) as sql:
            copier = Copier(tmp_path / "journal" / "slot-0", sql)
            while copier.copy(Position(2**62, 0)):
                pass
            assert sql.execute("SELECT count(*), min(later) FROM calls").fetchall() == [(2, 7)]


def test_days_are_summed_up_at_the_step_and_kept_whoever_writes_hours(place: Place) -> None:
    """An earlier version writes hours, and knows of no days."""
    made_at(place, "0010")
    write_hours(place, 0)
    assert migrate.migrate(place) == ("0010", SCHEMA)
    before = days(place)
    assert before == sums_of_hours(place)
    write_hours(place, 30)
    after = days(place)
    assert after == sums_of_hours(place)
    assert {row[0] for row in after} > {row[0] for row in before}  # new days
    assert len(set(before) - set(after)) > 5  # and old ones that grew


BLOB = "INSERT INTO blobs (blob, account, project, holder, n, bytes, state, writer, at) VALUES (?, 1, ?, 'f', 0, ?, ?, 'w', 0)"


def noted(place: Place) -> list[tuple[int, ...]]:
    question = (
        "SELECT scope, ref, CAST(sum(bytes) AS bigint) FROM storage GROUP BY scope, ref ORDER BY scope, ref"
    )
    return figures(place, question)


def test_what_files_take_is_added_up_at_the_step_and_noted_whoever_writes(place: Place) -> None:
    """An earlier version writes blobs, and knows of no notes."""
    made_at(place, "0014")
    with closing(connect(place)) as sql:
        sql.executemany(BLOB, [("a", 1, 10, 1), ("b", 1, 5, 0), ("c", 1, 100, 2), ("d", 2, 7, 1)])
    assert migrate.migrate(place) == ("0014", SCHEMA)
    assert noted(place) == [(0, 1, 15), (0, 2, 7), (1, 1, 22)]
    with closing(connect(place)) as sql:
        sql.executemany(BLOB, [("e", 3, 30, 1), ("f", 3, 4, 2)])
        sql.execute("UPDATE blobs SET bytes = 6, state = 1 WHERE blob = 'b'")
        sql.execute("UPDATE blobs SET state = 2 WHERE blob = 'a'")
        sql.execute("DELETE FROM blobs WHERE blob IN ('c', 'd')")
    assert noted(place) == [(0, 1, 6), (0, 2, 0), (0, 3, 30), (1, 1, 36)]
    assert look(place).wrong == []
    with closing(connect(place)) as sql:
        sql.execute("UPDATE storage SET bytes = 31 WHERE scope = 0 AND ref = 3")
    assert look(place).wrong == ["The files of project 3 have 30 bytes, and 31 are noted."]


def write_hours(place: Place, first: int) -> None:
    """Add to hours, seven hours apart, as the drain does."""
    sums = ["calls", "failed", "estimated", "input", "output", "cached", "charge", "cost"]
    more = ", ".join(f"{name} = usage_hours.{name} + excluded.{name}" for name in sums)
    statement = (
        f"INSERT INTO usage_hours VALUES ({', '.join('?' * 15)})"
        f" ON CONFLICT (hour, {COLUMNS}) DO UPDATE SET {more}"
    )
    with closing(connect(place)) as sql, bootstrap.writing(sql):
        rows = [
            (
                490_000 + 7 * number,
                number % 2,
                1 + number % 3,
                1,
                1,
                5,
                6,
                1,
                number % 2,
                0,
                300,
                number,
                7,
                9,
                8,
            )
            for number in range(first, first + 60)
        ]
        sql.executemany(statement, rows)


COLUMNS = "book, account, project, key, model, provider"
SUMS = "sum(calls), sum(failed), sum(estimated), sum(input), sum(output), sum(cached), sum(charge), sum(cost)"


def days(place: Place) -> list[tuple[int, ...]]:
    return sorted(figures(place, f"SELECT day, {COLUMNS}, {SUMS} FROM usage_days GROUP BY day, {COLUMNS}"))


def sums_of_hours(place: Place) -> list[tuple[int, ...]]:
    found = figures(
        place, f"SELECT hour / 24, {COLUMNS}, {SUMS} FROM usage_hours GROUP BY hour / 24, {COLUMNS}"
    )
    return sorted(found)


def test_servers_that_start_at_once_find_one_schema(place: Place) -> None:
    """Three starts on an old database: all are served, and nobody saw half of a step."""
    old = "0002" if not isinstance(place, Database) else FIRST_SHARED
    made_at(place, old)
    code = "place and migrate.migrate(place)"
    running = [migrating(place, code) for _ in range(3)]
    assert {process.communicate(timeout=60)[0].split()[-1] for process in running} == {SCHEMA}
    assert look(place).wrong == []
