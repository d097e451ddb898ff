"""Every call is settled once, whatever raises on the way: nothing is lost, doubled or left held."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import msgspec
import pytest
from tests.path.fakes import NOW, PRICES, Bench, FixedRoutes, ListSink, Script, target
from tests.path.test_pipeline import CHARGE, answer, chunks, make

from headgate.admission.bounds import rough_input
from headgate.admission.budget import Budgets, Hold
from headgate.admission.gates import PassGate
from headgate.errors import UpstreamInterrupted, UpstreamTimeout
from headgate.money.cost import cost
from headgate.ports import Lost, Mark, Open, Settle
from headgate.settle import Side, Tab, believable
from headgate.values import Call, Prices, Principal, Usage

pytestmark = pytest.mark.anyio
WHO = Principal(key=1, project=2, account=3, tpm=1_000_000, concurrency=5)
SHAPES = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


class Slip(Exception):
    """A bug of ours."""


def failing(real: Callable[..., object], times: int, *, after: bool = False) -> Callable[..., object]:
    """The method, but its first calls raise, before or after it has done its work."""
    left = [times]

    def method(*args: object, **more: object) -> object:
        if left[0]:
            left[0] -= 1
            if after:
                real(*args, **more)
            raise Slip
        return real(*args, **more)

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
    gate = ledger.rates.gate(WHO, "gpt-4o", 0)
    assert [count.open for count in gate.counts] == [0]
    gate.close()
    assert [bucket.used(0) for bucket in gate.tokens] in ([13], [14])
    assert (bench.cap.spent, bench.cap.held) == (CHARGE, 0)


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
@pytest.mark.parametrize("step", ["close, undone", "close", "settle"])
async def test_money_and_limits_that_raise_are_still_settled(
    step: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(stream)
    name, _, undone = step.partition(", ")
    owner = Budgets if name == "close" else PassGate
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), 1, after=not undone))
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


class Uncounting:
    """A counter that cannot count."""

    def __init__(self, *, inputs: bool = True, outputs: bool = True) -> None:
        self._inputs, self._outputs = inputs, outputs

    async def input_tokens(self, call: object, target: object) -> int:
        if self._inputs:
            raise Slip
        return 7

    async def output_tokens(self, text: str, target: object) -> int:
        if self._outputs:
            raise Slip
        return 70


def uncounting(bench: Bench, **what: bool) -> Bench:
    counter = Uncounting(**what)
    bench.pipeline._stages = dataclasses.replace(bench.pipeline._stages, counter=counter)
    return bench


ROUGH = rough_input(make())
UNCOUNTED = {
    "whole": [answer(None)],
    "whole stream": chunks("a ", "b ", "c", usage=False),
    "broken stream": [*chunks("a ", "b ", "c", usage=False, done=False), UpstreamInterrupted("")],
    "left stream": [*chunks("a ", "b ", "c", usage=False, done=False), None],
}


@pytest.mark.parametrize("how", UNCOUNTED)
@pytest.mark.parametrize(("inputs", "outputs"), [(True, True), (True, False), (False, True)])
async def test_what_cannot_be_counted_is_charged_roughly_and_told_once(
    how: str, inputs: bool, outputs: bool
) -> None:
    script = Script(200, UNCOUNTED[how])
    bench = uncounting(Bench(script, cap=10**9), inputs=inputs, outputs=outputs)
    call, sink = make(stream="stream" in how), ListSink(gone_after=3 if how == "left stream" else None)
    call.principal = WHO
    await bench.pipeline.serve(call, sink, FixedRoutes(target()))
    [settled] = bench.journal.settled()
    made = (1 if how == "whole" else 3) if outputs else 70
    assert (settled.usage.input_tokens, settled.usage.output_tokens) == (ROUGH if inputs else 7, made)
    assert settled.estimated
    assert settled.charge > 0
    assert [type(fault) for fault in bench.faults] == [Slip] * (inputs + outputs)
    assert bench.cap.held == 0
    assert sink.status == 200


BUGS = {
    "the sink": lambda bench, sink: setattr(sink, "drained", failing_after(sink.drained, 2)),
    "the journal's mark": lambda bench, sink: setattr(bench.journal, "mark", failing(list, 1)),
}


def failing_after(real: Callable[[], Awaitable[None]], calls: int) -> Callable[[], Awaitable[None]]:
    left = [calls]

    async def method() -> None:
        left[0] -= 1
        if not left[0]:
            raise Slip
        await real()

    return method


@pytest.mark.parametrize("bug", BUGS)
async def test_a_bug_in_mid_stream_is_charged_for_what_was_shown(bug: str) -> None:
    words = ["a "] * (2 if bug == "the sink" else 300)
    bench = Bench(Script(200, chunks(*words)), cap=10**9)
    call, sink = make(stream=True, max_tokens=1000), ListSink()
    call.principal = WHO
    BUGS[bug](bench, sink)
    await bench.pipeline.serve(call, sink, FixedRoutes(target(max_output=1000)))
    [settled] = bench.journal.settled()
    assert settled.status == 500
    assert settled.usage.output_tokens == sink.body.count(b"content") > 0
    assert settled.estimated
    assert settled.charge > 0
    assert b"data: ERROR" in sink.body
    assert b"[DONE]" not in sink.body
    assert [type(fault) for fault in bench.faults] == [Slip]


class Slow:
    """A counter that never comes back."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def input_tokens(self, call: object, target: object) -> int:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def output_tokens(self, text: str, target: object) -> int:
        raise AssertionError


@pytest.mark.parametrize("how", UNCOUNTED)
async def test_a_call_cut_while_it_is_counted_is_charged_roughly_for_what_was_shown(how: str) -> None:
    bench = Bench(Script(200, UNCOUNTED[how]), cap=10**9)
    counter = Slow()
    bench.pipeline._stages = dataclasses.replace(bench.pipeline._stages, counter=counter)
    call, sink = make(stream="stream" in how), ListSink(gone_after=3 if how == "left stream" else None)
    call.principal = WHO
    task = asyncio.create_task(bench.pipeline.serve(call, sink, FixedRoutes(target())))
    await asyncio.wait_for(counter.asked.wait(), 5)
    assert bench.transport.used[0].released == (how in {"broken stream", "left stream"})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    [settled] = bench.journal.settled()
    if how == "whole":  # nobody has seen it
        assert (settled.usage, settled.lost) == (Usage(), (Lost(0, Usage(ROUGH, 1), True),))
    else:
        assert (settled.usage, settled.estimated) == (Usage(ROUGH, 3), True)
    assert bench.cap.held == 0


@pytest.mark.parametrize("status", [400, 503])
async def test_a_hang_up_while_a_refusal_is_read_costs_nothing(status: int) -> None:
    bench = Bench(Script(status, [b'{"error":', None]), cap=10**9)
    call, sink = make(), ListSink()
    call.principal = WHO
    task = asyncio.create_task(bench.pipeline.serve(call, sink, FixedRoutes(target())))
    while bench.transport.scripts or len(bench.transport.used[0].steps):
        await asyncio.sleep(0)
    sink.hang_up()
    await asyncio.wait_for(task, 5)
    [settled] = bench.journal.settled()
    assert (settled.status, settled.charge, settled.usage) == (499, 0, Usage())
    assert bench.faults == []


BROKEN = UpstreamInterrupted("cut")
LOSSES: dict[str, tuple[list[bytes | Exception | None], Lost | None]] = {
    "an answer that broke off": ([answer()[:20], BROKEN], Lost(0, Usage(ROUGH, 0), True)),
    "an answer that never came": ([BROKEN], Lost(0, Usage(ROUGH, 0), True)),
    "a timeout": ([UpstreamTimeout("late")], Lost(0, Usage(ROUGH, 0), True)),
    "no answer of the API": ([b"<html>"], Lost(0, Usage(ROUGH, 0), True)),
    "a count without choices": (
        [msgspec.json.encode({"usage": {"prompt_tokens": 10, "completion_tokens": 4}})],
        Lost(0, Usage(10, 4)),
    ),
    "an error after all": (
        [
            msgspec.json.encode(
                {"error": {"message": "x"}, "usage": {"prompt_tokens": 10, "completion_tokens": 4}}
            )
        ],
        Lost(0, Usage(10, 4)),
    ),
    "an error instead": ([b'{"error":{"message":"x"}}'], None),
}


@pytest.mark.parametrize("elsewhere", [True, False], ids=["answered elsewhere", "failed"])
@pytest.mark.parametrize("how", LOSSES)
async def test_what_a_failed_attempt_used_is_our_cost_and_nobody_pays_it(how: str, elsewhere: bool) -> None:
    steps, lost = LOSSES[how]
    scripts = [Script(200, steps), Script(200, [answer()])] if elsewhere else [Script(200, steps)]
    bench = Bench(*scripts, cap=10**9)
    targets = (target("a"), target("b"))[: len(scripts)]
    sink = await bench.serve(make(), ListSink(), *targets)
    assert (sink.status == 200) == elsewhere
    [settled] = bench.journal.settled()
    assert settled.lost == ((lost,) if lost else ())
    failed = cost(lost.usage, PRICES) if lost else 0
    if elsewhere:
        assert (settled.charge, settled.usage, settled.estimated) == (CHARGE, Usage(10, 4), False)
        assert settled.costs == (failed, CHARGE)
        assert [opened.lost for opened in bench.journal.opened()] == [(), settled.lost]
    else:
        assert (settled.charge, settled.usage, settled.costs) == (0, Usage(), (failed,))
    assert (bench.cap.spent, bench.cap.held) == (settled.charge, 0)


@pytest.mark.parametrize("elsewhere", [True, False], ids=["answered elsewhere", "failed"])
async def test_neither_the_next_target_nor_the_error_waits_for_a_count(elsewhere: bool) -> None:
    bench = Bench(Script(200, [BROKEN]), *[Script(200, [answer()])] * elsewhere, cap=10**9)
    bench.pipeline._stages = dataclasses.replace(bench.pipeline._stages, counter=Slow())
    sink = await bench.serve(make(), ListSink(), *(target("a"), target("b"))[: 1 + elsewhere])
    assert sink.status == (200 if elsewhere else 502)
    assert bench.journal.settled()[0].lost == (Lost(0, Usage(ROUGH), True),)


async def test_two_failed_attempts_cost_each_their_own() -> None:
    dear = msgspec.structs.replace(target("b"), costs=Prices(input=9_000_000, output=9_000_000))
    bench = Bench(Script(200, [BROKEN]), Script(503, [b""]), Script(200, [BROKEN]), cap=10**9)
    await bench.serve(make(), ListSink(), target("a"), target("x"), dear)
    [settled] = bench.journal.settled()
    assert settled.costs == (cost(Usage(ROUGH), PRICES), 0, ROUGH * 9_000)
    assert [lost.attempt for lost in settled.lost] == [0, 2]
    assert settled.charge == 0


async def test_a_refusal_costs_us_nothing() -> None:
    bench = Bench(Script(503, [b""]), Script(429, [b""]), UpstreamTimeout("no connection"), cap=10**9)
    await bench.serve(make(), ListSink(), target("a"), target("b"), target("c"))
    [settled] = bench.journal.settled()
    assert (settled.costs, settled.lost) == ((0, 0), ())


async def test_a_fee_per_request_is_not_charged_for_a_refusal() -> None:
    fee = Prices(input=1_000_000, output=2_000_000, request=5_000_000)
    to = msgspec.structs.replace(target(), prices=fee, costs=fee)
    bench = Bench(Script(503, [b""]), Script(200, [answer()]), cap=10**9)
    assert (await bench.serve(make(), ListSink(), to)).status == 503
    [refused] = bench.journal.settled()
    assert (refused.charge, refused.costs) == (0, (0,))
    await bench.serve(make(), ListSink(), to)
    assert bench.journal.settled()[1].charge == 10_000 + 8_000 + 5_000


@SHAPES
async def test_a_call_that_we_cut_before_it_answered_is_free(stream: bool) -> None:
    """Whoever stops the gateway takes an answer away that nobody has seen."""
    bench = Bench(Script(200, [None]), cap=10**9)
    call, sink = make(stream=stream), ListSink()
    call.principal = WHO
    task = asyncio.create_task(bench.pipeline.serve(call, sink, FixedRoutes(target())))
    while not bench.transport.used or bench.transport.used[0].steps:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    [settled] = bench.journal.settled()
    assert (settled.charge, settled.usage) == (0, Usage())
    assert settled.lost == (Lost(0, Usage(ROUGH), True),)
    assert settled.costs == (cost(Usage(ROUGH), PRICES),)


async def test_a_json_answer_that_cannot_be_written_is_cut_off() -> None:
    bench = Bench(Script(200, [answer()]), cap=10**9)
    call, sink = make(), ListSink()
    call.principal = WHO
    real = sink.write
    sink.write = failing(real, 1)  # type: ignore[method-assign]
    await bench.pipeline.serve(call, sink, FixedRoutes(target()))
    assert (sink.gone, sink.finished, sink.body) == (True, False, b"")
    assert [settled.charge for settled in bench.journal.settled()] == [CHARGE]
    assert [type(fault) for fault in bench.faults] == [Slip]


@pytest.mark.parametrize(
    ("inputs", "tokens", "believed"), [(1, 10_000, True), (1, 10_001, False), (20, 150_000, True)]
)
def test_each_of_several_inputs_may_fill_the_window(inputs: int, tokens: int, believed: bool) -> None:
    call = Call(bytes(16), "embeddings", 0)
    call.inputs, call.input_bytes = inputs, 10**6
    assert believable(Usage(tokens), call, target()) is believed


def test_marks_are_a_second_apart_from_the_begin_of_their_attempt() -> None:
    bench, call, reader = Bench(), make(stream=True), SimpleNamespace(produced=lambda: 1)
    call.principal, bench.clock.now_ns = WHO, 1
    ledger = bench.pipeline._ledger
    ticket = ledger.rates.gate(WHO, call.model, 1).admit(0, 1)
    tab = Tab(ledger, call, Hold(10**9, NOW, (), ()), ticket)
    marked: list[tuple[int, int]] = []
    for attempt in range(2):
        began = bench.clock.now_ns
        tab.open(target())
        for ms in range(0, 3_000, 400):
            bench.clock.now_ns = began + ms * 1_000_000
            assert tab.progress(reader)
            if isinstance(bench.journal.records[-1], Mark):
                marked.append((attempt, ms))
                bench.journal.records.pop()
    assert marked == [(0, 1_200), (0, 2_400), (1, 1_200), (1, 2_400)]


def test_what_two_attempts_at_once_have_lost_is_booked_of_both_whichever_is_settled() -> None:
    bench, call = Bench(), make()
    call.principal = WHO
    ledger, sides = bench.pipeline._ledger, list[Side]()
    ticket = ledger.rates.gate(WHO, call.model, 0).admit(0, 0)
    tab = Tab(ledger, call, Hold(10**9, NOW, (), ()), ticket)
    lost = (Usage(10, 4), Usage(20, 5))
    first, second = tab.side(sides), tab.side(sides)
    for side in (first, second):
        side.open(target())
    for side, usage in zip((first, second), lost, strict=True):
        side.lose(usage, estimated=True)
        side.over()
    first.settle(502, Usage())
    [settled] = bench.journal.settled()
    assert settled.lost == tuple(Lost(attempt, usage, True) for attempt, usage in enumerate(lost))
    assert settled.costs == tuple(cost(usage, PRICES) for usage in lost)
