"""Bodies that are sent as the provider takes them: through TLS and proxies, with deadlines and hang-ups between."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from mmap import mmap
from pathlib import Path

import pytest
from tests.transport.asking import CA, HEADERS, HandClock, body_of, http, served_as, target, turns, until
from tests.transport.proxies import LoopbackProxy
from tests.upstream import ScriptedUpstream, chat_json

from headgate.errors import CallerGone, UpstreamTimeout
from headgate.http.spool import Spool
from headgate.ports import Request
from headgate.transport.proxy import ProxySettings

pytestmark = pytest.mark.anyio

LONG = random.Random(11).randbytes(6_000_000)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> mmap:
    """The long body in a file."""
    spool = Spool(tmp_path_factory.mktemp("kept"))
    spool.extend(LONG)
    return spool.whole()


def long_request(kept: mmap) -> Request:
    tail = (memoryview(kept)[:5_000_000], b"between", memoryview(kept)[5_000_000:])
    return Request("POST", "/v1/audio/transcriptions", HEADERS, b"begin", "req_1", tail)


SENT = b"begin" + LONG[:5_000_000] + b"between" + LONG[5_000_000:]


@pytest.mark.parametrize("way", ["plain", "tls", "socks5", "http", "tls through http"])
async def test_it_arrives_whole_and_the_connection_serves_on(way: str, kept: mmap) -> None:
    tls = served_as("local") if "tls" in way else None
    kind = way.rpartition(" ")[2]
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(ScriptedUpstream(chat_json(), tls=tls))
        proxies = ProxySettings()
        if kind in {"http", "socks5"}:
            proxy = await stack.enter_async_context(LoopbackProxy(kind, upstream.port))
            proxies = ProxySettings(http=(url := f"{kind}://127.0.0.1:{proxy.port}"), https=url)
        transport = await stack.enter_async_context(http(ca_file=CA, proxies=proxies))
        for _ in range(2):
            exchange = await transport.acquire(target(upstream.base_url))
            exchange.send(long_request(kept))
            assert (await exchange.head()).status == 200
            assert await body_of(exchange) in chat_json()
            exchange.release()
            assert transport.idle == 1
        assert [request.body == SENT for request in upstream.requests] == [True, True]
        assert [request.get("content-length") for request in upstream.requests] == [str(len(SENT))] * 2
        assert len(upstream.connections) == 1


@contextlib.asynccontextmanager
async def reading(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[str, asyncio.Queue[Peer]]]:
    """A provider that reads only what a test wants."""
    peers: asyncio.Queue[Peer] = asyncio.Queue()
    all_peers: list[Peer] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        all_peers.append(Peer(reader, writer))
        peers.put_nowait(all_peers[-1])

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        scheme = "https" if tls is not None else "http"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", peers
    finally:
        server.close()
        for peer in all_peers:
            peer.writer.transport.abort()
        await turns()


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer


async def test_what_is_taken_slowly_is_not_late(kept: mmap) -> None:
    """In all three times as long as its deadline; what the system has in its buffers is a fifth of the body."""
    clock = HandClock()
    async with reading() as (base_url, peers), http(clock) as transport:
        exchange = await transport.acquire(target(base_url, first_byte_s=10.0))
        tail = (memoryview(kept),) * 8
        exchange.send(Request("POST", "/v1/audio/transcriptions", HEADERS, b"", "req_1", tail))
        peer = await peers.get()
        await peer.reader.readuntil(b"\r\n\r\n")
        for _ in range(24):
            clock.now_s += 1.25
            await peer.reader.readexactly(2_000_000)
        peer.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        assert (await exchange.head()).status == 200
        exchange.release()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_what_is_not_taken_is_late_and_leaves_nothing(secure: bool, kept: mmap) -> None:
    clock = HandClock()
    tls = served_as("local") if secure else None
    async with reading(tls) as (base_url, peers), http(clock, ca_file=CA) as transport:
        exchange = await transport.acquire(target(base_url, first_byte_s=10.0))
        exchange.send(long_request(kept))
        await peers.get()
        answered = asyncio.ensure_future(exchange.head())
        while not answered.done():
            clock.now_s += 11.0  # and again, for what the system still takes into its buffers
            await asyncio.sleep(0.01)
        with pytest.raises(UpstreamTimeout, match="first_byte_s"):
            await answered
        exchange.release()
        assert transport.idle == 0
        await until(lambda: transport.open == 0)


async def test_a_caller_who_leaves_ends_it(kept: mmap) -> None:
    async with reading() as (base_url, peers), http() as transport:
        exchange = await transport.acquire(target(base_url))
        exchange.send(long_request(kept))
        peer = await peers.get()
        await peer.reader.readuntil(b"\r\n\r\n")
        exchange.abort()
        with pytest.raises(CallerGone):
            await exchange.head()
        exchange.release()
        with contextlib.suppress(ConnectionError):
            assert len(await peer.reader.read()) < len(SENT)
        await until(lambda: transport.open == 0)


async def test_an_answer_that_comes_before_the_end_closes_the_connection(kept: mmap) -> None:
    async with reading() as (base_url, peers), http() as transport:
        exchange = await transport.acquire(target(base_url))
        exchange.send(long_request(kept))
        peer = await peers.get()
        peer.writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        assert (await exchange.head()).status == 413
        assert await body_of(exchange) == b"{}"
        exchange.release()
        assert transport.idle == 0
        await until(lambda: transport.open == 0)


def test_a_spool_gives_back_what_it_was_given(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for at in range(0, len(LONG), 1_000_001):
        spool.extend(LONG[at : at + 1_000_001])
    assert len(spool) == len(LONG)
    assert spool.whole()[:] == LONG
    assert list(tmp_path.iterdir()) == []
