"""Counters in plain slots; `prometheus.py` exports them. Labels come from closed sets only."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from headgate.values import Book

if TYPE_CHECKING:
    from headgate.errors import GatewayError
    from headgate.ports import Open, Settle

# seconds; the last bucket is open
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_BUCKETS_US = tuple(round(bucket * 1_000_000) for bucket in BUCKETS_S)
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


class Metrics:
    """Count calls. Implements `ports.Observer`."""

    __slots__ = ("absorbed_nano", "counts", "refusals", "series")

    def __init__(self) -> None:
        self.series: dict[Label, Series] = {}
        self.refusals: dict[tuple[str, int, str], int] = {}
        self.absorbed_nano = 0
        self.counts: dict[tuple[str, tuple[str, ...]], int] = {}  # of other things, by name and labels

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Count more of what `prometheus.COUNTS` names; labels come from the settings."""
        self.counts[name, labels] = self.counts.get((name, labels), 0) + by

    def refused(self, operation: str, error: GatewayError) -> None:
        """Count a call that was refused before any attempt."""
        label = (operation, error.http_status, error.code or error.error_type)
        self.refusals[label] = self.refusals.get(label, 0) + 1

    def settled(self, opened: Open, settled: Settle) -> None:
        """Count a settled call."""
        book = "sim" if opened.book else "real"
        label = (opened.operation, opened.provider, opened.upstream_model, book, settled.status)
        series = self.series.get(label)
        if series is None:
            series = self._new(label)
        usage = settled.usage
        series.calls += 1
        series.input_tokens += usage.input_tokens
        series.output_tokens += usage.output_tokens
        series.cached_tokens += usage.cached_tokens
        series.charge_nano += settled.charge
        series.cost_nano += sum(settled.costs)
        series.first_byte_us += settled.first_byte_us
        series.duration_us += settled.duration_us
        series.durations[bisect_left(_BUCKETS_US, settled.duration_us)] += 1
        if settled.estimated:
            series.estimated += 1
        self.absorbed_nano += settled.absorbed

    def _new(self, label: Label) -> Series:
        if len(self.series) >= MAX_SERIES:
            operation, provider, _, book, status = label
            label = (operation, provider, "other", book, status)
        return self.series.setdefault(label, Series())

    def calls(self, book: Book = Book.REAL) -> int:
        """Return how many calls of a book were settled."""
        name = book.label
        return sum(series.calls for label, series in self.series.items() if label[3] == name)
