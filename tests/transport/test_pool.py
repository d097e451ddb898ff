from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.transport.asking import HandClock, ask, body_of, http, request, target, turns, until
from tests.upstream import (
    FIN,
    Peer,
    Received,
    ScriptedUpstream,
    Step,
    chat_json,
    chat_stream,
    chunk,
    http_answer,
    http_head,
    json_answer,
)

from headgate.errors import UpstreamInterrupted
from headgate.transport.http import HttpTransport
from headgate.values import Target

pytestmark = pytest.mark.anyio


async def test_connections_are_used_again_the_newest_first() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        to = target(upstream.base_url)
        first, second = await transport.acquire(to), await transport.acquire(to)
        assert not first.reused
        assert not second.reused
        for exchange in (first, second):
            exchange.send(request())
            await exchange.head()
            await body_of(exchange)
            exchange.release()
        assert transport.idle == 2
        again = await transport.acquire(to)
        assert again.reused
        again.send(request())
        await again.head()
        assert upstream.requests[-1].connection == 1
        again.abort()
        again.release()
        assert transport.idle == 1


async def test_what_serves_a_call_is_counted_until_it_is_free_or_closed() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        to = target(upstream.base_url)
        first, second = await transport.acquire(to), await transport.acquire(to)
        assert transport.busy(to.host) == 2
        first.abort()
        await until(lambda: transport.busy(to.host) == 1)
        second.send(request())
        await second.head()
        await body_of(second)
        second.release()
        assert (transport.busy(to.host), transport.idle) == (0, 1)
    async with ScriptedUpstream() as gone, http() as transport:
        to = target(gone.base_url)
    with contextlib.suppress(UpstreamInterrupted):
        await transport.acquire(to)
    assert transport.busy(to.host) == 0


async def test_one_that_closes_as_it_is_given_back_takes_no_place_of_one_that_is_open() -> None:
    async with ScriptedUpstream() as upstream, http(max_idle=1) as transport:
        to = target(upstream.base_url)
        first, second = await transport.acquire(to), await transport.acquire(to)
        for exchange in (first, second):
            exchange.send(request())
            await exchange.head()
            await body_of(exchange)
        first.release()
        connection = second._connection
        assert connection is not None
        connection.transport.close()  # as it does where the provider's end comes with its answer
        second.release()
        await until(lambda: transport.open == 1)
        assert transport.idle == 1
        again = await transport.acquire(to)
        assert again.reused
        again.release()


async def test_acquiring_an_idle_connection_does_not_wait() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        await ask(transport, target(upstream.base_url))
        acquiring = transport.acquire(target(upstream.base_url))
        with pytest.raises(StopIteration) as caught:
            acquiring.send(None)
        assert caught.value.value.reused
        caught.value.value.release()


async def test_different_origins_and_ways_do_not_share_connections() -> None:
    async with ScriptedUpstream() as upstream, http() as transport:
        await ask(transport, target(upstream.base_url))
        await ask(transport, target(upstream.base_url, proxy="direct"))  # the same way
        assert len(upstream.connections) == 1
        await ask(transport, target(f"http://localhost:{upstream.port}/v1"))
        assert len(upstream.connections) == 2


@pytest.mark.parametrize(
    "answer",
    [
        chat_json() + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ntheirs",
        chat_json() + b"x",
        chat_stream() + b"x",
        [chat_json(), b"late"],
        http_answer(b"{}", headers=[("connection", "close")]),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_a_connection_with_surplus_bytes_or_about_to_close_is_not_used_again(answer: bytes) -> None:
    async with ScriptedUpstream(answer, chat_json("mine")) as upstream, http() as transport:
        to = target(upstream.base_url)
        head, body = await ask(transport, to)
        assert head.status == 200
        assert b"theirs" not in body
        await upstream.closed(0)
        _, body = await ask(transport, to)
        assert b"mine" in body
        assert len(upstream.connections) == 2


async def test_an_idle_connection_that_speaks_or_closes_is_dropped() -> None:
    speak, close = asyncio.Event(), asyncio.Event()
    steps: list[Step] = [chat_json(), speak, b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n"]
    async with (
        ScriptedUpstream(steps, [chat_json(), close, FIN], chat_json()) as upstream,
        http() as transport,
    ):
        to = target(upstream.base_url)
        await ask(transport, to)
        assert transport.idle == 1
        speak.set()
        await upstream.closed(0)
        await until(lambda: transport.idle == 0)
        await ask(transport, to)
        assert transport.idle == 1
        close.set()
        await until(lambda: transport.idle == 0)
        assert (await ask(transport, to))[0].status == 200
        assert len(upstream.connections) == 3


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    clock = HandClock()
    async with ScriptedUpstream() as upstream, http(clock, idle_s=30.0, tick_s=0.002) as transport:
        await ask(transport, target(upstream.base_url))
        transport._tick()
        clock.now_s += 29.0
        transport._tick()
        assert transport.idle == 1
        clock.now_s += 1.5
        transport._tick()
        assert transport.idle == 0
        await upstream.closed(0)


async def test_a_keep_alive_header_shortens_the_time() -> None:
    clock = HandClock()
    answer = json_answer({}, headers=[("Keep-Alive", "timeout=5, max=100")])
    async with ScriptedUpstream(answer) as upstream, http(clock, tick_s=60.0) as transport:
        await ask(transport, target(upstream.base_url))
        clock.now_s += 3.9
        transport._tick()
        assert transport.idle == 1
        clock.now_s += 0.2
        transport._tick()
        assert transport.idle == 0


async def test_only_so_many_idle_connections_are_kept() -> None:
    async with ScriptedUpstream() as upstream, http(max_idle=2) as transport:
        await asyncio.gather(*(ask(transport, target(upstream.base_url)) for _ in range(5)))
        assert transport.idle <= 2
        await until(lambda: upstream.open == 2)


async def test_the_ticker_runs_only_while_it_is_needed() -> None:
    async with ScriptedUpstream() as upstream, http(idle_s=0.05, tick_s=0.005) as transport:
        await ask(transport, target(upstream.base_url))
        assert transport._timer is not None
        await until(lambda: transport._timer is None)
        assert transport.idle == 0


async def echo(peer: Peer, got: Received) -> None:
    await peer.send(http_head(200))
    for _ in range(3):
        await peer.send(chunk(got.body))
    await peer.send(chunk(b""))


async def tenant(number: int, transport: HttpTransport, to: Target) -> int:
    """Ask 30 times, hang up on every third at some point; return how often the own canary came back."""
    canary = b'{"tenant":%d}' % number
    served = 0
    for turn in range(30):
        task = asyncio.ensure_future(ask(transport, to, canary))
        hang_ups = 0 if (number + turn) % 3 else 1 + number % 2
        for _ in range(hang_ups):
            await turns((number * 7 + turn) % 9)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            _, body = await task
            assert body == canary * 3
            served += 1
    return served


async def test_tenants_on_one_connection_never_see_each_other() -> None:
    async with ScriptedUpstream(echo) as upstream, http(max_idle=10) as transport:
        to = target(upstream.base_url)
        served = await asyncio.gather(*(tenant(number, transport, to) for number in range(50)))
        assert sum(served) >= 1000
        await until(lambda: transport.open == transport.idle)
        assert (await ask(transport, to))[1] == b"{}" * 3


@pytest.mark.parametrize("size", [0, 100, 40_000])
async def test_a_body_that_is_all_here_is_had_at_once_and_its_connection_is_used_again(size: int) -> None:
    body = bytes(size)
    async with ScriptedUpstream(http_answer(body)) as upstream, http() as transport:
        to = target(upstream.base_url)
        for number in range(3):
            exchange = await transport.acquire(to)
            assert exchange.reused == bool(number)
            assert exchange.whole() is None  # nothing was asked
            exchange.send(request())
            await exchange.head()
            await until(lambda exchange=exchange: exchange._answer and exchange._answer.complete)  # type: ignore[misc]
            assert exchange.whole() == body
            assert await exchange.read() == b""
            exchange.release()
            assert transport.idle == 1
