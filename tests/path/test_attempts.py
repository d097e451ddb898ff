"""Attempts among fakes: what the caller gets, what is booked, and who is asked."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.path.fakes import Bench, ListSink, Script, target
from tests.path.test_pipeline import answer, make

from headgate.errors import UpstreamInterrupted, UpstreamOverloaded, UpstreamTimeout
from headgate.ports import Head
from headgate.routing.health import Place
from headgate.routing.retries import Active, RetryTerms
from headgate.values import Target

pytestmark = pytest.mark.anyio
SOON = RetryTerms(base_s=0.0)
S = 1_000_000_000


def failing(count: int, status: int = 500) -> list[Script]:
    return [Script(status, [b"{}"]) for _ in range(count)]


async def test_the_same_target_is_asked_again_and_the_call_is_charged_once() -> None:
    bench = Bench(*failing(2), Script(200, [answer()]), cap=10**9, retries=SOON)
    sink = await bench.serve(make(), ListSink())
    assert sink.status == 200
    assert len(bench.transport.targets) == 3
    [bill] = bench.journal.settled()
    assert (bill.attempt, len(bill.costs), bill.costs[:2]) == (2, 3, (0, 0))
    assert bench.cap.spent == bill.charge


async def test_after_three_attempts_the_error_tells_the_sdk_to_stop() -> None:
    bench = Bench(*failing(3), retries=SOON)
    sink = await bench.serve(make(), ListSink())
    assert sink.status == 500
    assert [error.retry for error in bench.answers.told] == [False]
    assert len(bench.transport.targets) == 3


async def test_an_error_that_was_not_tried_again_leaves_it_to_the_sdk() -> None:
    bench = Bench(UpstreamTimeout("late"), retries=SOON)
    await bench.serve(make(), ListSink())
    assert [error.retry for error in bench.answers.told] == [None]


async def test_nobody_waits_in_a_pause_for_a_caller_who_left() -> None:
    busy = UpstreamOverloaded("busy", retry_after_s=7.0, limited_by="requests")
    bench, sink = Bench(busy, cap=10**9, retries=RetryTerms()), ListSink()
    serving = asyncio.ensure_future(bench.serve(make(), sink))
    await asyncio.sleep(0.05)
    sink.hang_up()
    await asyncio.wait_for(serving, 2)
    assert (bench.cap.spent, bench.cap.held) == (0, 0)
    assert not bench.transport.used


async def test_five_failures_take_a_target_out_and_the_next_call_does_not_ask_it() -> None:
    both = (target("a"), target("b"))
    scripts: list[Script] = []
    for _ in range(5):
        scripts += [*failing(1, 503), Script(200, [answer()])]
    bench = Bench(*scripts, Script(200, [answer()]))
    for _ in range(6):
        assert (await bench.serve(make(), ListSink(), *both)).status == 200
    assert [each.host.name for each in bench.transport.targets] == ["a", "b"] * 5 + ["b"]
    assert bench.changed == [("a", "out")]
    assert [each.place for each in bench.health.unwell(0)] == [Place("a", "gpt-4o", "")]


async def test_what_stands_behind_a_target_without_a_weight_shares_its_calls() -> None:
    behind = [msgspec.structs.replace(target(name), weight=1, group=2) for name in "bc"]
    bench = Bench(*[script for _ in range(4) for script in (*failing(1, 503), Script(200, [answer()]))])
    for draw in (0.1, 0.9, 0.4, 0.6):
        bench.attempts._draw = lambda draw=draw: draw
        await bench.serve(make(), ListSink(), msgspec.structs.replace(target("a"), group=1), *behind)
    assert [each.host.name for each in bench.transport.targets] == list("abacabac")


async def test_who_refuses_our_credential_is_told_of_at_once_and_once() -> None:
    bench = Bench(*failing(2, 401), *failing(1, 500), *failing(1, 401))
    for told in (1, 1, 1, 2):
        await bench.serve(make(), ListSink())
        assert bench.changed == [("openai", "denied")] * told


async def test_a_probe_brings_it_back() -> None:
    bench = Bench(*failing(5), *[Script(200, [answer()]) for _ in range(3)])
    for _ in range(5):
        await bench.serve(make(), ListSink())
    bench.clock.now_ns = 31 * S
    for _ in range(3):
        assert (await bench.serve(make(), ListSink())).status == 200
    assert bench.changed == [("openai", "out"), ("openai", "well")]
    assert bench.health.unwell(bench.clock.now_ns) == []


async def test_with_all_out_a_few_still_ask_and_the_rest_are_told_at_once() -> None:
    hanging = [Script(200, [None]) for _ in range(3)]
    bench = Bench(*failing(5), *hanging)
    for _ in range(5):
        await bench.serve(make(), ListSink())
    sinks = [ListSink() for _ in range(3)]
    asking = [asyncio.ensure_future(bench.serve(make(), sink)) for sink in sinks]
    await asyncio.sleep(0.01)
    refused = await bench.serve(make(), ListSink())
    assert refused.status == 503
    assert len(bench.transport.targets) == 8
    waits = set()
    for draw in (0.0, 0.5, 1.0):
        bench.attempts._draw = lambda draw=draw: draw
        waits.add(bench.attempts._all_out((target(),)).retry_after_s)
    assert len(waits) == 3  # else all come back at the same moment
    assert max(waits) <= 1.25 * min(waits)
    for sink in sinks:
        sink.hang_up()
    await asyncio.gather(*asking)


async def test_a_callers_fault_takes_nothing_out() -> None:
    bench = Bench(*failing(9, 400))
    for _ in range(9):
        assert (await bench.serve(make(), ListSink())).status == 400
    assert not bench.health.breakers


async def test_a_target_that_limits_us_is_left_alone_while_another_is_there() -> None:
    busy = UpstreamOverloaded("busy", retry_after_s=5.0, limited_by="requests")
    bench = Bench(busy, *[Script(200, [answer()]) for _ in range(3)])
    both = (target("a"), target("b"))
    for now_s in (0, 4, 6):
        bench.clock.now_ns = now_s * S
        await bench.serve(make(), ListSink(), *both)
    assert [each.host.name for each in bench.transport.targets] == ["a", "b", "b", "a"]


async def test_a_key_that_fails_takes_out_no_other_key_of_its_provider() -> None:
    bad, good = (
        msgspec.structs.replace(plain, host=msgspec.structs.replace(plain.host, credential=name))
        for plain, name in ((target(), "1"), (target(), "2"))
    )
    scripts: list[Script] = []
    for _ in range(5):
        scripts += [*failing(1, 401), Script(200, [answer()])]
    bench = Bench(*scripts)
    for _ in range(5):
        assert (await bench.serve(make(), ListSink(), bad, good)).status == 200
    assert [each.place.credential for each in bench.health.unwell(0)] == ["1"]


async def test_a_stream_that_has_begun_is_not_tried_again() -> None:
    begun = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
    bench = Bench(Script(200, [begun, UpstreamInterrupted("cut")]), retries=SOON)
    sink = await bench.serve(make(stream=True), ListSink())
    assert b"ERROR" in sink.body
    assert len(bench.transport.targets) == 1


async def test_a_call_has_one_deadline_for_all_its_attempts() -> None:
    class Slow(Script):
        async def head(self) -> Head:
            bench.clock.now_ns += int(target().deadlines.total_s * S)
            return await super().head()

    bench = Bench(Slow(500, [b"{}"]), Script(200, [answer()]), retries=SOON)
    assert (await bench.serve(make(), ListSink(), target("a"), target("b"))).status == 500
    assert [each.host.name for each in bench.transport.targets] == ["a"]


async def test_a_retry_that_has_failed_makes_room_for_the_next() -> None:
    bench = Bench(*failing(6), retries=RetryTerms(base_s=0.0, floor=1, attempts=2))
    for _ in range(3):
        assert (await bench.serve(make(), ListSink())).status == 500
    assert len(bench.transport.targets) == 6


async def test_retries_have_a_budget() -> None:
    bench = Bench(*failing(40), retries=RetryTerms(base_s=0.0, floor=0))
    for _ in range(10):
        assert (await bench.serve(make(), ListSink())).status == 500
    assert len(bench.transport.targets) == 10


async def test_a_target_that_is_not_asked_is_not_taken_for_probed() -> None:
    both = (target("a"), target("b"))
    scripts: list[Script] = []
    for _ in range(5):
        scripts += [*failing(1, 503), Script(200, [answer()])]
    bench = Bench(*scripts, *[Script(200, [answer()]) for _ in range(3)])
    for _ in range(5):
        await bench.serve(make(), ListSink(), *both)
    bench.clock.now_ns = 31 * S
    await bench.serve(make(), ListSink(), target("b"), target("a"))  # `a` is only the one to fall back to
    assert bench.changed == [("a", "out")]
    await bench.serve(make(), ListSink(), *both)
    assert [each.host.name for each in bench.transport.targets[-2:]] == ["b", "a"]
    assert bench.changed == [("a", "out"), ("a", "well")]


async def test_the_panic_of_a_model_leaves_room_for_another() -> None:
    plain = target("a")
    other = msgspec.structs.replace(plain, model=msgspec.structs.replace(plain.model, name="other"))
    bench = Bench(*failing(10), *[Script(200, [None]) for _ in range(4)])
    for each in (target("a"), other):
        for _ in range(5):
            await bench.serve(make(), ListSink(), each)
    sinks = [ListSink() for _ in range(4)]
    asked = [target("a"), target("a"), target("a"), other]
    asking = [
        asyncio.ensure_future(bench.serve(make(), sink, to)) for sink, to in zip(sinks, asked, strict=True)
    ]
    await asyncio.sleep(0.01)
    assert (await bench.serve(make(), ListSink(), target("a"))).status == 503
    assert len(bench.transport.targets) == 14
    for sink in sinks:
        sink.hang_up()
    await asyncio.gather(*asking)


async def test_a_retry_needs_room_where_it_is_made() -> None:
    asked: list[str] = []
    bench = Bench(*failing(4), retries=RetryTerms(base_s=0.0, attempts=4))

    def active(at: Target) -> Active:
        asked.append(at.host.name)
        return Active(0, 0)

    bench.attempts._active = active
    await bench.serve(make(), ListSink(), target("a"), target("b"))
    assert [each.host.name for each in bench.transport.targets] == ["a", "b", "a", "b"]
    assert asked == ["a", "b"]
