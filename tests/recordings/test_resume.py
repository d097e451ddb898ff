"""A stream that was cut goes on where its caller stopped reading: one call, one charge."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.faults.test_heartbeat import COMMENT, beating
from tests.faults.worker import ONE_ATTEMPT, chat, worker
from tests.recordings.callers import Caller, another_project, ask, put_away, replays
from tests.upstream import ScriptedUpstream, chat_json, chat_stream, error_json, stream_steps

pytestmark = pytest.mark.anyio
FREE = """
[[prices.rows]]
model = "gpt-4o-mini"
input = 0
output = 0
"""


def numbered(body: bytes) -> list[tuple[int, bytes]]:
    """The events of a stream with their numbers."""
    events = []
    for frame in body.split(b"\n\n")[:-1]:
        first, data = frame.split(b"\n", 1)
        assert first.startswith(b"id: ")
        events.append((int(first[4:]), data))
    return events


async def test_events_are_numbered_for_who_asks_and_unchanged_for_others(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_stream()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        plain = await ask(gateway, chat(stream=True))
        asked = await ask(gateway, chat(stream=True), x_headgate_resume="60")
        events = numbered(asked.body)
        assert [number for number, _ in events] == list(range(1, len(events) + 1))
        assert [data + b"\n\n" for _, data in events] == [b"data: " + each + b"\n\n" for each in plain.events]
        assert asked.headers["x-headgate-resume"] == asked.request_id
        assert "x-headgate-resume" not in plain.headers


async def test_the_rest_comes_to_who_reconnects_while_it_is_made(tmp_path: Path) -> None:
    go = asyncio.Event()
    head, *rest = stream_steps()
    async with (
        ScriptedUpstream([head, *rest[:2], go, *rest[2:]]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        caller = await Caller.asking(gateway, chat(stream=True), x_headgate_resume="60")
        await caller.until(b"id: 2\n")
        call = caller.header("x-headgate-resume")
        await caller.leave()
        path = f"/v1/calls/{call}/events"
        going = asyncio.create_task(ask(gateway, path=path, method="GET", last_event_id="1"))
        await asyncio.sleep(0)
        go.set()
        rest_of_it = await going
        whole = await ask(gateway, path=path, method="GET")
        events = numbered(rest_of_it.body)
        assert events[0][0] == 2
        assert events[-1][1] == b"data: [DONE]"
        assert numbered(whole.body)[1:] == events
        assert rest_of_it.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert rest_of_it.headers["x-headgate-replay-of"] == call
        assert "idempotent-replayed" not in rest_of_it.headers
        assert len(upstream.requests) == 1
        books = await gateway.books()
        assert [row.status for row in books.values() if row.charge] == [200]
        assert sorted(await replays(gateway)) == sorted(
            (each.request_id, call, 0) for each in (rest_of_it, whole)
        )


async def test_nothing_is_left_for_who_has_read_all(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_stream()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        asked = await ask(gateway, chat(stream=True), x_headgate_resume="60")
        await put_away(gateway)
        last = numbered(asked.body)[-1][0]
        path = f"/v1/calls/{asked.request_id}/events"
        end = await ask(gateway, path=path, method="GET", last_event_id=str(last))
        beyond = await ask(gateway, path=path, method="GET", last_event_id=str(last + 1))
        odd = await ask(gateway, path=path, method="GET", last_event_id="x1")
        assert (end.status, end.body, end.whole) == (200, b"", True)
        assert (beyond.status, odd.status) == (400, 400)
        assert json.loads(beyond.body)["error"]["param"] == "Last-Event-ID"


async def test_an_answer_that_is_no_stream_is_given_whole(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        asked = await ask(gateway, chat(), x_headgate_resume="60")
        path = f"/v1/calls/{asked.headers['x-headgate-resume']}/events"
        again = await ask(gateway, path=path, method="GET")
        behind = await ask(gateway, path=path, method="GET", last_event_id="1")
        assert again.body == asked.body
        assert behind.status == 400
        assert len(upstream.requests) == 1


async def test_who_may_not_and_what_is_not_there(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_stream()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        plain = await ask(gateway, chat(stream=True))
        asked = await ask(gateway, chat(stream=True), x_headgate_resume="60")
        await put_away(gateway)
        other = f"Bearer {another_project(gateway)}"
        path = "/v1/calls/{}/events"
        asks = {
            "another project's": await ask(
                gateway, path=path.format(asked.request_id), method="GET", authorization=other
            ),
            "not asked for": await ask(gateway, path=path.format(plain.request_id), method="GET"),
            "unknown": await ask(gateway, path=path.format("req_" + "0" * 32), method="GET"),
            "no id": await ask(gateway, path=path.format("abc"), method="GET"),
        }
        assert {name: reply.status for name, reply in asks.items()} == dict.fromkeys(asks, 404)
        assert {json.loads(reply.body)["error"]["code"] for reply in asks.values()} == {"call_not_found"}
        nobody = await ask(
            gateway, path=path.format(asked.request_id), method="GET", authorization="Bearer sk-hg-no"
        )
        assert nobody.status == 401
        posted = await ask(gateway, path=path.format(asked.request_id))
        assert (posted.status, posted.headers["allow"]) == (405, "GET")


async def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_stream()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        for seconds in ("0", "601", "-1", "1.5", "soon", ""):
            reply = await ask(gateway, chat(stream=True), x_headgate_resume=seconds)
            assert reply.status == 400
            assert json.loads(reply.body)["error"]["param"] == "x-headgate-resume"
        assert not upstream.requests


async def test_what_is_over_is_gone_and_not_unknown(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_stream()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        asked = await ask(gateway, chat(stream=True), x_headgate_resume="5")
        await put_away(gateway)
        store = gateway.app.recorder()._store
        await store.sweep(gateway.app.clock.wall() + 6_000_000)
        path = f"/v1/calls/{asked.request_id}/events"
        gone = await ask(gateway, path=path, method="GET")
        assert (gone.status, json.loads(gone.body)["error"]["code"]) == (410, "expired")
        await store.sweep(gateway.app.clock.wall() + 25 * 3_600_000_000)
        assert (await ask(gateway, path=path, method="GET")).status == 404


async def test_a_refused_call_is_told_to_who_waits_and_forgotten(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with (
        ScriptedUpstream([go, error_json(400, "no such thing")]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        asking = asyncio.create_task(ask(gateway, chat(stream=True), x_headgate_resume="60"))
        await upstream.received(1)
        (call,) = (f"req_{each.hex()}" for each in gateway.app.recorder()._own)
        path = f"/v1/calls/{call}/events"
        waiting = asyncio.create_task(ask(gateway, path=path, method="GET"))
        async with asyncio.timeout(10):
            while gateway.app.server.edge.open_connections < 2:
                await asyncio.sleep(0.001)
        go.set()
        assert (await asking).status == 400
        assert b"no such thing" in (await waiting).body
        await put_away(gateway)
        assert (await ask(gateway, path=path, method="GET")).status == 404
        assert await replays(gateway) == []


async def test_a_caller_with_a_key_and_a_time_has_both(tmp_path: Path) -> None:
    both = {"idempotency_key": "order-1", "x_headgate_resume": "60"}
    async with ScriptedUpstream(chat_stream()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        first = await ask(gateway, chat(stream=True), **both)
        await put_away(gateway)
        again = await ask(gateway, chat(stream=True), **both)
        plain = await ask(gateway, chat(stream=True), idempotency_key="order-1")
        assert again.body == first.body
        assert again.headers["x-headgate-resume"] == first.request_id != again.request_id
        assert plain.body == b"".join(data + b"\n\n" for _, data in numbered(first.body))
        path = f"/v1/calls/{first.request_id}/events"
        assert numbered((await ask(gateway, path=path, method="GET")).body) == numbered(first.body)
        assert len(upstream.requests) == 1


async def test_the_same_request_with_the_last_event_gets_the_rest(tmp_path: Path) -> None:
    both = {"idempotency_key": "order-1", "x_headgate_resume": "60"}
    async with ScriptedUpstream(chat_stream()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        early = await ask(gateway, chat(stream=True), **both, last_event_id="2")
        error = json.loads(early.body)["error"]
        assert (early.status, error["type"]) == (410, "invalid_request_error")
        assert "no answer under this Idempotency-Key" in error["message"]
        assert len(upstream.requests) == 0
        await put_away(gateway)
        first = await ask(gateway, chat(stream=True), **both)
        await put_away(gateway)
        rest = await ask(gateway, chat(stream=True), **both, last_event_id="2")
        plain = await ask(gateway, chat(stream=True), idempotency_key="order-1", last_event_id="2")
        assert numbered(rest.body) == numbered(first.body)[2:]
        assert plain.body == b"".join(data + b"\n\n" for _, data in numbered(rest.body))
        odd = await ask(gateway, chat(stream=True), **both, last_event_id="-1")
        other = await ask(gateway, chat(stream=True, max_tokens=9), **both, last_event_id="2")
        assert (odd.status, other.status) == (400, 422)
        assert len(upstream.requests) == 1
        assert len(await replays(gateway)) == 2


async def test_signs_of_life_are_sent_to_each_and_recorded_for_none(tmp_path: Path) -> None:
    first = asyncio.Event()
    async with ScriptedUpstream([first, chat_stream()]) as upstream, beating(tmp_path, upstream) as gateway:
        both = {"idempotency_key": "k", "x_headgate_resume": "60"}
        callers = [await Caller.asking(gateway, chat(stream=True), **both) for _ in range(2)]
        for caller in callers:
            await caller.until(COMMENT)
        first.set()
        for caller in callers:
            await caller.until(b"[DONE]")
            await caller.leave()
        await put_away(gateway)
        again = await ask(gateway, chat(stream=True), **both)
        assert [number for number, _ in numbered(again.body)] == [1, 2, 3, 4, 5, 6]
        assert COMMENT not in again.body
        assert len(upstream.requests) == 1


async def test_what_ended_well_after_a_sign_of_life_is_kept_though_it_is_free(tmp_path: Path) -> None:
    first = asyncio.Event()
    async with (
        ScriptedUpstream([first, chat_stream()], chat_stream()) as upstream,
        beating(tmp_path, upstream, ONE_ATTEMPT + FREE) as gateway,
    ):
        caller = await Caller.asking(gateway, chat(stream=True), idempotency_key="k")
        await caller.until(COMMENT)
        first.set()
        await caller.until(b"[DONE]")
        await caller.leave()
        await put_away(gateway)
        again = await ask(gateway, chat(stream=True), idempotency_key="k")
        assert again.events[-1] == b"[DONE]"
        assert again.headers["idempotent-replayed"] == "true"
        assert len(upstream.requests) == 1
        assert {row.charge for row in (await gateway.books()).values()} == {0}


async def test_an_error_that_came_after_a_sign_of_life_and_cost_nothing_is_not_kept(tmp_path: Path) -> None:
    first = asyncio.Event()
    answers = [first, error_json(500)], chat_stream()
    async with ScriptedUpstream(*answers) as upstream, beating(tmp_path, upstream) as gateway:
        caller = await Caller.asking(gateway, chat(stream=True), idempotency_key="k")
        await caller.until(COMMENT)
        first.set()
        await caller.until(b'"error"')
        await caller.leave()
        await put_away(gateway)
        again = await ask(gateway, chat(stream=True), idempotency_key="k")
        assert again.events[-1] == b"[DONE]"
        assert "idempotent-replayed" not in again.headers
        assert len(upstream.requests) == 2
