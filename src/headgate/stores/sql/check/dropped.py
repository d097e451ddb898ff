"""Check what is left of calls that were dropped: below the horizon, as many, and what they came to."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.stores.sql.check.findings import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headgate.ports import Settle
    from headgate.stores.sql.check.findings import Findings
    from headgate.stores.sql.connection import Connection

SETTLEMENT, COST, ABSORBED = 1, 2, 3


class DroppedHour(NamedTuple):
    """What the dropped calls of an hour and of one place came to."""

    hour: int
    book: int
    account: int
    project: int
    key: int
    model: int
    provider: int
    calls: int
    failed: int
    estimated: int
    input: int
    output: int
    cached: int
    charge: int
    cost: int
    absorbed: int


class DroppedCheck:
    """Entries without their call, and the sums that say whose they are.

    Args:
        sql: in a transaction, so that everything is of one moment.
        findings: where what is wrong goes.
        accounts: the ledger's accounts, code and book by id; filled before the first entry comes.
    """

    def __init__(self, sql: Connection, findings: Findings, accounts: Mapping[int, tuple[str, int]]) -> None:
        self._sql = sql
        self._say = findings.add
        self._accounts = accounts
        row = sql.execute("SELECT before, lost FROM horizon").fetchone()
        self.before = b"" if row is None else bytes(row[0])
        self._lost: int = 0 if row is None else row[1]
        self.hours = [
            DroppedHour._make(each)
            for each in sql.execute(
                f"SELECT {', '.join(DroppedHour._fields)} FROM dropped_hours ORDER BY hour"
            )
        ]
        self._found: dict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0])
        self.calls = sum(each.calls for each in self.hours)

    def take(self, call: bytes, own: Sequence[tuple[Any, ...]]) -> bool:
        """Take entries without a call; False when no call was dropped that they can be of."""
        if call >= self.before:
            return False
        for _, kind, _, _, _, debit, credit, amount in own:
            line = self._found[kind, debit, credit]
            line[0] += 1
            line[1] += amount
        return True

    def check_numbers(self, numbers: Mapping[int, bytearray]) -> None:
        """Mark the numbers of dropped calls as seen; those were given, once, to as many as were dropped."""
        counts: dict[int, int] = defaultdict(int)
        rows = self._sql.execute("SELECT book, first, last FROM dropped_numbers ORDER BY book, first")
        for book, first, last in rows:
            counts[book] += last + 1 - first
            seen = numbers.get(book, bytearray())
            if not 0 < first <= last < len(seen) or any(seen[first : last + 1]):
                self._say("sequence", f"book {book}: calls {first} to {last} were dropped, and are there")
            else:
                seen[first : last + 1] = b"\1" * (last + 1 - first)
        for book in counts.keys() | {each.book for each in self.hours}:
            due = sum(each.calls for each in self.hours if each.book == book)
            if counts[book] != due:
                self._say(
                    "sequence", f"book {book}: {due} calls were dropped, {counts[book]} of their numbers"
                )

    def finish(self, strays: Iterable[bytes]) -> None:
        """Compare, now that every entry came.

        Args:
            strays: the calls of failed attempts whose call is not there.
        """
        lost = 0
        for stray in strays:
            lost += stray < self.before
            if stray >= self.before:
                self._say("provider cost", f"{name_of(stray)}: a failed attempt without its call")
        if lost != self._lost:
            self._say(
                "provider cost", f"{lost} failed attempts without their calls, {self._lost} were dropped"
            )
        rows = self._sql.execute("SELECT kind, debit, credit, entries, amount FROM dropped_entries")
        stored = {(kind, debit, credit): [count, amount] for kind, debit, credit, count, amount in rows}
        for key in stored.keys() | self._found.keys():
            if stored.get(key, [0, 0]) != self._found[key]:
                codes = " to ".join(self._accounts.get(each, (f"account {each}", -1))[0] for each in key[1:])
                self._say(
                    "entry",
                    f"{self._found[key]} entries without their call, of kind {key[0]}, {codes}: "
                    f"{stored.get(key, [0, 0])} are of calls that were dropped",
                )
        self._check_money(stored)

    def _check_money(self, stored: Mapping[tuple[int, int, int], Sequence[int]]) -> None:
        """The entries of dropped calls are what these were charged, and what they cost."""
        booked: dict[tuple[int, int], int] = defaultdict(int)
        for (kind, debit, _), (_, amount) in stored.items():
            code, book = self._accounts.get(debit, ("", -1))
            if (kind, code) != (SETTLEMENT, "promotion"):
                booked[book, kind] += amount
        for book in {each.book for each in self.hours} | {book for book, _ in booked}:
            own = [each for each in self.hours if each.book == book]
            due = {
                SETTLEMENT: sum(each.charge for each in own),
                COST: sum(each.cost for each in own),
                ABSORBED: sum(each.absorbed for each in own),
            }
            for kind, amount in due.items():
                if booked[book, kind] != amount:
                    self._say(
                        "entry",
                        f"book {book}: dropped calls came to {amount}, their entries of kind {kind} to "
                        f"{booked[book, kind]}",
                    )


def was_dropped(sql: Connection, settle: Settle) -> bool:
    """Say whether a settled call that is not there was dropped: by its entries, as far as it has any."""
    row = sql.execute("SELECT before FROM horizon").fetchone()
    if row is None or settle.call >= bytes(row[0]):
        return False
    due = sorted(
        [(COST, amount) for amount in settle.costs if amount]
        + [(ABSORBED, settle.absorbed)] * (settle.absorbed > 0)
        + [(SETTLEMENT, settle.charge + settle.promoted)] * (settle.charge + settle.promoted > 0)
    )
    rows = sql.execute(
        f"SELECT kind, sum(amount) FROM entries WHERE call = ? AND kind IN ({SETTLEMENT}, {ABSORBED})"
        f" GROUP BY kind UNION ALL SELECT kind, amount FROM entries WHERE call = ? AND kind = {COST}",
        (settle.call, settle.call),
    )
    return sorted((kind, int(amount)) for kind, amount in rows) == due
