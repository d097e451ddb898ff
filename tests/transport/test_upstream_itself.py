from __future__ import annotations

import asyncio
import socket

import pytest
from tests.upstream import (
    FIN,
    HANG,
    RESET,
    Drip,
    ScriptedUpstream,
    Split,
    chat_json,
    chat_stream,
    stream_steps,
)

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


async def exchange(upstream: ScriptedUpstream, length: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(REQUEST)
    try:
        return await reader.readexactly(length)
    finally:
        writer.close()


@pytest.mark.anyio
async def test_an_answer_serves_its_request_and_the_last_one_repeats() -> None:
    first, second = chat_json("one"), chat_json("two")
    async with ScriptedUpstream(first, second) as upstream:
        assert [await exchange(upstream, len(first)) for _ in range(3)] == [first, second, second]
        assert [r.body for r in upstream.requests] == [b"{}"] * 3
        assert upstream.requests[0].get("host") == "x"
        assert (await upstream.closed(2)).how == "fin"


@pytest.mark.anyio
async def test_steps_are_done_in_order_and_events_hold_them() -> None:
    gate = asyncio.Event()
    async with ScriptedUpstream([b"ab", Split(b"cdef", every=1), gate, Drip(b"gh", 0.001), FIN]) as upstream:
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        writer.write(REQUEST)
        assert await reader.readexactly(6) == b"abcdef"
        gate.set()
        assert await reader.read() == b"gh"
        writer.close()


@pytest.mark.anyio
async def test_a_reset_is_seen_as_one_and_a_hang_ends_with_the_client() -> None:
    async with ScriptedUpstream([b"x", RESET], [HANG]) as upstream:
        with pytest.raises(ConnectionResetError):
            await exchange(upstream, 2)
        _, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        writer.write(REQUEST)
        await upstream.received(2)
        writer.close()
        assert (await upstream.closed(1)).how == "fin"
        assert upstream.open == 0


def test_it_serves_synchronous_tests_from_a_thread() -> None:
    with ScriptedUpstream() as upstream, socket.create_connection(("127.0.0.1", upstream.port)) as client:
        client.sendall(REQUEST)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_stream_in_steps_is_the_stream_in_one_piece() -> None:
    assert b"".join(s for s in stream_steps() if isinstance(s, bytes)) == chat_stream()
