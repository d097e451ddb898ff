"""A caller who reads slowly, or not at all, holds up its own provider, little memory, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.answers import SSE, chat_frames, chunk, http_head
from tests.faults.worker import COUNTED, INPUT, MODELS, OUTPUT, Worker, chat, worker
from tests.upstream import Peer, Received, ScriptedUpstream

pytestmark = pytest.mark.anyio
MOST_HELD = 256 * 1024  # bytes for one reader, of ours and of its provider
HUNG_UP = 499
PIECES = 4_000
BEGIN, SAID, *LAST = chat_frames(["tok "])
SAID = SAID.replace(
    b'"choices"', b'"obfuscation": "%b", "choices"' % (b"x" * 4_000)
)  # more than kernels hold
END = b"".join(map(chunk, [*LAST, b""]))


class Flood:
    """A provider that writes as fast as it is let, so many pieces; it keeps how many it could write."""

    def __init__(self, pieces: int) -> None:
        self.sent = 0
        self._pieces = pieces

    async def __call__(self, peer: Peer, request: Received) -> None:
        await peer.send(http_head(200, SSE) + chunk(BEGIN))
        for _ in range(self._pieces):
            await peer.send(chunk(SAID))
            if peer.closed_s is not None:
                return
            self.sent += 1
        await peer.send(END)


async def stands_still(flood: Flood) -> None:
    """Wait until the provider can write no more."""
    async with asyncio.timeout(20):
        before = -1
        while flood.sent != before or not flood.sent:
            before = flood.sent
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def asked(gateway: Worker) -> AsyncIterator[socket.socket]:
    """A caller that has asked for a stream, and takes little at a time."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, gateway.address)
        await loop.sock_sendall(sock, gateway.request(chat(stream=True, max_tokens=16_000)))
        yield sock


def held(gateway: Worker) -> int:
    """Bytes that wait for the one reader."""
    (connection,) = gateway.app.server.edge._connections
    (exchange,) = gateway.app.outward.transport.watched
    return int(connection._transport.get_write_buffer_size()) + exchange._answer.unread


async def test_who_reads_nothing_holds_little_and_is_cut_and_charged(tmp_path: Path) -> None:
    flood = Flood(100_000)
    async with ScriptedUpstream(flood) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        edge = gateway.app.server.edge
        async with asked(gateway):
            await stands_still(flood)
            assert 0 < held(gateway) <= MOST_HELD
            assert gateway.held > 0
            edge.limits = replace(edge.limits, tick_s=0.01, write_stall_s=0.3)
            await upstream.closed(0)
            await gateway.idle(10)
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.input, booked.estimated) == (HUNG_UP, COUNTED[MODELS[0]][0], True)
        assert booked.charge == min(booked.hold, booked.input * INPUT + booked.output * OUTPUT)
        assert booked.output > 100


async def test_who_reads_slowly_gets_everything(tmp_path: Path) -> None:
    flood = Flood(PIECES)
    async with ScriptedUpstream(flood) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        most, got = 0, 0
        async with asked(gateway) as sock, asyncio.timeout(60):
            await stands_still(flood)
            while data := await asyncio.get_running_loop().sock_recv(sock, 65536):
                got += data.count(b"tok ")
                most = max(most, held(gateway)) if gateway.app.outward.transport.watched else most
        assert 0.98 * PIECES < got <= PIECES  # one may be cut where a read ended
        assert 0 < most <= MOST_HELD, most
