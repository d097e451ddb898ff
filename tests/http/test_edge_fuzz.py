"""Random bytes near HTTP: however they are cut, the same requests come out, and nothing of ours fails."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from tests.http.served import Echo, HandClock, Log

from headgate.http.edge import Edge, EdgeLimits
from headgate.ports import CallIds

SEEDS = int(os.environ.get("HEADGATE_FUZZ", "300"))
PIECES = [
    b"GET /e HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0",
    b"0", b"5", b"\xff", b"Host: b\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"HTTP/1.1", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"X: " + b"y" * 300 + b"\r\n", b"GET ", b"/e?q#f ", b"%zz",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip


class Wire(asyncio.Transport):
    """What a connection sends; reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def write_eof(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0


def make(choose: random.Random) -> bytes:
    parts = [
        choose.choice(PIECES[:4] if choose.random() < 0.5 else PIECES) for _ in range(choose.randint(1, 6))
    ]
    data = bytearray(b"".join(parts))
    for _ in range(choose.choice([0, 0, 1, 2])):
        at = choose.randrange(len(data))
        data[at : at + choose.randint(0, 3)] = choose.choice(PIECES[4:])
    return bytes(data)


def run(data: bytes, cuts: list[int]) -> tuple[list[tuple[bytes, str, bytes]], list[str], bool]:
    """Return the requests that were served, the refusals, and whether the connection ended."""
    clock, log, echo = HandClock(), Log(), Echo()
    edge = Edge(
        lambda _method, _path: echo,
        lambda: pytest.fail("no app"),
        clock=clock,
        ids=CallIds(clock),
        events=log,
        limits=EdgeLimits(),
    )
    connection, wire = edge.connection(), Wire()
    connection.connection_made(wire)
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if not wire.closed:
            connection.data_received(data[begin:end])
    edge.outbox.flush()
    assert log.faults == []
    assert wire.sent.count(b"HTTP/1.1 400 ") <= 1
    assert wire.sent.count(b"\r\nserver: headgate\r\n") == len(echo.seen) + len(log.refusals)
    connection.connection_lost(None)
    served = [(request.method, request.path, request.body) for request in echo.seen]
    return served, [type(error).__name__ for error in log.refusals], wire.closed


@pytest.mark.anyio
async def test_the_same_bytes_are_the_same_requests_however_they_are_cut() -> None:
    for seed in range(SEEDS):
        choose = random.Random(seed)
        data = make(choose)
        whole = run(data, [])
        by_byte = run(data, list(range(1, len(data))))
        cuts = sorted(choose.sample(range(1, len(data)), min(3, len(data) - 1))) if len(data) > 1 else []
        assert whole == by_byte == run(data, cuts), (seed, data)
