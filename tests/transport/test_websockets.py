"""WebSockets to providers, by our own way out: TLS, proxies, deadlines, plain answers in their place."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.transport.asking import CA, http, served_as, target
from tests.transport.proxies import LoopbackProxy
from tests.upstream import HANG, ScriptedUpstream, Step, error_json, http_head
from websockets.asyncio.server import ServerConnection, serve

from headgate.errors import UpstreamInterrupted, UpstreamTimeout
from headgate.ports import Declined, Request
from headgate.transport.proxy import ProxySettings

pytestmark = pytest.mark.anyio
ASKED = Request("GET", "/v1/realtime?model=m", (("authorization", "Bearer k"),), b"", "req_1")


@contextlib.asynccontextmanager
async def echoing(**options: Any) -> AsyncIterator[int]:
    async def echo(socket: ServerConnection) -> None:
        assert socket.request is not None
        assert socket.request.headers["authorization"] == "Bearer k"
        async for message in socket:
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1]


@pytest.mark.parametrize("proxied", ["", "http", "socks5"])
@pytest.mark.parametrize("secure", [False, True])
async def test_messages_go_both_ways(proxied: str, secure: bool) -> None:
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(echoing(ssl=served_as("local") if secure else None))
        settings = {}
        if proxied:
            proxy = await stack.enter_async_context(LoopbackProxy(proxied, port))
            url = f"{proxied}://127.0.0.1:{proxy.port}"
            settings["proxies"] = ProxySettings(http=url, https=url)
        transport = await stack.enter_async_context(http(ca_file=CA if secure else "", **settings))
        to = target(f"http{'s' if secure else ''}://127.0.0.1:{port}/v1")
        channel = await transport.converse(to, ASKED)
        assert not isinstance(channel, Declined)
        for message in (b"hello", b"x" * 300_000, "é".encode()):
            channel.send(message)
            await channel.drained()
            assert await channel.receive() == message
        channel.close(1000)
        assert await channel.receive() is None


async def test_a_plain_answer_comes_back_as_it_is() -> None:
    async with ScriptedUpstream(error_json(403, "not you")) as upstream, http() as transport:
        answer = await transport.converse(target(upstream.base_url), ASKED)
        assert isinstance(answer, Declined)
        assert (answer.head.status, b"not you" in answer.body) == (403, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 x\r\nupgrade: websocket\r\nsec-websocket-accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 x\r\n\r\n",
        b"garbage\r\n\r\n",
        b"x" * 100_000,
    ],
)
async def test_what_is_no_handshake_is_said_so(answer: bytes) -> None:
    steps: list[Step] = [answer, HANG]
    async with ScriptedUpstream(steps) as upstream, http() as transport:
        with pytest.raises(UpstreamInterrupted, match="Provider 'scripted' did not open a WebSocket"):
            await transport.converse(target(upstream.base_url), ASKED)
        await upstream.closed(0)


async def test_a_provider_that_does_not_answer_is_given_up() -> None:
    steps: list[Step] = [HANG]
    async with ScriptedUpstream(steps) as upstream, http() as transport:
        with pytest.raises(UpstreamTimeout, match=r"within 0\.3 s"):
            await transport.converse(target(upstream.base_url, first_byte_s=0.3), ASKED)
        await upstream.closed(0)


async def test_a_redirect_is_not_followed() -> None:
    moved = http_head(302, [("location", "https://elsewhere.example/")], 0)
    async with ScriptedUpstream(moved) as upstream, http() as transport:
        answer = await transport.converse(target(upstream.base_url), ASKED)
        assert isinstance(answer, Declined)
        assert answer.head.status == 302
