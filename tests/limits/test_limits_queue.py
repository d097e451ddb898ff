"""Calls that wait for a limit, through a real server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.answers import chat_json, default_answer
from tests.faults.worker import Reply, Worker, chat, worker
from tests.limits.served import another_key, limit, told
from tests.upstream import Peer, Received, ScriptedUpstream

pytestmark = pytest.mark.anyio
QUEUED = "x-headgate-queued-ms"


def slow(delay_s: float):
    """A provider that takes its time."""

    async def answer(peer: Peer, request: Received) -> None:
        await asyncio.sleep(delay_s)
        await peer.send(default_answer(request))

    return answer


async def until(true, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_call_waits_for_another_to_end_and_says_how_long(tmp_path: Path) -> None:
    async with ScriptedUpstream(slow(0.2)) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        patient = await another_key(gateway, "patient", queue_ms=5_000)
        await limit(gateway, "account", concurrency=1)
        first = asyncio.create_task(gateway.ask(chat()))
        await until(lambda: upstream.requests)
        refused = await gateway.ask(chat())
        assert (refused.status, QUEUED in refused.headers) == (429, False)
        replies = await asyncio.gather(*(patient.ask(chat(stream=stream)) for stream in (False, True)))
        assert [reply.status for reply in replies] == [200, 200]
        waits = sorted(int(reply.headers[QUEUED]) for reply in replies)
        assert waits[0] < waits[1] < 5_000
        assert (await first).status == 200
        assert QUEUED not in (await first).headers


async def test_a_wait_beyond_the_callers_deadline_is_not_begun(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        patient = await another_key(gateway, "patient", queue_ms=20_000)
        await limit(gateway, "account", rpm=6)
        for _ in range(6):
            assert (await patient.ask(chat())).status == 200
        reply = await patient.ask(chat(), more="x-headgate-deadline-ms: 2000\r\n")
        assert (reply.status, QUEUED in reply.headers) == (429, False)
        assert int(reply.headers["retry-after"]) > 2
        assert len(upstream.requests) == 6


async def test_who_waits_in_vain_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        patient = await another_key(gateway, "patient", queue_ms=300)
        await limit(gateway, "account", tpm=105)
        upstream.answers = [slow(1.0)]
        taking = asyncio.create_task(gateway.ask(chat(max_tokens=100)))  # and gives it back when it ends
        await until(lambda: upstream.requests)
        taken = await patient.ask(chat(max_tokens=100))
        assert taken.status == 429
        assert 290 <= int(taken.headers[QUEUED]) < 5_000
        assert int(taken.headers["retry-after-ms"]) > 1_000
        assert "on tokens per min (TPM): Limit 105" in json.loads(taken.body)["error"]["message"]
        await taking
        assert gateway.held == 0
        large = await patient.ask(chat(max_tokens=106))
        assert (large.status, QUEUED in large.headers) == (429, False)


async def test_a_limit_that_comes_back_too_late_is_not_waited_for(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        patient = await another_key(gateway, "patient", queue_ms=5_000)
        await limit(gateway, "account", rpd=1)
        assert (await patient.ask(chat())).status == 200
        reply = await patient.ask(chat())
        assert (reply.status, QUEUED in reply.headers, told(reply)["remaining-requests"]) == (429, False, "0")


async def test_who_hangs_up_leaves_the_line(tmp_path: Path) -> None:
    async with ScriptedUpstream(slow(0.3)) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        patient = await another_key(gateway, "patient", queue_ms=20_000)
        await limit(gateway, "account", concurrency=1)
        first = asyncio.create_task(gateway.ask(chat()))
        await until(lambda: upstream.requests)
        held = gateway.held
        _, writer = await asyncio.open_connection(*patient.address)
        writer.write(patient.request(chat()))
        entrance = gateway.app._metering.entrance
        await until(lambda: entrance.waiting == 1)
        assert gateway.held == held  # who waits holds no money
        writer.close()
        await until(lambda: entrance.waiting == 0)
        assert (await first).status == 200
        assert len(upstream.requests) == 1
        assert entrance._places == {}


async def test_no_more_wait_than_may_and_the_longest_lane_gives_way(tmp_path: Path) -> None:
    async with ScriptedUpstream(slow(0.6)) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        many = await another_key(gateway, "many", queue_ms=20_000)
        few = await another_key(gateway, "few", queue_ms=20_000)
        entrance = gateway.app._metering.entrance
        entrance._settings = type(entrance._settings)(queue_per_key=3, queue_total=4)
        await limit(gateway, "account", concurrency=2)
        asked = [asyncio.create_task(many.ask(chat())) for _ in range(2)]
        await until(lambda: len(upstream.requests) == 2)
        asked += [asyncio.create_task(many.ask(chat())) for _ in range(4)]
        await until(lambda: entrance.waiting == 3)
        others = [asyncio.create_task(few.ask(chat()))]
        await until(lambda: entrance.waiting == 4)
        others.append(asyncio.create_task(few.ask(chat())))
        replies = await asyncio.gather(*asked)
        assert sorted(reply.status for reply in replies) == [200] * 4 + [429] * 2
        assert [(await other).status for other in others] == [200, 200]


async def flood(caller: Worker, times: int, count: dict[int, int]) -> None:
    for _ in range(times):
        reply: Reply = await caller.ask(chat())
        count[reply.status] = count.get(reply.status, 0) + 1
        if reply.status != 200:
            await asyncio.sleep(0.02)


async def test_a_small_key_loses_nothing_beside_a_flood(tmp_path: Path) -> None:
    async with ScriptedUpstream(slow(0.05)) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        large = await another_key(gateway, "large", queue_ms=1_500)
        small = await another_key(gateway, "small", queue_ms=1_500)
        await limit(gateway, "account", concurrency=2)  # some 40 calls a second: the flood alone waits 2.5 s
        many: dict[int, int] = {}
        few: dict[int, int] = {}
        floods = [asyncio.create_task(flood(large, 25, many)) for _ in range(100)]
        await until(lambda: gateway.app._metering.entrance.waiting > 90)
        for _ in range(20):
            await flood(small, 1, few)
            await asyncio.sleep(0.05)
        for each in floods:
            each.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
        assert few[200] >= 19, few
        assert many[429] > 10  # there was a flood
