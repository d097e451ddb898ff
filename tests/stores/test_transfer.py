"""Backups, and moves from SQLite to PostgreSQL: every row arrives, or nothing does, and it is said."""

import gzip
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.postgres import fresh_database
from tests.stores.books import copy_all, journal, make, write
from tests.stores.records import CLOCK, START, opened, settled

from headgate.stores.sql import pots, transfer
from headgate.stores.sql.archive import MAGIC, ArchiveError
from headgate.stores.sql.bootstrap import SCHEMA, VERSION_TABLE, prepare, writing
from headgate.stores.sql.check import check
from headgate.stores.sql.database import FILE, Database, Place, connect, folder_of
from headgate.stores.sql.folder import lock_folder
from headgate.stores.sql.layout import tables, triggers
from headgate.stores.sql.nodes import read_node
from headgate.stores.sql.pepper import DataFolderError, fingerprint, make_pepper
from headgate.stores.sql.recovery import recover
from headgate.stores.sql.soundness import look
from headgate.stores.sql.totals import totals

CALLS = 2_345
CHARGE = settled(opened()).charge
BUDGET = (
    "INSERT INTO budgets (id, public_id, scope, ref, book, amount, unit, tz, origin, created_at)"
    " VALUES (1, 'budget_1', 'account', 1, 0, ?, 'total', 'UTC', 'test', 0)"
)


def silent(_doing: str, _table: str, _rows: int, _of: int) -> None:
    """Take no note."""


def rows(place: Place, question: str) -> list[tuple[object, ...]]:
    with closing(connect(place)) as sql:
        return [tuple(row) for row in sql.execute(question).fetchall()]


def everything(place: Place) -> dict[str, list[tuple[object, ...]]]:
    return {table.name: rows(place, table.rows()) for table in tables()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data folder with books of 2,345 calls, one more that is not drained, and a budget that is lent."""
    data = make(tmp_path_factory.mktemp("filled"))
    pepper = make_pepper(data)
    with closing(connect(data)) as sql:
        sql.execute(VERSION_TABLE)
        sql.execute("INSERT INTO alembic_version VALUES (?)", (SCHEMA,))
        sql.execute("INSERT INTO meta VALUES ('pepper_fingerprint', ?)", (fingerprint(pepper),))
        sql.execute(BUDGET, (10**12,))
        sql.execute("UPDATE accounts SET name = 'Größe 水 \U0001f30a', metadata = '{\"a\": [1, null]}'")
        sql.execute("INSERT INTO changes (seq, kind, ref, at) VALUES (900, 'key', 'key_one', 1)")
        sql.execute("DELETE FROM changes")
        with writing(sql):
            pot = pots.find(sql, pots.PotName("budget", 1, "total"))
            assert pot is not None
        sql.execute("INSERT INTO slices VALUES (?, 'slot-0', ?, 0)", (pot.number, 10**11))
        sql.execute("INSERT INTO slots (slot, epoch, pid, seen_at) VALUES ('slot-0', 3, 77, 5)")
    with journal(data) as book:
        calls = [opened(pots=(pot.number,)) for _ in range(CALLS)]
        write(book, [(call, settled(call)) for call in calls])
    copy_all(data)
    with journal(data) as book:
        call = opened(pots=(pot.number,))
        write(book, [(call, settled(call))])
    assert not check(data, START).findings
    return data


@pytest.fixture
def books(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "books"))


@pytest.fixture(scope="module")
def kept(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("kept") / "books.backup"
    transfer.backup(filled, file, START, silent)
    return file


@pytest.fixture
def target(place: Place) -> Place:
    """Give a place without books, of both kinds."""
    if isinstance(place, Database):
        return Database(place.folder / "new", place.url)
    return place / "new"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Database]:
    with fresh_database() as url:
        yield Database(tmp_path / "books", url)


def test_the_layout_is_what_a_database_has(place: Place) -> None:
    prepare(place, 1, None)
    with closing(connect(place)) as sql:
        assert {table.name for table in tables()} == sql.tables() - {"alembic_version"}
        assert triggers() <= sql.triggers()
        for table in tables():
            assert table.key
            assert set(table.key) <= set(table.columns)
            sql.execute(f"SELECT * FROM {table.name} WHERE 1 = 0")
            named = ", ".join(f'"{column}"' for column in table.columns)
            values = ", ".join("?" * len(table.columns))
            sql.execute(f"INSERT INTO {table.name} ({named}) SELECT {named} FROM {table.name} WHERE 1 = 0")
            assert values


def test_a_backup_restores_to_the_same_books(kept: Path, filled: Path, target: Place) -> None:
    told: list[tuple[str, str, int, int]] = []
    found = transfer.restore(kept, target, lambda *said: told.append(said))
    assert found.head.schema == SCHEMA
    assert found.sum.tables["calls"].rows == CALLS
    assert found.sum.totals["calls of book 0: charge"] == CALLS * CHARGE
    assert ("restore", "calls", CALLS, CALLS) in told
    assert ("prove", "calls", CALLS, CALLS) in told
    before, after = everything(filled), everything(target)
    assert after["slices"] == after["slots"] == after["drains"] == []  # nobody has anything in hand
    for name in before.keys() - {"slices", "slots", "drains"}:
        assert after[name] == before[name]
    assert check(target, START).findings == []
    assert look(target).wrong == []
    with closing(connect(target)) as sql, writing(sql):  # and they go on where the old ones were
        sql.execute("INSERT INTO changes (kind, ref, at) VALUES ('key', 'key_two', 2)")
        assert sql.execute("SELECT seq FROM changes").fetchall() == [(901,)]
        sql.execute("INSERT INTO accounts (public_id, name, created_at) VALUES ('acct_new', 'new', 2)")
        assert sql.execute("SELECT max(id) FROM accounts").fetchone()[0] == 2


def test_books_of_postgresql_are_backed_up_too(kept: Path, shared: Database, tmp_path: Path) -> None:
    transfer.restore(kept, shared, silent)
    with closing(connect(shared)) as sql:  # an answer of a day, which is not of the books
        sql.execute(
            "INSERT INTO recordings VALUES (?, ?, ?, 1, 0, 1, 0, 'a', 0, 1, 1, 1, 0, 0, 0, 0, ?)", (b"",) * 4
        )
    again = tmp_path / "again.backup"
    found = transfer.backup(shared, again, START, silent)
    assert found.totals == transfer.verify(kept, silent).sum.totals
    transfer.restore(again, tmp_path / "back", silent)
    assert everything(tmp_path / "back") == everything(shared) | {"recordings": []}
    assert again.stat().st_mode & 0o777 == 0o600


def test_a_backup_is_of_one_moment_while_a_server_writes(books: Path, tmp_path: Path) -> None:
    """A call that is booked while the tables are read is in all of them or in none."""
    done: list[int] = []

    def meanwhile(_doing: str, table: str, _rows: int, _of: int) -> None:
        if table == "calls" and not done:
            done.append(1)
            copy_all(books)

    file = tmp_path / "moment.backup"
    found = transfer.backup(books, file, START, meanwhile)
    assert rows(books, "SELECT count(*) FROM calls") == [(CALLS + 1,)]
    assert found.tables["calls"].rows == CALLS
    transfer.restore(file, tmp_path / "new", silent)
    assert check(tmp_path / "new", START).findings == []


def test_a_place_with_books_is_not_restored_into(kept: Path, target: Place) -> None:
    prepare(target, 1, None)
    shutil.rmtree(folder_of(target) / "pepper", ignore_errors=True)
    (folder_of(target) / "pepper").unlink()
    before = everything(target)
    with pytest.raises(DataFolderError, match="has books already"):
        transfer.restore(kept, target, silent)
    assert everything(target) == before


def test_a_database_of_somebody_else_is_not_restored_into(kept: Path, target: Place) -> None:
    folder_of(target).mkdir()
    with closing(connect(target)) as sql:
        sql.execute("CREATE TABLE theirs (x INTEGER)")
    with pytest.raises(DataFolderError, match="none of Headgate's"):
        transfer.restore(kept, target, silent)
    with closing(connect(target)) as sql:
        assert sql.tables() == {"theirs"}


def test_another_pepper_is_said_before_anything_is_written(kept: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    make_pepper(new)
    with pytest.raises(DataFolderError, match="is not the one of this backup"):
        transfer.restore(kept, new, silent)
    assert rows(new, "SELECT count(*) FROM sqlite_master") == [(0,)]


def test_a_backup_of_an_older_version_is_brought_up_to_date(target: Place) -> None:
    found = transfer.restore(Path(__file__).with_name("schema-0010.backup"), target, silent)
    assert found.head.schema == "0010"
    assert look(target).schema == SCHEMA
    assert look(target).wrong == []
    assert check(target, found.head.made_at).findings == []
    assert rows(target, "SELECT count(*) FROM calls") == [(3,)]


def test_a_backup_of_a_newer_version_is_refused_by_its_name(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "newer.backup"
    transfer.backup(filled, file, START, silent)
    monkeypatch.setattr(transfer, "SCHEMA", "0000")
    with pytest.raises(DataFolderError, match=f"has schema {SCHEMA}, made by Headgate .*this one knows 0000"):
        transfer.restore(file, tmp_path / "new", silent)


def damaged(kept: Path, change: Callable[[bytearray], bytes | bytearray], tmp_path: Path) -> Path:
    file = tmp_path / "damaged.backup"
    file.write_bytes(change(bytearray(kept.read_bytes())))
    return file


def refuse(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        transfer.restore(file, tmp_path / "new", silent)
    assert not (tmp_path / "new" / FILE).exists()


def test_a_backup_of_which_a_byte_is_another_one_is_refused(kept: Path, tmp_path: Path) -> None:
    chance = random.Random(6)

    def flip(content: bytearray) -> bytearray:
        # Not in the head of gzip, which has a time, a level and a name of a system in it.
        content[chance.randrange(len(MAGIC) + 10, len(content))] ^= 1 << chance.randrange(8)
        return content

    for _ in range(40):
        refuse(damaged(kept, flip, tmp_path), tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99, 0.99999])
def test_a_backup_that_was_cut_is_refused(part: float, kept: Path, tmp_path: Path) -> None:
    refuse(damaged(kept, lambda content: content[: int(len(content) * part)], tmp_path), tmp_path)


def test_a_backup_with_another_amount_in_it_is_refused(kept: Path, tmp_path: Path) -> None:
    """Whoever changes a row and packs it again has not changed its hashes."""
    plain = bytearray(gzip.decompress(kept.read_bytes()[len(MAGIC) :]))
    at = plain.find(b"default")
    assert at > 0
    plain[at : at + 7] = b"defaulT"
    refuse(damaged(kept, lambda _: MAGIC + gzip.compress(plain), tmp_path), tmp_path)


def test_a_file_that_is_there_is_not_written_over(filled: Path, kept: Path) -> None:
    before = kept.read_bytes()
    with pytest.raises(DataFolderError, match="exists already"):
        transfer.backup(filled, kept, START, silent)
    assert kept.read_bytes() == before


def test_a_backup_that_fails_leaves_no_file(filled: Path, tmp_path: Path) -> None:
    def stop(_doing: str, table: str, _rows: int, _of: int) -> None:
        if table == "entries":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.backup(filled, tmp_path / "half.backup", START, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.services("postgresql")
def test_a_move_takes_every_row_and_the_folder_goes_on_as_a_node(books: Path, shared: Database) -> None:
    before = everything(books)
    found = transfer.move(books, shared, silent)
    assert everything(books) == before
    node = read_node(books)
    assert node is not None
    after = everything(shared)
    for table in ("slices", "slots", "drains"):
        assert [f"{node.name}/slot-0"] == [row[0] for row in rows(shared, f"SELECT slot FROM {table}")]
    for name in before.keys() - {"slices", "slots", "drains"}:
        assert after[name] == before[name]
    with closing(connect(books)) as old, closing(connect(shared)) as new:
        assert totals(old) == totals(new) == found.totals
    with closing(connect(shared)) as sql:  # what was not drained is in its journal still
        assert recover(books, sql, CLOCK, node=node.name).settled == 1
    assert rows(shared, "SELECT count(*), sum(charge) FROM calls") == [(CALLS + 1, (CALLS + 1) * CHARGE)]
    assert check(shared, START, node.name).findings == []


@pytest.mark.services("postgresql")
def test_what_a_batch_holds_stays_its_own(books: Path, shared: Database, tmp_path: Path) -> None:
    with closing(connect(books)) as sql:
        sql.execute("INSERT INTO slices SELECT id, 'batch-7', 5, 0 FROM pots")
    transfer.backup(books, tmp_path / "batch.backup", START, silent)
    transfer.restore(tmp_path / "batch.backup", tmp_path / "new", silent)
    assert rows(tmp_path / "new", "SELECT slot, amount FROM slices") == [("batch-7", 5)]
    transfer.move(books, shared, silent)
    assert {row[0] for row in rows(shared, "SELECT slot FROM slices")} >= {"batch-7"}


@pytest.mark.services("postgresql")
def test_nothing_is_moved_from_under_a_server(books: Path, shared: Database) -> None:
    with lock_folder(books), pytest.raises(DataFolderError, match="is served by process"):
        transfer.move(books, shared, silent)
    with closing(connect(shared)) as sql:
        assert sql.tables() == set()


@pytest.mark.services("postgresql")
def test_a_move_that_is_cut_leaves_nothing_and_can_be_done_again(books: Path, shared: Database) -> None:
    def stop(doing: str, table: str, _rows: int, _of: int) -> None:
        if (doing, table) == ("prove", "entries"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.move(books, shared, stop)
    with closing(connect(shared)) as sql:
        assert sql.tables() == set()
    transfer.move(books, shared, silent)
    with pytest.raises(DataFolderError, match="has books already"):
        transfer.move(books, shared, silent)


def test_a_look_finds_what_is_missing_and_leaves_the_rest_alone(place: Place) -> None:
    prepare(place, 1, None)
    assert look(place) == (SCHEMA, SCHEMA, [], [], [])
    with closing(connect(place)) as sql:
        sql.execute("CREATE TABLE theirs (x INTEGER)")
        on = " ON entries" if isinstance(place, Database) else ""
        sql.execute(f"DROP TRIGGER entries_keep_update{on}")
        sql.execute("DROP TABLE uptime")
    found = look(place)
    assert found.foreign == ["theirs"]
    assert found.wrong == [
        "The table uptime is missing.",
        "The trigger entries_keep_update is missing: rows could be changed.",
    ]


def test_a_look_names_both_schemas(place: Place) -> None:
    prepare(place, 1, None)
    with closing(connect(place)) as sql:
        sql.execute("UPDATE alembic_version SET version_num = '0099'")
    assert look(place).wrong == [f"The schema is 0099, this version has {SCHEMA}."]
