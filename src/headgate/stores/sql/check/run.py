"""One check from begin to end: in which order things are read, so that a running server is no trouble."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from headgate.stores.journal.segments import Position
from headgate.stores.sql.check.batches import check_batches
from headgate.stores.sql.check.books import BooksCheck
from headgate.stores.sql.check.findings import Finding, Findings
from headgate.stores.sql.check.journals import JournalsCheck, read_slots
from headgate.stores.sql.database import connect, folder_of
from headgate.stores.sql.folder import holder

if TYPE_CHECKING:
    from headgate.stores.sql.database import Place
    from headgate.values import WallMicros


class Result(NamedTuple):
    """What a check saw."""

    calls: int
    entries: int
    findings: list[Finding]
    dropped: int = 0  # calls that are no more, by the books' own record
    before: WallMicros = 0  # when all of them were made


def check(place: Place, now: WallMicros, node: str = "") -> Result:
    """Check SQL and the journals of a data folder; changes nothing.

    First the checkpoints, then the journals, then SQL in one snapshot: what a server copies meanwhile
    is then in both and compared, and nothing is in neither.

    Args:
        place: the data folder, and where its books are.
        now: for the age of open calls.
        node: that the folder is, on a database that it shares: the journals of others are not here.

    Raises:
        sqlite3.Error: there is no database, or it cannot be read.
    """
    findings, data = Findings(), folder_of(place)
    with closing(connect(place, read_only=True, wait="patient")) as sql:
        rows = sql.execute('SELECT slot, segment, "offset" FROM drains').fetchall()
        served = holder(data) is not None
        slots = read_slots(data, {slot: Position(segment, offset) for slot, segment, offset in rows}, node)
        sql.execute("BEGIN")
        books = BooksCheck(sql, findings)
        books.run()
        check_batches(sql, findings)
        JournalsCheck(sql, findings, served=served, now=now).run(slots)
        if not served:
            books.pots.check_open(slots)
    dropped = books.dropped
    before = int.from_bytes(dropped.before[:6]) * 1000
    return Result(books.calls, books.entries, findings.all(), dropped.calls, before)
