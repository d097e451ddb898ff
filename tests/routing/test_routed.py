"""Calls that go where the settings say, through a whole worker: what the caller sees, and the books."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.worker import ONE_ATTEMPT, chat, worker
from tests.upstream import ScriptedUpstream

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
