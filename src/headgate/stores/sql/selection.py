"""Which calls a report is about, in SQL and in the journals' tails, and what their ids are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.stores.sql.horizon import booked
from headgate.stores.sql.series import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.ports import Open
    from headgate.records import UsageOrder
    from headgate.stores.journal.cursor import Settled
    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

OPENED: Final = "call >= ? AND call < ? AND opened_at >= ? AND opened_at < ?"  # of table calls, by its key


def span(start: WallMicros, end: WallMicros) -> tuple[bytes, bytes, WallMicros, WallMicros]:
    """Return the values of `OPENED`: calls that were opened at `start` or later and before `end`."""
    # An id is made before its OPEN, or after it where the wall clock was set back.
    low, high = ((max(at, 0) // 1000).to_bytes(6) + bytes(10) for at in (start - HOUR_US, end + HOUR_US))
    return low, high, start, end


class Some(NamedTuple):
    """An order with the ids of the database: of each column the values that will do."""

    order: UsageOrder
    wanted: dict[str, frozenset[int]]

    @classmethod
    def of(cls, sql: Connection, order: UsageOrder) -> Some:
        """Look up the things that an order names."""
        wanted: dict[str, frozenset[int]] = {}
        for member, (column, question) in _WANTED.items():
            names = getattr(order, member)
            if names:
                rows = (row for name in names for row in sql.execute(question, (name,)))
                wanted[column] = frozenset(row[0] for row in rows)
        return cls(order, wanted)

    def holds(self, at: WallMicros, book: int) -> bool:
        """Say whether an instant and a book are in the window."""
        order = self.order
        return (
            at >= order.since
            and (not order.until or at < order.until)
            and (order.book is None or book == order.book)
        )

    def means(self, last: Open) -> bool:
        """Say whether a call of a journal is of the things that are meant."""
        if self.order.models and last.model not in self.order.models:
            return False  # by name: the books may not have it yet
        return all(getattr(last, column) in ids for column, ids in self.wanted.items() if column != "model")

    def narrowed(self, question: str, table: str = "") -> tuple[str, tuple[int, ...]]:
        """Return a question about calls with `{some}` filled in, and the values of that."""
        clauses: list[str] = []
        values: list[int] = []
        if self.order.book is not None:
            clauses.append(f"{table}book = ?")
            values.append(int(self.order.book))
        for column, ids in self.wanted.items():
            marks = ", ".join("?" * len(ids)) or "NULL"
            if column == "member" and not table:  # the roll-ups know it by its keys
                clauses.append(f"key IN (SELECT id FROM keys WHERE member IN ({marks}))")
            else:
                clauses.append(f"{table}{column} IN ({marks})")
            values += ids
        return question.format(some=" AND ".join(clauses) or "TRUE"), tuple(values)


_WANTED: Final = {
    "accounts": ("account", "SELECT id FROM accounts WHERE public_id = ?"),
    "projects": ("project", "SELECT id FROM projects WHERE public_id = ?"),
    "members": ("member", "SELECT id FROM members WHERE public_id = ?"),
    "keys": ("key", "SELECT id FROM keys WHERE public_id = ?"),
    "models": ("model", "SELECT id FROM names WHERE name = ?"),
}


class Names:
    """The public ids and names behind the ids of the database, read as they are asked for."""

    def __init__(self, sql: Connection) -> None:
        self._sql = sql
        self._known: dict[tuple[str, int], str] = {}

    def of(self, kind: str, number: int) -> str:
        """Return one; empty when there is none."""
        known = self._known.get((kind, number))
        if known is None:
            row = self._sql.execute(_NAMED[kind], (number,)).fetchone()
            known = self._known[kind, number] = row[0] if row else ""
        return known


_NAMED: Final = {
    "account": "SELECT public_id FROM accounts WHERE id = ?",
    "project": "SELECT public_id FROM projects WHERE id = ?",
    "member": "SELECT public_id FROM members WHERE id = ?",
    "key": "SELECT public_id FROM keys WHERE id = ?",
    "key's member": "SELECT m.public_id FROM keys k JOIN members m ON m.id = k.member WHERE k.id = ?",
    "model": "SELECT name FROM names WHERE id = ?",
    "provider": "SELECT name FROM names WHERE id = ?",
}


def undrained(sql: Connection, settled: list[Settled], some: Some) -> Iterator[Settled]:
    """Yield the calls of the journals that the snapshot does not have, each once."""
    seen = set()
    for item in settled:
        call, last = item.settle.call, item.opens[-1]
        if call in seen or not some.holds(item.opens[0].at, item.opens[0].book):
            continue
        seen.add(call)
        if not some.means(last):
            continue
        if not booked(sql, item.settle):
            yield item
