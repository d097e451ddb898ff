"""Faults on request, and the manners of an exchange: deadlines, hang-ups, no task left behind."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from tests.simulator.sim_upstream import Upstream, request, target

from headgate.errors import CallerGone, UpstreamInterrupted, UpstreamTimeout
from headgate.transport.simulator import DIRECTIVES, FAULTS

pytestmark = pytest.mark.anyio

REFUSING = [fault for fault in FAULTS.values() if fault.status]
SHORT = {"first_byte_s": 0.03, "between_frames_s": 0.03, "connect_s": 0.03}
HELLO = {"messages": [{"role": "user", "content": "say hello my dear world of water"}]}


def body(model: str, *, stream: bool) -> dict[str, Any]:
    asked = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"model": model, **HELLO, **asked}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", REFUSING, ids=lambda fault: fault.name)
async def test_a_refusal_is_a_real_providers_answer(upstream: Upstream, fault: Any, stream: bool) -> None:
    for seen in (
        await upstream.ask("/chat/completions", body(f"sim-{fault.name}", stream=stream)),
        await upstream.ask("/chat/completions", body("gpt-4o", stream=stream), f"fault={fault.name}"),
    ):
        assert seen.status == fault.status
        if fault.html:
            assert seen.body.startswith(b"<html>")
            continue
        error = seen.json["error"]
        assert error == {"message": fault.message, "type": fault.type, "param": None, "code": fault.code}
        for name, value in fault.headers:
            assert seen.headers[name.encode()] == value.encode()


async def test_embeddings_and_completions_fail_too(upstream: Upstream) -> None:
    seen = await upstream.ask("/embeddings", {"model": "text-embedding-3-small", "input": "x"}, "fault=500")
    assert seen.status == 500
    seen = await upstream.ask("/completions", {"model": "sim-429", "prompt": "x"})
    assert seen.status == 429
    seen = await upstream.ask(
        "/embeddings", {"model": "text-embedding-3-small", "input": "x"}, "fault=nousage"
    )
    assert "usage" not in seen.json


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("refused", UpstreamInterrupted),
        ("unreachable", UpstreamTimeout),
        ("reset", UpstreamInterrupted),
        ("hang", UpstreamTimeout),
        ("slow", UpstreamTimeout),
        ("stall", UpstreamTimeout),
        ("cut", UpstreamInterrupted),
        ("reset-body", UpstreamInterrupted),
    ],
)
async def test_a_broken_connection_raises_what_the_port_says(
    upstream: Upstream, fault: str, error: type[Exception], stream: bool
) -> None:
    with pytest.raises(error):
        await upstream.ask("/chat/completions", body(f"sim-{fault}", stream=stream), **SHORT)
    with pytest.raises(error):
        await upstream.ask("/chat/completions", body("gpt-4o", stream=stream), f"fault={fault}", **SHORT)


@pytest.mark.parametrize("fault", ["cut", "stall"])
async def test_what_came_before_the_break_is_read_first(upstream: Upstream, fault: str) -> None:
    exchange = await upstream.simulator.acquire(target(f"sim-{fault}", between_frames_s=0.03))
    exchange.send(request("/chat/completions", body(f"sim-{fault}", stream=True)))
    await exchange.head()
    data = await exchange.read()
    assert data.count(b"data: ") >= 2
    assert b"[DONE]" not in data
    for _ in range(2):
        with pytest.raises((UpstreamInterrupted, UpstreamTimeout)):
            await exchange.read()


async def test_bodies_that_end_early_or_are_not_the_wire(upstream: Upstream) -> None:
    whole = await upstream.ask("/chat/completions", body("gpt-4o", stream=True))
    seen = {
        name: await upstream.ask("/chat/completions", body("gpt-4o", stream=True), f"fault={name}")
        for name in (
            "early-end",
            "no-done",
            "done-twice",
            "garbage",
            "html",
            "empty-body",
            "error-first",
            "error-late",
        )
    }
    assert whole.body.startswith(seen["early-end"].body)
    assert b'finish_reason":"stop' not in seen["early-end"].body
    assert seen["no-done"].body + b"data: [DONE]\n\n" == whole.body
    assert seen["done-twice"].body.count(b"[DONE]") == 2
    with pytest.raises(json.JSONDecodeError):
        [json.loads(event) for event in seen["garbage"].events]
    assert seen["html"].headers[b"content-type"] == b"text/html"
    assert seen["empty-body"].body == b""
    (first,) = seen["error-first"].events
    assert json.loads(first)["error"]["code"] == "rate_limit_exceeded"
    *said, last = seen["error-late"].events
    assert set(json.loads(last)["error"]) == {"message", "type", "param", "code"}
    assert said
    for name in ("early-end", "garbage"):
        broken = await upstream.ask("/chat/completions", body("gpt-4o", stream=False), f"fault={name}")
        assert b"content-length" not in broken.headers
        with pytest.raises(json.JSONDecodeError):
            _ = broken.json


async def test_awkward_cuts_and_line_ends_carry_the_same_answer(upstream: Upstream) -> None:
    whole = await upstream.ask("/chat/completions", body("gpt-4o", stream=True))
    split = await upstream.ask("/chat/completions", body("gpt-4o", stream=True), "fault=split")
    drip = await upstream.ask("/chat/completions", body("gpt-4o", stream=True), "fault=drip-0; tokens=0")
    crlf = await upstream.ask("/chat/completions", body("gpt-4o", stream=True), "fault=crlf")
    assert split.body == drip.body == whole.body
    assert {len(read) for read in split.reads} > {1, 2, 3, 5}
    assert crlf.body.replace(b": keep-alive\r\n\r\n", b"").replace(b"\r\n", b"\n") == whole.body


async def test_counts_that_cannot_be_true(upstream: Upstream) -> None:
    usage = {
        name: (await upstream.ask("/chat/completions", body(f"sim-{name}", stream=False))).json.get("usage")
        for name in ("nousage", "usage-zero", "usage-negative", "usage-huge")
    }
    assert usage["nousage"] is None
    assert usage["usage-zero"]["total_tokens"] == 0
    assert usage["usage-negative"]["completion_tokens"] < 0
    assert usage["usage-huge"]["prompt_tokens"] == 10**18
    chunks = (await upstream.ask("/chat/completions", body("sim-usage-falling", stream=True))).chunks
    counts = [c["usage"]["completion_tokens"] for c in chunks[:-1]]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts)
    silent = (await upstream.ask("/chat/completions", body("sim-nousage", stream=True))).chunks
    assert all(c["choices"] and c["usage"] is None for c in silent)


async def test_content_on_request(upstream: Upstream) -> None:
    async def message(model: str) -> tuple[dict[str, Any], str]:
        choice = (await upstream.ask("/chat/completions", body(model, stream=False))).json["choices"][0]
        return choice["message"], choice["finish_reason"]

    refusal, finish = await message("sim-refusal")
    assert (refusal["content"], finish) == (None, "stop")
    assert refusal["refusal"]
    assert (await message("sim-empty"))[0]["content"] == ""
    assert (await message("sim-filter"))[1] == "content_filter"
    assert (await message("sim-echo"))[0]["content"] == HELLO["messages"][0]["content"]


async def test_a_delay_is_waited_for(upstream: Upstream) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await upstream.chat("say pong", "delay_ms=30")
    assert loop.time() - started >= 0.03
    started = loop.time()
    seen = await upstream.chat("say one two three four five", "chunk_ms=4", stream=True)
    assert loop.time() - started >= 7 * 0.004
    assert len(seen.reads) >= 7
    started = loop.time()
    await upstream.ask("/chat/completions", body("sim-slow-20", stream=False))
    assert loop.time() - started >= 0.02


async def test_a_total_deadline_ends_a_slow_stream(upstream: Upstream) -> None:
    with pytest.raises(UpstreamTimeout, match="total_s"):
        await upstream.ask(
            "/chat/completions", body("gpt-4o", stream=True), "chunk_ms=9; tokens=100", total_s=0.05
        )


@pytest.mark.parametrize(
    "wish",
    [
        "fault=nonsense",
        "falut=500",
        "delay_ms=soon",
        "delay_ms=-1",
        "tokens=9999999",
        "fault=cut-5",
        "delay_ms",
    ],
)
async def test_a_directive_that_does_not_exist_is_refused_by_name(upstream: Upstream, wish: str) -> None:
    seen = await upstream.chat("say pong", wish)
    assert (seen.status, seen.json["error"]["type"]) == (400, "invalid_request_error")
    assert seen.json["error"]["message"].startswith("The simulator cannot do this")


async def test_a_model_that_names_no_fault_is_refused(upstream: Upstream) -> None:
    seen = await upstream.ask("/chat/completions", body("sim-nonsense", stream=False))
    assert seen.status == 400
    assert "usage-huge" in seen.json["error"]["message"]


async def test_the_header_wins_over_the_models_name(upstream: Upstream) -> None:
    seen = await upstream.ask("/chat/completions", body("sim-500", stream=False), "fault=503")
    assert seen.status == 503


@pytest.mark.parametrize("where", ["head", "read"])
async def test_a_hang_up_wakes_the_wait(upstream: Upstream, where: str) -> None:
    model = "sim-hang" if where == "head" else "sim-stall"
    exchange = await upstream.simulator.acquire(target(model))
    exchange.send(request("/chat/completions", body(model, stream=True)))
    if where == "read":
        await exchange.head()
        await exchange.read()
    asyncio.get_running_loop().call_later(0.005, exchange.abort)
    with pytest.raises(CallerGone):
        await (exchange.head() if where == "head" else exchange.read())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    exchange.abort()
    with pytest.raises(CallerGone):
        await exchange.read()
    exchange.release()
    await asyncio.sleep(0)  # nothing is pending against this task


async def test_a_hang_up_during_a_count_wakes_it_too(upstream: Upstream) -> None:
    exchange = await upstream.simulator.acquire(target("gpt-4o"))
    long = {"model": "gpt-4o", "messages": [{"role": "user", "content": "water " * 60_000}]}
    exchange.send(request("/chat/completions", long))
    asyncio.get_running_loop().call_soon(exchange.abort)
    with pytest.raises(CallerGone):
        await exchange.head()


async def test_a_hang_up_while_nobody_waits_is_seen_by_the_next_read(upstream: Upstream) -> None:
    exchange = await upstream.simulator.acquire(target("gpt-4o"))
    exchange.send(request("/chat/completions", body("gpt-4o", stream=True)))
    await exchange.head()
    exchange.abort()
    with pytest.raises(CallerGone):
        await exchange.read()


async def test_a_cancellation_from_outside_is_not_taken_for_a_hang_up(upstream: Upstream) -> None:
    exchange = await upstream.simulator.acquire(target("sim-hang"))
    exchange.send(request("/chat/completions", body("sim-hang", stream=False)))
    task = asyncio.ensure_future(exchange.head())
    await asyncio.sleep(0.002)
    task.cancel()
    exchange.abort()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_task_is_left_behind(upstream: Upstream) -> None:
    before = asyncio.all_tasks()
    for fault in ("500", "cut", "split", "long-50", "nousage"):
        exchange = await upstream.simulator.acquire(target(f"sim-{fault}"))
        exchange.send(request("/chat/completions", body(f"sim-{fault}", stream=True)))
        await exchange.head()
        await exchange.read()
        exchange.release()
    assert asyncio.all_tasks() == before
    await upstream.simulator.close()


async def test_a_long_stream_leaves_the_loop_to_others(upstream: Upstream) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    seen = await upstream.chat("hello", "tokens=2000", stream=True)
    task.cancel()
    assert turns >= len(seen.reads) > 10


def test_every_fault_and_directive_is_described() -> None:
    assert all(fault.does and fault.name == name for name, fault in FAULTS.items())
    assert all(DIRECTIVES.values())
    assert all(bool(fault.message) != fault.html for fault in REFUSING)


def test_importing_it_loads_neither_tiktoken_nor_its_own_phrase_book() -> None:
    code = (
        "import sys, headgate.transport.simulator; "
        "print([m for m in sys.modules if m == 'tiktoken' or m.endswith('simulator.obey')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
