"""Sessions between a real caller and a real provider: what passes, what is booked, what ends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.faults.test_revoked import desk, known, unknown
from tests.faults.worker import INPUT, OUTPUT, Worker, worker
from tests.live.peer import MODEL, Caller, Script, Told, begun, calling, done, provider, session, usage, word
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from headgate.ops.actors import LOCAL
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key, revoke_key
from headgate.stores.sql.database import connect as open_sql

pytestmark = pytest.mark.anyio


async def answering(told: Told) -> None:
    """Open a session and answer every request for a response."""
    await told.say(session())
    while True:
        await told.answer(usage(100, 20, heard=60, spoken=15, cached=40), "one", " two")


@asynccontextmanager
async def meeting(folder: Path, script: Script) -> AsyncIterator[Caller]:
    """Open a session with a provider that follows a script."""
    async with (
        provider(script) as upstream,
        worker(folder, upstream.base_url) as gateway,
        calling(gateway) as caller,
    ):
        yield caller


async def asked(caller: Caller) -> dict[str, Any]:
    await caller.say("response.create")
    return await caller.hear("response.done")


async def test_events_pass_both_ways_and_each_response_is_a_call_of_the_session(tmp_path: Path) -> None:
    async with provider(answering) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        async with calling(gateway) as caller:
            await caller.hear("session.created")
            item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "你好"}]}
            await caller.say("conversation.item.create", item=item, event_id="mine", unknown={"x": [1]})
            first = await asked(caller)
            await asked(caller)
        assert first == done(usage(100, 20, heard=60, spoken=15, cached=40))
        assert [event["delta"] for event in caller.events if "delta" in event][:2] == ["one", " two"]
        assert upstream.heard[0]["unknown"] == {"x": [1]}
        assert upstream.paths == [f"/v1/realtime?model={MODEL}"]
        sent = {name.lower(): value for name, value in upstream.heads[0].items()}
        assert sent["authorization"] == "Bearer sk-canary"
        assert gateway.key not in json.dumps(upstream.heads)
        books = await gateway.books()
        cost = 100 * INPUT + 20 * OUTPUT
        assert [(row.status, row.charge, row.estimated) for row in books.values()] == [(200, cost, False)] * 2
        sql = open_sql(tmp_path / "data", read_only=True)
        rows = sql.execute("SELECT parent, call FROM calls").fetchall()
        sql.close()
        assert len({parent for parent, _ in rows}) == 1
        assert all(len(parent) == 16 and parent != call for parent, call in rows)


async def test_the_key_may_come_as_a_subprotocol_as_browsers_send_it(tmp_path: Path) -> None:
    async with provider(answering) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        own = f"openai-insecure-api-key.{gateway.key}"
        options: dict[str, Any] = {"additional_headers": {}, "subprotocols": ["realtime", own]}
        async with calling(gateway, **options) as caller:
            assert caller.socket.subprotocol == "realtime"
            await caller.hear("session.created")
        assert "Sec-WebSocket-Protocol" not in upstream.heads[0]


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("model=gpt-realtime", {"Authorization": "Bearer sk-wrong-0000000000"}, 401, "invalid_api_key"),
        ("model=gpt-realtime", {}, 401, None),
        ("", None, 400, "missing_required_parameter"),
        ("intent=transcription", None, 400, "invalid_value"),
        ("model=nobody-has-this", None, 404, "model_not_found"),
        ("model=gpt-realtime&call_id=rtc_1", None, 400, None),
    ],
)
async def test_a_session_that_cannot_be_is_refused_over_http(
    query: str, headers: dict[str, str] | None, status: int, code: str | None, refusing: Worker
) -> None:
    host, port = refusing.address
    given = {"Authorization": f"Bearer {refusing.key}"} if headers is None else headers
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://{host}:{port}/v1/realtime?{query}", additional_headers=given, proxy=None)
    response = caught.value.response
    assert response.status_code == status
    assert json.loads(response.body)["error"]["code"] == code
    assert response.headers["x-request-id"].startswith("req_")


@pytest.fixture
async def refusing(tmp_path: Path) -> Any:
    async with worker(tmp_path, "http://127.0.0.1:9/v1") as gateway:
        yield gateway


async def test_a_plain_request_is_told_what_to_do(refusing: Worker) -> None:
    raw = refusing.request(b"").replace(b"POST /v1/chat/completions", b"GET /v1/realtime?model=x")
    reader, writer = await asyncio.open_connection(*refusing.address)
    writer.write(raw)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"websocket_required" in answer


async def test_a_provider_that_cannot_be_reached_is_told_before_there_is_a_session(refusing: Worker) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with calling(refusing):
            pass
    assert caught.value.response.status_code == 502
    assert refusing.held == 0


async def test_when_the_money_is_gone_the_session_says_so_and_ends(tmp_path: Path) -> None:
    # The first response costs 2.7 million nano-USD of 6; the next may cost 4.
    async def dear(told: Told) -> None:
        await told.say(session())
        while True:
            await told.answer(usage(2_000, 4_000), "dear")

    async with provider(dear) as upstream, worker(tmp_path, upstream.base_url, cap="0.006/month") as gateway:
        async with calling(gateway) as caller:
            await caller.hear("session.created")
            await asked(caller)
            error = (await caller.hear("error"))["error"]
            assert (error["type"], error["code"]) == (
                "insufficient_quota",
                "organization_spend_limit_exceeded",
            )
            assert await caller.ended() == 1008
        await asyncio.wait_for(upstream.closed.wait(), 5)
        books = await gateway.books()
        assert sum(row.charge for row in books.values()) == 2_700_000


async def test_a_session_that_no_money_is_there_for_is_refused(tmp_path: Path) -> None:
    async with worker(tmp_path, "http://127.0.0.1:9/v1", cap="0.0001/month") as gateway:
        with pytest.raises(InvalidStatus) as caught:
            async with calling(gateway):
                pass
        response = caught.value.response
        assert response.status_code == 429
        assert json.loads(response.body)["error"]["type"] == "insufficient_quota"
        assert response.headers["x-should-retry"] == "false"


async def stuck(told: Told) -> None:
    """Begin a response and say no more."""
    await told.say(session())
    await told.hear("response.create")
    await told.say(begun(), word("one"), word(" two"))


async def test_a_caller_who_hangs_up_pays_for_what_was_made_and_the_provider_is_let_go(
    tmp_path: Path,
) -> None:
    async with provider(stuck) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        async with calling(gateway) as caller:
            await caller.hear("session.created")
            await caller.say("response.create")
            await caller.hear("response.output_text.delta")
        await asyncio.wait_for(upstream.closed.wait(), 5)
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.estimated) == (499, True)
        assert booked.output > 0


async def test_a_provider_that_breaks_off_ends_the_session(tmp_path: Path) -> None:
    async def breaking(told: Told) -> None:
        await stuck(told)
        told.socket.transport.abort()

    async with provider(breaking) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        async with calling(gateway) as caller:
            await caller.hear("session.created")
            await caller.say("response.create")
            error = (await caller.hear("error"))["error"]
            assert error["code"] == "upstream_interrupted"
            assert await caller.ended() == 1011
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.estimated) == (502, True)


async def test_a_provider_that_closes_in_order_closes_the_session_in_its_words(tmp_path: Path) -> None:
    async def closing(told: Told) -> None:
        await told.say(session())
        await told.socket.close(4000, "session expired")

    async with meeting(tmp_path, closing) as caller:
        assert await caller.ended() == 4000
        assert caller.socket.close_reason == "session expired"


async def test_a_revoked_key_ends_the_session(tmp_path: Path) -> None:
    async with provider(stuck) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        with desk(tmp_path) as on:
            made = create_key(LOCAL, on, KeyOrder(name="a"))
            await known(gateway, made.text)
            gateway.key = made.text
            async with calling(gateway) as caller:
                await caller.hear("session.created")
                await caller.say("response.create")
                await caller.hear("response.output_text.delta")
                revoke_key(LOCAL, on, made.record.id)
                error = (await caller.hear("error"))["error"]
                assert error["code"] == "invalid_api_key"
                assert await caller.ended() == 1008
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.estimated) == (401, True)


async def test_a_limit_holds_a_response_back_and_the_session_goes_on(tmp_path: Path) -> None:
    async with provider(answering) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        with desk(tmp_path) as on:  # one request opens the session, one is a response
            gateway.key = create_key(LOCAL, on, KeyOrder(name="a", rpm=2)).text
            await known(gateway, gateway.key)
        async with calling(gateway) as caller:
            await caller.hear("session.created")
            await asked(caller)
            await caller.say("response.create", event_id="third")
            error = (await caller.hear("error"))["error"]
            assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
            assert error["event_id"] == "third"
            await caller.say("input_audio_buffer.clear")
            await caller.say("session.update", session={"type": "realtime", "model": "gpt-4o"})
            error = (await caller.hear("error"))["error"]
            assert error["param"] == "session.model"
        assert len(await gateway.books()) == 1
        assert [event["type"] for event in upstream.heard].count("response.create") == 1


async def test_a_key_for_other_endpoints_opens_none(tmp_path: Path) -> None:
    async with worker(tmp_path, "http://127.0.0.1:9/v1") as gateway:
        with desk(tmp_path) as on:
            gateway.key = create_key(LOCAL, on, KeyOrder(name="a", endpoints=("chat",))).text
        await known(gateway, gateway.key)
        with pytest.raises(InvalidStatus) as caught:
            async with calling(gateway):
                pass
        assert caught.value.response.status_code == 403


async def test_what_is_no_event_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    async with meeting(tmp_path, answering) as caller:
        await caller.hear("session.created")
        for message in ("not JSON", "[]", '{"no": "type"}'):
            await caller.socket.send(message)
            assert (await caller.hear("error"))["error"]["code"] == "invalid_event"
        await asked(caller)


async def test_a_provider_may_begin_a_response_by_itself(tmp_path: Path) -> None:
    async def hearing(told: Told) -> None:
        await told.say(session())
        await told.hear("input_audio_buffer.append")
        await told.say({"type": "input_audio_buffer.committed", "item_id": "item_1"})
        await told.say(begun(), word("yes"), done(usage(50, 5, heard=40)))

    async with provider(hearing) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        async with calling(gateway) as caller:
            await caller.say("input_audio_buffer.append", audio="AAAA" * 10_000)
            await caller.hear("response.done")
        (booked,) = (await gateway.books()).values()
        assert booked.charge == 50 * INPUT + 5 * OUTPUT


async def test_transcriptions_are_booked_at_the_model_that_makes_them(tmp_path: Path) -> None:
    async def writing(told: Told) -> None:
        await told.say(session(audio={"input": {"transcription": {"model": "gpt-4o-transcribe"}}}))
        used = {"type": "tokens", "input_tokens": 30, "output_tokens": 7, "total_tokens": 37}
        kind = "conversation.item.input_audio_transcription.completed"
        await told.say({"type": kind, "item_id": "item_1", "transcript": "hello", "usage": used})

    async with provider(writing) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        async with calling(gateway) as caller:
            await caller.hear("conversation.item.input_audio_transcription.completed")
        (booked,) = (await gateway.books()).values()
        assert booked.charge == 30 * INPUT + 7 * OUTPUT


async def test_a_gateway_that_stops_lets_a_response_end_and_then_closes(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def slow(told: Told) -> None:
        await stuck(told)
        await go_on.wait()
        await told.say(done(usage(10, 2)))

    async with provider(slow) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        async with calling(gateway) as caller:
            await caller.hear("session.created")
            await caller.say("response.create")
            await caller.hear("response.output_text.delta")
            gateway.app.draining = True
            await asyncio.sleep(0.7)
            go_on.set()
            await caller.hear("response.done")
            assert "shutting down" in (await caller.hear("error"))["error"]["message"]
            assert await caller.ended() == 1001
        gateway.app.draining = False
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.charge) == (200, 10 * INPUT + 2 * OUTPUT)


async def test_large_events_flow_at_the_pace_of_the_slower_side(tmp_path: Path) -> None:
    audio = "A" * 1_000_000

    async def slow(told: Told) -> None:
        await told.say(session())
        await asyncio.sleep(0.5)
        for _ in range(12):
            assert len((await told.hear("input_audio_buffer.append"))["audio"]) == len(audio)
        await told.say({"type": "input_audio_buffer.cleared"})

    async with meeting(tmp_path, slow) as caller:
        for _ in range(12):
            await caller.say("input_audio_buffer.append", audio=audio)
        await caller.hear("input_audio_buffer.cleared")


async def lent(gateway: Worker, **order: Any) -> dict[str, Any]:
    settings = {"type": "realtime", "model": MODEL, "instructions": "Be brief."}
    reply = await gateway.ask(
        json.dumps({"session": settings, **order}).encode(), "/v1/realtime/client_secrets"
    )
    answer = json.loads(reply.body)
    assert reply.status == 200, answer
    return dict(answer)


def browser(secret: str) -> dict[str, Any]:
    return {"additional_headers": {}, "subprotocols": ["realtime", f"openai-insecure-api-key.{secret}"]}


async def refused(gateway: Worker, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with calling(gateway, **options):
            pass
    return caught.value.response.status_code


async def test_a_lent_key_opens_sessions_of_its_model_with_its_settings(tmp_path: Path) -> None:
    async with provider(answering) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        secret = await lent(gateway, expires_after={"anchor": "created_at", "seconds": 60})
        assert secret["session"]["instructions"] == "Be brief."
        assert secret["session"]["object"] == "realtime.session"
        assert gateway.key not in json.dumps(secret)
        host, port = gateway.address
        url = f"ws://{host}:{port}/v1/realtime"
        async with connect(url, proxy=None, **browser(secret["value"])) as socket:
            caller = Caller(socket)
            await caller.hear("session.created")
            await asked(caller)
        update = {"type": "realtime", "model": MODEL, "instructions": "Be brief."}
        assert upstream.heard[0] == {"type": "session.update", "session": update}
        assert len(await gateway.books()) == 1
        assert await refused(gateway, model="gpt-4o-realtime-preview", **browser(secret["value"])) == 403
        assert await refused(gateway, **browser(secret["value"][:-2] + "xx")) == 401
        key, gateway.key = gateway.key, secret["value"]
        assert (await gateway.ask(b"{}")).status == 401, "it is for sessions alone"
        gateway.key = key


async def test_a_lent_key_ends_with_the_key_that_lent_it(tmp_path: Path) -> None:
    async with provider(answering) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        with desk(tmp_path) as on:
            made = create_key(LOCAL, on, KeyOrder(name="a"))
            await known(gateway, made.text)
            gateway.key = made.text
            secret = (await lent(gateway))["value"]
            revoke_key(LOCAL, on, made.record.id)
            await unknown(gateway, made.text)
        with pytest.raises(InvalidStatus) as caught:
            async with calling(gateway, **browser(secret)):
                pass
        assert caught.value.response.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"session": {"type": "transcription"}},
        {"session": {"type": "realtime"}},
        {"session": {"model": "gpt-realtime"}, "expires_after": {"seconds": 5}},
        {"session": {"model": "gpt-realtime"}, "expires_after": {"seconds": 7_201}},
        {
            "session": {
                "model": "gpt-realtime",
                "instructions": [str(n * 7919 % 10_007) for n in range(5_000)],
            }
        },
    ],
)
async def test_what_cannot_be_lent_is_refused(body: dict[str, Any], refusing: Worker) -> None:
    reply = await refusing.ask(json.dumps(body).encode(), "/v1/realtime/client_secrets")
    assert reply.status == 400
    assert json.loads(reply.body)["error"]["type"] == "invalid_request_error"
