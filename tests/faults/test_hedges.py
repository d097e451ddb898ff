"""A second target beside a slow first one: who answers first is the call's, and the other is closed and paid by us."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.answers import chat_frames, chat_json, stream_steps
from tests.faults.worker import INPUT, OUTPUT, Booked, Reply, Worker, chat, worker
from tests.upstream import HANG, Answer, ScriptedUpstream, error_json

pytestmark = pytest.mark.anyio
AFTER_MS = 60
CLOSED_WITHIN_S = 0.25
# Our estimate of the input of an attempt that gave way: a quarter of the request's bytes.
ROUGH = range(3, 40)

HEDGED = """
[[providers]]
name = "second"
base_url = "%s"
api_key = "k2"
models = ["none-*"]
%s
[[models]]
name = "m"
targets = [{ provider = "openai", model = "gpt-4o-mini" }, { provider = "second", model = "gpt-4o-mini" }]
hedge = { after_ms = %d, most_percent = 50 }
[retries]
attempts = 1
"""


@contextlib.asynccontextmanager
async def hedged(
    folder: Path, first: ScriptedUpstream, second: ScriptedUpstream, after_ms: int = AFTER_MS, more: str = ""
) -> AsyncIterator[Worker]:
    """A worker whose calls of `m` may all be sent twice, from the third on."""
    async with worker(folder, first.base_url, more=HEDGED % (second.base_url, more, after_ms)) as gateway:
        await gateway.warm()
        yield gateway


def ready(gateway: Worker) -> None:
    """Save up for a second request, as calls before would have done."""
    from headgate.routing.hedging import Hedging

    terms = gateway.app.routes.extras_of("m")[1]
    assert terms is not None
    hedging = gateway.app.pipeline._races._models.setdefault("m", Hedging(terms))
    for _ in range(4):
        hedging.share.called()


async def asked(gateway: Worker, *, stream: bool, **more: object) -> Reply:
    ready(gateway)
    return await gateway.ask(chat(stream=stream, model="m", **more))


def outcomes(gateway: Worker) -> dict[str, int]:
    counts = gateway.app.metrics.counts
    return {labels[1]: count for (name, labels), count in counts.items() if name == "headgate_hedges"}


async def only(gateway: Worker) -> Booked:
    (booked,) = (await gateway.books()).values()
    assert booked.charge == booked.input * INPUT + booked.output * OUTPUT
    return booked


def whole(answer_s: float = 0.0) -> Answer:
    async def late(peer, request) -> None:
        await asyncio.sleep(answer_s)
        for part in [chat_json("Hello")] if not request.json().get("stream") else stream_steps(chat_frames()):
            if isinstance(part, bytes):
                await peer.send(part)

    return late


@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_answers_and_the_first_is_closed(tmp_path: Path, stream: bool) -> None:
    async with (
        ScriptedUpstream([HANG]) as slow,
        ScriptedUpstream() as quick,
        hedged(tmp_path, slow, quick) as gateway,
    ):
        loop = asyncio.get_running_loop()
        began_s = loop.time()  # as timers count: from when its turn of the loop began
        reply = await asked(gateway, stream=stream)
        assert loop.time() - began_s >= AFTER_MS / 1000
        answered_s = time.monotonic()
        assert (reply.status, reply.whole) == (200, True)
        assert b"Hello" in reply.body
        assert reply.headers["x-headgate-provider"] == "second"
        assert reply.headers["x-headgate-hedge"] == "won"
        assert reply.headers["x-headgate-attempts"] == "2"
        peer = await slow.closed()
        assert peer.closed_s is not None
        assert peer.closed_s - answered_s <= CLOSED_WITHIN_S
        booked = await only(gateway)
        assert (booked.status, booked.estimated, booked.absorbed) == (200, False, 0)
        ((attempt, given, made),) = await gateway.lost()
        assert (attempt, made) == (0, 0)
        assert given in ROUGH
        assert outcomes(gateway) == {"won": 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_answers_and_the_second_is_closed(tmp_path: Path, stream: bool) -> None:
    async with (
        ScriptedUpstream(whole(0.3)) as slow,
        ScriptedUpstream([HANG]) as slower,
        hedged(tmp_path, slow, slower) as gateway,
    ):
        reply = await asked(gateway, stream=stream)
        answered_s = time.monotonic()
        assert (reply.status, reply.headers["x-headgate-provider"]) == (200, "openai")
        assert reply.headers["x-headgate-hedge"] == "lost"
        peer = await slower.closed()
        assert peer.closed_s is not None
        assert peer.closed_s - answered_s <= CLOSED_WITHIN_S
        assert (await only(gateway)).status == 200
        ((attempt, given, made),) = await gateway.lost()
        assert (attempt, made) == (1, 0)
        assert given in ROUGH
        assert outcomes(gateway) == {"lost": 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_is_quick_is_asked_alone(tmp_path: Path, stream: bool) -> None:
    async with (
        ScriptedUpstream() as quick,
        ScriptedUpstream() as spare,
        hedged(tmp_path, quick, spare, after_ms=2000) as gateway,
    ):
        reply = await asked(gateway, stream=stream)
        assert (reply.status, reply.headers["x-headgate-provider"]) == (200, "openai")
        assert "x-headgate-hedge" not in reply.headers
        assert spare.requests == []
        assert (await gateway.lost(), outcomes(gateway)) == ([], {})


async def test_a_stream_that_has_begun_is_not_asked_for_again(tmp_path: Path) -> None:
    frames = chat_frames()
    go = asyncio.Event()
    head, *steps = stream_steps(frames)
    begun = [head, *steps[:2], go, *steps[2:]]
    async with (
        ScriptedUpstream(begun) as first,
        ScriptedUpstream() as spare,
        hedged(tmp_path, first, spare) as gateway,
    ):
        asking = asyncio.ensure_future(asked(gateway, stream=True))
        await asyncio.sleep(4 * AFTER_MS / 1000)
        assert spare.requests == []
        go.set()
        assert (await asking).headers["x-headgate-provider"] == "openai"


@pytest.mark.parametrize("stream", [False, True])
async def test_where_one_fails_the_other_may_still_answer(tmp_path: Path, stream: bool) -> None:
    async def fails(peer, request) -> None:
        await asyncio.sleep(0.2)
        await peer.send(error_json(500, "broken"))

    for number, (first, second, provider) in enumerate(
        [(fails, whole(0.4), "second"), (whole(0.4), error_json(500, "broken"), "openai")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with (
            ScriptedUpstream(first) as one,
            ScriptedUpstream(second) as two,
            hedged(folder, one, two) as gateway,
        ):
            reply = await asked(gateway, stream=stream)
            assert (reply.status, reply.headers["x-headgate-provider"]) == (200, provider)
            assert (len(one.requests), len(two.requests)) == (1, 1)
            assert (await only(gateway)).status == 200
            assert await gateway.lost() == []
            assert outcomes(gateway) == ({"won": 1} if provider == "second" else {"failed": 1})


async def test_where_both_fail_the_next_one_is_asked(tmp_path: Path) -> None:
    async def fails(peer, request) -> None:
        await asyncio.sleep(0.2)
        await peer.send(error_json(503, "busy"))

    third = '\n[[models]]\nname = "n"\ntargets = [{ provider = "compatible", model = "scripted-1" }]\n'

    async with (
        ScriptedUpstream(fails, whole()) as one,
        ScriptedUpstream(error_json(500, "broken")) as two,
        worker(
            tmp_path,
            one.base_url,
            more=(HEDGED % (two.base_url, "", AFTER_MS)).replace("hedge =", 'fallback = ["n"]\nhedge =')
            + third,
        ) as gateway,
    ):
        reply = await asked(gateway, stream=True)
        assert (reply.status, reply.headers["x-headgate-provider"]) == (200, "compatible")
        assert reply.headers["x-headgate-attempts"] == "3"
        assert "x-headgate-hedge" not in reply.headers
        assert (len(one.requests), len(two.requests)) == (2, 1)
        assert (await only(gateway)).status == 200
        assert outcomes(gateway) == {"failed": 1}


async def test_a_refusal_by_the_first_is_the_answer(tmp_path: Path) -> None:
    async def refuses(peer, request) -> None:
        await asyncio.sleep(0.2)
        await peer.send(error_json(400, "no such thing"))

    async with (
        ScriptedUpstream(refuses) as one,
        ScriptedUpstream([HANG]) as two,
        hedged(tmp_path, one, two) as gateway,
    ):
        reply = await asked(gateway, stream=False)
        assert reply.status == 400
        await two.closed()
        booked = await only(gateway)
        assert (booked.status, booked.charge) == (400, 0)
        assert [attempt for attempt, *_ in await gateway.lost()] == [1]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hang_up_closes_both_and_pays_one(tmp_path: Path, stream: bool) -> None:
    async with (
        ScriptedUpstream([HANG]) as one,
        ScriptedUpstream([HANG]) as two,
        hedged(tmp_path, one, two) as gateway,
    ):
        ready(gateway)
        _, writer = await asyncio.open_connection(*gateway.address)
        writer.write(gateway.request(chat(stream=stream, model="m")))
        await two.received(1)
        left_s = time.monotonic()
        writer.close()
        for upstream in (one, two):
            peer = await upstream.closed()
            assert peer.closed_s is not None
            assert peer.closed_s - left_s <= CLOSED_WITHIN_S
        booked = await only(gateway)
        assert (booked.status, booked.input, booked.output) == (499, 9, 0)
        assert [attempt for attempt, *_ in await gateway.lost()] == [1]


async def test_a_hang_up_in_the_midst_of_the_seconds_answer_pays_what_was_seen(tmp_path: Path) -> None:
    frames = chat_frames()
    begun = [*stream_steps(frames)[:3], HANG]
    async with (
        ScriptedUpstream([HANG]) as one,
        ScriptedUpstream(begun) as two,
        hedged(tmp_path, one, two) as gateway,
    ):
        ready(gateway)
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(gateway.request(chat(stream=True, model="m")))
        await reader.readuntil(b"Hello")
        await one.closed()
        writer.close()
        await two.closed()
        booked = await only(gateway)
        assert (booked.status, booked.input, booked.estimated) == (499, 9, True)
        assert booked.output >= 1
        assert [attempt for attempt, *_ in await gateway.lost()] == [0]


async def test_a_deadline_ends_both_and_pays_one(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([HANG]) as one,
        ScriptedUpstream([HANG]) as two,
        hedged(tmp_path, one, two) as gateway,
    ):
        ready(gateway)
        reply = await gateway.ask(chat(model="m"), more="x-headgate-deadline-ms: 400\r\n")
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (
            408,
            "deadline_exceeded",
        ) or reply.status >= 400
        await one.closed()
        await two.closed()
        booked = await only(gateway)
        assert (booked.status, booked.output) == (reply.status, 0)
        assert [attempt for attempt, *_ in await gateway.lost()] == [1]


async def test_what_stops_the_gateway_ends_both(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([HANG]) as one,
        ScriptedUpstream([HANG]) as two,
        hedged(tmp_path, one, two) as gateway,
    ):
        asking = asyncio.ensure_future(asked(gateway, stream=True))
        await two.received(1)
        assert await gateway.app.calls.drain(0.05) == 1
        assert (await asking).status == 503
        await one.closed()
        await two.closed()
        assert (await only(gateway)).charge == 0


async def test_more_than_its_share_is_not_asked(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(whole(0.15)) as one,
        ScriptedUpstream([HANG]) as two,
        hedged(tmp_path, one, two, after_ms=20) as gateway,
    ):
        for _ in range(8):
            assert (await gateway.ask(chat(model="m"))).status == 200
        assert outcomes(gateway) == {"over_share": 4, "lost": 4}
        assert len(two.requests) == 4


async def test_room_is_taken_at_both_and_none_is_waited_for(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([HANG]) as one,
        ScriptedUpstream([HANG]) as two,
        hedged(tmp_path, one, two, more="max_concurrent = 1") as gateway,
    ):
        asking = [asyncio.ensure_future(asked(gateway, stream=True)) for _ in range(2)]
        await two.received(1)
        async with asyncio.timeout(5):
            while outcomes(gateway) != {"no_room": 1}:
                await asyncio.sleep(0.01)
        rooms = gateway.app.outward.doors._rooms
        assert (rooms["openai", ""].open, rooms["second", ""].open) == (2, 1)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await gateway.idle()
        assert all(not room.open for room in rooms.values())


async def test_calls_that_the_settings_do_not_mean_are_sent_once(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(whole(0.2)) as one,
        ScriptedUpstream() as two,
        hedged(tmp_path, one, two) as gateway,
    ):
        assert (await asked(gateway, stream=False, store=True)).headers["x-headgate-provider"] == "openai"
        assert two.requests == []
