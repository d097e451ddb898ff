from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from tests.at_once import Beside
from tests.transport.asking import HandClock, ask, body_of, http, request, said, target, turns, until
from tests.upstream import (
    FIN,
    HANG,
    SERVE,
    Peer,
    Received,
    ScriptedUpstream,
    Step,
    chat_frames,
    chat_json,
    chunk,
    http_head,
    json_answer,
    stream_steps,
)

from headgate.errors import CallerGone, Internal, UpstreamInterrupted
from headgate.ports import Request
from headgate.transport.faults import StaleConnection

pytestmark = pytest.mark.anyio


async def test_a_request_arrives_as_it_was_given_in_one_piece() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        body = b'{"model":"gpt-4o","messages":[]}'
        head, answer = await ask(transport, target(upstream.base_url), body)
        assert (head.status, head.get(b"content-type")) == (200, b"application/json")
        assert answer in chat_json(model="gpt-4o")
        got = upstream.requests[0]
        assert (got.method, got.path, got.body) == ("POST", "/v1/chat/completions", body)
        assert got.headers == (
            ("host", f"127.0.0.1:{upstream.port}"),
            ("authorization", "Bearer sk-secret"),
            ("content-type", "application/json"),
            ("accept-encoding", "identity"),
            ("x-client-request-id", "req_1"),
            ("content-length", str(len(body))),
        )


async def test_a_large_body_arrives_whole() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        body = b'{"x":"' + b"a" * 3_000_000 + b'"}'
        head, _ = await ask(transport, target(upstream.base_url), body)
        assert head.status == 200
        assert upstream.requests[0].body == body


@pytest.mark.parametrize(
    "bad",
    [
        Request("POST", "/v1 x", (), b"", "r"),
        Request("POST", "/v1\r\nx: y", (), b"", "r"),
        Request("PO ST", "/", (), b"", "r"),
        Request("POST", "/", (("a\r\nb", "c"),), b"", "r"),
        Request("POST", "/", (("a", "c\r\nd: e"),), b"", "r"),
        Request("POST", "/", (("a", "c\x00"),), b"", "r"),
        Request("POST", "/", (("authorization", "Bearer sk-\u2026"),), b"", "r"),
        Request("POST", "/", (("Content-Length", "3"),), b"", "r"),
        Request("POST", "/", (("transfer-encoding", "chunked"),), b"", "r"),
        Request("POST", "/", (), b"", "r\r\nx: y"),
    ],
)
async def test_what_cannot_stand_in_a_head_is_never_sent(bad: Request) -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        with pytest.raises(Internal) as caught:
            exchange.send(bad)
        assert not exchange.sent
        assert "sk-" not in caught.value.message
        exchange.release()
        await upstream.closed()
        assert not upstream.requests


async def test_a_stream_is_read_as_it_comes() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    steps: list[Step] = [
        http_head(200),
        chunk(b"a"),
        gates[0],
        chunk(b"b"),
        gates[1],
        chunk(b"c") + chunk(b"d"),
        chunk(b""),
    ]
    async with ScriptedUpstream(steps) as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.send(request())
        await exchange.head()
        assert await exchange.read() == b"a"
        gates[0].set()
        assert await exchange.read() == b"b"
        gates[1].set()
        assert await exchange.read() == b"cd"
        assert await exchange.read() == b""
        assert await exchange.read() == b""
        exchange.release()
        assert transport.idle == 1


async def test_steps_and_frames_give_the_same_stream() -> None:
    async with ScriptedUpstream(stream_steps()) as upstream, http() as transport:
        assert (await ask(transport, target(upstream.base_url)))[1] == b"".join(chat_frames())


async def test_a_stale_connection_says_that_a_fresh_try_is_safe() -> None:
    async def close_on_request(peer: Peer, got: Received) -> None:
        peer.fin()

    answers = (chat_json(), chat_json(), close_on_request, chat_json())
    async with ScriptedUpstream(*answers) as upstream, http() as transport:
        to = target(upstream.base_url)
        await asyncio.gather(ask(transport, to), ask(transport, to))
        assert transport.idle == 2
        with pytest.raises(StaleConnection) as caught:
            await ask(transport, to)
        assert caught.value.not_processed
        assert transport.idle == 0  # the other one is not trusted either
        assert (await ask(transport, to))[0].status == 200


async def test_a_fresh_connection_that_closes_without_an_answer_is_not_called_stale() -> None:
    async with ScriptedUpstream([FIN]) as upstream, http() as transport:
        with pytest.raises(UpstreamInterrupted) as caught:
            await ask(transport, target(upstream.base_url))
        assert not getattr(caught.value, "not_processed", False)
        assert "before it answered" in said(caught.value, f"127.0.0.1:{upstream.port}")


async def test_a_used_connection_that_closes_long_after_the_request_is_not_called_stale() -> None:
    clock, gate = HandClock(), asyncio.Event()
    async with ScriptedUpstream(chat_json(), [gate, FIN]) as upstream, http(clock) as transport:
        await ask(transport, target(upstream.base_url))
        exchange = await transport.acquire(target(upstream.base_url))
        assert exchange.reused
        exchange.send(request())
        await upstream.received(2)
        clock.now_s += 2
        gate.set()
        with pytest.raises(UpstreamInterrupted) as caught:
            await exchange.head()
        assert not isinstance(caught.value, StaleConnection)
        exchange.release()


async def test_an_answer_before_the_request_is_no_answer() -> None:
    async with ScriptedUpstream(greeting=chat_json("unasked")) as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        await upstream.closed(0)
        exchange.send(request())
        assert not exchange.sent
        with pytest.raises(UpstreamInterrupted, match="before it"):
            await exchange.head()
        exchange.release()
        assert not upstream.requests


async def test_what_came_before_a_break_is_read_before_the_error() -> None:
    async with (
        ScriptedUpstream([http_head(200, length=100), b"partial", FIN]) as upstream,
        http() as transport,
    ):
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.send(request())
        await exchange.head()
        await until(lambda: transport.open == 0)
        assert await exchange.read() == b"partial"
        for _ in range(2):
            with pytest.raises(UpstreamInterrupted):
                await exchange.read()
        exchange.release()


@pytest.mark.parametrize("steps", [[HANG], [http_head(200), HANG], [http_head(200), chunk(b"a"), HANG]])
async def test_an_abort_wakes_the_wait_and_the_upstream_sees_it_at_once(steps: list[Step]) -> None:
    async with ScriptedUpstream(steps) as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.send(request())

        async def whole() -> bytes:
            await exchange.head()
            return await body_of(exchange)

        waiting = asyncio.ensure_future(whole())
        await upstream.received(1)
        await turns(20)
        began, plain = time.monotonic(), Beside(0.2)
        exchange.abort()
        exchange.abort()
        with pytest.raises(CallerGone):
            await waiting
        peer = await upstream.closed(0)
        assert peer.closed_s is not None
        assert peer.closed_s - began < await plain.took() + 0.05
        with pytest.raises(CallerGone):
            await exchange.read()
        exchange.release()
        exchange.abort()
        assert transport.idle == 0


async def test_an_abort_before_the_request_sends_nothing() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.abort()
        exchange.send(request())
        assert not exchange.sent
        with pytest.raises(CallerGone):
            await exchange.head()
        exchange.release()
        await upstream.closed(0)
        assert not upstream.requests


async def test_a_late_call_on_an_old_exchange_does_not_touch_the_next_one() -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream(chat_json(), [gate, chat_json("mine")]) as upstream, http() as transport:
        old = await transport.acquire(target(upstream.base_url))
        old.send(request())
        await old.head()
        await body_of(old)
        old.release()
        new = await transport.acquire(target(upstream.base_url))
        assert new.reused
        new.send(request())
        old.abort()
        old.release()
        old.send(request())
        gate.set()
        assert (await new.head()).status == 200
        assert b"mine" in await body_of(new)
        new.release()
        assert len(upstream.requests) == 2


async def test_a_cancelled_wait_spoils_the_connection_even_if_the_answer_ends_well() -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream([gate, chat_json(), SERVE]) as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.send(request())
        waiting = asyncio.ensure_future(exchange.head())
        await upstream.received(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        await exchange.head()
        await body_of(exchange)
        exchange.release()
        assert transport.idle == 0
        await upstream.closed(0)


async def test_a_body_that_was_not_read_to_its_end_is_not_pooled() -> None:
    async with ScriptedUpstream([http_head(200, length=6), b"abc", SERVE]) as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.send(request())
        await exchange.head()
        exchange.release()
        await upstream.closed(0)
        assert transport.open == transport.idle == 0


async def test_cancelling_while_connecting_leaks_nothing() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        for delay in range(12):
            acquiring = asyncio.ensure_future(transport.acquire(target(upstream.base_url)))
            await turns(delay)
            acquiring.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await acquiring).release()
        await until(lambda: transport.open == 0)
        await until(lambda: upstream.open == 0)


async def test_closing_the_transport_ends_open_exchanges_and_idle_connections() -> None:
    async with ScriptedUpstream(chat_json(), [HANG]) as upstream, http() as transport:
        to = target(upstream.base_url)
        held = await transport.acquire(to)
        await ask(transport, to)
        waiting = asyncio.ensure_future(ask(transport, to))
        await upstream.received(2)
        await transport.close()
        with pytest.raises(UpstreamInterrupted, match="closing"):
            await waiting
        held.release()
        with pytest.raises(UpstreamInterrupted, match="closing"):
            await transport.acquire(to)
        await until(lambda: upstream.open == 0)


@pytest.mark.parametrize("said", [None, "Sat, 01 Jan 2000 00:00:00 GMT"])
@pytest.mark.parametrize("status", [200, 429, 503])
async def test_a_refusal_without_a_date_has_the_time_at_which_it_came(status: int, said: str | None) -> None:
    clock = HandClock()
    clock.now_s = 1_000_000_000.75
    answer = json_answer({}, status, [("date", said)] if said else [])
    async with ScriptedUpstream(answer) as upstream, http(clock) as transport:
        head, _ = await ask(transport, target(upstream.base_url))
        ours = None if status == 200 else b"Sun, 09 Sep 2001 01:46:40 GMT"
        assert head.get(b"date") == (said.encode() if said else ours)
