"""What was used and what it cost: from SQL and the journals' tails, the server running or dead.

Exact at any moment: the journals are read first, then SQL in one snapshot, and a call that is in both
counts once. Sums come from the hourly roll-ups, and from the calls themselves where an hour is cut by
the window or by a midnight of the time zone.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from headgate.money.periods import zone
from headgate.stores.journal.tails import read_tails
from headgate.stores.sql.database import connect
from headgate.stores.sql.ledger import ESTIMATED, HOUR_US, RECOVERED
from headgate.values import Book, NanoUSD, WallMicros

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from datetime import tzinfo
    from pathlib import Path

    from headgate.stores.journal.cursor import Settled

Group = Literal["day", "model", "key", "provider", "book"]
GROUPS: Final[tuple[Group, ...]] = ("day", "model", "key", "provider", "book")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Window(msgspec.Struct, frozen=True):
    """Which calls: opened at `since` or later and before `until` (0: no bound), in one book or all."""

    since: WallMicros = 0
    until: WallMicros = 0
    book: Book | None = None
    tz: str = "UTC"  # of the days

    def holds(self, at: WallMicros, book: int) -> bool:
        """Say whether a call is in it."""
        return (
            at >= self.since
            and (not self.until or at < self.until)
            and (self.book is None or book == self.book)
        )


class CallLine(msgspec.Struct, frozen=True):
    """One settled call."""

    request_id: str
    opened_at: str
    book: str
    key: str  # its public id; empty when it is gone
    provider: str
    model: str  # as the caller named it
    operation: str
    status: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nano_usd: NanoUSD
    estimated: bool
    recovered: bool
    duration_us: int


class UsageLine(msgspec.Struct):
    """The sum of the calls of one group."""

    name: str
    calls: int = 0
    failed: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nano_usd: NanoUSD = 0

    def add(self, sums: Iterable[int]) -> None:
        """Add the sums of some calls, in the order of the members."""
        for name, amount in zip(self.__struct_fields__[1:], sums, strict=True):
            setattr(self, name, getattr(self, name) + amount)


# ── calls one by one ─────────────────────────────────────────────────────────────────────────────

_CALLS = (
    "SELECT c.call, c.opened_at, c.book, coalesce(k.public_id, ''), p.name, m.name, o.name, c.status,"
    " c.input, c.output, c.cached, c.charge, c.flags, c.duration_us FROM calls c"
    " JOIN names p ON p.id = c.provider JOIN names m ON m.id = c.model JOIN names o ON o.id = c.operation"
    " LEFT JOIN keys k ON k.id = c.key ORDER BY c.call"
)


def calls(data: Path, window: Window) -> Iterator[CallLine]:
    """Yield each settled call once; those that are not in SQL yet come last.

    Raises:
        sqlite3.Error: there is no database, or it cannot be read.
    """
    tails = read_tails(data)
    with closing(connect(data, read_only=True)) as sql:
        sql.execute("BEGIN")
        keys = dict(sql.execute("SELECT id, public_id FROM keys").fetchall())
        for row in sql.execute(_CALLS):
            if window.holds(row[1], row[2]):
                yield _line(row)
        for item in _undrained(sql, tails.settled, window):
            first, last, settle = item.opens[0], item.opens[-1], item.settle
            usage = settle.usage
            yield _line(
                (
                    settle.call, first.at, int(last.book), keys.get(last.key, ""), last.provider, last.model,
                    last.operation, settle.status, usage.input_tokens, usage.output_tokens,
                    usage.cached_tokens, settle.charge, ESTIMATED * settle.estimated, settle.duration_us,
                )
            )  # fmt: skip


def _line(row: tuple[Any, ...]) -> CallLine:
    call, at, book, key, provider, model, operation, status, given, made, cached, charge, flags, took = row
    return CallLine(
        request_id="req_" + call.hex(),
        opened_at=_instant(at).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        book=Book(book).label,
        key=key,
        provider=provider,
        model=model,
        operation=operation,
        status=status,
        input_tokens=given,
        output_tokens=made,
        cached_tokens=cached,
        cost_nano_usd=charge,
        estimated=bool(flags & ESTIMATED),
        recovered=bool(flags & RECOVERED),
        duration_us=took,
    )


def _undrained(sql: sqlite3.Connection, settled: list[Settled], window: Window) -> Iterator[Settled]:
    """Yield the calls of the journals that the snapshot does not have, each once."""
    seen = set()
    for item in settled:
        call = item.settle.call
        if call in seen or not window.holds(item.opens[0].at, item.opens[0].book):
            continue
        seen.add(call)
        if sql.execute("SELECT 1 FROM calls WHERE call = ?", (call,)).fetchone() is None:
            yield item


# ── sums ─────────────────────────────────────────────────────────────────────────────────────────

_KEYED = "SELECT {at}, book, key, model, provider, {sums} FROM {table} WHERE {where} GROUP BY 1, 2, 3, 4, 5"
_WHOLE = _KEYED.format(
    at="hour",
    sums="sum(calls), sum(failed), sum(estimated), sum(input), sum(output), sum(cached), sum(charge)",
    table="usage_hours",
    where="hour = ?",
)
_PART = _KEYED.format(
    at="opened_at",
    sums="count(*), sum(status >= 400), sum(flags & 1), sum(input), sum(output), sum(cached), sum(charge)",
    table="calls",
    where="call >= ? AND call < ? AND opened_at >= ? AND opened_at < ?",
)


def usage(data: Path, by: Group, window: Window) -> list[UsageLine]:
    """Return sums by group, in the order of their names.

    Raises:
        ValueError: no such time zone.
        sqlite3.Error: there is no database, or it cannot be read.
    """
    tails = read_tails(data)
    sums = _Sums(by, window)
    with closing(connect(data, read_only=True)) as sql:
        sql.execute("BEGIN")
        sums.learn(sql)
        for (hour,) in sql.execute("SELECT DISTINCT hour FROM usage_hours").fetchall():
            sums.add_hour(sql, hour)
        for item in _undrained(sql, tails.settled, window):
            sums.add_call(item)
    return sums.lines()


class _Sums:
    """Sums of calls by one kind of group."""

    def __init__(self, by: Group, window: Window) -> None:
        self._by = by
        self._window = window
        self._zone = zone(window.tz)
        self._names: dict[int, str] = {}
        self._keys: dict[int, str] = {}
        self._lines: dict[str, UsageLine] = {}

    def learn(self, sql: sqlite3.Connection) -> None:
        """Read the dictionaries."""
        self._names = dict(sql.execute("SELECT id, name FROM names").fetchall())
        self._keys = dict(sql.execute("SELECT id, public_id FROM keys").fetchall())

    def add_hour(self, sql: sqlite3.Connection, hour: int) -> None:
        """Add an hour of the books: by its roll-up if it lies in the window and in one day."""
        window, start, end = self._window, hour * HOUR_US, (hour + 1) * HOUR_US
        if end <= window.since or (window.until and start >= window.until):
            return
        inside = window.since <= start and (not window.until or end <= window.until)
        if inside and (self._by != "day" or _day(start, self._zone) == _day(end - 1, self._zone)):
            rows = sql.execute(_WHOLE, (hour,)).fetchall()
            rows = [(start, *row[1:]) for row in rows]
        else:
            # An id is made before its OPEN, or after it where the wall clock was set back.
            low, high = ((at // 1000).to_bytes(6) + bytes(10) for at in (start - HOUR_US, end + HOUR_US))
            rows = sql.execute(_PART, (low, high, start, end)).fetchall()
        for at, book, key, model, provider, *sums in rows:
            if window.holds(at, book):
                names = (self._keys.get(key, ""), self._names[model], self._names[provider])
                self._line(at, book, names).add(sums)

    def add_call(self, item: Settled) -> None:
        """Add a call of a journal."""
        last, settle = item.opens[-1], item.settle
        names = (self._keys.get(last.key, ""), last.model, last.provider)
        self._line(item.opens[0].at, last.book, names).add(
            (
                1, settle.status >= 400, settle.estimated, settle.usage.input_tokens,
                settle.usage.output_tokens, settle.usage.cached_tokens, settle.charge,
            )
        )  # fmt: skip

    def _line(self, at: WallMicros, book: int, names: tuple[str, str, str]) -> UsageLine:
        if self._by == "day":
            name = _day(at, self._zone)
        elif self._by == "book":
            name = Book(book).label
        else:
            name = names[("key", "model", "provider").index(self._by)]
        return self._lines.setdefault(name, UsageLine(name))

    def lines(self) -> list[UsageLine]:
        """Return the sums in the order of their names."""
        return [self._lines[name] for name in sorted(self._lines)]


def _instant(at: WallMicros) -> datetime:
    return _EPOCH + timedelta(microseconds=at)


def _day(at: WallMicros, where: tzinfo) -> str:
    return _instant(at).astimezone(where).date().isoformat()
