"""Every call is settled once, whatever raises on the way: nothing is lost, doubled or left held."""

from collections.abc import Callable

import pytest
from tests.path.fakes import Bench, FixedRoutes, ListSink, Script, target
from tests.path.test_pipeline import CHARGE, answer, chunks, make

from headgate.ports import Open, Settle
from headgate.values import Principal

pytestmark = pytest.mark.anyio
WHO = Principal(key=1, project=2, account=3, tpm=1_000_000, concurrency=5)
SHAPES = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


class Slip(Exception):
    """A bug of ours."""


def failing(real: Callable[..., object], times: int, *, after: bool = False) -> Callable[..., object]:
    """The method, but its first calls raise, before or after it has done its work."""
    left = [times]

    def method(*args: object) -> object:
        if left[0]:
            left[0] -= 1
            if after:
                real(*args)
            raise Slip
        return real(*args)

    return method


async def served(bench: Bench, stream: bool) -> ListSink:
    call, sink = make(stream=stream), ListSink()
    call.principal = WHO
    await bench.pipeline.serve(call, sink, FixedRoutes(target()))
    return sink


def bench_of(stream: bool) -> Bench:
    return Bench(Script(200, chunks("a", " b") if stream else [answer()]), cap=10**9)


def assert_settled(bench: Bench, sink: ListSink) -> None:
    assert (sink.status, sink.finished) == (200, True)
    assert {type(fault) for fault in bench.faults} == {Slip}
    ledger = bench.pipeline._ledger
    gauge = ledger.rates.gauge(WHO, 0)
    assert gauge.active == 0
    assert gauge.tokens is not None
    assert gauge.tokens.limit - gauge.tokens.remaining(0) in {13, 14}
    assert (bench.budget.period.spent, bench.budget.period.held) == (CHARGE, 0)


@SHAPES
@pytest.mark.parametrize("after", [False, True], ids=["before it is written", "after it is written"])
async def test_a_journal_that_raises_once_gets_the_same_settlement_again(stream: bool, after: bool) -> None:
    bench = bench_of(stream)
    bench.journal.settle = failing(bench.journal.settle, 1, after=after)  # type: ignore[method-assign]
    sink = await served(bench, stream)
    assert_settled(bench, sink)
    settled = bench.journal.settled()
    assert len(settled) == 1 + after
    assert set(settled) == {settled[0]}
    assert (settled[0].charge, settled[0].status, settled[0].estimated) == (CHARGE, 200, False)
    assert bench.metrics.calls() == 1


@SHAPES
async def test_a_journal_that_always_raises_leaves_nothing_held(stream: bool) -> None:
    bench = bench_of(stream)
    bench.journal.settle = failing(bench.journal.settle, 99)  # type: ignore[method-assign]
    sink = await served(bench, stream)
    assert_settled(bench, sink)
    assert [type(record) for record in bench.journal.records] == [Open]  # the next start settles it


@SHAPES
async def test_an_observer_that_raises_changes_nothing(stream: bool) -> None:
    bench = bench_of(stream)
    told: list[Settle] = []
    ledger = bench.pipeline._ledger

    class Deaf:
        def refused(self, operation: str, error: object) -> None:
            raise AssertionError

        def settled(self, opened: Open, settled: Settle) -> None:
            told.append(settled)
            raise Slip

    ledger.observer = Deaf()
    sink = await served(bench, stream)
    assert_settled(bench, sink)
    assert told == bench.journal.settled()
    assert len(told) == 1


@SHAPES
@pytest.mark.parametrize("step", ["close, undone", "close", "correct"])
async def test_money_and_limits_that_raise_are_still_settled(step: str, stream: bool) -> None:
    bench = bench_of(stream)
    ledger = bench.pipeline._ledger
    name, _, undone = step.partition(", ")
    owner = "budgets" if name == "close" else "rates"
    real = getattr(getattr(ledger, owner), name)
    tripping = failing(real, 1, after=not undone)

    class Tripping:
        def __init__(self, whole: object) -> None:
            self.whole = whole

        def __getattr__(self, asked: str) -> object:
            return tripping if asked == name else getattr(self.whole, asked)

    setattr(ledger, owner, Tripping(getattr(ledger, owner)))
    sink = await served(bench, stream)
    [settled] = bench.journal.settled()
    assert (settled.charge, settled.status) == (CHARGE, 200)
    assert bench.metrics.calls() == 1
    assert_settled(bench, sink)


async def test_an_observer_that_raises_at_a_refusal_still_lets_the_refusal_out() -> None:
    bench = Bench(cap=1)

    class Deaf:
        def refused(self, operation: str, error: object) -> None:
            raise Slip

    bench.pipeline._ledger.observer = Deaf()  # type: ignore[assignment]
    call, sink = make(), ListSink()
    call.principal = WHO
    await bench.pipeline.serve(call, sink, FixedRoutes(target()))
    assert (sink.status, sink.finished) == (429, True)
    assert len(bench.faults) == 1
