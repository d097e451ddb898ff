"""What is counted of settled calls is what adding them up one by one comes to."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from tests.stores.records import opened, settled

from headgate.observe.metrics import BUCKETS_S, Metrics
from headgate.values import Book, Usage

if TYPE_CHECKING:
    from headgate.ports import Open, Settle


def _drawn(chance: random.Random) -> tuple[Open, Settle]:
    call = opened(
        operation=chance.choice(("chat", "embeddings")),
        provider=chance.choice(("openai", "azure")),
        upstream_model=chance.choice(("gpt-4o", "gpt-4o-mini", "gpt-5")),
        book=chance.choice((Book.REAL, Book.SIM)),
    )
    return call, settled(
        call,
        status=chance.choice((200, 499, 503)),
        usage=Usage(chance.randrange(10**6), chance.randrange(10**4), chance.randrange(100)),
        charge=chance.randrange(10**9),
        absorbed=chance.choice((0, 0, 7)),
        costs=tuple(chance.randrange(10**6) for _ in range(chance.randint(1, 3))),
        estimated=chance.random() < 0.5,
        first_byte_us=chance.randrange(10**6),
        duration_us=chance.choice((0, 5_000, 5_001, 300_000, 600_000_000, 600_000_001, 10**12)),
    )


def test_calls_are_counted_by_their_labels() -> None:
    chance = random.Random(7)
    calls = [_drawn(chance) for _ in range(1_500)]
    metrics, expected = Metrics(), dict[object, Counter[str]]()
    for number, (call, bill) in enumerate(calls):
        metrics.settled(call, bill)
        if not number % 400:
            assert sum(series.calls for series in metrics.series.values()) == number + 1
        label = (call.operation, call.provider, call.upstream_model, call.book.label, bill.status)
        series = expected.setdefault(label, Counter())
        series["calls"] += 1
        series["input_tokens"] += bill.usage.input_tokens
        series["output_tokens"] += bill.usage.output_tokens
        series["cached_tokens"] += bill.usage.cached_tokens
        series["charge_nano"] += bill.charge
        series["cost_nano"] += sum(bill.costs)
        series["estimated"] += bill.estimated
        series["first_byte_us"] += bill.first_byte_us
        series["duration_us"] += bill.duration_us
        within = sum(bill.duration_us > bound * 1_000_000 for bound in BUCKETS_S)
        series[f"bucket {within}"] += 1
    assert metrics.absorbed_nano == sum(bill.absorbed for _, bill in calls)
    found = {
        label: {
            **{name: getattr(series, name) for name in series.__slots__ if name != "durations"},
            **{f"bucket {number}": count for number, count in enumerate(series.durations) if count},
        }
        for label, series in metrics.series.items()
    }
    assert found == {label: dict(series) for label, series in expected.items()}
    assert len(found) == 72
