"""Slow clients of four kinds at once hold up nobody else: each is cut by its deadline, and what was made is paid.

`make slow-clients` opens 2,000 connections; their deadlines are shorter here than those that are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.test_slow_clients import MOST_HELD, Flood
from tests.faults.worker import LONG, Worker, chat, worker
from tests.upstream import Peer, Received, ScriptedUpstream, chat_json

pytestmark = pytest.mark.anyio
EACH = int(os.environ.get("HEADGATE_CONNECTIONS", "80")) // 4
DEADLINE_S = 2.0
CUT = 499
Sock = socket.socket


async def drip_head(gateway: Worker, sock: Sock) -> bytes:
    return await drip(sock, b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nX-A: " + b"a" * 10_000)


async def drip_body(gateway: Worker, sock: Sock) -> bytes:
    head, sign, body = gateway.request(chat(pad="x" * 100_000)).partition(b"\r\n\r\n")
    await asyncio.get_running_loop().sock_sendall(sock, head + sign)
    return await drip(sock, body)


async def say_nothing(gateway: Worker, sock: Sock) -> bytes:
    return await asyncio.get_running_loop().sock_recv(sock, 65536)


async def read_nothing(gateway: Worker, sock: Sock) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, gateway.request(chat(stream=True, max_tokens=16_000)))
    while gateway.app.calls.runs:  # it is cut while nobody reads
        await asyncio.sleep(0.1)
    return b""


async def drip(sock: Sock, data: bytes) -> bytes:
    """Send a byte now and then, until there is an answer."""
    loop = asyncio.get_running_loop()
    answer = asyncio.ensure_future(loop.sock_recv(sock, 65536))
    for byte in data:
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(sock, bytes([byte]))
        done, _ = await asyncio.wait([answer], timeout=0.5)
        if done:
            break
    return await answer


class Provider:
    """Floods streams; answers everything else at once."""

    def __init__(self) -> None:
        self.floods: list[Flood] = []

    async def __call__(self, peer: Peer, request: Received) -> None:
        if not request.json().get("stream"):
            await peer.send(chat_json("hi"))
            return
        self.floods.append(Flood(100_000))
        await self.floods[-1](peer, request)


async def one(gateway: Worker, how: Callable[[Worker, Sock], Awaitable[bytes]]) -> bytes:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(sock, gateway.address)
        try:
            return await how(gateway, sock)
        except ConnectionError:
            return b""  # cut


def held(gateway: Worker) -> int:
    """Bytes that wait for all readers, of ours and of their providers."""
    ours = sum(each._transport.get_write_buffer_size() for each in gateway.app.server.edge._connections)
    theirs = sum(each._answer.unread for each in gateway.app.outward.transport.watched if each._answer)
    return int(ours) + theirs


async def test_slow_clients_hold_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LONG:  # 500 readers fill a gigabyte of the system's buffers before they stand still
        monkeypatch.setitem(LONG, name, 120.0)
    provider = Provider()
    async with (
        ScriptedUpstream(provider) as upstream,
        worker(tmp_path, upstream.base_url, cap="5000/month") as gateway,
    ):
        await gateway.warm()
        edge = gateway.app.server.edge
        edge.limits = replace(
            edge.limits, head_s=DEADLINE_S, body_grace_s=DEADLINE_S, write_stall_s=DEADLINE_S, tick_s=0.05
        )
        kinds = (drip_head, drip_body, say_nothing, read_nothing)
        slow = [asyncio.create_task(one(gateway, how)) for how in kinds for _ in range(EACH)]
        most, served = 0, 0
        async with asyncio.timeout(20 + EACH):
            while not all(each.done() for each in slow):
                reply = await gateway.ask(chat())
                message = json.loads(reply.body)["choices"][0]["message"]
                assert (reply.status, message["content"]) == (200, "hi")
                served += 1
                most = max(most, held(gateway))
        answers = [each.result() for each in slow]
        assert all(b" 408 " in answer[:40] for answer in answers[: 2 * EACH])
        assert set(answers[2 * EACH :]) == {b""}
        assert served >= 5
        assert most <= EACH * MOST_HELD, most / EACH
        books = await gateway.books()
        cut = [row for row in books.values() if row.status == CUT]
        assert len(cut) == len(provider.floods) == EACH
        assert all(row.charge > 0 and row.estimated for row in cut)
        assert len(books) == EACH + served
        print(
            f"{4 * EACH} slow clients: {served} calls of others, at most {most / EACH / 1024:.0f} KiB for each reader"
        )
