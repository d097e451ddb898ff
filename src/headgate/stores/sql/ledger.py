"""Settled calls into SQL: calls, double entries, balances and roll-ups, in one transaction per batch.

Idempotent: a call that the books have is not booked again. The checkpoint of the journal moves in the
same transaction. Statements take many rows at once, since each statement that runs hands the
interpreter to another thread and back.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.money.rules import entries, is_plain
from headgate.stores.journal.cursor import Settled
from headgate.stores.sql import series
from headgate.stores.sql.batch import Batch
from headgate.stores.sql.horizon import booked
from headgate.stores.sql.series import HOUR_US, Common, Series
from headgate.stores.sql.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headgate.ports import Open, Settle
    from headgate.stores.journal.segments import Position
    from headgate.stores.sql.batch import Insert
    from headgate.stores.sql.connection import Connection, Form
    from headgate.values import Prices, Usage


ESTIMATED, UNPRICED, STREAMED, RECOVERED, REPLAY = 1, 2, 4, 8, 16
MOST_TOKENS: Final = 2**31 - 1  # of each kind, of a call: what is more is a slip of its provider
SLICE: Final = 32  # records that are read at once

_BALANCE = (
    "INSERT INTO balances VALUES (?, ?, ?) ON CONFLICT (ledger_account) DO UPDATE SET "
    "debits = balances.debits + excluded.debits, credits = balances.credits + excluded.credits"
)
_SUMS = ("calls", "failed", "estimated", "input", "output", "cached", "charge", "cost")
_HOUR = (
    "INSERT INTO usage_hours VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (hour, book, account, project, key, model, provider) DO UPDATE SET "
    + ", ".join(f"{name} = usage_hours.{name} + excluded.{name}" for name in _SUMS)
)
_MOST_SERIES: Final = 10_000  # some 5 MB
_CHANGES: Final = -1  # beside the numbers of books
_STANDING = (
    f"SELECT {_CHANGES}, coalesce(max(seq), 0), (SELECT before FROM horizon) FROM changes"
    " UNION ALL SELECT book, seq, (SELECT before FROM horizon) FROM books"
)
_LOST = "INSERT INTO lost VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_USE = (
    "INSERT INTO key_uses VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET"
    " used_at = max(key_uses.used_at, excluded.used_at)"
)
_CHECKPOINT = (
    "INSERT INTO drains VALUES (?, ?, ?) ON CONFLICT (slot) DO UPDATE SET "
    'segment = excluded.segment, "offset" = excluded."offset"'
)


class Books:
    """Write settled calls. For one thread at a time, on a connection of its own.

    Args:
        sql: transactions are this object's.
        pause: called between slices of a batch, so that another thread may run.
    """

    def __init__(self, sql: Connection, pause: Callable[[], None] | None = None) -> None:
        self._sql = sql
        self._pause = pause or _go_on
        self._words: dict[tuple[str, str, str, str], tuple[int, ...]] = {}
        self._prices: dict[Prices | None, int] = {None: 0}
        self._last_prices: tuple[Prices | None, int] = (None, 0)
        self._accounts: dict[tuple[str, str, int], tuple[int, int]] = {}
        self._series: dict[tuple[Any, ...], Series] = {}  # by name: the latest of each
        self._spending = Spending(sql)

    def post(self, settled: Sequence[Settled], slot: str, checkpoint: Position) -> int:
        """Book settled calls and move the checkpoint of their journal, in one transaction.

        Returns:
            How many calls were new.

        Raises:
            sqlite3.Error: nothing was booked.
        """
        sql = self._sql
        sql.execute("BEGIN IMMEDIATE")
        try:
            fresh: Sequence[Settled] = settled
            try:
                self._book(fresh, slot, sql.insert_all)
            except (sqlite3.IntegrityError, sqlite3.DataError):  # they have one, or had; or a count is absurd
                sql.execute("ROLLBACK")
                self._forget()
                sql.execute("BEGIN IMMEDIATE")
                fresh = [_countable(item) for item in self._unknown(settled)]
                self._book(fresh, slot, self._insert_new, looked=True)
            sql.execute(_CHECKPOINT, (slot, *checkpoint))
            sql.execute("COMMIT")
        except BaseException:
            if sql.in_transaction:
                sql.execute("ROLLBACK")
            self._forget()
            raise
        return len(fresh)

    def _insert_new(self, table: str, rows: Sequence[tuple[Any, ...]], form: Form | None) -> None:
        self._sql.insert_new(table, rows if form is None else form.full(rows))

    def _forget(self) -> None:
        """Drop the ids that a transaction gave which is no more."""
        self._words.clear()
        self._accounts.clear()
        self._series.clear()
        self._prices, self._last_prices = {None: 0}, (None, 0)
        self._spending.forget()

    def _unknown(self, settled: Sequence[Settled]) -> list[Settled]:
        """Return the calls that the books do not have, each once."""
        fresh = {}
        for item in settled:
            call = item.settle.call
            if call not in fresh and not booked(self._sql, item.settle):
                fresh[call] = item
        return list(fresh.values())

    def _book(self, settled: Sequence[Settled], slot: str, insert: Insert, *, looked: bool = False) -> None:
        """Write everything of a batch.

        Raises:
            sqlite3.IntegrityError: the books have, or may have had, one of its calls.
        """
        if not settled:
            return
        rows = self._sql.execute(_STANDING).fetchall()
        before = rows[0][2] or b""
        if before and not looked and any(item.settle.call < before for item in settled):
            raise sqlite3.IntegrityError("calls as old as these were dropped")
        found: dict[int, int] = {number: seq for number, seq, _ in rows}
        if not self._spending.begin(found.pop(_CHANGES)) or len(self._series) > _MOST_SERIES:
            self._series.clear()
        batch = Batch(found)
        size = self._sql.calls_at_once
        for start in range(0, len(settled), size):
            for item in settled[start : start + size]:
                self._add(item, batch)
            batch.insert(insert, size)
            self._pause()
        batch.insert(insert, 1)
        for each in batch.series:
            batch.add_series(each)
            self._spending.add_series(each.opened, each.charge, each.at)
            each.clear()
        self._sql.executemany(_LOST, batch.lost)
        self._sql.executemany(
            "INSERT INTO books VALUES (?, ?) ON CONFLICT (book) DO UPDATE SET seq = excluded.seq",
            batch.seq.items(),
        )
        self._sql.executemany(_BALANCE, batch.balances())
        self._sql.executemany(_HOUR, batch.sums())
        self._sql.executemany(_USE, batch.uses.items())
        self._spending.write(slot)

    def _add(self, item: Settled, batch: Batch) -> None:
        """Put a call into a batch: its row, its entries and its sums."""
        opens, settle = item.opens, item.settle
        if item.recovered or not is_plain(opens, settle):
            self._add_any(item, batch)
            return
        opened = opens[0]
        name = series.name(opened)
        found = self._series.get(name)
        if found is None or opened.at >= found.until or found.prices != opened.prices:
            self._add_any(item, batch)
            self._series[name] = self._begin(opened, settle)
        elif opened.at < found.since or found.costs != opened.costs:
            self._add_any(item, batch)
        else:
            if not found.calls:
                batch.series.append(found)
            found.take(opened, settle, batch)

    def _begin(self, opened: Open, settle: Settle) -> Series:
        """Return the series that calls like a plain one are of."""
        hour = opened.at // HOUR_US * HOUR_US
        since, until = self._spending.span(opened)
        settlement, provider_cost = (
            self._accounts[debit, credit, int(opened.book)]
            for _, _, _, debit, credit, _ in entries([opened], settle)
        )
        common = Common(
            self._words[opened.operation, opened.model, opened.provider, opened.upstream_model],
            self._price_row(opened.prices),
            self._price_row(opened.costs),
            (
                _flags(opened, estimated=False, recovered=False),
                _flags(opened, estimated=True, recovered=False),
            ),
            settlement,
            provider_cost,
        )
        return Series(opened, common, (max(since, hour), min(until, hour + HOUR_US)))

    def _add_any(self, item: Settled, batch: Batch) -> None:
        """Put a call into a batch, whatever it is."""
        opens, settle = item.opens, item.settle
        first, last = opens[0], opens[-1]
        if settle.attempt != last.attempt:
            last = next((opened for opened in opens if opened.attempt == settle.attempt), last)
        words = (last.operation, last.model, last.provider, last.upstream_model)
        ids = self._words.get(words) or self._learn(words)
        usage, book, cost = settle.usage, int(last.book), sum(settle.costs)
        prices = self._price_row(last.prices)
        call = bytearray(settle.call)  # of bytes sqlite3 asks each time, at length, what they adapt to
        self._enter(call, item, book, batch)
        if settle.lost:
            batch.lost.extend(self._lost_rows(opens, settle))
        self._spending.add(opens, settle)
        batch.add_hour(
            (first.at // HOUR_US, book, last.account, last.project, last.key, ids[1], ids[2]), settle, cost
        )
        if first.at > batch.uses.get(last.key, 0):
            batch.uses[last.key] = first.at
        costs = prices if last.costs is last.prices else self._price_row(last.costs)
        original = bytes.fromhex(last.replay_of) if last.replay_of else b""
        batch.seq[book] = seq = batch.seq[book] + 1
        batch.calls.append((
            call, seq, book, last.account, last.project, last.key, last.member,
            last.parent or original or None, settle.attempt, *ids, first.at, settle.at, settle.status,
            _flags(last, estimated=settle.estimated, recovered=item.recovered), usage.input_tokens,
            usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens,
            usage.input_audio_tokens, usage.output_audio_tokens, prices, costs, last.hold, settle.charge,
            settle.absorbed, cost, settle.first_byte_us, settle.duration_us,
            more_text(usage) if usage.more else "",
        ))  # fmt: skip

    def _enter(self, call: bytearray, item: Settled, book: int, batch: Batch) -> None:
        accounts, moved = self._accounts, batch.moved
        for kind, attempt, n, debit_code, credit_code, amount in entries(item.opens, item.settle):
            pair = (debit_code, credit_code, book)
            sides = accounts.get(pair) or self._pair(pair)
            debit, credit = sides
            batch.entries.append((call, kind, attempt, n, book, debit, credit, amount))
            moved[sides] = moved.get(sides, 0) + amount

    def _lost_rows(self, opens: Sequence[Open], settle: Settle) -> Iterable[tuple[Any, ...]]:
        by_attempt = {opened.attempt: opened for opened in opens}
        for lost in settle.lost:
            opened = by_attempt.get(lost.attempt, opens[-1])
            words = (opened.operation, opened.model, opened.provider, opened.upstream_model)
            ids = self._words.get(words) or self._learn(words)
            yield (
                settle.call, lost.attempt, *ids[2:], int(lost.estimated),
                *msgspec.structs.astuple(lost.usage)[:7], self._price_row(opened.costs),
                more_text(lost.usage),
            )  # fmt: skip

    # ── dictionary ids ───────────────────────────────────────────────────────────────────────────

    def _learn(self, words: tuple[str, str, str, str]) -> tuple[int, ...]:
        sql = self._sql
        ids = []
        for word in (each.replace("\0", "\ufffd") for each in words):  # which PostgreSQL keeps in no text
            sql.execute("INSERT INTO names (name) VALUES (?) ON CONFLICT DO NOTHING", (word,))
            ids.append(int(sql.execute("SELECT id FROM names WHERE name = ?", (word,)).fetchone()[0]))
        self._words[words] = found = tuple(ids)
        return found

    def _price_row(self, prices: Prices | None) -> int:
        if prices is self._last_prices[0]:  # handed over, calls share theirs; hashing them is slow
            return self._last_prices[1]
        known = self._prices.get(prices)
        if known is not None:
            self._last_prices = (prices, known)
            return known
        text = price_text(prices)
        sql = self._sql
        sql.execute("INSERT INTO price_rows (prices) VALUES (?) ON CONFLICT DO NOTHING", (text,))
        (found,) = sql.execute("SELECT id FROM price_rows WHERE prices = ?", (text,)).fetchone()
        self._prices[prices] = found
        return int(found)

    def _pair(self, pair: tuple[str, str, int]) -> tuple[int, int]:
        self._accounts[pair] = found = (self._account(pair[0], pair[2]), self._account(pair[1], pair[2]))
        return found

    def _account(self, code: str, book: int) -> int:
        sql, which = self._sql, (code, book)
        sql.execute("INSERT INTO ledger_accounts (code, book) VALUES (?, ?) ON CONFLICT DO NOTHING", which)
        (found,) = sql.execute("SELECT id FROM ledger_accounts WHERE code = ? AND book = ?", which).fetchone()
        return int(found)


def price_text(prices: Prices | None) -> str:
    """Return a price row as the books keep it: JSON, without the prices of units where there are none."""
    row = msgspec.to_builtins(prices)
    band = row
    while band is not None:
        if not band[10]:
            del band[10]
        band = band[9]
    return msgspec.json.encode(row).decode()


def more_text(usage: Usage) -> str:
    """Return the counts in other units as the books keep them."""
    if not usage.more:
        return ""
    sums: dict[str, int] = {}
    for name, count in usage.more:
        sums[name] = sums.get(name, 0) + count
    return msgspec.json.encode(sums, order="sorted").decode()


def _countable(item: Settled) -> Settled:
    """Return a call with no more tokens than the books can hold, so that it does not hold up all others."""
    usage = item.settle.usage
    absurd = {
        name: MOST_TOKENS
        for name in usage.__struct_fields__
        if name != "more" and getattr(usage, name) > MOST_TOKENS
    }
    if not absurd:
        return item
    usage = msgspec.structs.replace(usage, **absurd)
    return Settled(item.opens, msgspec.structs.replace(item.settle, usage=usage), item.recovered)


def _flags(opened: Open, *, estimated: bool, recovered: bool) -> int:
    flags = ESTIMATED if estimated else 0
    if opened.prices is None:
        flags |= UNPRICED
    if opened.streamed:
        flags |= STREAMED
    if opened.replay_of:
        flags |= REPLAY
    return flags | RECOVERED if recovered else flags


def _go_on() -> None:
    """Pause for nobody."""
