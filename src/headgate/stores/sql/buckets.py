"""What was used, in buckets of time and groups of several kinds, as OpenAI's usage API asks for it.

Costs come from the sums of days and hours where whole ones are asked for. Usage tells operations and parts
of tokens apart, which only the calls themselves do.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from headgate.records import BucketLine, BucketOrder
from headgate.stores.journal.tails import read_tails
from headgate.stores.sql.database import connect, folder_of
from headgate.stores.sql.selection import OPENED, Names, Some, span, undrained
from headgate.stores.sql.series import HOUR_US
from headgate.stores.sql.stretches import Stretch, clip, stretches

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
    " sum(charge), sum(cache_write), sum(input_audio), sum(output_audio) FROM calls c"
    f" WHERE {OPENED} AND {{operation}} AND {{some}} GROUP BY 1, 2, 3, 4, 5"
)
_ROLLED: Final = (
    "SELECT {unit} * {width_us} / {width} * {width}, {groups}, sum(calls), sum(input), sum(output),"
    " sum(cached), sum(charge), 0, 0, 0 FROM {table}"
    " WHERE {unit} >= ? AND {unit} < ? AND {operation} AND {some} GROUP BY 1, 2, 3, 4, 5"
)
_DROPPED: Final = (
    f"SELECT hour * {HOUR_US} / {{width}} * {{width}}, {{groups}}, sum(calls), sum(input), sum(output),"
    " sum(cached), sum(charge), sum(cache_write), sum(input_audio), sum(output_audio) FROM dropped_hours c"
    " WHERE hour >= ? AND hour < ? AND {operation} AND {some} GROUP BY 1, 2, 3, 4, 5"
)
_ROLLED_MEMBER: Final = "(SELECT member FROM keys WHERE id = key)"  # the roll-ups know it by its keys
_OPERATION: Final = "operation IN (SELECT id FROM names WHERE name IN ({marks}))"


def read_buckets(place: Place, order: BucketOrder) -> list[BucketLine]:
    """Return the sums by bucket and group, in the order of these."""
    tails = read_tails(folder_of(place))
    with closing(connect(place, read_only=True, wait="managing")) as sql:
        sql.execute("BEGIN")
        some, names = Some.of(sql, order), Names(sql)
        sums = _Buckets(order, some, names)
        for stretch in _parts(order, *clip(sql, order.since, order.until)):
            sums.read(sql, stretch)
        for item in undrained(sql, tails.settled, some):
            sums.add_call(item)
    return sums.lines()


def _parts(order: BucketOrder, start: WallMicros, end: WallMicros) -> list[Stretch]:
    """Return what the window, as far as there are calls, is read from."""
    if order.operations:
        return [Stretch(None, start, end)]
    return stretches(start, end, lambda at: at // order.width_us)


class _Buckets:
    """Sums by the beginning of a bucket and the names of a group."""

    def __init__(self, order: BucketOrder, some: Some, names: Names) -> None:
        self._order = order
        self._some = some
        self._names = names
        self._sums: dict[tuple[WallMicros, tuple[str, ...]], list[int]] = {}

    def read(self, sql: Connection, stretch: Stretch) -> None:
        """Add a stretch of the books."""
        groups, operations, rolls = self._order.groups, self._order.operations, stretch.rolls
        columns = [name if name in groups else "0" for name in _GROUPS]
        if rolls is not None and "member" in groups:
            columns[_GROUPS.index("member")] = _ROLLED_MEMBER
        one_of = _OPERATION.format(marks=", ".join("?" * len(operations))) if operations else "TRUE"
        some, values = self._some.narrowed("{some}", "c." if rolls is None else "")
        words = {
            "width": self._order.width_us,
            "groups": ", ".join(columns),
            "operation": one_of,
            "some": some,
        }
        if rolls is None:
            window = span(stretch.start, stretch.end)
            self._add_rows(sql.execute(_CALLS.format(**words), (*window, *operations, *values)))
            self._add_rows(sql.execute(_DROPPED.format(**words), (*stretch.begun, *operations, *values)))
        else:
            question = _ROLLED.format(**words, **rolls._asdict())
            self._add_rows(sql.execute(question, (*stretch.units, *operations, *values)))

    def _add_rows(self, rows: Iterable[Any]) -> None:
        groups = self._order.groups
        for bucket, *numbers, calls, given, made, cached, charge, write, heard, said in rows:
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
