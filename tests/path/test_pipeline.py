import asyncio
from itertools import count

import msgspec
import pytest
from tests.path.fakes import PRICES, Bench, ListSink, Script, target

from headgate.admission.bounds import bound
from headgate.errors import LoopRefused, Unavailable, UpstreamInterrupted, UpstreamTimeout
from headgate.http.parse import parse
from headgate.money.cost import cost
from headgate.pipeline import refuse_loop
from headgate.transport.faults import StaleConnection
from headgate.values import Call, Deadlines, KeyRules, Principal, Usage

pytestmark = pytest.mark.anyio
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
CHARGE = cost(Usage(10, 4), PRICES)
NUMBERS = count(1)


def make(stream: bool = False, **members: object) -> Call:
    call = Call(next(NUMBERS).to_bytes(16), "chat", 0)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two"}], "stream": stream}
    parse(msgspec.json.encode(body | {"max_tokens": 50} | members), call)
    return call


def answer(usage: object = USAGE) -> bytes:
    return msgspec.json.encode(
        {"id": "c", "choices": [{"index": 0, "message": {"content": "a b c"}}], "usage": usage}
    )


def chunks(*words: str, usage: bool = True, done: bool = True) -> list[bytes]:
    rows = [{"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in words]
    if usage:
        rows.append({"choices": [], "usage": USAGE})
    out = [b"data: " + msgspec.json.encode(row) + b"\n\n" for row in rows]
    return [*out, b"data: [DONE]\n\n"] if done else out


async def test_a_json_call_is_answered_and_settled_once():
    bench = Bench(Script(200, [answer()]), cap=10**9)
    sink = await bench.serve(make(), ListSink())
    assert (sink.status, sink.body, sink.finished) == (200, answer(), True)
    assert sink.headers["x-headgate-cost"] == str(CHARGE)
    [settled] = bench.journal.settled()
    assert (settled.charge, settled.usage, settled.estimated, settled.costs) == (
        CHARGE,
        Usage(10, 4),
        False,
        (CHARGE,),
    )
    assert (bench.cap.spent, bench.cap.held) == (CHARGE, 0)
    assert bench.transport.used[0].released


async def test_an_account_with_a_multiplier_pays_that_and_we_pay_the_provider_as_ever():
    bench = Bench(Script(200, [answer()]), cap=10**9)
    call = make()
    call.principal = Principal(key=1, project=2, account=3, multiplier_ppm=1_500_000)
    await bench.serve(call, ListSink())
    [settled] = bench.journal.settled()
    assert (settled.charge, settled.costs) == (CHARGE * 3 // 2, (CHARGE,))
    [opened] = bench.journal.opened()
    assert (opened.prices.input, opened.costs.input) == (PRICES.input * 3 // 2, PRICES.input)
    assert settled.charge <= opened.hold


async def test_a_stream_costs_what_the_same_json_costs():
    bench = Bench(Script(200, chunks("a", " b", " c")), cap=10**9)
    sink = await bench.serve(make(stream=True), ListSink())
    assert sink.body.endswith(b"data: [DONE]\n\n")
    assert bench.journal.settled()[0].charge == CHARGE


async def test_the_settlement_is_written_before_the_last_byte():
    bench = Bench(Script(200, chunks("a")))
    sink = ListSink()
    seen = []
    sink.finish = lambda: seen.append(len(bench.journal.settled()))  # type: ignore[method-assign]
    write = sink.write

    def watch(data: bytes) -> None:
        if b"[DONE]" in data:
            seen.append(len(bench.journal.settled()))
        write(data)

    sink.write = watch  # type: ignore[method-assign]
    await bench.serve(make(stream=True), sink)
    assert seen == [1, 1]


async def test_absent_usage_is_counted_here_and_marked():
    for script, stream in (
        (Script(200, [answer(None)]), False),
        (Script(200, chunks("a ", "b ", "c", usage=False)), True),
    ):
        bench = Bench(script)
        await bench.serve(make(stream=stream), ListSink())
        [settled] = bench.journal.settled()
        assert settled.estimated
        assert settled.usage.output_tokens == 3


@pytest.mark.parametrize("prompt", [10**18, 2_000_000, 10_001])
async def test_usage_above_the_window_is_not_believed(prompt):
    bench = Bench(Script(200, [answer({"prompt_tokens": prompt, "completion_tokens": 1})]))
    await bench.serve(make(), ListSink())
    assert bench.journal.settled()[0].estimated


async def test_the_customer_never_pays_more_than_the_hold():
    bench = Bench(Script(200, [answer({"prompt_tokens": 10, "completion_tokens": 5000})]), cap=10**12)
    await bench.serve(make(), ListSink())
    [opened], [settled] = bench.journal.opened(), bench.journal.settled()
    assert settled.charge == opened.hold
    assert settled.absorbed == cost(Usage(10, 5000), PRICES) - opened.hold
    assert settled.costs == (cost(Usage(10, 5000), PRICES),)
    assert bench.metrics.absorbed_nano == settled.absorbed


async def test_a_hang_up_closes_the_upstream_and_charges_what_was_produced():
    script = Script(200, [*chunks("a ", "b ", usage=False, done=False), None])
    bench = Bench(script, cap=10**9)
    await bench.serve(make(stream=True), ListSink(gone_after=2))
    [settled] = bench.journal.settled()
    assert (settled.status, settled.estimated, settled.usage.output_tokens) == (499, True, 2)
    assert script.aborted.is_set()
    assert bench.cap.held == 0


async def test_a_hang_up_before_anything_was_sent_costs_nothing():
    bench = Bench(Script(200, [answer()]))
    sink = ListSink()
    sink.gone = True
    await bench.serve(make(), sink)
    assert sum(settled.charge for settled in bench.journal.settled()) == 0
    assert not bench.transport.used[0].sent


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_a_refusal_costs_nothing(status):
    bench = Bench(Script(status, [b'{"error":{"message":"no"}}']), cap=10**9)
    sink = await bench.serve(make(), ListSink())
    assert sink.status == {401: 502}.get(status, status)
    assert [settled.charge for settled in bench.journal.settled()] == [0]
    assert (bench.cap.spent, bench.cap.held) == (0, 0)


async def test_a_break_in_a_stream_is_an_event_without_done_and_is_charged():
    script = Script(200, [*chunks("a ", "b ", usage=False, done=False), UpstreamInterrupted("cut")])
    bench = Bench(script)
    sink = await bench.serve(make(stream=True), ListSink())
    assert b"data: ERROR cut" in sink.body
    assert b"[DONE]" not in sink.body
    assert bench.journal.settled()[0].usage.output_tokens == 2


async def test_an_error_as_the_first_event_is_an_error_answer():
    bench = Bench(Script(200, [b'data: {"error":{"message":"late no"}}\n\n']))
    sink = await bench.serve(make(stream=True), ListSink())
    assert (sink.status, sink.body) == (500, b"late no")


async def test_another_target_answers_when_the_first_fails():
    bench = Bench(Script(503, [b""]), UpstreamTimeout("slow"), Script(200, [answer()]))
    sink = await bench.serve(make(), ListSink(), target("a"), target("b"), target("c"))
    assert sink.status == 200
    assert [opened.provider for opened in bench.journal.opened()] == ["a", "c"]
    [settled] = bench.journal.settled()
    assert (settled.attempt, settled.costs) == (1, (0, CHARGE))


async def test_a_callers_fault_is_not_tried_elsewhere():
    bench = Bench(Script(400, [b'{"error":{"message":"bad"}}']))
    sink = await bench.serve(make(), ListSink(), target("a"), target("b"))
    assert (sink.status, len(bench.journal.opened())) == (400, 1)


async def test_a_model_that_one_target_does_not_have_may_be_at_another():
    said = b'{"error":{"message":"No such model","code":"model_not_found"}}'
    bench = Bench(Script(404, [said]), Script(200, [answer()]))
    sink = await bench.serve(make(), ListSink(), target("a"), target("b"))
    assert sink.status == 200
    assert [opened.provider for opened in bench.journal.opened()] == ["a", "b"]
    assert not bench.health.breakers
    lost = Bench(Script(404, [said]), Script(404, [said]))
    assert (await lost.serve(make(), ListSink(), target("a"), target("b"))).status == 404


def stale() -> Script:
    """A kept connection that the provider had closed."""
    return Script(0, [StaleConnection("closed")], reused=True)


async def test_a_stale_connection_is_tried_once_more():
    bench = Bench(stale(), Script(200, [answer()]))
    sink = await bench.serve(make(), ListSink())
    assert sink.status == 200
    assert len(bench.journal.settled()) == 1


async def test_a_stale_connection_is_tried_once_more_and_then_elsewhere():
    bench = Bench(stale(), Script(503, [b""]), Script(200, [answer()]))
    sink = await bench.serve(make(), ListSink(), target("a"), target("b"))
    assert sink.status == 200
    assert [opened.provider for opened in bench.journal.opened()] == ["a", "a", "b"]


async def test_each_target_may_have_a_stale_connection():
    bench = Bench(stale(), stale(), stale(), Script(200, [answer()]))
    sink = await bench.serve(make(), ListSink(), target("a"), target("b"), target("c"))
    assert sink.status == 200
    assert [opened.provider for opened in bench.journal.opened()] == ["a", "a", "b", "b"]


async def test_a_provider_that_keeps_closing_is_an_error_that_costs_nothing():
    bench = Bench(stale(), stale(), cap=10**9)
    sink = await bench.serve(make(), ListSink())
    assert sink.status == 502
    [settled] = bench.journal.settled()
    assert (settled.charge, settled.costs) == (0, (0, 0))


async def test_a_cap_refuses_what_does_not_fit_and_says_what_would():
    bench = Bench(cap=300_000)
    sink = await bench.serve(make(max_tokens=90), ListSink())
    assert (sink.status, sink.headers["x-code"]) == (429, "organization_spend_limit_exceeded")
    assert sink.body.startswith(
        b"You exceeded your current quota, please check your plan and billing details."
    )
    assert b"With max_tokens up to" in sink.body
    assert bench.journal.records == []


async def test_an_unsaid_output_limit_is_shrunk_to_the_money():
    bench = Bench(Script(200, [answer()]), cap=4_000_000)
    call = make()
    call.max_output = None
    del call.members["max_tokens"]
    await bench.serve(call, ListSink(), target(max_output=100_000, context_window=1_000_000))
    sent = msgspec.json.decode(bench.transport.used[0].request.body)
    assert 1024 <= sent["max_tokens"] < 2000
    assert bench.journal.opened()[0].hold <= 4_000_000


async def test_a_call_waits_for_the_holds_of_others():
    first = Script(200, [None])
    bench = Bench(first, Script(200, [answer()]), cap=400_000)
    sink = ListSink()
    one = asyncio.create_task(bench.serve(make(), sink))
    await asyncio.sleep(0.01)
    assert bench.cap.held > 200_000
    two = asyncio.create_task(bench.serve(make(), ListSink()))
    await asyncio.sleep(0.01)
    sink.hang_up()
    await one
    assert (await two).status == 200


@pytest.mark.parametrize("count", [1, 7, 50])
async def test_exactly_as_many_calls_are_granted_as_the_money_covers(count):
    scripts = [Script(200, [None]) for _ in range(200)]
    price = bound(make(), (target(),))
    bench = Bench(*scripts, cap=price * count + price - 1)
    sinks = [ListSink() for _ in range(200)]
    tasks = [asyncio.create_task(bench.serve(make(), sink)) for sink in sinks]
    await asyncio.sleep(0.1)
    assert len(bench.journal.opened()) == count
    assert bench.cap.held <= bench.cap.rows[0].amount
    for sink in sinks:
        sink.hang_up()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_context_too_long_and_output_too_large_are_refused_before_anything_is_opened():
    bench = Bench()
    long = [{"role": "user", "content": "w " * 20_000}]
    sink = await bench.serve(make(messages=long), ListSink())
    assert (sink.status, sink.headers["x-code"]) == (400, "context_length_exceeded")
    sink = await bench.serve(make(max_tokens=101), ListSink())
    assert (sink.status, b"supports at most 100" in sink.body) == (400, True)
    assert bench.journal.records == []


async def test_a_journal_that_cannot_write_stops_calls_with_503():
    bench = Bench()
    bench.journal.accepting = False
    assert (await bench.serve(make(), ListSink())).status == 503


async def test_nothing_is_sent_that_the_journal_does_not_take():
    def refuse(_):
        raise Unavailable("the disk is full")

    bench = Bench(Script(200, [answer()]), cap=10**9)
    bench.journal.open = refuse
    assert (await bench.serve(make(), ListSink())).status == 503
    [script] = bench.transport.used
    assert not script.sent
    assert (bench.cap.spent, bench.cap.held) == (0, 0)


async def test_a_stream_that_runs_past_its_hold_is_cut():
    bench = Bench(Script(200, chunks(*["w "] * 400, usage=False)), cap=10**9)
    sink = await bench.serve(make(stream=True), ListSink())
    assert b"ERROR" in sink.body
    assert b"[DONE]" not in sink.body
    [opened], [settled] = bench.journal.opened(), bench.journal.settled()
    assert settled.charge == opened.hold
    assert settled.usage.output_tokens < 400


async def test_our_own_bug_is_a_500_in_shape_and_frees_the_hold():
    bench = Bench(Script(200, [ZeroDivisionError()]), cap=10**9)
    call, sink = make(), ListSink()
    call.principal = Principal(key=1, project=2, account=3)
    from tests.path.fakes import FixedRoutes

    await bench.pipeline.serve(call, sink, FixedRoutes(target()))
    assert sink.status == 500
    assert len(bench.faults) == 1
    assert bench.cap.held == 0
    assert len(bench.journal.settled()) == 1


async def test_a_cancelled_call_is_settled_for_what_was_seen():
    bench = Bench(Script(200, [*chunks("a ", "b ", usage=False, done=False), None]), cap=10**9)
    task = asyncio.create_task(bench.serve(make(stream=True), ListSink()))
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    [settled] = bench.journal.settled()
    assert (settled.usage.output_tokens, settled.estimated) == (2, True)
    assert bench.cap.held == 0


async def test_a_long_stream_leaves_marks():
    bench = Bench(Script(200, chunks(*["w "] * 600)))
    await bench.serve(make(stream=True, max_tokens=1000), ListSink(), target(max_output=1000))
    marks = [record for record in bench.journal.records if type(record).__name__ == "Mark"]
    assert [mark.usage.output_tokens for mark in marks] == [256, 512]


async def test_a_provider_that_bills_anyway_is_read_to_its_end():
    bench = Bench(Script(200, chunks("a ", "b ", "c ")), cap=10**9)
    billing = target()
    billing = msgspec.structs.replace(billing, host=msgspec.structs.replace(billing.host, hangup="drain"))
    await bench.serve(make(stream=True), ListSink(gone_after=1), billing)
    [settled] = bench.journal.settled()
    assert (settled.charge, settled.estimated) == (CHARGE, False)


async def test_a_keys_own_deadlines_win():
    bench = Bench(Script(200, [answer()]), key_rules={"fast": KeyRules(Deadlines(total_s=30))})
    call = make()
    call.principal = Principal(key=1, project=2, account=3, name="fast")
    await bench.serve(call, ListSink())
    assert bench.transport.targets[0].deadlines.total_s == 30


async def test_a_keys_own_policy_for_parameters_wins():
    bench = Bench(Script(200, [answer()]), key_rules={"strict": KeyRules(parameters="strict")})
    call = make()
    call.principal = Principal(key=1, project=2, account=3, name="strict")
    await bench.serve(call, ListSink(), msgspec.structs.replace(target(), parameters="lenient"))
    assert bench.transport.targets[0].parameters == "strict"
    assert bench.transport.targets[0].deadlines == target().deadlines


async def test_a_request_that_we_sent_ourselves_is_refused():
    with pytest.raises(LoopRefused) as caught:
        refuse_loop(b"me", "me")
    assert caught.value.http_status == 508
    refuse_loop(b"another", "me")
    refuse_loop(None, "me")
