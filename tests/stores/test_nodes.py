"""Several data folders on one database: nobody touches what is another's, and a name is one folder's."""

import asyncio
import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.stores.books import make
from tests.stores.records import CLOCK, START, opened, settled

from headgate.ports import Open
from headgate.stores.durable import write_once
from headgate.stores.journal import JournalSettings, SlotJournal
from headgate.stores.journal.segments import Position
from headgate.stores.sql import nodes, pots
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.check import check
from headgate.stores.sql.database import Place, connect
from headgate.stores.sql.drain import Copier
from headgate.stores.sql.nodes import belongs, enlist, own_node, read_node, roll, slot_name, write_off
from headgate.stores.sql.pepper import DataFolderError
from headgate.stores.sql.recovery import recover, recover_slot
from headgate.stores.sql.videos import SqlVideos
from headgate.wire.videos import VideoJob

CAP, LENT = 20_000_000, 4_000_000
CHARGE = settled(opened()).charge


class Fleet:
    """Two data folders, `a` and `b`, and the database that they share."""

    def __init__(self, place: Path) -> None:
        self.shared = make(place / "shared")
        self.folders = {name: place / name for name in ("a", "b")}
        with closing(connect(self.shared)) as sql:
            sql.execute(
                "INSERT INTO budgets (id, public_id, scope, ref, book, amount, unit, tz, origin, created_at)"
                " VALUES (1, 'budget_1', 'account', 1, 0, ?, 'total', 'UTC', 'test', 0)",
                (CAP,),
            )
            with writing(sql):
                pot = pots.find(sql, pots.PotName("budget", 1, "total"))
                assert pot is not None
                self.pot = pot.number
            for name, folder in self.folders.items():
                folder.mkdir()
                own_node(folder, name)
                enlist(sql, folder, START)
                sql.execute(
                    "INSERT INTO slots (slot, epoch, pid, seen_at) VALUES (?, 1, 1, ?)",
                    (f"{name}/slot-0", START),
                )
                sql.execute("INSERT INTO slices VALUES (?, ?, ?, 0)", (self.pot, f"{name}/slot-0", LENT))

    def write(self, node: str, *calls: Open, open_too: bool = False) -> None:
        journal = SlotJournal(self.folders[node] / "journal" / "slot-0", CLOCK, JournalSettings())
        with closing(journal):
            for call in calls:
                journal.open(call)
                journal.settle(settled(call))
            if open_too:
                journal.open(opened(pots=(self.pot,)))

    def copy(self, node: str) -> None:
        with closing(connect(self.shared)) as sql:
            copier = Copier(self.folders[node] / "journal" / "slot-0", sql, slot=f"{node}/slot-0")
            while copier.copy(Position(2**62, 0)):
                pass

    def findings(self, node: str) -> set[str]:
        """Return the kinds of what a check at a node finds."""
        journals = self.shared / "journal"
        journals.unlink(missing_ok=True)
        journals.symlink_to(self.folders[node] / "journal")
        return {finding.kind for finding in check(self.shared, START, node).findings}

    def slices(self) -> dict[str, int]:
        with closing(connect(self.shared)) as sql:
            return dict(sql.execute("SELECT slot, amount FROM slices").fetchall())

    def ask(self, question: str) -> list[tuple[object, ...]]:
        with closing(connect(self.shared)) as sql:
            return sql.execute(question).fetchall()

    @contextmanager
    def alive(self, node: str) -> Iterator[None]:
        """Let the first worker of a node say that it lives."""
        over = threading.Event()

        def beat() -> None:
            with closing(connect(self.shared)) as sql:
                while not over.wait(0.1):
                    sql.execute("UPDATE slots SET seen_at = seen_at + 1 WHERE slot = ?", (f"{node}/slot-0",))

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture
def fleet(place: Place) -> Fleet:
    return Fleet(place)


def test_slots_belong_to_one_node() -> None:
    assert [slot_name(node, "slot-0") for node in ("", "a")] == ["slot-0", "a/slot-0"]
    assert belongs("slot-0", "")
    assert belongs("a/slot-0", "a")
    for slot, node in (("slot-0", "a"), ("a/slot-0", ""), ("ab/slot-0", "a"), ("lost", ""), ("lost", "lost")):
        assert not belongs(slot, node)


def test_a_start_books_and_gives_back_what_is_its_own_alone(fleet: Fleet) -> None:
    for node in ("a", "b"):
        fleet.write(node, opened(pots=(fleet.pot,)))
    with closing(connect(fleet.shared)) as sql:
        report = recover(fleet.folders["a"], sql, CLOCK, node="a")
    assert (report.settled, report.slots) == (1, 1)
    assert fleet.slices() == {"b/slot-0": LENT}
    assert fleet.ask("SELECT slot FROM drains") == [("a/slot-0",)]
    assert fleet.ask("SELECT slot FROM slots WHERE pid <> 0") == [("b/slot-0",)]
    assert fleet.ask("SELECT spent FROM pots") == [(CHARGE,)]  # b lives, so its pot is not swept
    assert fleet.findings("a") == set()


def test_what_was_copied_is_not_booked_again(fleet: Fleet) -> None:
    fleet.write("a", opened(pots=(fleet.pot,)), opened(pots=(fleet.pot,)))
    fleet.copy("a")
    assert fleet.slices()["a/slot-0"] == LENT - 2 * CHARGE
    with closing(connect(fleet.shared)) as sql:
        assert recover_slot(fleet.folders["a"], "slot-0", sql, CLOCK, node="a").settled == 0
    assert fleet.slices() == {"b/slot-0": LENT}
    assert fleet.ask("SELECT count(*) FROM calls") == [(2,)]


def test_a_journal_that_is_gone_is_lost_for_its_own_node(fleet: Fleet) -> None:
    with closing(connect(fleet.shared)) as sql:
        recover(fleet.folders["a"], sql, CLOCK, node="a")
    assert fleet.slices() == {"b/slot-0": LENT, "lost": LENT}


def test_a_check_reads_the_journals_that_are_here(fleet: Fleet) -> None:
    fleet.write("a", opened(pots=(fleet.pot,)))
    fleet.write("b", opened(pots=(fleet.pot,)), open_too=True)
    fleet.copy("a")
    fleet.copy("b")
    assert fleet.findings("a") == set()
    assert fleet.findings("b") == {"hold"}


def test_a_folder_keeps_the_name_that_it_was_given(place: Place) -> None:
    assert read_node(place) is None
    made = own_node(place, "gateway-0")
    assert own_node(place) == own_node(place, "gateway-0") == made == read_node(place)
    assert (place / nodes.FILE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(DataFolderError, match="is the node 'gateway-0', and the settings call it 'other'"):
        own_node(place, "other")


def test_a_name_that_cannot_be_written_leaves_no_half_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(DataFolderError, match="No space left"):
            own_node(tmp_path, "gateway-0")
    assert list(tmp_path.iterdir()) == []
    assert own_node(tmp_path, "gateway-0").name == "gateway-0"


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
def test_a_name_is_on_the_disk_before_anybody_can_read_it(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def note(file: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(file).st_mode), (tmp_path / nodes.FILE).exists()))
        fsync(file)

    def none(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "fsync", note)
    if not links:
        monkeypatch.setattr(os, "link", none)
    made = own_node(tmp_path)
    assert synced == [(False, False), (True, True)]
    assert [path.name for path in tmp_path.iterdir()] == [nodes.FILE]
    with pytest.raises(FileExistsError):
        write_once(tmp_path / nodes.FILE, b"another")
    assert own_node(tmp_path) == made


def test_of_many_that_name_a_folder_at_once_one_does(tmp_path: Path) -> None:
    together, made = threading.Barrier(8), []

    def name() -> None:
        together.wait()
        made.append(own_node(tmp_path))

    threads = [threading.Thread(target=name) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [read_node(tmp_path)] * 8
    assert [path.name for path in tmp_path.iterdir()] == [nodes.FILE]


@pytest.mark.parametrize("name", ["a/b", "", "-a", "lost node", "x" * 64, "ü"])
def test_a_name_that_cannot_be_one_is_refused(name: str, place: Place) -> None:
    if not name:
        assert own_node(place).name  # none is asked for: it makes one up
        return
    with pytest.raises(DataFolderError, match="cannot be a node's name"):
        own_node(place, name)


def test_a_broken_file_is_said_and_not_replaced(place: Place) -> None:
    (place / nodes.FILE).write_text("gateway-0\n")
    with pytest.raises(DataFolderError, match="is not a node's name and token"):
        own_node(place)


def test_two_folders_cannot_have_one_name(fleet: Fleet, place: Place) -> None:
    other = place / "other"
    other.mkdir()
    own_node(other, "a")
    with (
        closing(connect(fleet.shared)) as sql,
        pytest.raises(DataFolderError, match=r"knows 'a' as another data folder.*ledger write-off a"),
    ):
        enlist(sql, other, START)
    assert [row.name for row in roll(connect(fleet.shared))] == ["a", "b"]


def test_the_same_folder_starts_at_once_again(fleet: Fleet) -> None:
    began = time.monotonic()
    with closing(connect(fleet.shared)) as sql, fleet.alive("a"):
        enlist(sql, fleet.folders["a"], START + 5)
    assert time.monotonic() - began < 1
    assert fleet.ask("SELECT started_at FROM nodes ORDER BY node") == [(START + 5,), (START,)]


def test_a_copy_starts_only_where_the_original_is_silent(fleet: Fleet, place: Place) -> None:
    copy = place / "copy"
    shutil.copytree(fleet.folders["a"], copy)
    with closing(connect(fleet.shared)) as sql:
        with fleet.alive("a"), pytest.raises(DataFolderError, match="being served from another copy"):
            enlist(sql, copy, START)
        enlist(sql, copy, START)  # the disk has moved to another machine


def test_a_lost_node_is_written_off_once_it_is_dead(fleet: Fleet, place: Place) -> None:
    fleet.write("a", opened(pots=(fleet.pot,)))
    fleet.copy("a")
    with closing(connect(fleet.shared)) as sql:
        with fleet.alive("a"), pytest.raises(DataFolderError, match="gives signs of life"):
            write_off(sql, "a")
        assert fleet.slices()["a/slot-0"] == LENT - CHARGE
        with pytest.raises(DataFolderError, match="knows no node 'c'; it knows: a, b"):
            write_off(sql, "c")
        assert write_off(sql, "a") == 1
    assert fleet.slices() == {"b/slot-0": LENT, "lost": LENT - CHARGE}
    assert fleet.ask("SELECT slot, epoch, pid FROM slots ORDER BY slot") == [
        ("a/slot-0", 2, 0),  # fenced, should it come back
        ("b/slot-0", 1, 1),
    ]
    assert fleet.ask("SELECT slot FROM drains") == []
    fleet.write("b")
    assert fleet.findings("b") == set()
    fresh = place / "fresh"
    fresh.mkdir()
    own_node(fresh, "a")
    with closing(connect(fleet.shared)) as sql:
        enlist(sql, fresh, START)  # the name is free
        assert recover(fresh, sql, CLOCK, node="a").slots == 0
    assert fleet.slices() == {"b/slot-0": LENT, "lost": LENT - CHARGE}


def test_the_roll_says_who_serves_and_what_they_have(fleet: Fleet) -> None:
    with closing(connect(fleet.shared)) as sql:
        rows = roll(sql)
    assert [(row.name, row.workers, row.seen_at, row.lent) for row in rows] == [
        ("a", 1, START, LENT),
        ("b", 1, START, LENT),
    ]
    assert all(row.pid and row.host and row.version for row in rows)


def test_a_node_asks_for_its_own_videos_and_for_those_of_lost_ones(fleet: Fleet) -> None:
    asyncio.run(ask_for_videos(fleet))


async def ask_for_videos(fleet: Fleet) -> None:
    def job(name: str, slot: int) -> VideoJob:
        return VideoJob(
            id=name, call=name.encode(), slot=slot, account=1, project=1, key=1, member=0, book=0, model="m",
            provider="p", upstream="u", prompt="", seconds=4, size="", unit="seconds", created_at=START,
        )  # fmt: skip

    stores = {node: SqlVideos(lambda: connect(fleet.shared), node) for node in ("a", "b", "gone")}
    for node, store in stores.items():
        for slot in (0, 1):
            await store.put(job(f"{node}-{slot}", slot))
    assert [each.id for each in await stores["b"].open(0, 2)] == ["b-0", "gone-0", "gone-1"]
    assert [each.id for each in await stores["b"].open(1, 2)] == ["b-1"]
    assert {each.id for each in await stores["a"].open(0, 1)} == {"a-0", "a-1", "gone-0", "gone-1"}
    for store in stores.values():
        await store.close()
