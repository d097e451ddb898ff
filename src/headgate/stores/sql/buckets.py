"""What was used, in buckets of time and groups of several kinds, as OpenAI's usage API asks for it.

Costs come from the hourly roll-ups where whole hours are asked for. Usage tells operations and parts of
tokens apart, which only the calls themselves do.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from headgate.records import BucketLine, BucketOrder
from headgate.stores.journal.tails import read_tails
from headgate.stores.sql.database import connect, folder_of
from headgate.stores.sql.ledger import HOUR_US
from headgate.stores.sql.selection import OPENED, Names, Some, span, undrained

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.stores.journal.cursor import Settled
    from headgate.stores.sql.connection import Connection
    from headgate.stores.sql.database import Place
    from headgate.values import WallMicros

_GROUPS: Final = ("project", "member", "key", "model")
_SUMS: Final = BucketLine.__struct_fields__[5:]
_CALLS: Final = (
    "SELECT opened_at / {width} * {width}, {groups}, count(*), sum(input), sum(output), sum(cached),"
    " sum(charge), sum(cache_write), sum(input_audio), sum(output_audio) FROM calls"
    f" WHERE {OPENED} AND {{operation}} AND {{some}} GROUP BY 1, 2, 3, 4, 5"
)
_HOURS: Final = (
    f"SELECT hour * {HOUR_US} / {{width}} * {{width}}, {{groups}}, sum(calls), sum(input), sum(output),"
    " sum(cached), sum(charge), 0, 0, 0 FROM usage_hours"
    " WHERE hour >= ? AND hour < ? AND {operation} AND {some} GROUP BY 1, 2, 3, 4, 5"
)
_HOUR_MEMBER: Final = "(SELECT member FROM keys WHERE id = key)"  # the roll-ups know it by its keys
_OPERATION: Final = "operation IN (SELECT id FROM names WHERE name IN ({marks}))"


def read_buckets(place: Place, order: BucketOrder) -> list[BucketLine]:
    """Return the sums by bucket and group, in the order of these."""
    tails = read_tails(folder_of(place))
    with closing(connect(place, read_only=True, wait="managing")) as sql:
        sql.execute("BEGIN")
        some, names = Some.of(sql, order), Names(sql)
        sums = _Buckets(order, some, names)
        for start, end, rolled in _parts(order):
            sums.read(sql, start, end, rolled=rolled)
        for item in undrained(sql, tails.settled, some):
            sums.add_call(item)
    return sums.lines()


def _parts(order: BucketOrder) -> list[tuple[WallMicros, WallMicros, bool]]:
    """Return the stretches of the window that are read alike, and whether from the roll-ups."""
    since, until = order.since, order.until
    low, high = -(-since // HOUR_US) * HOUR_US, until // HOUR_US * HOUR_US
    if order.operations or order.width_us % HOUR_US or low >= high:
        return [(since, until, False)]
    parts = [(since, low, False), (low, high, True), (high, until, False)]
    return [part for part in parts if part[0] < part[1]]


class _Buckets:
    """Sums by the beginning of a bucket and the names of a group."""

    def __init__(self, order: BucketOrder, some: Some, names: Names) -> None:
        self._order = order
        self._some = some
        self._names = names
        self._sums: dict[tuple[WallMicros, tuple[str, ...]], list[int]] = {}

    def read(self, sql: Connection, start: WallMicros, end: WallMicros, *, rolled: bool) -> None:
        """Add a stretch of the books."""
        groups, operations = self._order.groups, self._order.operations
        columns = [name if name in groups else "0" for name in _GROUPS]
        if rolled and "member" in groups:
            columns[_GROUPS.index("member")] = _HOUR_MEMBER
        one_of = _OPERATION.format(marks=", ".join("?" * len(operations))) if operations else "TRUE"
        question, values = self._some.narrowed("{some}", "" if rolled else "calls.")
        question = (_HOURS if rolled else _CALLS).format(
            width=self._order.width_us, groups=", ".join(columns), operation=one_of, some=question
        )
        window = (start // HOUR_US, end // HOUR_US) if rolled else span(start, end)
        for bucket, *numbers, calls, given, made, cached, charge, write, heard, said in sql.execute(
            question, (*window, *operations, *values)
        ):
            found = dict(zip(_GROUPS, numbers, strict=True))
            names = tuple(self._names.of(name, found[name]) for name in groups)
            self._add(bucket, names, (calls, given, made, cached, charge, write, heard, said))

    def add_call(self, item: Settled) -> None:
        """Add a call of a journal."""
        last, usage, order = item.opens[-1], item.settle.usage, self._order
        if order.operations and last.operation not in order.operations:
            return
        # A model by name: the books may not have it yet.
        names = tuple(
            last.model if name == "model" else self._names.of(name, getattr(last, name))
            for name in order.groups
        )
        sums = (
            1, usage.input_tokens, usage.output_tokens, usage.cached_tokens, item.settle.charge,
            usage.cache_write_tokens, usage.input_audio_tokens, usage.output_audio_tokens,
        )  # fmt: skip
        at = item.opens[0].at
        self._add(at - at % order.width_us, names, sums)

    def _add(self, bucket: WallMicros, names: tuple[str, ...], sums: Iterable[int]) -> None:
        line = self._sums.setdefault((bucket, names), [0] * len(_SUMS))
        for index, amount in enumerate(sums):
            line[index] += amount

    def lines(self) -> list[BucketLine]:
        """Return the sums in order."""
        return [self._line(bucket, names) for bucket, names in sorted(self._sums)]

    def _line(self, bucket: WallMicros, names: tuple[str, ...]) -> BucketLine:
        members: dict[str, Any] = dict(zip(self._order.groups, names, strict=True))
        members |= zip(_SUMS, self._sums[bucket, names], strict=True)
        return BucketLine(at=bucket, **members)
