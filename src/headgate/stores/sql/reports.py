"""What was used and what it cost: from SQL and the journals' tails, the server running or dead.

Exact at any moment: the journals are read first, then SQL in one snapshot, and a call that is in both
counts once. Sums come from those of days and of hours, and from the calls themselves where an hour is cut
by the window or by a midnight of the time zone.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.money.periods import zone
from headgate.records import CallLine, UsageLine, UsageOrder
from headgate.stores.journal.tails import read_tails
from headgate.stores.sql.buckets import read_buckets
from headgate.stores.sql.database import connect, folder_of
from headgate.stores.sql.ledger import ESTIMATED, RECOVERED, REPLAY, more_text
from headgate.stores.sql.selection import OPENED, Names, Some, span, undrained
from headgate.stores.sql.series import HOUR_US
from headgate.stores.sql.stretches import Stretch, clip, stretches
from headgate.values import Book, WallMicros

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headgate.records import BucketLine, BucketOrder
    from headgate.stores.journal.cursor import Settled
    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.database import Place
    from headgate.stores.sql.stretches import Rolls

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SUMS: Final = UsageLine.__struct_fields__[1:-1]


class SqlReports:
    """The books, for reading. Implements `ops.usage.Reports`.

    Raises:
        sqlite3.Error: from any method: there is no database, or it cannot be read.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def books(self, order: UsageOrder) -> frozenset[Book]:
        """Return the books in which there are calls of some things, whenever they were."""
        ever = msgspec.structs.replace(order, by="book", since=0, until=0, book=None)
        named = {line.name for line in self.sums(ever)}
        return frozenset(book for book in Book if book.label in named)

    def calls(self, order: UsageOrder) -> Iterator[CallLine]:
        """Yield each settled call once, in order of time; those that are not in SQL yet come last."""
        tails = read_tails(folder_of(self._place))
        with closing(connect(self._place, read_only=True, wait="managing")) as sql:
            sql.execute("BEGIN")
            some, names = Some.of(sql, order), Names(sql)
            question, values = some.narrowed(_CALLS, "c.")
            for row in sql.scan(question, values):
                if some.holds(row[1], row[2]):
                    yield _line(row)
            for item in undrained(sql, tails.settled, some):
                yield _line(_row(item, names))

    def sums(self, order: UsageOrder) -> list[UsageLine]:
        """Return the sums by group, in the order of their names.

        Raises:
            ValueError: no such time zone.
        """
        tails = read_tails(folder_of(self._place))
        with closing(connect(self._place, read_only=True, wait="managing")) as sql:
            sql.execute("BEGIN")
            some = Some.of(sql, order)
            sums = _Sums(some, Names(sql))
            sums.add_books(sql)
            sums.add_units(sql)
            for item in undrained(sql, tails.settled, some):
                sums.add_call(item)
        return sums.lines()

    def buckets(self, order: BucketOrder) -> list[BucketLine]:
        """Return the sums by bucket and group, in the order of these."""
        return read_buckets(self._place, order)

    def place(self, kind: str, ref: str) -> tuple[str, str] | None:
        """Return where a project, a member or a key is: the public ids of its account and its project."""
        with closing(connect(self._place, read_only=True, wait="managing")) as sql:
            row = sql.execute(_PLACES[kind], (ref,)).fetchone()
        return None if row is None else (row[0], row[1])


_PLACES: Final = {
    "project": "SELECT a.public_id, p.public_id FROM projects p JOIN accounts a ON a.id = p.account"
    " WHERE p.public_id = ?",
    "member": "SELECT a.public_id, coalesce(p.public_id, '') FROM members m"
    " JOIN accounts a ON a.id = m.account LEFT JOIN projects p ON p.id = m.project WHERE m.public_id = ?",
    "key": "SELECT a.public_id, p.public_id FROM keys k JOIN projects p ON p.id = k.project"
    " JOIN accounts a ON a.id = p.account WHERE k.public_id = ?",
}


# ── calls one by one ─────────────────────────────────────────────────────────────────────────────

_CALLS: Final = (
    "SELECT c.call, c.opened_at, c.book, coalesce(a.public_id, ''), coalesce(j.public_id, ''),"
    " coalesce(u.public_id, ''), coalesce(k.public_id, ''), p.name, m.name, o.name, c.status,"
    " c.input, c.output, c.cached, c.charge, c.flags, c.duration_us, c.more, c.parent"
    " FROM calls c"
    " JOIN names p ON p.id = c.provider JOIN names m ON m.id = c.model JOIN names o ON o.id = c.operation"
    " LEFT JOIN accounts a ON a.id = c.account LEFT JOIN projects j ON j.id = c.project"
    " LEFT JOIN members u ON u.id = c.member LEFT JOIN keys k ON k.id = c.key"
    " WHERE {some} ORDER BY c.call"
)


def _row(item: Settled, names: Names) -> tuple[Any, ...]:
    """Return a call of a journal as SQL would have it."""
    first, last, settle = item.opens[0], item.served, item.settle
    usage = settle.usage
    return (
        settle.call, first.at, int(last.book),
        *(names.of(kind, getattr(last, kind)) for kind in ("account", "project", "member", "key")),
        last.provider, last.model, last.operation, settle.status, usage.input_tokens, usage.output_tokens,
        usage.cached_tokens, settle.charge, ESTIMATED * settle.estimated | REPLAY * bool(last.replay_of),
        settle.duration_us, more_text(usage), last.parent or bytes.fromhex(last.replay_of),
    )  # fmt: skip


def _units(more: str) -> dict[str, int]:
    return msgspec.json.decode(more, type=dict[str, int]) if more else {}


def _line(row: tuple[Any, ...]) -> CallLine:
    call, at, book, account, project, member, key, provider, model, operation, status, *rest = row
    given, made, cached, charge, flags, took, more, parent = rest
    return CallLine(
        request_id="req_" + call.hex(),
        opened_at=_instant(at).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        book=Book(book).label,
        account=account,
        project=project,
        member=member,
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
        units=_units(more),
        parent="req_" + parent.hex() if parent and not flags & REPLAY else "",
        replay_of="req_" + parent.hex() if parent and flags & REPLAY else "",
    )


# ── sums ─────────────────────────────────────────────────────────────────────────────────────────

_PLACED: Final = ("account", "project", "key", "model", "provider")
# Whole days and hours are summed by what is asked for alone: so a year of them is one pass over their sums.
_WHOLE: Final = (
    "SELECT {at}, book, {columns}, sum(calls), sum(failed), sum(estimated), sum(input), sum(output),"
    " sum(cached), sum(charge) FROM {table} WHERE {unit} >= ? AND {unit} < ? AND {{some}} GROUP BY {group}"
)
_PART: Final = (
    "SELECT opened_at, book, account, project, key, model, provider, count(*),"
    " sum(CASE WHEN status >= 400 THEN 1 ELSE 0 END), sum(flags & 1), sum(input), sum(output), sum(cached),"
    f" sum(charge) FROM calls WHERE {OPENED} AND {{some}} GROUP BY 1, 2, 3, 4, 5, 6, 7"
)


# Of calls that were dropped whole hours are left, which count where they begin.
_DROPPED: Final = (
    f"SELECT hour * {HOUR_US}, book, account, project, key, model, provider, sum(calls), sum(failed),"
    " sum(estimated), sum(input), sum(output), sum(cached), sum(charge) FROM dropped_hours"
    " WHERE hour >= ? AND hour < ? AND {some} GROUP BY 1, 2, 3, 4, 5, 6, 7"
)


def _whole(by: str, rolls: Rolls) -> str:
    """Return the question about whole days or hours for one kind of group."""
    column = "key" if by == "member" else by  # the roll-ups know a member by its keys
    columns = ", ".join(name if name == column else "0" for name in _PLACED)
    if by in {"day", "hour"}:
        at, group = rolls.unit, f"{rolls.unit}, book"
    else:
        at, group = f"min({rolls.unit})", f"book, {column}" if column in _PLACED else "book"
    return _WHOLE.format(at=at, columns=columns, table=rolls.table, unit=rolls.unit, group=group)


_MORE: Final = (
    "SELECT opened_at, book, account, project, key, model, provider, more FROM calls c"
    " WHERE more <> '' AND opened_at >= ? AND opened_at < ? AND {some}"
)
_DROPPED_MORE: Final = (
    f"SELECT hour * {HOUR_US}, book, account, project, key, model, provider, unit, used FROM dropped_units c"
    " WHERE hour >= ? AND hour < ? AND {some}"
)


class _Sums:
    """Sums of calls by one kind of group."""

    def __init__(self, some: Some, names: Names) -> None:
        self._some = some
        self._by = some.order.by
        self._zone = zone(some.order.tz)
        self._names = names
        self._lines: dict[str, list[int]] = {}
        self._units: dict[str, dict[str, int]] = {}

    def add_books(self, sql: Connection) -> None:
        """Add what the books have."""
        order = self._some.order
        for stretch in stretches(*clip(sql, order.since, order.until), self._name_of):
            self._add_stretch(sql, stretch)

    def _add_stretch(self, sql: Connection, stretch: Stretch) -> None:
        rolls = stretch.rolls
        if rolls is None:
            question, values = self._some.narrowed(_PART)
            self._add_rows(sql.execute(question, (*span(stretch.start, stretch.end), *values)).fetchall())
            question, values = self._some.narrowed(_DROPPED)
            self._add_rows(sql.execute(question, (*stretch.begun, *values)).fetchall())
        else:
            question, values = self._some.narrowed(_whole(self._by, rolls))
            rows = sql.execute(question, (*stretch.units, *values))
            self._add_rows([(row[0] * rolls.width_us, *row[1:]) for row in rows])

    def _add_rows(self, rows: Iterable[Sequence[Any]]) -> None:
        for at, book, account, project, key, model, provider, *sums in rows:
            if self._some.holds(at, book):
                self._add(self._name(at, book, _numbers(account, project, key, model, provider)), sums)

    def add_units(self, sql: Connection) -> None:
        """Add what calls of the books used in other units than tokens, of which there are no roll-ups."""
        order = self._some.order
        question, values = self._some.narrowed(_MORE, "c.")
        window = Stretch(None, order.since, order.until or 2**62)
        for at, book, *places, more in sql.execute(question, (window.start, window.end, *values)):
            self._add_units(self._name(at, book, _numbers(*places)), _units(more))
        question, values = self._some.narrowed(_DROPPED_MORE, "c.")
        for at, book, *places, unit, used in sql.execute(question, (*window.begun, *values)):
            self._add_units(self._name(at, book, _numbers(*places)), {unit: used})

    def add_call(self, item: Settled) -> None:
        """Add a call of a journal."""
        last, settle = item.served, item.settle
        if self._by in {"model", "provider"}:  # by name: the books may not have them yet
            name = str(getattr(last, self._by))
        else:
            numbers = {"account": last.account, "project": last.project, "key": last.key}
            name = self._name(item.opens[0].at, last.book, numbers)
        if settle.usage.more:
            self._add_units(name, _units(more_text(settle.usage)))
        self._add(
            name,
            (
                1, settle.status >= 400, settle.estimated, settle.usage.input_tokens,
                settle.usage.output_tokens, settle.usage.cached_tokens, settle.charge,
            ),
        )  # fmt: skip

    def _name(self, at: WallMicros, book: int, numbers: dict[str, int]) -> str:
        """Return the group that a call is in."""
        if self._by in {"day", "hour"}:
            return self._name_of(at)
        if self._by == "book":
            return Book(book).label
        if self._by == "member":  # the roll-ups know it by its keys
            return self._names.of("key's member", numbers["key"])
        return self._names.of(self._by, numbers[self._by])

    def _name_of(self, at: WallMicros) -> str:
        """Return the day or the hour of an instant, where the order asks for these."""
        if self._by not in {"day", "hour"}:
            return ""
        there = _instant(at).astimezone(self._zone)
        if self._by == "day":
            return there.date().isoformat()
        return there.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")

    def _add(self, name: str, sums: Iterable[int]) -> None:
        line = self._lines.setdefault(name, [0] * len(_SUMS))
        for index, amount in enumerate(sums):
            line[index] += amount

    def _add_units(self, name: str, units: dict[str, int]) -> None:
        line = self._units.setdefault(name, {})
        for unit, count in units.items():
            line[unit] = line.get(unit, 0) + count

    def lines(self) -> list[UsageLine]:
        """Return the sums in the order of their names."""
        return [
            UsageLine(
                name=name,
                units=self._units.get(name, {}),
                **dict(zip(_SUMS, self._lines[name], strict=True)),
            )
            for name in sorted(self._lines)
        ]


def _numbers(account: int, project: int, key: int, model: int, provider: int) -> dict[str, int]:
    return {"account": account, "project": project, "key": key, "model": model, "provider": provider}


def _instant(at: WallMicros) -> datetime:
    return _EPOCH + timedelta(microseconds=at)
