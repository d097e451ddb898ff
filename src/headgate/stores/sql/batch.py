"""What one transaction of the books writes: rows that wait to be inserted, and what is added up."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

from headgate.stores.sql.series import CALLS, ENTRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headgate.ports import Settle
    from headgate.stores.sql.connection import Form
    from headgate.stores.sql.series import Series
    from headgate.values import NanoUSD

    Insert: TypeAlias = Callable[[str, Sequence[tuple[Any, ...]], Form | None], object]


class Batch:
    """What one transaction adds up."""

    __slots__ = (
        "calls", "entries", "hours", "lost", "moved", "plain_calls", "plain_entries", "seq", "series", "uses",
    )  # fmt: skip

    def __init__(self, seq: dict[int, int]) -> None:
        self.seq: defaultdict[int, int] = defaultdict(int, seq)  # the last number of each book
        self.calls: list[tuple[Any, ...]] = []  # rows that wait to be inserted
        self.entries: list[tuple[Any, ...]] = []
        self.plain_calls: list[tuple[Any, ...]] = []  # and what those of series are made of
        self.plain_entries: list[tuple[Any, ...]] = []
        self.lost: list[tuple[Any, ...]] = []
        self.series: list[Series] = []  # that have calls in it
        self.moved: dict[tuple[int, int], int] = {}  # by debit and credit account
        self.hours: defaultdict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
        self.uses: dict[int, int] = {}  # when each key made its last call

    def add_hour(self, key: tuple[int, ...], settle: Settle, cost: NanoUSD) -> None:
        """Add a call to the line of an hour."""
        usage = settle.usage
        line = (
            1, settle.status >= 400, settle.estimated, usage.input_tokens, usage.output_tokens,
            usage.cached_tokens, settle.charge, cost,
        )  # fmt: skip
        self.hours[key].append(line)

    def add_series(self, calls: Series) -> None:
        """Add what a series has."""
        self.hours[calls.hour].append(calls.sums)
        for sides, amount in ((calls.settlement, calls.charge), (calls.provider_cost, calls.cost)):
            self.moved[sides] = self.moved.get(sides, 0) + amount
        key = calls.opened.key
        self.uses[key] = max(calls.used, self.uses.get(key, 0))

    def insert(self, insert: Insert, least: int) -> None:
        """Insert the rows of each kind of which so many wait; their order does not matter."""
        for table, rows, form in (
            ("calls", self.plain_calls, CALLS),
            ("entries", self.plain_entries, ENTRIES),
            ("calls", self.calls, None),
            ("entries", self.entries, None),
        ):
            if len(rows) >= least:
                insert(table, rows, form)
                rows.clear()

    def sums(self) -> Iterable[tuple[int, ...]]:
        """Return the rows of the roll-up."""
        return ((*key, *map(sum, zip(*lines, strict=True))) for key, lines in self.hours.items())

    def balances(self) -> list[tuple[int, int, int]]:
        """Return what each account is debited and credited."""
        return [
            side
            for (debit, credit), amount in self.moved.items()
            for side in ((debit, amount, 0), (credit, 0, amount))
        ]
