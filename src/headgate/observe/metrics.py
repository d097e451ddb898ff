"""Counters in plain slots; `prometheus.py` exports them. Labels come from closed sets only."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.errors import GatewayError
    from headgate.ports import Open, Settle

# seconds; the last bucket is open
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_BUCKETS_US = tuple(round(bucket * 1_000_000) for bucket in BUCKETS_S)
_BUCKET = partial(bisect_left, _BUCKETS_US)  # of a duration
_AT_ONCE: Final = 512  # calls that are added up together, where nobody asks before
_COUNTED = attrgetter(
    "usage.input_tokens", "usage.output_tokens", "usage.cached_tokens", "charge", "costs", "first_byte_us",
    "duration_us", "estimated",
)  # fmt: skip
_OPENED = attrgetter("operation", "provider", "upstream_model", "book._value_")
_STATUS, _ABSORBED = attrgetter("status"), attrgetter("absorbed")
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

    def add(self, settled: Iterable[Settle]) -> None:
        """Count settled calls."""
        given, made, cached, charges, costs, waited, durations, estimated = zip(
            *map(_COUNTED, settled), strict=True
        )
        self.calls += len(given)
        self.input_tokens += sum(given)
        self.output_tokens += sum(made)
        self.cached_tokens += sum(cached)
        self.charge_nano += sum(charges)
        self.cost_nano += sum(map(sum, costs))
        self.first_byte_us += sum(waited)
        self.duration_us += sum(durations)
        self.estimated += sum(estimated)
        buckets = self.durations
        for bucket, calls in Counter(map(_BUCKET, durations)).items():
            buckets[bucket] += calls


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
        if not recent:
            return
        opened, settled = zip(*recent, strict=True)
        kinds = zip(map(_OPENED, opened), map(_STATUS, settled), strict=True)
        groups: defaultdict[tuple[tuple[str, str, str, int], int], list[Settle]] = defaultdict(list)
        for kind, each in zip(kinds, settled, strict=True):
            groups[kind].append(each)
        for ((operation, provider, model, book), status), group in groups.items():
            label = (operation, provider, model, "sim" if book else "real", status)
            (self._series.get(label) or self._new(label)).add(group)
        self._absorbed_nano += sum(map(_ABSORBED, settled))

    def _new(self, label: Label) -> Series:
        if len(self._series) >= MAX_SERIES:
            operation, provider, _, book, status = label
            label = (operation, provider, "other", book, status)
        return self._series.setdefault(label, Series())

    def calls(self, book: Book = Book.REAL) -> int:
        """Return how many calls of a book were settled."""
        name = book.label
        return sum(series.calls for label, series in self.series.items() if label[3] == name)
