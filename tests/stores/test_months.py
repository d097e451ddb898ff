"""Calls of a month are in a table of their own, which is dropped as a whole: the totals are what they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.postgres import fresh_database
from tests.recycled import recycled_database
from tests.stores import test_reports, test_retention
from tests.stores.books import copy_all, figures, journal, make, unlocked, write
from tests.stores.copies import filled, lay_out
from tests.stores.records import START, opened, settled
from tests.stores.test_reports import HOUR, fill
from tests.stores.test_retention import DAY, dropped, id_at, told, varied

from headgate.failpoints import NoFailpoints
from headgate.stores.postgres import months
from headgate.stores.postgres.connection import PostgresConnection
from headgate.stores.postgres.months import month_of, of_a_month
from headgate.stores.sql import retention, transfer
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.check import check
from headgate.stores.sql.connection import LockedError
from headgate.stores.sql.database import Database, Place, connect
from headgate.stores.sql.soundness import look
from headgate.stores.sql.totals import totals
from headgate.stores.sql.upkeep import Upkeep
from headgate.values import Usage

pytestmark = pytest.mark.services("postgresql")

EDGE = START + 4 * DAY + 20 * HOUR  # 2025-11-28 20:00 UTC: a half of what `fill` writes is of December
END = EDGE + 100 * HOUR
OLD = EDGE + 4 * DAY + 12 * HOUR  # November is a day behind, December is not over
NOVEMBER = 156 + 12  # calls of `fill` and `varied`
AT_ONCE = 40
KEPT = "ledger", "entries", "postings", "pots", "usage"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Place]:
    with recycled_database() as url:
        yield Database(tmp_path, url)


@pytest.fixture
def place(empty: Place) -> Place:
    return make(empty)


@pytest.fixture
def books(empty: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Books of two months, of calls of every kind."""
    monkeypatch.setattr(test_reports, "START", EDGE)
    monkeypatch.setattr(test_retention, "START", EDGE)
    monkeypatch.setattr(test_retention, "END", END)
    monkeypatch.setattr(retention, "AT_ONCE", AT_ONCE)
    return filled(empty, fill_months, parted)


def parted(place: Place) -> None:
    lay_out(place)
    ahead(place, EDGE)


def fill_months(place: Place) -> None:
    make(place)
    ahead(place, EDGE)
    fill(place)
    varied(place)
    assert check(place, END).findings == []


def ahead(place: Place, now: int) -> None:
    with closing(connect(place)) as sql:
        assert sql.months is not None
        sql.months.ahead(now)


def names(place: Place) -> list[str]:
    query = "SELECT CAST(inhrelid::regclass AS text) FROM pg_inherits WHERE inhparent = 'calls'::regclass"
    return sorted(name for (name,) in figures(place, query))


def count(place: Place, table: str) -> int:
    return int(figures(place, f"SELECT count(*) FROM {table}")[0][0])


def book(place: Place, *at: int, **changes: object) -> None:
    """Book calls of some instants."""
    with journal(place, "slot-9") as made:
        records = [opened(id_at(each, number), at=each) for number, each in enumerate(at, 9_000)]
        write(made, [(record, settled(record, **changes)) for record in records])
    copy_all(place, "slot-9")


def come_to(place: Place) -> dict[str, int]:
    with closing(connect(place)) as sql:
        return {name: figure for name, figure in totals(sql).items() if name.startswith(KEPT)}


# ── where calls are ──────────────────────────────────────────────────────────────────────────────


def test_calls_are_in_the_table_of_their_month_and_all_others_in_one(place: Place) -> None:
    ahead(place, START)
    assert names(place) == ["calls_2025_11", "calls_2025_12", "calls_2026_01", "calls_rest"]
    december = int(datetime(2025, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000
    book(place, START, december - 1_000, december, START - 60 * DAY, START + 900 * DAY)
    assert [count(place, name) for name in names(place)] == [2, 1, 0, 2]
    assert check(place, END).findings == []


def test_a_call_is_there_once_wherever_it_is(place: Place) -> None:
    ahead(place, START)
    book(place, START, START - 60 * DAY)
    rows = figures(place, "SELECT * FROM calls")
    with closing(connect(place)) as sql:
        assert sql.insert_new("calls", rows) == 0
        for row in rows:
            with pytest.raises(Exception, match="duplicate key"):
                sql.insert_all("calls", [row])
    for segment in (place / "journal" / "slot-9").iterdir():  # by the journal of another worker, too
        copy = place / "journal" / "slot-8" / segment.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(segment.read_bytes())
    copy_all(place, "slot-8")
    assert count(place, "calls") == 2
    assert check(place, END).findings == []


def test_what_came_before_its_month_had_a_table_is_moved_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    book(place, START, START + HOUR, START + 40 * DAY)
    assert count(place, "calls_rest") == 3
    ahead(place, START)
    assert [count(place, name) for name in names(place)] == [2, 0, 1, 0]
    book(place, START - 60 * DAY)
    with closing(connect(place)) as sql, pytest.raises(Exception, match="append-only"):
        sql.execute("DELETE FROM calls_rest")  # as before
    monkeypatch.setattr(months, "_MOVED", 1)
    book(place, START + 99 * DAY, START + 99 * DAY + HOUR)
    ahead(place, START + 99 * DAY)  # too many for one transaction: they stay, and are dropped one by one
    assert count(place, "calls_rest") == 3
    assert "calls_2026_03" not in names(place)
    assert "calls_2026_04" in names(place)


def test_a_month_is_not_made_where_somebody_reads_and_nobody_waits_for_it(place: Place) -> None:
    with closing(connect(place)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM calls")
        with pytest.raises(LockedError):
            ahead(place, START)
    ahead(place, START)
    assert len(names(place)) == 4


def test_upkeep_makes_months_ahead(place: Place) -> None:
    class Later:
        def wall(self) -> int:
            return START + 70 * DAY

    Upkeep(lambda: connect(place), Later(), (), NoFailpoints(), print).look()  # type: ignore[arg-type]
    assert names(place) == ["calls_2026_02", "calls_2026_03", "calls_2026_04", "calls_rest"]


@pytest.mark.parametrize("call", [bytes(16), b"\xff" * 16, b"\x00\x01" + bytes(14), b""])
def test_ids_of_no_right_clock_have_no_month(call: bytes) -> None:
    assert month_of(call) is None


def test_tables_of_months_are_no_tables_of_somebody_else(books: Place) -> None:
    dropped(books, OLD, steps=3)
    with closing(connect(books)) as sql:
        sql.execute("UPDATE meta SET value = value")
        assert not {name for name in sql.tables() if of_a_month(name)}
        assert "calls" in sql.tables()
    assert of_a_month("dropped_hours_2025_11")
    assert not of_a_month("theirs_2025_11")


# ── what is dropped ──────────────────────────────────────────────────────────────────────────────


def test_a_month_is_dropped_as_a_whole_and_everything_comes_to_the_same(books: Place) -> None:
    said, came, before = told(books), come_to(books), check(books, END)
    december = count(books, "calls_2025_12")
    assert dropped(books, OLD) == NOVEMBER
    assert names(books) == ["calls_2025_12", "calls_2026_01", "calls_rest"]
    assert count(books, "calls") == count(books, "calls_2025_12") == december
    assert told(books) == said
    assert come_to(books) == came
    after = check(books, END)
    assert (after.findings, after.dropped) == ([], NOVEMBER)
    assert (after.entries, after.calls + after.dropped) == (before.entries, before.calls)
    assert dropped(books, OLD) == 0
    assert dropped(books, OLD + 60 * DAY) == december
    assert told(books) == said
    assert come_to(books) == came
    assert check(books, END).findings == []


def test_a_month_that_is_not_over_stays_whole(books: Place) -> None:
    assert dropped(books, END - 2 * DAY) == 0
    assert dropped(books, EDGE + 3 * DAY + 3 * HOUR) == 0  # a day behind its last hour but one
    assert count(books, "calls_2025_11") == NOVEMBER


def test_until_all_of_a_month_is_added_up_nothing_of_it_shows(books: Place) -> None:
    said, came = told(books), come_to(books)
    for _ in range(-(-NOVEMBER // AT_ONCE)):
        assert dropped(books, OLD, steps=1) == 0  # as if the server was killed after each step
        assert told(books) == said
        found = check(books, END)
        assert (found.findings, found.dropped) == ([], 0)
    assert dropped(books, OLD, steps=1) == NOVEMBER
    assert told(books) == said
    assert come_to(books) == came
    assert check(books, END).findings == []


def test_a_call_that_comes_late_is_dropped_with_the_others(books: Place) -> None:
    assert dropped(books, OLD, steps=2) == 0
    book(books, EDGE + 1_000)  # into what is added up already
    came = come_to(books)
    assert dropped(books, OLD) == NOVEMBER + 1
    assert come_to(books) == came
    found = check(books, END)
    assert (found.findings, found.dropped) == ([], NOVEMBER + 1)


def test_a_call_that_comes_between_the_last_step_and_the_end_is_dropped_with_the_others(books: Place) -> None:
    assert dropped(books, OLD, steps=-(-NOVEMBER // AT_ONCE)) == 0
    book(books, EDGE + 1_000, EDGE + DAY)
    assert dropped(books, OLD) == NOVEMBER + 2
    assert check(books, END).findings == []


def test_a_call_of_a_month_that_is_no_more_is_kept_and_dropped_by_itself(books: Place) -> None:
    dropped(books, OLD)
    ahead(books, EDGE)  # by a clock that was set back
    assert "calls_2025_11" not in names(books)
    book(books, EDGE + 1_000)
    assert count(books, "calls_rest") == 1
    assert check(books, END).findings == []
    assert dropped(books, OLD) == 1
    found = check(books, END)
    assert (found.findings, found.dropped) == ([], NOVEMBER + 1)


def test_servers_of_an_earlier_version_drop_rows_of_a_month_meanwhile(books: Place) -> None:
    came = come_to(books)
    assert dropped(books, OLD, steps=2) == 0
    with closing(connect(books)) as sql, writing(sql):
        first, before = figures(books, "SELECT call FROM calls ORDER BY call LIMIT 1 OFFSET 0")[0][0], None
        before = figures(books, "SELECT call FROM calls ORDER BY call LIMIT 1 OFFSET 20")[0][0]
        step = retention._Step(bytes(first), bytes(before))
        assert retention._drop(sql, retention._ALL, step) == 20
    assert dropped(books, OLD) == NOVEMBER - 20
    assert come_to(books) == came
    found = check(books, END)
    assert (found.findings, found.dropped) == ([], NOVEMBER)


def test_a_month_that_is_read_is_dropped_later_and_the_reader_sees_one_moment(books: Place) -> None:
    question = "SELECT (SELECT count(*) FROM calls) + (SELECT coalesce(sum(calls), 0) FROM dropped_hours)"
    with closing(connect(books)) as reader:
        reader.execute("BEGIN")  # even before it has asked anything
        with pytest.raises(LockedError):
            dropped(books, OLD)
        all_of_them = int(reader.execute(question).fetchone()[0])
        reader.execute("COMMIT")
        assert dropped(books, OLD) == NOVEMBER
        reader.execute("BEGIN")
        assert int(reader.execute(question).fetchone()[0]) == all_of_them


def test_upkeep_waits_for_whoever_reads(books: Place) -> None:
    class Late:
        def wall(self) -> int:
            return OLD + 34 * DAY

    def upkeep() -> None:
        for _ in range(5):
            Upkeep(lambda: connect(books), Late(), (), NoFailpoints(), print, 35).look()  # type: ignore[arg-type]

    with closing(connect(books)) as reader:
        reader.execute("BEGIN")
        upkeep()
        assert "calls_2025_11" in names(books)
    upkeep()
    assert "calls_2025_11" not in names(books)


def test_what_is_not_over_keeps_its_month(books: Place) -> None:
    with closing(connect(books)) as sql:
        sql.execute(
            "INSERT INTO videos (id, project, slot, created_at, open, deleted, job)"
            " VALUES ('video_a', 1, 0, ?, 1, 0, '{}')",
            (EDGE + 2 * DAY,),
        )
    assert dropped(books, OLD) == 0


def test_an_empty_month_is_dropped_and_moves_nothing(place: Place) -> None:
    ahead(place, START - 90 * DAY)
    assert dropped(place, START + 900 * DAY) == 0
    assert names(place) == ["calls_rest"]
    assert figures(place, "SELECT * FROM horizon") == []


# ── what the check finds ─────────────────────────────────────────────────────────────────────────


def test_a_month_that_somebody_dropped_is_found(books: Place) -> None:
    with closing(connect(books)) as sql:
        sql.execute("DROP TABLE calls_2025_11")
    assert {"sequence", "entry", "roll-up"} <= {finding.kind for finding in check(books, END).findings}


def test_a_lost_sum_of_a_month_that_was_dropped_is_found(books: Place) -> None:
    dropped(books, OLD)
    with closing(connect(books)) as sql:
        assert sql.execute("DELETE FROM dropped_hours_2025_11 WHERE book = 0").rowcount
    assert "roll-up" in {finding.kind for finding in check(books, END).findings}


@pytest.mark.parametrize("table", ["calls_2025_11", "calls_rest"])
def test_a_month_without_its_triggers_is_found(books: Place, table: str) -> None:
    with closing(connect(books)) as sql:
        sql.execute(f"ALTER TABLE {table} DISABLE TRIGGER calls_keep_delete")
    (finding,) = check(books, END).findings
    assert (finding.kind, "calls_keep_delete" in finding.detail) == ("schema", True)


@pytest.mark.parametrize("table", ["calls", "calls_2025_11", "calls_rest"])
@pytest.mark.parametrize("deed", ["TRUNCATE {}", "DELETE FROM {}", "UPDATE {} SET charge = 0"])
def test_nothing_can_be_changed_by_the_name_of_a_month(books: Place, table: str, deed: str) -> None:
    book(books, EDGE - 400 * DAY)
    with closing(connect(books)) as sql, pytest.raises(Exception, match="calls are append-only"):
        sql.execute(deed.format(table))


# ── books that go elsewhere ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_books_whose_months_were_dropped_are_backed_up_whole(
    books: Place, tmp_path: Path, target: str
) -> None:
    """An hour that calls of two months are in is one row there."""
    with closing(connect(books)) as sql:
        sql.execute("INSERT INTO meta VALUES ('pepper_fingerprint', 'x')")
        sql.execute("CREATE TABLE alembic_version (version_num TEXT)")
        sql.execute("INSERT INTO alembic_version VALUES (?)", (transfer.SCHEMA,))
    book(books, EDGE + 53 * HOUR)
    with closing(connect(books)) as sql, unlocked(sql):  # as calls of a batch are, whose ids come later
        sql.execute("UPDATE calls SET opened_at = opened_at - ?", (DAY,))
        sql.execute("DELETE FROM usage_hours")
        sql.execute("DELETE FROM usage_days")
        sql.execute(
            "INSERT INTO usage_hours SELECT opened_at / 3600000000, book, account, project, key, model,"
            " provider, count(*), sum(CASE WHEN status >= 400 THEN 1 ELSE 0 END), sum(flags & 1), sum(input),"
            " sum(output), sum(cached), sum(charge), sum(cost) FROM calls GROUP BY 1, 2, 3, 4, 5, 6, 7"
        )
    dropped(books, OLD + 60 * DAY)
    came = come_to(books)
    with fresh_database() as url:
        other = tmp_path / "new" if target == "sqlite" else Database(tmp_path / "new", url)
        transfer.backup(books, tmp_path / "b", START, lambda *_: None)
        transfer.restore(tmp_path / "b", other, lambda *_: None)
        assert come_to(other) == came
        found = check(other, END)
        assert (found.findings, found.dropped) == ([], check(books, END).dropped)


def test_books_are_restored_into_months(books: Place, tmp_path: Path) -> None:
    from headgate.identity.keys import mint_key
    from headgate.stores.sql.bootstrap import prepare

    source = tmp_path / "source"
    prepare(source, START, mint_key)
    book(source, START, START + 40 * DAY, START + 80 * DAY, START - 9_000 * DAY)
    transfer.backup(source, tmp_path / "b", START, lambda *_: None)
    with fresh_database() as url:
        place = Database(tmp_path / "new", url)
        transfer.restore(tmp_path / "b", place, lambda *_: None)
        assert [count(place, name) for name in names(place)] == [1, 1, 1, 1]
        assert names(place)[0] == "calls_2025_11"
        assert check(place, END).findings == []
        assert look(place).foreign == look(place).wrong == []


# ── narrow columns ───────────────────────────────────────────────────────────────────────────────


def test_a_call_of_absurd_tokens_does_not_hold_up_the_others(place: Place) -> None:
    absurd = 3_000_000_000
    with journal(place, "slot-9") as made:
        records = [opened(prices=None, costs=None, hold=0) for _ in range(3)]
        usages = (Usage(5, 6), Usage(absurd, absurd, cached_tokens=absurd), Usage(7, 8))
        write(
            made,
            [(record, settled(record, usage=usage)) for record, usage in zip(records, usages, strict=True)],
        )
    copy_all(place, "slot-9")
    most = 2**31 - 1
    found = figures(place, "SELECT input, output, cached FROM calls ORDER BY seq")
    assert found == [(5, 6, 0), (most, most, most), (7, 8, 0)]


def test_an_open_connection_sees_that_calls_are_parted(tmp_path: Path) -> None:
    with fresh_database() as url, closing(PostgresConnection(url)) as sql:
        sql.execute("BEGIN")
        sql.execute("COMMIT")
        make(Database(tmp_path, url))
        sql.execute("BEGIN")
        held: Any = sql.execute(
            "SELECT mode FROM pg_locks WHERE relation = 'calls'::regclass AND pid = pg_backend_pid()"
        ).fetchall()
        assert ("AccessShareLock",) in held
