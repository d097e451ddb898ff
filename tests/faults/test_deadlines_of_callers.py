"""Callers who say how long they wait: what they see, and what the books say."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from openai import APIStatusError, AsyncOpenAI
from tests.answers import chat_frames, chat_json, error_json, http_answer, http_head
from tests.faults.worker import INPUT, MODELS, PROMPT, Reply, Worker, chat, parse, worker
from tests.upstream import HANG, ScriptedUpstream, chunk

pytestmark = pytest.mark.anyio
OWN = "x-headgate-deadline-ms"
STREAM = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
BEGUN = [http_head(200, STREAM), chunk(chat_frames("hello there")[0]), chunk(chat_frames("hello there")[1])]


async def ask(gateway: Worker, body: bytes, **headers: object) -> Reply:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection(*gateway.address)
    began = time.monotonic()
    writer.write(
        gateway.request(body).replace(b"Connection: close\r\n", b"Connection: close\r\n" + lines.encode())
    )
    raw = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return parse(raw, time.monotonic() - began)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_does_not_come_in_time_is_408_and_the_input_is_paid(
    tmp_path: Path, stream: bool
) -> None:
    async with ScriptedUpstream([HANG]) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        reply = await ask(gateway, chat(stream=stream), x_headgate_deadline_ms=600)
        assert (reply.status, reply.headers["content-type"]) == (408, "application/json")
        error = json.loads(reply.body)["error"]
        assert error["code"] == "deadline_exceeded"
        assert "600 ms" in error["message"]
        assert OWN in error["message"]
        assert reply.headers["x-should-retry"] == "false"  # an SDK's own retry would be paid again
        booked = await gateway.booked(reply)
        assert booked is not None
        assert (booked.status, booked.charge, booked.estimated) == (408, booked.input * INPUT, True)
        assert (await upstream.closed()).how is not None


async def test_a_stream_that_has_begun_ends_with_an_event_and_is_paid_for_what_was_shown(
    tmp_path: Path,
) -> None:
    async with (
        ScriptedUpstream([*BEGUN, HANG]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        await gateway.warm()
        reply = await ask(gateway, chat(stream=True), x_headgate_deadline_ms=800)
        assert reply.status == 200
        assert json.loads(reply.events[-1])["error"]["code"] == "deadline_exceeded"
        booked = await gateway.booked(reply)
        assert booked is not None
        assert booked.charge > booked.input * INPUT


async def test_the_timeout_of_an_sdk_holds_for_the_first_byte_alone(tmp_path: Path) -> None:
    rest = asyncio.Event()
    frames = [chunk(frame) for frame in chat_frames("hello there")[2:]]
    async with (
        ScriptedUpstream([*BEGUN, rest, *frames, b"0\r\n\r\n"]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        asked = asyncio.create_task(ask(gateway, chat(stream=True), x_stainless_read_timeout="3"))
        await upstream.received(1)
        await asyncio.sleep(3.1)
        rest.set()
        reply = await asked
        assert reply.events[-1] == b"[DONE]"
        assert (await gateway.booked(reply)).status == 200  # type: ignore[union-attr]


async def test_the_sdk_reads_the_answer_before_it_stops_waiting(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([HANG]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
        AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=2.0) as client,
    ):
        with pytest.raises(APIStatusError) as told:
            await client.chat.completions.create(
                model=MODELS[0], messages=[{"role": "user", "content": PROMPT}], max_tokens=100
            )
        assert told.value.status_code == 408
        assert "2000 ms" in str(told.value)
        assert "x-stainless-read-timeout" in str(told.value)
        assert "x-should-retry" not in told.value.response.headers  # its own rule of retries holds


async def test_a_wait_in_line_ends_at_the_deadline_and_costs_nothing(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([HANG]) as upstream,
        worker(tmp_path, upstream.base_url, extra="max_concurrent = 1") as gateway,
    ):
        _, writer = await asyncio.open_connection(*gateway.address)
        writer.write(gateway.request(chat(model=MODELS[1])))
        await upstream.received(1)
        reply = await ask(gateway, chat(model=MODELS[1]), x_headgate_deadline_ms=300)
        assert reply.status == 408
        assert gateway.app.outward.doors.waiting == 0
        writer.close()
        assert await gateway.booked(reply) is None
        assert len(upstream.requests) == 1


async def test_no_pause_begins_that_would_end_after_it(tmp_path: Path) -> None:
    busy = error_json(503, "busy", headers=[("retry-after", "3")])
    async with (
        ScriptedUpstream(busy) as upstream,
        worker(tmp_path, upstream.base_url, more="[retries]\nfloor = 10\n") as gateway,
    ):
        reply = await ask(gateway, chat(), x_headgate_deadline_ms=2_000)
        assert reply.status == 503  # at once, and not 408 after two seconds
        assert len(upstream.requests) == 1


async def test_answers_that_are_asked_for_one_by_one_end_together(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(chat_json("hi"), [HANG]) as upstream,
        worker(tmp_path, upstream.base_url, extra="several = false") as gateway,
    ):
        reply = await ask(gateway, chat(model=MODELS[1], n=3), x_headgate_deadline_ms=700)
        assert reply.status == 408
        assert json.loads(reply.body)["error"]["code"] == "deadline_exceeded"
        assert len(upstream.requests) == 3


@pytest.mark.parametrize("value", ["0", "-5", "1e3", "soon", "99999999", "1.5"])
async def test_a_deadline_that_is_none_is_refused_by_name(tmp_path: Path, value: str) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await ask(gateway, chat(), x_headgate_deadline_ms=value)
        assert reply.status == 400
        assert repr(value) in json.loads(reply.body)["error"]["message"]
        assert not upstream.requests


@pytest.mark.parametrize("value", ["600", "600.0", "0", "nan", "None", "-1", "9999999"])
async def test_what_an_sdk_sends_unasked_or_garbled_changes_nothing(tmp_path: Path, value: str) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await ask(gateway, chat(), x_stainless_read_timeout=value, x_stainless_timeout=value)
        assert reply.status == 200


INNER = """
[[providers]]
name = "inner"
kind = "headgate"
base_url = "%s"
api_key = "k"
models = ["none-*"]
[[models]]
name = "m"
targets = [{ provider = "inner", model = "gpt-4o-mini" }]
"""


async def test_another_gateway_is_told_what_is_left_of_the_time(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as outer,
        ScriptedUpstream() as inner,
        worker(tmp_path, outer.base_url, more=INNER % inner.base_url) as gateway,
    ):
        waits = [{}, {"x_headgate_deadline_ms": 4000}, {"x_stainless_read_timeout": 4}]
        for headers in waits:
            assert (await ask(gateway, chat(model="m"), **headers)).status == 200
        await ask(gateway, chat(), x_headgate_deadline_ms=4000)
        plain, whole, first = inner.requests
        said = [(each.get(OWN), each.get("x-stainless-read-timeout")) for each in (plain, *outer.requests)]
        assert said == [(None, None), (None, None)]
        assert 3000 < int(whole.get(OWN) or 0) <= 3750  # less what this gateway keeps to answer in time
        assert whole.get("x-stainless-read-timeout") is None
        assert 3 < float(first.get("x-stainless-read-timeout") or 0) <= 3.75
        assert first.get(OWN) is None


async def test_time_that_has_passed_at_another_gateway_is_the_callers(tmp_path: Path) -> None:
    late = {"error": {"message": "850 ms", "type": "invalid_request_error", "code": "deadline_exceeded"}}
    answer = http_answer(json.dumps(late).encode(), 408, [("content-type", "application/json")])
    async with (
        ScriptedUpstream() as outer,
        ScriptedUpstream(answer) as inner,
        worker(tmp_path, outer.base_url, more=INNER % inner.base_url) as gateway,
    ):
        reply = await ask(gateway, chat(model="m"), x_headgate_deadline_ms=4000)
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["code"]) == (408, "deadline_exceeded")
        assert "850" not in error["message"]  # that is what the other one was given
        assert len(inner.requests) == 1
        booked = await gateway.booked(reply)
        assert booked is not None
        assert (booked.status, booked.input > 0, booked.estimated) == (408, True, True)
        assert not gateway.app.outward.health.breakers  # and it is well


async def test_a_provider_that_limits_us_for_longer_is_told_with_its_time_and_not_waited_for(
    tmp_path: Path,
) -> None:
    limited = error_json(429, headers=[("retry-after", "8")])
    async with ScriptedUpstream(limited) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        for _ in range(2):  # the second one knows before it asks
            reply = await ask(gateway, chat(), x_headgate_deadline_ms=5000)
            assert (reply.status, reply.headers["retry-after"] in {"7", "8"}) == (429, True)
        assert len(upstream.requests) == 1
