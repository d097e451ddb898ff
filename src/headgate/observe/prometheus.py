"""Metrics in Prometheus' text format. Imported when somebody asks for it, never by a served call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headgate.observe.metrics import BUCKETS_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headgate.observe.metrics import Metrics, Series
    from headgate.vitals import KeyReport, Report, TargetReport

_LABELS = ("operation", "provider", "model", "book", "status")
# name, what it counts, how it is read from a series
COUNTERS: tuple[tuple[str, str, Callable[[Series], int]], ...] = (
    ("headgate_calls", "Settled calls", lambda s: s.calls),
    ("headgate_input_tokens", "Input tokens of settled calls", lambda s: s.input_tokens),
    ("headgate_output_tokens", "Output tokens of settled calls", lambda s: s.output_tokens),
    (
        "headgate_cached_tokens",
        "Input tokens served from a provider's cache",
        lambda s: s.cached_tokens,
    ),
    ("headgate_charge_nano_usd", "What customers pay, in nano-USD", lambda s: s.charge_nano),
    ("headgate_cost_nano_usd", "What providers take, in nano-USD", lambda s: s.cost_nano),
    ("headgate_estimated_calls", "Settled calls whose tokens were counted here", lambda s: s.estimated),
)
# name: what it counts, its labels
COUNTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "headgate_batch_lines": (
        "Lines of batches that have their output (answered, failed), or were put off (again)",
        ("outcome",),
    ),
    "headgate_canary_attempts": (
        "First attempts of the calls of a model that has a canary, by side and outcome",
        ("model", "trial", "side", "outcome"),
    ),
    "headgate_canary_pairs": (
        "Answers of a canary, slower than the main side's latest one by more than is allowed, or not",
        ("model", "trial", "outcome"),
    ),
    "headgate_shadow_calls": (
        "Shadows: served, failed, or left out (over_budget, busy, unpriced, unavailable)",
        ("model", "provider", "target", "outcome"),
    ),
    "headgate_shadow_cost_nano_usd": ("What shadows cost the house", ("model", "provider", "target")),
    "headgate_shadow_microseconds": (
        "What answered calls (main) and their shadows took, to the first byte and in all",
        ("model", "provider", "target", "side", "part"),
    ),
    "headgate_hedges": (
        "Second requests beside a slow one: won, lost, failed, or not made (over_share, no_room, no_target)",
        ("model", "outcome"),
    ),
    "headgate_canary_rollbacks": ("Canaries that were rolled back", ("model", "trial")),
}
GAUGES: Mapping[str, str] = {
    "headgate_open_calls": "Calls being served now",
    "headgate_queued_calls": "Calls that wait for a limit now",
    "headgate_waiting_calls": "Calls that wait for a provider with room now",
    "headgate_shed_share": "Share of new calls that are refused now, as there is too much to do",
    "headgate_connections": "Open client connections",
    "headgate_journal_undrained_records": "Journal records that are not in the database yet",
    "headgate_journal_undrained_bytes": "Journal bytes that are not in the database yet",
    "headgate_loop_stall_max_seconds": "The longest time that the event loop was late since start",
    "headgate_keys_old": "Keys whose secret is 90 days old or older",
    "headgate_keys_overdue": "Keys whose secret is 180 days old or older",
    "headgate_retries": "Attempts beyond the first ones since start",
    "headgate_targets_out": "Targets that a breaker has taken out or that asked to be left alone",
    "headgate_files_brought": "Files that were kept since start, brought by callers or made by batches",
    "headgate_files_written_bytes": "Bytes of files and parts that were written since start",
    "headgate_files_read_bytes": "Bytes of files that were read since start",
    "headgate_files_removed_blobs": "Blobs that were removed since start: deleted, expired, given up",
    "headgate_ready": "1 when /readyz answers 200",
    "headgate_redis_up": "1 while Redis is in use; 0: each worker keeps to its share of every limit",
    "headgate_redis_answers": "Answers of Redis since start",
    "headgate_redis_faults": "Times that Redis did not answer as it should since start, looks for it too",
    "headgate_redis_wakes": "Changes that another worker has told through Redis since start",
    "headgate_redis_workers": "Workers of all replicas that share limits, as Redis said last",
}
# name, what it is, how it is read from a target; None: it is not known
TARGET_GAUGES: tuple[tuple[str, str, Callable[[TargetReport], float | None]], ...] = (
    (
        "headgate_target_recent_failure_ratio",
        "Failed attempts of those of the last five minutes",
        lambda t: t.failure_rate,
    ),
    (
        "headgate_target_recent_first_byte_seconds",
        "Mean time to the first byte over the last five minutes",
        lambda t: None if t.first_byte_ms is None else t.first_byte_ms / 1000,
    ),
    (
        "headgate_target_uptime_ratio",
        "Attempts that were served of those that were served or failed, over 90 days",
        lambda t: t.uptime,
    ),
)
_PLACE = ("provider", "model", "key")
STATES = ("well", "impaired", "busy", "probing", "out", "panic")
STATE, ATTEMPTS, RETRIES = "headgate_target_state", "headgate_target_attempts", "headgate_target_retries"
# Those of targets, which have labels of their own: name, what it is, labels.
TARGETS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (STATE, "1 for the state of a target, by the worker that sees it worst", (*_PLACE, "state")),
    (ATTEMPTS, "Attempts at a target: served, or the kind of their error", (*_PLACE, "outcome")),
    (RETRIES, "Attempts at a target after the first one of a call", _PLACE),
)


class _Export(Collector):
    def __init__(self, metrics: Metrics, gauges: Mapping[str, float], report: Report) -> None:
        self._metrics = metrics
        self._gauges = gauges
        self._report = report

    def collect(self) -> Iterable[Metric]:
        """Yield every metric family."""
        rows = list(self._metrics.series.items())
        for name, text, read in COUNTERS:
            family = CounterMetricFamily(name, text, labels=_LABELS)
            for label, series in rows:
                family.add_metric([str(part) for part in label], read(series))
            yield family
        latency = HistogramMetricFamily("headgate_call_seconds", "From OPEN to settlement", labels=_LABELS)
        for label, series in rows:
            latency.add_metric(
                [str(part) for part in label], _cumulative(series), sum_value=series.duration_us / 1e6
            )
        yield latency
        refusals = CounterMetricFamily(
            "headgate_refusals", "Calls refused before any attempt", labels=("operation", "status", "code")
        )
        for (operation, status, code), count in self._metrics.refusals.items():
            refusals.add_metric([operation, str(status), code], count)
        yield refusals
        yield CounterMetricFamily(
            "headgate_absorbed_nano_usd",
            "Cost above the hold, paid by the house",
            self._metrics.absorbed_nano,
        )
        for name, (text, names) in COUNTS.items():
            other = CounterMetricFamily(name, text, labels=names)
            for (counted, labels), count in self._metrics.counts.items():
                if counted == name:
                    other.add_metric(labels, count)
            yield other
        for name, text in GAUGES.items():
            if name in self._gauges:
                yield GaugeMetricFamily(name, text, self._gauges[name])
        yield from _targets(self._report)


def _targets(report: Report) -> Iterable[Metric]:
    """Yield how each target does, and each of its keys where it has several."""
    rows = [(each.provider, target) for each in report.providers for target in each.targets]
    (_, state_text, labels), (_, attempts_text, outcomes), (_, retries_text, keyed) = TARGETS
    states = GaugeMetricFamily(STATE, state_text, labels=labels)
    attempts = CounterMetricFamily(ATTEMPTS, attempts_text, labels=outcomes)
    retries = CounterMetricFamily(RETRIES, retries_text, labels=keyed)
    for provider, target in rows:
        keys: list[tuple[str, TargetReport | KeyReport]] = [(key.key, key) for key in target.keys]
        for key, each in keys or [("", target)]:
            where = [provider, target.model, key]
            for state in STATES:
                states.add_metric([*where, state], int(each.state == state))
            for outcome, count in {"served": each.served, **each.errors}.items():
                attempts.add_metric([*where, outcome], count)
            retries.add_metric(where, each.retries)
    yield from (states, attempts, retries)
    for name, text, read in TARGET_GAUGES:
        family = GaugeMetricFamily(name, text, labels=("provider", "model"))
        for provider, target in rows:
            value = read(target)
            if value is not None:
                family.add_metric([provider, target.model], value)
        yield family


def _cumulative(series: Series) -> list[tuple[str, float]]:
    total = 0
    rows: list[tuple[str, float]] = []
    for edge, count in zip((*map(str, BUCKETS_S), "+Inf"), series.durations, strict=True):
        total += count
        rows.append((edge, total))
    return rows


def render(metrics: Metrics, gauges: Mapping[str, float], report: Report) -> bytes:
    """Return the exposition of all metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Export(metrics, gauges, report))
    return generate_latest(registry)
