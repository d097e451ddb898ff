"""Journal records into SQL: calls, double entries, balances and roll-ups. Idempotent, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.values import Book

if TYPE_CHECKING:
    import sqlite3

    from headgate.ports import Open, Settle
    from headgate.values import Prices

ESTIMATED, UNPRICED, STREAMED, RECOVERED = 1, 2, 4, 8
SETTLEMENT, COST, ABSORBED = 1, 2, 3
_HOUR_US = 3_600_000_000
_INSERT_CALL = f"INSERT INTO calls VALUES ({','.join('?' * 32)})"


class Books:
    """Write settled calls. One per process, on a connection of its own, in one thread at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection
        self._ids: dict[tuple[str, str], int] = {}

    def write(self, pairs: list[tuple[Open, Settle, bool]], slot: str, segment: int, offset: int) -> int:
        """Book settled calls and move the checkpoint of their journal, in one transaction.

        Args:
            pairs: OPEN, SETTLE and whether a recovery made the settlement.
            slot: the journal.
            segment: of the checkpoint.
            offset: of the checkpoint.

        Returns:
            How many calls were new.
        """
        sql = self._sql
        sql.execute("BEGIN IMMEDIATE")
        try:
            fresh = self._fresh(pairs)
            if fresh:
                self._book(fresh)
            sql.execute("INSERT OR REPLACE INTO drains VALUES (?,?,?)", (slot, segment, offset))
        except BaseException:
            sql.execute("ROLLBACK")
            self._ids.clear()
            raise
        sql.execute("COMMIT")
        return len(fresh)

    def _fresh(self, pairs: list[tuple[Open, Settle, bool]]) -> list[tuple[Open, Settle, bool]]:
        known = set()
        for start in range(0, len(pairs), 500):
            calls = [opened.call for opened, _, _ in pairs[start : start + 500]]
            marks = ",".join("?" * len(calls))
            known |= {
                row[0] for row in self._sql.execute(f"SELECT call FROM calls WHERE call IN ({marks})", calls)
            }
        fresh: dict[bytes, tuple[Open, Settle, bool]] = {}
        for pair in pairs:
            if pair[0].call not in known:
                fresh.setdefault(pair[0].call, pair)
        return list(fresh.values())

    def _book(self, fresh: list[tuple[Open, Settle, bool]]) -> None:
        calls, entries = [], []
        hours: dict[tuple[int, ...], list[int]] = {}
        balances: dict[int, list[int]] = {}
        seq = {book: self._last_seq(book) for book in {int(opened.book) for opened, _, _ in fresh}}
        for opened, settled, recovered in fresh:
            book = int(opened.book)
            seq[book] += 1
            row = self._row(opened, settled, recovered, seq[book])
            calls.append(row)
            for kind, attempt, debit, credit, amount in self._entries(opened, settled):
                entries.append((opened.call, kind, attempt, 0, book, debit, credit, amount))
                balances.setdefault(debit, [0, 0])[0] += amount
                balances.setdefault(credit, [0, 0])[1] += amount
            _add_hour(hours, row)
        for book, last in seq.items():
            self._sql.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (f"seq:{book}", str(last)))
        sql = self._sql
        sql.executemany(_INSERT_CALL, calls)
        sql.executemany("INSERT INTO entries VALUES (?,?,?,?,?,?,?,?)", entries)
        sql.executemany(
            "INSERT INTO balances VALUES (?,?,?) ON CONFLICT DO UPDATE SET "
            "debits = debits + excluded.debits, credits = credits + excluded.credits",
            [(account, *sums) for account, sums in balances.items()],
        )
        sql.executemany(
            "INSERT INTO usage_hours VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET "
            + ", ".join(f"{c} = {c} + excluded.{c}" for c in _SUMS),
            [(*key, *sums) for key, sums in hours.items()],
        )

    def _row(self, opened: Open, settled: Settle, recovered: bool, seq: int) -> tuple[Any, ...]:
        usage = settled.usage
        flags = (
            ESTIMATED * settled.estimated
            | UNPRICED * (opened.prices is None)
            | STREAMED * opened.streamed
            | RECOVERED * recovered
        )
        return (
            opened.call, seq, int(opened.book), opened.account, opened.project, opened.key, opened.member,
            opened.parent or None, settled.attempt, self._name(opened.operation), self._name(opened.model),
            self._name(opened.provider), self._name(opened.upstream_model), opened.at, settled.at,
            settled.status, flags, usage.input_tokens, usage.output_tokens, usage.cached_tokens,
            usage.cache_write_tokens, usage.reasoning_tokens, usage.input_audio_tokens,
            usage.output_audio_tokens, self._prices(opened.prices), self._prices(opened.costs), opened.hold,
            settled.charge, settled.absorbed, sum(settled.costs), settled.first_byte_us, settled.duration_us,
        )  # fmt: skip

    def _entries(self, opened: Open, settled: Settle) -> list[tuple[int, int, int, int, int]]:
        """Return (kind, attempt, debit, credit, amount) of each entry; zero amounts make none."""
        book = int(opened.book)
        rows = []
        if settled.charge:
            credit = self._account(f"credit:{opened.account}", book)
            rows.append((SETTLEMENT, settled.attempt, credit, self._account("revenue", book), settled.charge))
        for attempt, amount in enumerate(settled.costs):
            if amount:
                payable = self._account(f"payable:{opened.provider}", book)
                rows.append((COST, attempt, self._account("cost", book), payable, amount))
        if settled.absorbed:
            house = self._account("house:absorbed", book)
            rows.append((ABSORBED, settled.attempt, house, self._account("revenue", book), settled.absorbed))
        return rows

    def _name(self, name: str) -> int:
        return self._id("names", "name", name)

    def _prices(self, prices: Prices | None) -> int:
        if prices is None:
            return 0
        return self._id("price_rows", "prices", msgspec.json.encode(prices).decode())

    def _account(self, code: str, book: int) -> int:
        return self._id("ledger_accounts", "code", f"{code}:{Book(book).label}", book)

    def _id(self, table: str, column: str, text: str, book: int | None = None) -> int:
        """Return the row of a text in a dictionary table; made where it is new."""
        known = self._ids.get((table, text))
        if known is not None:
            return known
        row = self._sql.execute(f"SELECT id FROM {table} WHERE {column} = ?", (text,)).fetchone()
        if row is None:
            names, values = (f"{column}, book", (text, book)) if book is not None else (column, (text,))
            places = ",".join("?" * len(values))
            self._sql.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)
            row = self._sql.execute(f"SELECT id FROM {table} WHERE {column} = ?", (text,)).fetchone()
        self._ids[table, text] = row[0]
        return int(row[0])

    def _last_seq(self, book: int) -> int:
        found = self._sql.execute("SELECT value FROM meta WHERE name = ?", (f"seq:{book}",)).fetchone()
        return int(found[0]) if found else 0


_SUMS = ("calls", "failed", "estimated", "input", "output", "cached", "charge", "cost")


def _add_hour(hours: dict[tuple[int, ...], list[int]], row: tuple[Any, ...]) -> None:
    """Add a call's row to its hour."""
    key = (row[13] // _HOUR_US, row[2], row[3], row[4], row[5], row[10], row[11])
    sums = hours.setdefault(key, [0] * len(_SUMS))
    parts = (1, int(row[15] >= 400), row[16] & ESTIMATED, row[17], row[18], row[19], row[27], row[29])
    for index, part in enumerate(parts):
        sums[index] += part
