"""Calls that go where the settings say, through a whole worker: what the caller sees, and the books."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.worker import ONE_ATTEMPT, chat, worker
from tests.upstream import ScriptedUpstream, chat_json, error_json

from headgate.values import Book

pytestmark = pytest.mark.anyio

SIZES = (
    ONE_ATTEMPT
    + """
[[models]]
name = "smart"
targets = [
  { provider = "openai", model = "gpt-4o-mini", when = { max_input_tokens = 100 } },
  { provider = "compatible", model = "scripted-1", when = { min_input_tokens = 101, stream = true } },
]
"""
)
LONG = [{"role": "user", "content": "word " * 200}]


async def test_a_call_goes_to_the_target_that_is_for_it_and_holds_money_for_no_other(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, more=SIZES + _DEAR) as gateway,
    ):
        short = await gateway.ask(chat(model="smart"))
        long = await gateway.ask(chat(model="smart", stream=True, messages=LONG))
        assert (short.status, long.status) == (200, 200)
        assert [request.json()["model"] for request in upstream.requests] == ["gpt-4o-mini", "scripted-1"]
        cheap, dear = await gateway.booked(short), await gateway.booked(long)
        assert cheap is not None
        assert dear is not None
        assert cheap.hold < 1_000_000 < dear.hold


_DEAR = """
[[prices.rows]]
model = "scripted-1"
input = 100
output = 100
"""


async def test_a_call_that_no_target_is_for_is_refused_before_anything_is_held(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url, more=SIZES) as gateway:
        reply = await gateway.ask(chat(model="smart", messages=LONG))
        assert reply.status == 400
        assert b'"code":"no_target_for_call"' in reply.body
        assert b"`smart`" in reply.body
        assert await gateway.books() == {}
        assert upstream.requests == []


CHOICES = (
    ONE_ATTEMPT
    + """
[[models]]
name = "cheap"
choice = "least_cost"
targets = [{ provider = "compatible", model = "scripted-1" }, { provider = "openai", model = "gpt-4o-mini" }]
[[models]]
name = "fast"
choice = "least_latency"
targets = [{ provider = "compatible", model = "scripted-1" }, { provider = "openai", model = "gpt-4o-mini" }]
"""
    + _DEAR
)


async def test_the_cheapest_is_asked_first_and_the_hold_covers_the_dearest(tmp_path: Path) -> None:
    answers = (chat_json("one"), error_json(500), chat_json("two"))
    async with (
        ScriptedUpstream(*answers) as upstream,
        worker(tmp_path, upstream.base_url, more=CHOICES) as gateway,
    ):
        first = await gateway.ask(chat(model="cheap"))
        second = await gateway.ask(chat(model="cheap"))
        assert [request.json()["model"] for request in upstream.requests] == [
            "gpt-4o-mini",
            "gpt-4o-mini",
            "scripted-1",
        ]
        cheap, dear = await gateway.booked(first), await gateway.booked(second)
        assert cheap is not None
        assert dear is not None
        assert cheap.hold == dear.hold > 1_000_000
        assert dear.charge > 100 * cheap.charge


@pytest.mark.parametrize("stream", [False, True])
async def test_each_is_measured_and_then_the_fastest_is_asked(tmp_path: Path, stream: bool) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url, more=CHOICES) as gateway:
        latencies, now = gateway.app.outward.steering.latencies, gateway.app.clock.monotonic
        both = gateway.app.routes.candidates("fast", Book.REAL, gateway.app.clock.wall())
        for _ in range(2):
            assert (await gateway.ask(chat(model="fast", stream=stream))).status == 200
        assert [request.json()["model"] for request in upstream.requests] == ["scripted-1", "gpt-4o-mini"]
        assert all(latencies.of(target, stream=stream) > 0 for target in both)
        assert not any(latencies.of(target, stream=not stream) for target in both)
        for _ in range(50):
            latencies.took(both[0], 1e12, now(), stream=stream)
        await gateway.ask(chat(model="fast", stream=stream))
        assert upstream.requests[-1].json()["model"] == "gpt-4o-mini"


PLACES = (
    ONE_ATTEMPT
    + """
[[models]]
name = "smart"
targets = [
  { provider = "openai", model = "gpt-4o-mini", region = "us" },
  { provider = "compatible", model = "scripted-1" },
]
fallback = ["gpt-4o-mini"]
"""
)
IN_EU = 'region = "eu-de"\ndata = ["no_training"]'
DEMAND = "x-headgate-demand: region=eu, data=no_training\r\n"


async def test_a_demand_of_the_request_holds_for_fallbacks_too(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("a"), chat_json("b"), error_json(500)) as upstream,
        worker(tmp_path, upstream.base_url, extra=IN_EU, more=PLACES) as gateway,
    ):
        assert (await gateway.ask(chat(model="smart"))).status == 200
        assert (await gateway.ask(chat(model="smart"), more=DEMAND)).status == 200
        assert (await gateway.ask(chat(model="smart"), more=DEMAND)).status == 500
        assert [request.json()["model"] for request in upstream.requests] == [
            "gpt-4o-mini",
            "scripted-1",
            "scripted-1",
        ]
        charged = [row.charge for row in (await gateway.books()).values()]
        assert sum(charge > 0 for charge in charged) == 2


async def test_a_demand_that_no_target_meets_is_named_before_anything_is_held(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url, more=PLACES) as gateway:
        for model in ("smart", "gpt-4o-mini"):
            reply = await gateway.ask(chat(model=model), more="x-headgate-demand: region=eu\r\n")
            assert reply.status == 400
            assert b'"code":"no_target_for_demand"' in reply.body
            assert b"region eu (the header x-headgate-demand)" in reply.body
        wrong = await gateway.ask(chat(), more="x-headgate-demand: continent=eu\r\n")
        assert wrong.status == 400
        assert b"continent=eu" in wrong.body
        assert upstream.requests == []
        assert await gateway.books() == {}


async def test_the_settings_demand_it_of_the_calls_of_a_key(tmp_path: Path) -> None:
    demands = (
        PLACES
        + '[[demands]]\nkeys = ["first"]\nregions = ["eu"]\n[[demands]]\nkeys = ["x*"]\nregions = ["ch"]\n'
    )
    async with (
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, extra=IN_EU, more=demands) as gateway,
    ):
        assert (await gateway.ask(chat(model="smart"))).status == 200
        assert upstream.requests[0].json()["model"] == "scripted-1"
        reply = await gateway.ask(chat())
        assert reply.status == 400
        assert b"region eu (the gateway's settings)" in reply.body
