"""How a session finds its provider: as other calls do, by health and room, until something answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.answers import error_json
from tests.faults.worker import Worker, worker
from tests.live.peer import MODEL, Told, calling, provider, session, usage
from tests.upstream import ScriptedUpstream
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.anyio
SETTINGS = """
[[providers]]
name = "first"
base_url = "%s"
api_key = "k"
models = ["none-*"]
%s
[[models]]
name = "gpt-realtime"
targets = [{ provider = "first", model = "gpt-realtime" }, { provider = "openai", model = "gpt-realtime" }]
[breaker]
row = 1
[retries]
attempts = 2
base_s = 0.0
"""


async def answering(told: Told) -> None:
    await told.say(session())
    while True:
        await told.answer(usage(100, 20), "one")


async def one_answer(gateway: Worker) -> None:
    async with calling(gateway, MODEL) as caller:
        await caller.hear("session.created")
        await caller.say("response.create")
        await caller.hear("response.done")


async def test_a_session_falls_back_and_what_is_out_is_not_asked_again(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(error_json(503, "busy")) as busy,
        provider(answering) as well,
        worker(tmp_path, well.base_url, more=SETTINGS % (busy.base_url, "")) as gateway,
    ):
        await one_answer(gateway)
        assert len(busy.requests) == 1
        await one_answer(gateway)
        assert len(busy.requests) == 1, "a breaker has taken it out"
        (standing,) = gateway.app.outward.health.unwell(gateway.app.clock.monotonic())
        assert (standing.place.provider, standing.out) == ("first", True)
        assert {booked.status for booked in (await gateway.books()).values()} == {200}


async def test_where_all_refuse_the_last_error_is_told_before_there_is_a_session(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(error_json(503, "busy")) as busy,
        ScriptedUpstream(error_json(500, "broken")) as broken,
        worker(tmp_path, broken.base_url, more=SETTINGS % (busy.base_url, "")) as gateway,
    ):
        with pytest.raises(InvalidStatus) as caught:
            await one_answer(gateway)
        assert caught.value.response.status_code == 500
        assert (len(busy.requests), len(broken.requests)) == (1, 1)
        assert gateway.held == 0


async def test_a_session_has_room_at_its_provider_until_it_ends(tmp_path: Path) -> None:
    narrow = "max_concurrent = 1\nlongest_wait_s = 0.2\nmax_waiting = 5"
    async with (
        provider(answering) as first,
        ScriptedUpstream() as unused,
        worker(
            tmp_path,
            unused.base_url,
            more=(SETTINGS % (first.base_url, narrow)).replace(
                ', { provider = "openai", model = "gpt-realtime" }', ""
            ),
        ) as gateway,
    ):
        rooms = gateway.app.outward.doors._rooms
        async with calling(gateway, MODEL) as caller:
            await caller.hear("session.created")
            assert rooms["first", ""].open == 1
            with pytest.raises(InvalidStatus) as caught:
                await one_answer(gateway)
            assert caught.value.response.status_code == 503
        async with asyncio.timeout(5):
            while rooms["first", ""].open:
                await asyncio.sleep(0.01)
        await one_answer(gateway)
