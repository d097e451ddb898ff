import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from headgate.identity.keys import Keyring, mint_key
from headgate.stores.sql import pepper
from headgate.stores.sql.bootstrap import Prepared, prepare, put_flag_budget
from headgate.stores.sql.database import FILE, connect, load_budgets
from headgate.stores.sql.directory import Directory
from headgate.stores.sql.pepper import DataFolderError
from headgate.stores.sql.sqlite import statements
from headgate.values import Book

NOW = 1_790_000_000_000_000
Reach = Callable[[Path], sqlite3.Connection]
RACER = """
import sys, pathlib
from headgate.identity.keys import mint_key
from headgate.stores.sql.bootstrap import prepare
sys.stdin.readline()
print(prepare(pathlib.Path(sys.argv[1]), 1, mint_key).first_key)
"""


@pytest.fixture
def reach() -> Iterator[Reach]:
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(closing(connect(folder)))


def make(folder: Path) -> Prepared:
    return prepare(folder, NOW, mint_key)


def test_a_new_folder_has_a_pepper_a_default_account_and_one_key_that_works(
    tmp_path: Path, reach: Reach
) -> None:
    folder = tmp_path / "deep" / "data"
    made = make(folder)
    keyring = Keyring(made.pepper, Directory(reach(folder)))
    principal = keyring.authenticate(made.first_key, NOW)
    assert (principal.account, principal.project, principal.name) == (1, 1, "first")
    assert principal.account_id.startswith("acct_")
    assert principal.project_id.startswith("proj_")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(folder / "pepper").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(folder / FILE).st_mode) == 0o600


def test_the_key_itself_is_nowhere_in_the_folder(tmp_path: Path) -> None:
    made = make(tmp_path)
    secret = made.first_key[11:-6].encode()
    for file in tmp_path.iterdir():
        assert secret not in file.read_bytes()
    assert made.pepper.hex().encode() not in (tmp_path / FILE).read_bytes()


def test_a_second_start_changes_nothing_and_shows_no_key(tmp_path: Path, reach: Reach) -> None:
    first, second = make(tmp_path), make(tmp_path)
    assert first.first_key
    assert second == Prepared(first.pepper, "")
    assert len(Directory(reach(tmp_path))) == 1


def test_a_command_makes_the_folder_without_a_key(tmp_path: Path) -> None:
    assert prepare(tmp_path, NOW, None).first_key == ""
    assert make(tmp_path).first_key


def test_processes_that_race_make_one_folder_and_one_key(tmp_path: Path, reach: Reach) -> None:
    command = [sys.executable, "-c", RACER, str(tmp_path / "data")]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    with ThreadPoolExecutor(len(racers)) as pool:
        printed = list(pool.map(lambda racer: racer.communicate("\n")[0].strip(), racers))
    assert [racer.returncode for racer in racers] == [0] * len(racers)
    assert len([key for key in printed if key]) == 1
    assert len(Directory(reach(tmp_path / "data"))) == 1


def test_a_start_waits_for_one_that_writes_before_the_log_is_chosen(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE half_made (x)")
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(connect, tmp_path)
        with pytest.raises(TimeoutError):
            opened.result(0.2)
        other.execute("COMMIT")
        assert opened.result().execute("PRAGMA journal_mode").fetchone() == ("wal",)
    opened.result().close()
    other.close()


def test_a_missing_pepper_is_refused_and_not_replaced(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / pepper.FILE).unlink()
    with pytest.raises(DataFolderError, match="is missing"):
        make(tmp_path)
    assert not (tmp_path / pepper.FILE).exists()


def test_another_pepper_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / pepper.FILE).write_text("ab" * 32)
    with pytest.raises(DataFolderError, match="not the one"):
        make(tmp_path)


def test_a_damaged_pepper_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / pepper.FILE).write_text("ab")
    with pytest.raises(DataFolderError, match="not a pepper"):
        make(tmp_path)


def test_a_start_that_died_before_its_commit_is_finished_by_the_next(tmp_path: Path) -> None:
    left = pepper.make_pepper(tmp_path)
    (tmp_path / FILE).touch()
    assert make(tmp_path).pepper == left


def test_a_newer_schema_is_refused(tmp_path: Path, reach: Reach) -> None:
    make(tmp_path)
    reach(tmp_path).execute("UPDATE alembic_version SET version_num = '9999'")
    reach(tmp_path).execute("UPDATE meta SET value = '9999' WHERE name = 'serves_from'")
    with pytest.raises(DataFolderError, match="newer Headgate"):
        make(tmp_path)


def test_a_foreign_database_is_refused(tmp_path: Path, reach: Reach) -> None:
    reach(tmp_path).execute("CREATE TABLE theirs (a)")
    with pytest.raises(DataFolderError, match="none of Headgate's"):
        make(tmp_path)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all, not even close" * 40)
    with pytest.raises(DataFolderError, match="not a database"):
        make(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match="Cannot write the data folder"):
        make(tmp_path / "file")


def budgets(sql: sqlite3.Connection) -> list[tuple[Book, int, str]]:
    return [(row.book, row.amount, row.unit) for row in load_budgets(sql)]


def changes(sql: sqlite3.Connection) -> int:
    return int(sql.execute("SELECT count(*) FROM changes WHERE kind = 'budget'").fetchone()[0])


def test_the_flags_budget_is_replaced_at_each_start_in_each_book(tmp_path: Path, reach: Reach) -> None:
    make(tmp_path)
    sql = reach(tmp_path)
    put_flag_budget(sql, Book.REAL, 20, "month", "UTC", NOW)
    put_flag_budget(sql, Book.SIM, 20, "month", "UTC", NOW)
    put_flag_budget(sql, Book.REAL, 20, "month", "UTC", NOW)
    assert changes(sql) == 2  # the third said nothing new
    put_flag_budget(sql, Book.REAL, 5, "day", "Asia/Shanghai", NOW)
    assert sorted(budgets(sql)) == [(Book.REAL, 5, "day"), (Book.SIM, 20, "month")]
    put_flag_budget(sql, Book.REAL, None, "month", "UTC", NOW)
    put_flag_budget(sql, Book.SIM, None, "month", "UTC", NOW)
    assert budgets(sql) == []
    assert changes(sql) == 5


def test_the_flag_leaves_budgets_of_other_origins_alone(tmp_path: Path, reach: Reach) -> None:
    make(tmp_path)
    sql = reach(tmp_path)
    sql.execute(
        "INSERT INTO budgets (public_id, scope, ref, book, amount, unit, tz, origin, created_at)"
        " VALUES ('budget_x', 'account', 1, 0, 7, 'day', 'UTC', 'local', 0)"
    )
    put_flag_budget(sql, Book.REAL, 20, "month", "UTC", NOW)
    put_flag_budget(sql, Book.REAL, None, "month", "UTC", NOW)
    assert budgets(sql) == [(Book.REAL, 7, "day")]


def test_statements_of_a_script_keep_triggers_whole() -> None:
    script = (
        "CREATE TABLE a (x); -- why\nCREATE TRIGGER t BEFORE DELETE ON a BEGIN\n SELECT 1; END;\n-- end\n"
    )
    parts = list(statements(script))
    assert len(parts) == 2
    assert parts[1].endswith("END;")


def test_making_a_folder_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from headgate.stores.sql.bootstrap import prepare; "
        "from headgate.identity.keys import mint_key; prepare(pathlib.Path(sys.argv[1]), 1, mint_key); "
        "print({'sqlalchemy', 'alembic', 'click', 'rich', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr
