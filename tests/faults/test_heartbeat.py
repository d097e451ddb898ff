"""A stream on which a provider is silent says that it lives; who waits for a whole answer is sent nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.answers import SSE, chat_frames, chat_json, chunk, error_json, http_head
from tests.faults.worker import INPUT, ONE_ATTEMPT, OUTPUT, Worker, chat, parse, worker
from tests.upstream import ScriptedUpstream, Step

from headgate.config import ServeOptions, load
from headgate.settings.upstreams import ConfigError

pytestmark = pytest.mark.anyio
COMMENT = b": keep-alive\n\n"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
HELLO: Any = [{"role": "user", "content": "Say hello"}]
FRAMES = chat_frames()
HEAD = http_head(200, SSE)
LAST = b"".join(map(chunk, [*FRAMES, b""]))
COST = 19 * INPUT + 3 * OUTPUT
SECOND = (
    '\n[[providers]]\nname = "second"\nkind = "openai"\nbase_url = "%s"\napi_key = "k"\nmodels = ["none-*"]\n'
    '[[models]]\nname = "m"\ntargets = [{ provider = "openai", model = "gpt-4o-mini" }, '
    '{ provider = "second", model = "x" }]\n'
)


@asynccontextmanager
async def beating(folder: Path, upstream: ScriptedUpstream, more: str = ONE_ATTEMPT) -> AsyncIterator[Worker]:
    """A worker whose heart beats twenty times in a second."""
    async with worker(folder, upstream.base_url, more=more) as gateway:
        edge = gateway.app.server.edge
        edge.limits = replace(edge.limits, tick_s=0.01)
        edge.heartbeat_ns = 50_000_000
        yield gateway


class Reading:
    """A caller that reads a stream piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.got = b""

    @classmethod
    async def asking(cls, gateway: Worker, body: bytes, path: str = "/v1/chat/completions") -> Reading:
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(gateway.request(body, path))
        return cls(reader, writer)

    async def until(self, text: bytes, times: int = 1) -> None:
        async with asyncio.timeout(10):
            while self.got.count(text) < times:
                data = await self._reader.read(65536)
                assert data, self.got
                self.got += data

    async def whole(self) -> bytes:
        """Read to the end; return the body."""
        async with asyncio.timeout(10):
            self.got += await self._reader.read()
        self.leave()
        reply = parse(self.got)
        assert reply.whole
        return reply.body

    def leave(self) -> None:
        self._writer.close()

    @property
    def head(self) -> str:
        return self.got.partition(b"\r\n\r\n")[0].decode().lower()


async def test_a_stream_is_kept_alive_before_its_first_event_and_between_two(tmp_path: Path) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    steps: list[Step] = [
        first,
        HEAD + b"".join(map(chunk, FRAMES[:2])),
        second,
        b"".join(map(chunk, [*FRAMES[2:], b""])),
    ]
    async with ScriptedUpstream(steps) as upstream, beating(tmp_path, upstream) as gateway:
        caller = await Reading.asking(gateway, chat(stream=True))
        await caller.until(COMMENT, 2)
        assert caller.head.startswith("http/1.1 200")
        assert "content-type: text/event-stream" in caller.head
        assert "x-request-id: req_" in caller.head
        assert "x-headgate-provider" not in caller.head  # nobody has answered yet
        first.set()
        await caller.until(b'"Hello"')
        before = caller.got.count(COMMENT)
        await caller.until(COMMENT, before + 2)
        second.set()
        frames = await caller.whole()
        assert frames.replace(COMMENT, b"") == b"".join([*FRAMES[:-2], FRAMES[-1]])
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.charge, booked.estimated) == (200, COST, False)


@pytest.mark.parametrize("how", ["refuses", "is silent", "breaks off"])
async def test_what_fails_after_a_heartbeat_is_told_by_an_event_and_costs_nothing(
    how: str, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    answer = {"refuses": error_json(429, "slow down"), "is silent": b"", "breaks off": HEAD + chunk(b"")}[how]
    async with ScriptedUpstream([gate, answer]) as upstream, beating(tmp_path, upstream) as gateway:
        caller = await Reading.asking(gateway, chat(stream=True))
        await caller.until(COMMENT)
        if how == "is silent":
            (exchange,) = gateway.app.outward.transport.watched
            exchange._target = replace_first_byte(exchange._target)
        gate.set()
        *comments, last, end = (await caller.whole()).split(b"\n\n")
        assert {*comments} == {COMMENT.strip()}
        assert end == b""
        error = json.loads(last.removeprefix(b"data: "))["error"]
        code = {"refuses": "rate_limit_exceeded", "is silent": "upstream_timeout"}.get(
            how, "upstream_interrupted"
        )
        assert error["code"] == code
        (booked,) = (await gateway.books()).values()
        assert booked.charge == 0
        assert booked.status == {"refuses": 429, "is silent": 504, "breaks off": 502}[how]


def replace_first_byte(target: Any) -> Any:
    import msgspec

    deadlines = msgspec.structs.replace(target.deadlines, first_byte_s=0.01)
    return msgspec.structs.replace(target, deadlines=deadlines)


async def test_after_a_heartbeat_another_target_still_answers(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with (
        ScriptedUpstream([gate, error_json(503)]) as failing,
        ScriptedUpstream() as upstream,
        beating(tmp_path, failing, SECOND % upstream.base_url) as gateway,
    ):
        caller = await Reading.asking(gateway, chat(stream=True, model="m"))
        await caller.until(COMMENT)
        gate.set()
        frames = (await caller.whole()).replace(COMMENT, b"")
        assert b"Hello" in frames
        assert frames.endswith(b"data: [DONE]\n\n")
        assert b"error" not in frames
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.charge) == (200, COST)


async def test_a_pause_before_a_retry_is_kept_alive(tmp_path: Path) -> None:
    more = "\n[retries]\nattempts = 2\nlongest_s = 60.0\n[breaker]\nrow = 0\n"
    refusal = error_json(503, headers=[("retry-after", "15")])
    async with ScriptedUpstream(refusal) as upstream, beating(tmp_path, upstream, more) as gateway:
        caller = await Reading.asking(gateway, chat(stream=True))
        await caller.until(COMMENT, 2)
        caller.leave()
        await gateway.idle()
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.charge) == (499, 0)


async def test_a_whole_answer_is_not_kept_alive(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream([gate, chat_json()]) as upstream, beating(tmp_path, upstream) as gateway:
        caller = await Reading.asking(gateway, chat())
        await upstream.received(1)
        await asyncio.sleep(0.3)
        gate.set()
        await caller.whole()
        assert b"usage" in caller.got
        assert caller.got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"keep-alive" not in caller.got
        assert "x-headgate-provider: openai" in caller.head


async def test_several_choices_that_are_asked_one_by_one_are_kept_alive_as_one(tmp_path: Path) -> None:
    gate, row = asyncio.Event(), "several = false\n"
    steps: list[Step] = [gate, HEAD + LAST]
    async with ScriptedUpstream(steps) as upstream, worker(tmp_path, upstream.base_url, extra=row) as gateway:
        edge = gateway.app.server.edge
        edge.limits, edge.heartbeat_ns = replace(edge.limits, tick_s=0.01), 50_000_000
        caller = await Reading.asking(gateway, chat(stream=True, model="scripted-1", n=2))
        await caller.until(COMMENT, 2)
        gate.set()
        frames = (await caller.whole()).split(b"\n\n")
        events = [json.loads(frame[6:]) for frame in frames if frame.startswith(b"data: {")]
        assert {choice["index"] for event in events for choice in event["choices"]} == {0, 1}
        assert caller.got.count(b"HTTP/1.1") == 1
        assert frames[-2] == b"data: [DONE]"


async def test_openais_sdk_reads_over_comments(tmp_path: Path) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    steps: list[Step] = [
        first,
        HEAD + b"".join(map(chunk, FRAMES[:2])),
        second,
        b"".join(map(chunk, [*FRAMES[2:], b""])),
    ]

    async with ScriptedUpstream(steps) as upstream, beating(tmp_path, upstream) as gateway:
        for number, gate in enumerate((first, second), 1):
            asyncio.get_running_loop().call_later(0.3 * number, gate.set)
        async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0) as sdk:
            stream = await sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
            text = [part.choices[0].delta.content or "" async for part in stream]
        assert "".join(text) == "Hello there."


async def test_anthropics_sdk_reads_over_pings(tmp_path: Path) -> None:
    import anthropic  # two seconds that every process of tests would spend

    gate = asyncio.Event()
    async with ScriptedUpstream([gate, HEAD + LAST]) as upstream, beating(tmp_path, upstream) as gateway:
        asyncio.get_running_loop().call_later(0.3, gate.set)
        base = gateway.base_url.removesuffix("/v1")
        async with (
            anthropic.AsyncAnthropic(base_url=base, api_key=gateway.key, max_retries=0) as claude,
            claude.messages.stream(model="gpt-4o-mini", max_tokens=50, messages=HELLO) as message,
        ):
            assert await message.get_final_text() == "Hello there."


async def test_who_asked_for_messages_is_sent_pings(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream([gate, error_json(503)]) as upstream, beating(tmp_path, upstream) as gateway:
        body = json.dumps(
            {"model": "gpt-4o-mini", "max_tokens": 9, "stream": True, "messages": HELLO}
        ).encode()
        caller = await Reading.asking(gateway, body, "/v1/messages")
        await caller.until(b"event: ping")
        assert "\r\nrequest-id: req_" in caller.head  # what Anthropic's SDKs read
        await caller.until(PING, 2)
        gate.set()
        frames = (await caller.whole()).replace(PING, b"")
        assert frames.startswith(b'event: error\ndata: {"type":"error"')
        assert frames.count(b"event:") == 1


@pytest.mark.parametrize("seconds", ["-1", "0.2", "301"])
def test_a_heartbeat_that_no_client_needs_is_refused(seconds: str, tmp_path: Path) -> None:
    path = tmp_path / "h.toml"
    path.write_text(f"[server]\nheartbeat_s = {seconds}\n")
    with pytest.raises(ConfigError, match=f"heartbeat_s {seconds} is neither 0"):
        load(ServeOptions(config=str(path), env_file=""), environment={})
