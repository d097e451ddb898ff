"""Books that are copied for a test are those that were filled, and nothing that a test does to one shows in the next."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from tests.recycled import recycled_database
from tests.stores.books import anywhere, copy_all, figures, journal, make, write
from tests.stores.copies import filled
from tests.stores.records import CLOCK, opened, settled
from tests.stores.test_check import write_one

from headgate.stores.sql.check import check
from headgate.stores.sql.database import Database, Place, folder_of
from headgate.stores.sql.layout import tables

ACCOUNT = "INSERT INTO accounts (public_id, name, created_at) VALUES ('acct_two', 'two', 0) RETURNING id"


def fill(place: Place) -> None:
    make(place)
    with journal(place) as book:
        for index in range(20):
            write_one(book, index)
            if index == 9:
                copy_all(place)


def everything(place: Place) -> tuple[dict[str, Any], dict[Path, bytes]]:
    journals = folder_of(place) / "journal"
    with closing(anywhere(place)) as sql:
        rows = {table.name: list(map(tuple, sql.execute(table.rows()).fetchall())) for table in tables()}
    return rows, {path.relative_to(journals): path.read_bytes() for path in journals.rglob("*.*")}


def use(place: Place) -> None:
    """Do to books what tests do."""
    with closing(anywhere(place)) as sql:
        assert sql.execute(ACCOUNT).fetchone()[0] == 2  # numbers go on behind those of the rows
    record = opened()
    with journal(place) as book:
        write(book, [(record, settled(record))])
    copy_all(place)
    assert bytes(figures(place, "SELECT call FROM calls ORDER BY call DESC LIMIT 1")[0][0]) == record.call


def test_a_copy_is_as_its_books_were(place: Place, tmp_path: Path) -> None:
    rows, journals = everything(filled(place, fill))
    assert len(rows["calls"]) == 10
    assert len(journals) == 1
    use(place)
    for number in range(2):
        with recycled_database() if isinstance(place, Database) else nullcontext() as url:
            folder = tmp_path / str(number)
            copy = filled(folder if url is None else Database(folder, url), fill)
            assert everything(copy) == (rows, journals)
            assert check(copy, CLOCK.wall()).findings == []
            use(copy)
            assert everything(copy) != (rows, journals)
