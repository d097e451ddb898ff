from __future__ import annotations

import asyncio
import ssl
import time

import pytest
from tests.at_once import Beside
from tests.transport.asking import CA, ask, body_of, http, request, said, served_as, target, until
from tests.upstream import (
    HANG,
    ScriptedUpstream,
    Step,
    chat_frames,
    chat_json,
    chunk,
    http_head,
    stream_steps,
)

from headgate.errors import CallerGone, UpstreamInterrupted, UpstreamTimeout

pytestmark = pytest.mark.anyio


async def resolve(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


async def test_exchanges_go_through_tls_and_their_connection_is_used_again() -> None:
    answers = (chat_json("one"), stream_steps())
    async with ScriptedUpstream(*answers, tls=served_as("local")) as upstream, http(ca_file=CA) as transport:
        to = target(upstream.base_url)
        assert upstream.base_url.startswith("https://")
        assert b"one" in (await ask(transport, to))[1]
        assert (await ask(transport, to))[1] == b"".join(chat_frames())
        assert len(upstream.connections) == 1
        assert transport.idle == 1


async def test_the_name_of_the_url_is_asked_for_and_verified() -> None:
    names: list[str | None] = []
    context = served_as("local")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with ScriptedUpstream(tls=context) as upstream, http(ca_file=CA, resolve=resolve) as transport:
        head, _ = await ask(transport, target(f"https://scripted.example:{upstream.port}/v1"))
        assert head.status == 200
        assert names == ["scripted.example"]
        assert upstream.requests[0].get("host") == f"scripted.example:{upstream.port}"


@pytest.mark.parametrize(
    ("name", "ca_file", "why"),
    [("local", "", "unable to get local issuer certificate"), ("elsewhere", CA, "IP address mismatch)")],
)
async def test_a_certificate_that_does_not_fit_is_not_accepted(name: str, ca_file: str, why: str) -> None:
    async with ScriptedUpstream(tls=served_as(name)) as upstream, http(ca_file=ca_file) as transport:
        with pytest.raises(UpstreamInterrupted) as caught:
            await transport.acquire(target(upstream.base_url))
        message = said(caught.value, f"127.0.0.1:{upstream.port}")
        assert f"its certificate was not accepted ({why}" in message
        assert not upstream.requests


async def test_a_host_that_does_not_speak_tls_is_said_so() -> None:
    async with (
        ScriptedUpstream(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as upstream,
        http() as transport,
    ):
        with pytest.raises(UpstreamInterrupted, match="TLS failed"):
            await transport.acquire(target(upstream.base_url.replace("http:", "https:")))


async def test_a_handshake_that_hangs_ends_by_the_connect_deadline() -> None:
    async with ScriptedUpstream([HANG]) as upstream, http(ca_file=CA) as transport:
        to = target(upstream.base_url.replace("http:", "https:"), connect_s=0.3)
        with pytest.raises(UpstreamTimeout, match="connect_s"):
            await transport.acquire(to)
        await upstream.closed(0)


async def test_a_missing_ca_file_is_an_error_and_not_a_crash() -> None:
    async with (
        ScriptedUpstream(tls=served_as("local")) as upstream,
        http(ca_file="/nowhere.pem") as transport,
    ):
        for _ in range(2):
            with pytest.raises(UpstreamInterrupted, match="no such file") as caught:
                await transport.acquire(target(upstream.base_url))
            assert "nowhere" not in caught.value.message


async def test_an_abort_under_tls_reaches_the_upstream_at_once() -> None:
    steps: list[Step] = [http_head(200), chunk(b"a"), HANG]
    async with ScriptedUpstream(steps, tls=served_as("local")) as upstream, http(ca_file=CA) as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.send(request())
        await exchange.head()
        waiting = asyncio.ensure_future(body_of(exchange))
        await until(lambda: exchange._wait.resume is not None)
        began, plain = time.monotonic(), Beside(0.2)
        exchange.abort()
        with pytest.raises(CallerGone):
            await waiting
        exchange.release()
        peer = await upstream.closed(0)
        assert peer.closed_s is not None
        assert peer.closed_s - began < await plain.took() + 0.05


async def test_many_connections_share_one_context() -> None:
    made = 0

    def context() -> ssl.SSLContext:
        nonlocal made
        made += 1
        return ssl.create_default_context(cafile=CA)

    async with ScriptedUpstream(tls=served_as("local")) as upstream, http(tls=context) as transport:
        to = target(upstream.base_url)
        await asyncio.gather(*(ask(transport, to) for _ in range(5)))
        assert made == 1
        assert len(upstream.connections) == 5


async def test_cancelling_in_the_handshake_leaks_nothing() -> None:
    async with ScriptedUpstream(tls=served_as("local")) as upstream, http(ca_file=CA) as transport:
        await ask(transport, target(upstream.base_url))
        for delay in range(0, 40, 2):
            first = await transport.acquire(target(upstream.base_url))
            acquiring = asyncio.ensure_future(transport.acquire(target(upstream.base_url)))
            for _ in range(delay):
                await asyncio.sleep(0)
            acquiring.cancel()
            try:
                (await acquiring).abort()
            except asyncio.CancelledError:
                first.release()
            else:
                first.release()
        await until(lambda: upstream.open <= 1)
