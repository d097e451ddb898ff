from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.transport.asking import HandClock, ask, http, request, said, target
from tests.upstream import (
    HANG,
    Peer,
    Received,
    ScriptedUpstream,
    Step,
    chunk,
    http_head,
)

from headgate.errors import UpstreamTimeout
from headgate.transport.exchange import AT_ONCE

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("steps", "passes_s", "names"),
    [
        ([HANG], 2.5, "first_byte_s"),
        ([b"HTTP/1.1 200 OK\r\nX: ", HANG], 2.5, "first_byte_s"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", HANG], 2.5, "first_byte_s"),
        ([http_head(200), HANG], 3.5, "between_frames_s"),
        ([http_head(200), chunk(b"a"), HANG], 3.5, "between_frames_s"),
        ([http_head(200), chunk(b"a"), HANG], 11.0, "total_s"),
    ],
)
async def test_each_deadline_is_kept_and_named(steps: list[Step], passes_s: float, names: str) -> None:
    clock = HandClock()
    limits: dict[str, Any] = {"first_byte_s": 2.0, "between_frames_s": 3.0, "total_s": 10.0}
    async with ScriptedUpstream(steps) as upstream, http(clock) as transport:
        to = target(upstream.base_url, **limits)
        waiting = asyncio.ensure_future(ask(transport, to))
        await upstream.received(1)
        for _ in range(8):  # a few ticks, so that the silence is measured from the last byte
            await asyncio.sleep(0.005)
        clock.now_s += passes_s
        with pytest.raises(UpstreamTimeout) as caught:
            await waiting
        assert f"{limits[names]:g} s ({names})" in said(caught.value, f"127.0.0.1:{upstream.port}")
        await upstream.closed(0)


async def test_a_drip_keeps_the_gap_but_not_the_total() -> None:
    clock = HandClock()

    async def drip(peer: Peer, got: Received) -> None:
        await peer.send(http_head(200))
        while peer.closed_s is None:
            clock.now_s += 1.0
            await peer.send(chunk(b"a"))
            await asyncio.sleep(0.006)

    async with ScriptedUpstream(drip) as upstream, http(clock, tick_s=0.002) as transport:
        to = target(upstream.base_url, between_frames_s=4.0, total_s=30.0)
        with pytest.raises(UpstreamTimeout, match="total_s"):
            await ask(transport, to)


async def test_a_slow_caller_is_not_the_providers_silence() -> None:
    clock, gate = HandClock(), asyncio.Event()
    steps: list[Step] = [http_head(200), chunk(b"a"), gate, chunk(b"")]
    async with ScriptedUpstream(steps) as upstream, http(clock, tick_s=0.002) as transport:
        exchange = await transport.acquire(target(upstream.base_url, between_frames_s=3.0))
        exchange.send(request())
        await exchange.head()
        for _ in range(5):
            clock.now_s += 2.0
            await asyncio.sleep(0.006)
        assert await exchange.read() == b"a"
        gate.set()
        assert await exchange.read() == b""
        exchange.release()


async def test_unread_bytes_hold_back_the_upstream() -> None:
    data = b"x" * 65536
    steps: list[Step] = [
        http_head(200, [("content-type", "text/event-stream")]),
        *[chunk(data)] * 800,
        chunk(b""),
    ]
    async with ScriptedUpstream(steps) as upstream, http() as transport:
        exchange = await transport.acquire(target(upstream.base_url))
        exchange.send(request())
        await exchange.head()
        for _ in range(50):
            await asyncio.sleep(0.002)
        unread = exchange._answer.unread
        assert 16 * 1024 < unread <= 16 * 1024 + AT_ONCE
        size = 0
        while part := await exchange.read():
            assert len(part) <= 16 * 1024 + AT_ONCE
            size += len(part)
        assert size == 800 * 65536
        exchange.release()
        assert transport.idle == 1
