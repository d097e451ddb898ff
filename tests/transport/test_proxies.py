from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.transport.asking import CA, ask, http, said, served_as, target, turns, until
from tests.transport.proxies import LoopbackProxy
from tests.upstream import HANG, ScriptedUpstream, chat_json

from headgate.errors import UpstreamInterrupted, UpstreamTimeout
from headgate.transport.egress import parse_origin
from headgate.transport.http import HttpTransport
from headgate.transport.proxy import Proxy, ProxySettings, choose, parse_proxy

pytestmark = pytest.mark.anyio


async def resolve(host: str, port: int) -> list[str]:
    return {"local.example": ["203.0.113.7"]}.get(host) or ["169.254.169.254"]


@contextlib.asynccontextmanager
async def through(
    scheme: str, upstream: ScriptedUpstream | None = None, replies: tuple[bytes, ...] = (), **more: Any
) -> AsyncIterator[tuple[LoopbackProxy, HttpTransport]]:
    """A proxy before the upstream, and a transport that uses it for everything."""
    kind = scheme.removesuffix("h").removesuffix("a")
    async with LoopbackProxy(kind, upstream.port if upstream else 1, replies=replies) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        async with http(proxies=ProxySettings(http=url, https=url), **more) as transport:
            yield proxy, transport


# ── through a proxy ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h", "socks4a"])
async def test_the_proxy_is_asked_for_the_name(scheme: str) -> None:
    async with ScriptedUpstream() as upstream, through(scheme, upstream) as (proxy, transport):
        to = target(f"http://api.example:{upstream.port}/v1")
        for _ in range(2):
            assert (await ask(transport, to))[1] in chat_json()
        assert proxy.asked == [f"api.example:{upstream.port}"]
        assert upstream.requests[0].get("host") == f"api.example:{upstream.port}"
        assert upstream.requests[0].path == "/v1/chat/completions"


async def test_socks4_gets_an_address_that_was_checked() -> None:
    async with ScriptedUpstream() as upstream, LoopbackProxy("socks4", upstream.port) as proxy:
        settings = ProxySettings(http=f"socks4://127.0.0.1:{proxy.port}")
        async with http(proxies=settings, resolve=resolve) as transport:
            await ask(transport, target(f"http://local.example:{upstream.port}/v1"))
            assert proxy.asked == [f"203.0.113.7:{upstream.port}"]
            with pytest.raises(UpstreamInterrupted, match="link-local"):
                await ask(transport, target(f"http://metadata.example:{upstream.port}/v1"))
            assert len(proxy.asked) == 1


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_refused_address_is_refused_through_a_proxy_too(kind: str) -> None:
    async with LoopbackProxy(kind, 1) as proxy:
        settings = ProxySettings(http=f"{kind}://127.0.0.1:{proxy.port}")
        async with http(proxies=settings) as transport:
            with pytest.raises(UpstreamInterrupted, match="link-local"):
                await ask(transport, target("http://169.254.169.254/v1"))
            assert not proxy.asked


@pytest.mark.parametrize("kind", ["http", "socks5", "socks4a"])
async def test_tls_goes_through_the_proxy_to_the_host(kind: str) -> None:
    upstream = ScriptedUpstream(tls=served_as("local"))
    async with upstream, through(kind, upstream, ca_file=CA) as (proxy, transport):
        head, _ = await ask(transport, target("https://scripted.example/v1"))
        assert head.status == 200
        assert proxy.asked == ["scripted.example:443"]
        exchange = await transport.acquire(target("https://scripted.example/v1"))
        exchange.abort()
        exchange.release()
        await upstream.closed(0)
        await until(lambda: not proxy._tasks)


async def test_credentials_are_sent_to_the_proxy_and_named_nowhere() -> None:
    basic = "Basic " + base64.b64encode("us@er:p:wé".encode()).decode()
    async with ScriptedUpstream() as upstream, LoopbackProxy("http", upstream.port, users=basic) as proxy:
        url = f"http://us%40er:p%3Aw%C3%A9@127.0.0.1:{proxy.port}"
        async with http(proxies=ProxySettings(http=url)) as transport:
            await ask(transport, target("http://api.example/v1"))
            assert proxy.users == [basic]
    assert "pw" not in repr(parse_proxy("http://user:pw@host"))


async def test_a_socks_proxy_gets_its_credentials_and_refuses_others() -> None:
    async with ScriptedUpstream() as upstream, LoopbackProxy("socks5", upstream.port, users="u:pw") as proxy:
        right, *wrong = ("u:pw@", "u:secretive@", "", "u:%E4%B8%AD@", f"u:{'x' * 300}@")
        async with http() as transport:
            own = f"socks5://{right}127.0.0.1:{proxy.port}"
            await ask(transport, target("http://api.example/v1", proxy=own))
        errors = [await refused(f"socks5://{user}127.0.0.1:{proxy.port}") for user in wrong]
        messages = [said(error, f"api.example:80 through 127.0.0.1:{proxy.port}") for error in errors]
        assert not any("secretive" in message for message in messages)


async def refused(proxy: str) -> UpstreamInterrupted:
    async with http() as transport:
        with pytest.raises(UpstreamInterrupted) as caught:
            await ask(transport, target("http://api.example/v1", proxy=proxy))
        return caught.value


ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"


@pytest.mark.parametrize(
    ("replies", "says"),
    [
        ((b"HTTP/1.1 407 Auth\r\n\r\n",), "it answered 407"),
        ((b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\nbody",), "it answered 403"),
        ((b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n",), "it answered 302"),
        ((b"HTTP/1.1 200 OK\r\n",), "its answer is not HTTP"),
        ((b"SSH-2.0\r\n\r\n",), "its answer is not HTTP"),
        ((b"HTTP/1.1 2000 OK\r\n\r\n",), "its answer is not HTTP"),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000,), "its answer is not HTTP"),
        ((ESTABLISHED + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxx",), "bytes follow its answer"),
    ],
)
async def test_an_http_proxy_that_fails_is_said_to(replies: tuple[bytes, ...], says: str) -> None:
    async with through("http", replies=replies) as (proxy, transport):
        with pytest.raises(UpstreamInterrupted) as caught:
            await ask(transport, target("http://api.example/v1"))
        message = said(caught.value, f"api.example:80 through 127.0.0.1:{proxy.port}")
        assert message == f"Could not connect to provider 'scripted' through its proxy: {says}."


async def test_a_proxys_answer_may_come_in_pieces() -> None:
    pieces = tuple(ESTABLISHED[i : i + 1] for i in range(len(ESTABLISHED)))
    async with through("http", replies=pieces) as (_, transport):
        exchange = await transport.acquire(target("http://api.example/v1"))
        exchange.release()


@pytest.mark.parametrize("scheme", ["socks4a", "socks5"])
@pytest.mark.parametrize("replies", [(b"\x00\x5b" + bytes(6),), (b"\x05\x05\x00\x01" + bytes(6),), (b"H",)])
async def test_a_socks_proxy_that_fails_is_said_to(scheme: str, replies: tuple[bytes, ...]) -> None:
    async with through(scheme, replies=replies) as (_, transport):
        with pytest.raises(UpstreamInterrupted, match="through"):
            await ask(transport, target("http://api.example/v1"))


@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5"])
async def test_a_proxy_that_is_not_there_or_hangs_is_said_so(scheme: str) -> None:
    async with ScriptedUpstream([HANG]) as silent:
        settings = ProxySettings(
            http=f"{scheme}://127.0.0.1:{silent.port}", https=f"{scheme}://user:pw@127.0.0.1:1"
        )
        async with http(proxies=settings) as transport:
            with pytest.raises(UpstreamInterrupted) as caught:
                await transport.acquire(target("https://api.example/v1"))
            message = said(caught.value, "api.example:443 through 127.0.0.1:1")
            assert "through its proxy: the connection was refused" in message
            with pytest.raises(UpstreamTimeout, match="connect_s"):
                await transport.acquire(target("http://api.example/v1", connect_s=0.05))
            await silent.closed(0)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_cancelling_in_a_proxys_handshake_leaks_nothing(scheme: str) -> None:
    async with ScriptedUpstream() as upstream, through(scheme, upstream) as (proxy, transport):
        for delay in range(25):
            acquiring = asyncio.ensure_future(transport.acquire(target("http://api.example/v1")))
            await turns(delay)
            acquiring.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await acquiring).release()
        await until(lambda: not proxy._tasks)


# ── which proxy ─────────────────────────────────────────────────────────────────────────────────

SETTINGS = ProxySettings(
    http="http://h:1",
    https="socks5://s:2",
    no_proxy=(
        "corp.example",
        ".dotted.example",
        "*.star.example",
        "10.0.0.0/8",
        "[2001:db8::1]",
        "x.example:8443",
    ),
)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://api.example", "h"),
        ("https://api.example", "s"),
        ("https://corp.example", None),
        ("https://api.corp.example", None),
        ("https://notcorp.example", "s"),
        ("https://dotted.example", None),
        ("https://a.dotted.example", None),
        ("https://a.star.example", None),
        ("https://10.1.2.3", None),
        ("https://11.1.2.3", "s"),
        ("https://[2001:db8::1]", None),
        ("https://[2001:db8::2]", "s"),
        ("https://x.example:8443", None),
        ("https://x.example", "s"),
        ("http://localhost:11434", None),
        ("http://ollama.localhost", None),
        ("http://127.0.0.1:8000", None),
        ("http://127.9.9.9", None),
        ("http://[::1]:8000", None),
    ],
)
async def test_the_settings_choose_the_proxy(url: str, host: str | None) -> None:
    proxy = choose(parse_origin(url), "", SETTINGS)
    assert (proxy and proxy.host) == host


async def test_a_hosts_own_proxy_comes_first_and_direct_means_none() -> None:
    origin = parse_origin("https://corp.example")
    assert choose(origin, "http://own:3", SETTINGS) == Proxy(kind="http", host="own", port=3)
    assert choose(parse_origin("https://api.example"), "direct", SETTINGS) is None
    assert choose(origin, "", ProxySettings(https="http://h", no_proxy=("*",))) is None
    assert choose(origin, "", ProxySettings()) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_hosts_own_proxy_is_used_on_this_machine_too(host: str) -> None:
    async with (
        ScriptedUpstream() as upstream,
        LoopbackProxy("http", upstream.port) as own,
        through("http", upstream) as (usual, transport),
    ):
        url = f"http://{host}:{upstream.port}/v1"
        assert (await ask(transport, target(url, proxy=f"http://127.0.0.1:{own.port}")))[1] in chat_json()
        assert own.asked == [f"{host}:{upstream.port}"]
        await ask(transport, target(url))
        await ask(transport, target(url, proxy="direct"))
        assert len(own.asked) == 1
        assert usual.asked == []


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://h", Proxy(kind="http", host="h", port=80)),
        ("127.0.0.1:7890", Proxy(kind="http", host="127.0.0.1", port=7890)),
        ("socks5://H:1080/", Proxy(kind="socks5", host="h", port=1080)),
        ("SOCKS5h://h", Proxy(kind="socks5", host="h", port=1080)),
        ("socks4://u@h", Proxy(kind="socks4", host="h", port=1080, user="u")),
        ("http://u:p%40@[::1]:3128", Proxy(kind="http", host="::1", port=3128, user="u", password="p@")),
    ],
)
async def test_a_proxy_url_is_read(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(
    "url", ["", "https://h", "ftp://h", "http://", "http://h:0", "http://h:99999", "http://a b"]
)
async def test_another_proxy_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"proxy|port") as caught:
        parse_proxy(url.replace("//h", "//user:pw@h"))
    assert "pw@" not in str(caught.value)


async def test_a_wrong_proxy_url_is_said_to_be_wrong() -> None:
    async with http(proxies=ProxySettings(https="https://user:pw@proxy.example")) as transport:
        with pytest.raises(UpstreamInterrupted, match="The proxy of provider 'scripted' is wrong") as caught:
            await transport.acquire(target("https://api.example/v1"))
        assert "pw@" not in caught.value.message
