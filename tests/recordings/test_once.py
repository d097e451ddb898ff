"""One `Idempotency-Key`: one call at the provider, one charge, and the same answer for all who send it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.faults.worker import chat, parse, worker
from tests.recordings.callers import Caller, another_project, ask, put_away, replays, request, rows
from tests.upstream import (
    ScriptedUpstream,
    chat_frames,
    chat_json,
    chat_stream,
    chunk as one,
    error_json,
    http_head,
    stream_steps,
)

from headgate.errors import Unavailable
from headgate.recordings import recorder
from headgate.wire.recorded import Kept, State

pytestmark = pytest.mark.anyio
KEY = "order-4711"
ANOTHER_KEY = "Its Idempotency-Key gives this answer again as it is: to have it made anew, use another one."
OWN = {"x-request-id", "openai-processing-ms", "x-headgate-cost", "date"}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_request_again_gets_the_same_answer_and_costs_nothing(
    tmp_path: Path, stream: bool
) -> None:
    answer = chat_stream() if stream else chat_json("once")
    async with (
        ScriptedUpstream(answer, chat_json("twice")) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        body = chat(stream=stream)
        first = await ask(gateway, body, idempotency_key=KEY)
        await put_away(gateway)
        again = await ask(gateway, body, idempotency_key=KEY)
        assert (again.status, again.body, again.whole) == (200, first.body, True)
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["x-headgate-replay-of"] == first.request_id != again.request_id
        same = {name: value for name, value in first.headers.items() if name not in OWN}
        assert same.items() <= again.headers.items()
        assert stream or again.headers["x-headgate-cost"] == "0.000000000" != first.headers["x-headgate-cost"]
        assert len(upstream.requests) == 1
        books = await gateway.books()
        assert books[first.request_id].charge > 0
        assert await replays(gateway) == [(again.request_id, first.request_id, 0)]


@pytest.mark.parametrize("stream", [False, True])
async def test_fifty_at_once_are_one_call(tmp_path: Path, stream: bool) -> None:
    go = asyncio.Event()
    if stream:
        head, *rest = stream_steps()
        answer = [head, rest[0], go, *rest[1:]]
    else:
        answer = [go, chat_json("one for all")]
    async with ScriptedUpstream(answer) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        asked = [
            asyncio.create_task(ask(gateway, chat(stream=stream), idempotency_key=KEY)) for _ in range(50)
        ]
        await upstream.received(1)
        async with asyncio.timeout(10):
            while gateway.app.server.edge.open_connections < 50:
                await asyncio.sleep(0.001)
        go.set()
        replies = await asyncio.gather(*asked)
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) == 1
        assert sum("idempotent-replayed" in reply.headers for reply in replies) == 49
        assert len(upstream.requests) == 1
        books = await gateway.books()
        assert sum(row.charge > 0 for row in books.values()) == 1
        assert len(books) == 50
        assert len(await replays(gateway)) == 49


async def test_another_request_under_the_key_is_refused(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await ask(gateway, chat(), idempotency_key=KEY)
        await put_away(gateway)
        other = await ask(gateway, chat(max_tokens=7), idempotency_key=KEY)
        elsewhere = await ask(gateway, chat(), "/v1/completions", idempotency_key=KEY)
        same = await ask(gateway, chat(), "/chat/completions", idempotency_key=KEY)
        error = json.loads(other.body)["error"]
        assert (other.status, error["code"], error["param"]) == (
            422,
            "idempotency_key_reused",
            "Idempotency-Key",
        )
        assert error["type"] == "invalid_request_error"
        assert elsewhere.status in {400, 422}  # as a completion it is not even one
        assert same.headers["idempotent-replayed"] == "true"
        assert len(upstream.requests) == 1


async def test_another_request_while_the_first_is_made_is_refused_too(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with (
        ScriptedUpstream([go, chat_json("hi")]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        first = asyncio.create_task(ask(gateway, chat(), idempotency_key=KEY))
        await upstream.received(1)
        assert (await ask(gateway, chat(max_tokens=7), idempotency_key=KEY)).status == 422
        go.set()
        assert (await first).status == 200
        assert len(upstream.requests) == 1


async def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        for key in ("", "x" * 256, "with space", "caf\xe9", "tab\tbed"):
            reply = await ask(gateway, chat(), idempotency_key=key)
            assert reply.status == 400
            assert "1 to 255 visible ASCII" in json.loads(reply.body)["error"]["message"]
        assert not upstream.requests
        assert (await ask(gateway, chat(), idempotency_key="x" * 255)).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files", "/admin/v1/projects"])
async def test_two_keys_in_one_request_are_refused(path: str, tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        for second in ("order-2", "", KEY.upper()):
            lines = f"Idempotency-Key: {KEY}\r\nidempotency-key: {second}\r\n"
            reply = await gateway.ask(chat(), path, more=lines)
            error = json.loads(reply.body)["error"]
            assert (reply.status, error["type"]) == (400, "invalid_request_error")
            assert (error["param"], error["code"]) == ("Idempotency-Key", "invalid_value")
            assert "more than one 'Idempotency-Key'" in error["message"]
            assert reply.headers["x-request-id"].startswith("req_")
        assert not upstream.requests


async def test_a_key_that_stands_twice_is_one(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json()) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        first = await ask(gateway, chat(), idempotency_key=KEY)
        await put_away(gateway)
        again = await gateway.ask(chat(), more=f"Idempotency-Key: {KEY}\r\nIdempotency-Key:  {KEY} \r\n")
        assert (again.status, again.headers["x-headgate-replay-of"]) == (200, first.request_id)
        assert len(upstream.requests) == 1


async def test_what_was_refused_and_cost_nothing_is_made_when_it_is_sent_again(tmp_path: Path) -> None:
    refusals = [error_json(429), error_json(500), error_json(400)]
    async with (
        ScriptedUpstream(*refusals, chat_json("at last")) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        statuses = []
        for _ in range(4):
            reply = await ask(gateway, chat(), idempotency_key=KEY)
            statuses.append(reply.status)
            assert "idempotent-replayed" not in reply.headers
            await put_away(gateway)
        assert statuses == [429, 500, 400, 200]
        assert len(upstream.requests) == 4
        assert await replays(gateway) == []
        assert (await ask(gateway, b"{}", idempotency_key="other")).status == 400
        assert len(rows(gateway)) == 1


async def test_a_caller_who_hangs_up_and_comes_back_pays_once(tmp_path: Path) -> None:
    go = asyncio.Event()
    head, *rest = stream_steps()
    answer = [head, *rest[:2], go, *rest[2:]]
    async with ScriptedUpstream(answer) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        caller = await Caller.asking(gateway, chat(stream=True), idempotency_key=KEY)
        await caller.until(b"data: ")
        await caller.leave()
        retry = asyncio.create_task(ask(gateway, chat(stream=True), idempotency_key=KEY))
        await asyncio.sleep(0)
        go.set()
        reply = await retry
        assert reply.events[-1] == b"[DONE]"
        assert reply.headers["idempotent-replayed"] == "true"
        assert len(upstream.requests) == 1
        books = await gateway.books()
        assert [row.status for row in books.values() if row.charge] == [200]


async def test_a_call_that_nobody_comes_back_for_is_cut_and_said_to_be_lost(tmp_path: Path) -> None:
    frames = [
        http_head(200, [("content-type", "text/event-stream")]),
        *map(one, chat_frames()[:2]),
        asyncio.Event(),
    ]
    more = "\n[recordings]\nkeep_s = 0.05\n"
    async with (
        ScriptedUpstream(frames) as upstream,
        worker(tmp_path, upstream.base_url, more=more) as gateway,
    ):
        await gateway.warm()
        caller = await Caller.asking(gateway, chat(stream=True), idempotency_key=KEY)
        await caller.until(b"data: ")
        await caller.leave()
        await upstream.closed(0)
        await put_away(gateway)
        reply = await ask(gateway, chat(stream=True), idempotency_key=KEY)
        ((request_id, booked),) = (await gateway.books()).items()
        assert (booked.status, booked.estimated) == (499, True)
        assert booked.charge > 0
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["code"]) == (409, "idempotent_answer_lost")
        assert request_id in error["message"]
        assert f"{booked.charge / 1e9:.9f}" in error["message"]
        assert reply.headers["x-should-retry"] == "false"
        assert len(upstream.requests) == 1


async def test_a_stream_that_broke_off_was_paid_and_is_given_again_as_it_was(tmp_path: Path) -> None:
    frames = chat_frames()
    broken = [http_head(200, [("content-type", "text/event-stream")]), *map(one, frames[:2]), one(b"")]
    async with ScriptedUpstream(broken) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        first = await ask(gateway, chat(stream=True), idempotency_key=KEY)
        await put_away(gateway)
        again = await ask(gateway, chat(stream=True), idempotency_key=KEY)
        assert b"upstream_interrupted" in first.body
        assert json.loads(first.events[-1])["error"]["message"].endswith(ANOTHER_KEY)
        assert again.body == first.body
        assert len(upstream.requests) == 1


async def test_a_stream_that_a_stop_cuts_says_that_its_key_gives_no_more(tmp_path: Path) -> None:
    head, *frames = stream_steps()
    steps = ([head, *frames[:2], asyncio.Event()], [head, *frames[:2], asyncio.Event()], stream_steps())
    async with ScriptedUpstream(*steps) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        last = []
        for keyed in ({}, {"idempotency_key": KEY}):
            caller = await Caller.asking(gateway, chat(stream=True), **keyed)
            await caller.until(b"data: ")
            assert await gateway.app.calls.drain(0.01) == 1
            reply = await caller.rest()
            last.append(json.loads(reply.events[-1])["error"]["message"])
            await put_away(gateway)
        assert last[0].endswith("the answer was not complete. Send it again.")
        assert last[1] == f"{last[0]} {ANOTHER_KEY}"
        again = await ask(gateway, chat(stream=True), idempotency_key=KEY)
        assert again.events == reply.events
        made = await ask(gateway, chat(stream=True), idempotency_key="another")
        assert made.events[-1] == b"[DONE]"
        assert len(upstream.requests) == 3


async def test_what_a_stop_leaves_without_an_answer_is_made_under_the_same_key(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([asyncio.Event()], stream_steps()) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        asked = asyncio.create_task(ask(gateway, chat(stream=True), idempotency_key=KEY))
        await upstream.received(1)
        assert await gateway.app.calls.drain(0.01) == 1
        refused = await asked
        assert refused.status == 503
        assert json.loads(refused.body)["error"]["message"].endswith("Send it again.")
        await put_away(gateway)
        assert (await ask(gateway, chat(stream=True), idempotency_key=KEY)).events[-1] == b"[DONE]"


async def test_an_answer_too_long_to_keep_passes_and_is_not_made_twice(tmp_path: Path) -> None:
    long = "long " * 400_000
    more = "\n[recordings]\nanswer_mb = 1\n"
    async with (
        ScriptedUpstream(chat_json(long)) as upstream,
        worker(tmp_path, upstream.base_url, more=more) as gateway,
    ):
        first = await ask(gateway, chat(), idempotency_key=KEY)
        assert (first.status, first.whole) == (200, True)
        assert len(first.body) > 2_000_000
        await put_away(gateway)
        again = await ask(gateway, chat(), idempotency_key=KEY)
        assert again.status == 409
        assert "too long to be kept" in json.loads(again.body)["error"]["message"]
        assert len(upstream.requests) == 1
        assert rows(gateway, "size") == [(0,)]
        assert gateway.app.recorder()._memory._left == 256 << 20


async def test_two_tenants_with_the_same_key_never_meet(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("mine"), chat_json("yours")) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        other = another_project(gateway)
        first = await ask(gateway, chat(), idempotency_key=KEY)
        await put_away(gateway)
        theirs = await ask(gateway, chat(), idempotency_key=KEY, authorization=f"Bearer {other}")
        assert b"mine" in first.body
        assert b"yours" in theirs.body
        assert "idempotent-replayed" not in theirs.headers
        assert len(upstream.requests) == 2


async def test_nothing_of_a_caller_can_be_read_in_the_file(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("the secret answer")) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        await ask(gateway, chat(), idempotency_key=KEY)
        await put_away(gateway)
        kept = b"".join(path.read_bytes() for path in gateway._folder.glob("recordings.sqlite*"))
        for text in (b"secret answer", b"Say hello", KEY.encode(), b"gpt-4o-mini"):
            assert text not in kept
        assert (gateway._folder / "recordings.sqlite").stat().st_mode & 0o077 == 0


async def test_a_call_without_the_headers_records_nothing(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await ask(gateway, chat())
        assert not (gateway._folder / "recordings.sqlite").exists()
        assert gateway.app._on_demand.session_parts._recorder is None


async def test_the_timeout_of_an_sdk_does_not_end_a_call_that_it_will_ask_for_again(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with (
        ScriptedUpstream([go, chat_json("hi")]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        asked = [
            asyncio.create_task(ask(gateway, chat(), x_stainless_read_timeout="30", **headers))
            for headers in ({"idempotency_key": KEY}, {})
        ]
        await upstream.received(2)
        alarms = {run.call.request_id: run.alarm for run in gateway.app.calls.runs if run.call is not None}
        go.set()
        kept, plain = await asyncio.gather(*asked)
        assert alarms[kept.request_id] is None
        assert alarms[plain.request_id] is not None


async def test_a_call_whose_own_time_was_over_was_paid_and_is_not_made_again(tmp_path: Path) -> None:
    frames = [
        http_head(200, [("content-type", "text/event-stream")]),
        *map(one, chat_frames()[:2]),
        asyncio.Event(),
    ]
    async with ScriptedUpstream(frames) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        body = chat()  # whole: nothing of it is shown before its end
        first = await ask(gateway, body, idempotency_key=KEY, x_headgate_deadline_ms="300")
        await put_away(gateway)
        again = await ask(gateway, body, idempotency_key=KEY)
        ((_, booked),) = (await gateway.books()).items()
        assert first.status == 408
        assert booked.charge > 0
        assert again.status == 409
        assert len(upstream.requests) == 1


async def test_a_head_that_does_not_come_again_takes_no_place_among_the_known(tmp_path: Path) -> None:
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reader, writer = await asyncio.open_connection(*gateway.address)
        for headers in ({}, {"idempotency_key": "1"}, {"idempotency_key": "2"}):
            writer.write(request(gateway, chat(), {**headers, "connection": "keep-alive"}))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(parse(head).headers["content-length"]))
        writer.close()
        known = gateway.app.server.edge.known._heads
        assert len(known) == 1
        assert not any(b"Idempotency" in head for head in known)


async def test_an_answer_that_cannot_be_kept_yet_is_given_again_meanwhile_and_kept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_AGAIN_S", 0.02)
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        store, away = gateway.app.recorder()._store, True
        keep = store.keep

        async def refusing(*args: Any) -> None:
            if away:
                raise Unavailable("the disk is full")
            await keep(*args)

        monkeypatch.setattr(store, "keep", refusing)
        first = await ask(gateway, chat(), idempotency_key=KEY)
        await asyncio.sleep(0.1)
        again = await ask(gateway, chat(), idempotency_key=KEY)
        assert rows(gateway, "state") == [(State.OPEN,)]
        away = False
        await put_away(gateway)
        assert rows(gateway, "state") == [(State.WHOLE,)]
        last = await ask(gateway, chat(), idempotency_key=KEY)
        assert first.body == again.body == last.body
        assert len(upstream.requests) == 1


async def test_who_asks_again_and_again_for_what_comes_to_nothing_is_refused_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedUpstream(chat_json("hi")) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await ask(gateway, chat(), idempotency_key=KEY)
        await put_away(gateway)
        store = gateway.app.recorder()._store
        (found,) = [await store.find(call) for (call,) in rows(gateway, "call")]
        assert found is not None
        await store.keep(found.label.call, State.EXPIRED, None, 1)
        claims: list[Any] = []

        async def claim(*args: Any) -> Kept:
            claims.append(args)
            return found._replace(state=State.EXPIRED, recorded=None)

        monkeypatch.setattr(store, "claim", claim)
        again = await ask(gateway, chat(), idempotency_key=KEY)
        error = json.loads(again.body)["error"]
        assert (again.status, found.label.call.hex() in error["message"]) == (503, True)
        assert len(claims) < 10
        assert len(upstream.requests) == 1
