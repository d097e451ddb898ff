"""Counters in plain slots; `prometheus.py` exports them. Labels come from closed sets only."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.errors import GatewayError
    from headgate.ports import Open, Settle

# seconds; the last bucket is open
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_BUCKETS_US = tuple(round(bucket * 1_000_000) for bucket in BUCKETS_S)
_AT_ONCE: Final = 512  # calls that are added up together, where nobody asks before
MAX_SERIES = 2_000  # models are named by callers; beyond this they are counted as "other"

Label = tuple[str, str, str, str, int]  # operation, provider, model, book, status


class Series:
    """The counters of one label set."""

    __slots__ = (
        "cached_tokens",
        "calls",
        "charge_nano",
        "cost_nano",
        "duration_us",
        "durations",
        "estimated",
        "first_byte_us",
        "input_tokens",
        "output_tokens",
    )

    def __init__(self) -> None:
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cached_tokens = 0
        self.charge_nano = 0
        self.cost_nano = 0
        self.estimated = 0
        self.first_byte_us = 0
        self.duration_us = 0
        self.durations = [0] * (len(BUCKETS_S) + 1)

    def add(self, settled: Sequence[Settle]) -> None:
        """Count settled calls."""
        given = made = cached = charged = cost = waited = lasted = estimated = 0
        buckets = self.durations
        for each in settled:  # faster than a sum of each field
            usage, costs, duration = each.usage, each.costs, each.duration_us
            given += usage.input_tokens
            made += usage.output_tokens
            cached += usage.cached_tokens
            charged += each.charge
            cost += costs[0] if len(costs) == 1 else sum(costs)
            waited += each.first_byte_us
            lasted += duration
            buckets[bisect_left(_BUCKETS_US, duration)] += 1
            if each.estimated:
                estimated += 1
        self.calls += len(settled)
        self.input_tokens += given
        self.output_tokens += made
        self.cached_tokens += cached
        self.charge_nano += charged
        self.cost_nano += cost
        self.first_byte_us += waited
        self.duration_us += lasted
        self.estimated += estimated


class Metrics:
    """Count calls. Implements `ports.Observer`."""

    __slots__ = ("_absorbed_nano", "_recent", "_series", "counts", "refusals")

    def __init__(self) -> None:
        self._series: dict[Label, Series] = {}
        self._recent: list[tuple[Open, Settle]] = []  # not in the series yet
        self.refusals: dict[tuple[str, int, str], int] = {}
        self._absorbed_nano = 0
        self.counts: dict[tuple[str, tuple[str, ...]], int] = {}  # of other things, by name and labels

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Count more of what `prometheus.COUNTS` names; labels come from the settings."""
        self.counts[name, labels] = self.counts.get((name, labels), 0) + by

    def refused(self, operation: str, error: GatewayError, times: int = 1) -> None:
        """Count calls that were refused before any attempt."""
        label = (operation, error.http_status, error.code or error.error_type)
        self.refusals[label] = self.refusals.get(label, 0) + times

    def settled(self, opened: Open, settled: Settle) -> None:
        """Count a settled call."""
        recent = self._recent
        recent.append((opened, settled))
        if len(recent) >= _AT_ONCE:
            self._add_up()

    @property
    def series(self) -> dict[Label, Series]:
        """Return the counters of the settled calls."""
        self._add_up()
        return self._series

    @property
    def absorbed_nano(self) -> int:
        """Return what was above the holds of the settled calls."""
        self._add_up()
        return self._absorbed_nano

    @absorbed_nano.setter
    def absorbed_nano(self, nano: int) -> None:
        self._absorbed_nano = nano

    def _add_up(self) -> None:
        recent, self._recent = self._recent, []
        groups: defaultdict[tuple[str, str, str, int, int], list[Settle]] = defaultdict(list)
        absorbed = 0
        for opened, settled in recent:
            kind = (opened.operation, opened.provider, opened.upstream_model, opened.book, settled.status)
            groups[kind].append(settled)
            absorbed += settled.absorbed
        self._absorbed_nano += absorbed
        for (operation, provider, model, book, status), group in groups.items():
            label = (operation, provider, model, "sim" if book else "real", status)
            (self._series.get(label) or self._new(label)).add(group)

    def _new(self, label: Label) -> Series:
        if len(self._series) >= MAX_SERIES:
            operation, provider, _, book, status = label
            label = (operation, provider, "other", book, status)
        return self._series.setdefault(label, Series())

    def calls(self, book: Book = Book.REAL) -> int:
        """Return how many calls of a book were settled."""
        name = book.label
        return sum(series.calls for label, series in self.series.items() if label[3] == name)
