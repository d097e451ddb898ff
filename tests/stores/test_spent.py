from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.books import copy_all, journal, make, write
from tests.stores.records import START, HandClock, opened, settled

from headgate.money.periods import period_start
from headgate.stores.sql.database import Place, changes_since, connect, spent
from headgate.values import Book

MINUTE = 60_000_000
ZONES = ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham", "Asia/Shanghai"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two days of calls, one every seven minutes, in both books and of two keys."""
    folder = make(tmp_path_factory.mktemp("books"))
    clock = HandClock()
    with journal(folder) as book:
        for index in range(412):
            at = START + index * 7 * MINUTE
            clock.now = at
            # The id is made a second before the OPEN: the call has waited.
            call = ((at // 1000 - 1000) << 80 | 7 << 76 | 2 << 62 | index).to_bytes(16)
            record = opened(call, at=at, key=1 + index % 2, book=Book(index // 2 % 2))
            write(book, [(record, settled(record, made=index))])
    copy_all(folder)
    return folder


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", ["day", "month"])
def test_a_period_counts_exactly_its_calls_in_any_time_zone(data: Place, zone: str, unit: str) -> None:
    now = START + 36 * 60 * MINUTE
    since = period_start(now, unit, zone)  # type: ignore[arg-type]
    with closing(connect(data, read_only=True)) as sql:
        for scope, ref in (("account", 1), ("key", 2)):
            column = scope
            (due,) = sql.execute(
                f"SELECT sum(charge) FROM calls WHERE {column} = ? AND book = 1 AND opened_at >= ?",
                (ref, since),
            ).fetchone()
            assert due
            assert spent(sql, scope, ref, Book.SIM, since) == due


def test_every_minute_of_an_hour_is_a_border_that_holds(data: Place) -> None:
    with closing(connect(data, read_only=True)) as sql:
        for minute in range(61):
            since = START + (600 + minute) * MINUTE
            question = "SELECT sum(charge) FROM calls WHERE book = 0 AND opened_at >= ?"
            assert spent(sql, "project", 1, Book.REAL, since) == sql.execute(question, (since,)).fetchone()[0]


def test_nothing_was_spent_by_nobody(data: Place) -> None:
    with closing(connect(data, read_only=True)) as sql:
        assert spent(sql, "account", 9, Book.REAL, START + 1) == 0


def test_changes_are_told_once_and_in_order(data: Place) -> None:
    with closing(connect(data)) as sql:
        sql.execute("INSERT INTO changes (kind, ref, at) VALUES ('key', 'key_a', 1), ('budget', 'b', 2)")
        first, second = changes_since(sql, 0)
        assert (first[1:], second[1:]) == (("key", "key_a"), ("budget", "b"))
        assert changes_since(sql, first[0]) == [second]
        assert changes_since(sql, second[0]) == []
