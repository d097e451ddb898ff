"""A server is killed while two attempts of one call are open: the next start books one, and the other as lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.answers import chat_frames, stream_steps
from tests.crash.server import Server, cost
from tests.upstream import HANG, ScriptedUpstream

pytestmark = pytest.mark.anyio
CONFIG = """
[[providers]]
name = "first"
base_url = "%s"
api_key = "k"
models = ["none-*"]
[[providers]]
name = "second"
base_url = "%s"
api_key = "k"
models = ["none-*"]
[[models]]
name = "m"
targets = [{ provider = "first", model = "x" }, { provider = "second", model = "x" }]
hedge = { after_ms = 40, most_percent = 50 }
[[prices.rows]]
model = "x"
input = "3"
output = "6"
"""
LIMIT = 1000
CHECKPOINT = 256


async def call(server: Server, key: str) -> int:
    """Make a call; return the status that came, 0 where the server died."""
    body = {
        "model": "m",
        "stream": True,
        "max_tokens": LIMIT,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    writer.write(
        f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )
    with contextlib.suppress(ConnectionError):
        line = await reader.readline()
        await reader.read()
        writer.close()
        return int(line.split()[1]) if line else 0
    return 0


def rows(data: Path, question: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(data / "headgate.sqlite")) as sql:
        return sql.execute(question).fetchall()


@pytest.mark.parametrize(
    ("point", "marked"),
    [
        ("both-open=kill", False),
        ("one-won=kill", False),
        ("first-frame=kill@2", True),
        ("before-settle=kill@2", True),
    ],
)
async def test_a_kill_with_both_open_books_one_and_loses_the_other(
    tmp_path: Path, point: str, marked: bool
) -> None:
    async def late(peer, request) -> None:
        await asyncio.sleep(0.3)
        for step in stream_steps(chat_frames()):
            assert isinstance(step, bytes)
            await peer.send(step)

    async with ScriptedUpstream(late, [HANG]) as first, ScriptedUpstream() as second:
        server = Server(tmp_path, 0)
        server._config.write_text(CONFIG % (first.base_url, second.base_url))
        key = (await server.ask("keys", "create", "--name", "crash"))["key"]
        await server.start(point)
        assert await call(server, key) == 200  # by the first alone: half of a second request is saved up
        assert await call(server, key) in {0, 200}
        assert await server.died(10.0)
        await server.start()
        try:
            assert (await server.ask("ledger", "check"))["findings"] == []
            found = rows(
                server.data, "SELECT attempt, input, output, charge, hold, cost FROM calls WHERE flags & 8"
            )
            ((attempt, given, made, charge, hold, paid),) = found
            ((lost, lost_made),) = rows(server.data, "SELECT attempt, output FROM lost")
            assert (attempt, lost, lost_made) == (1, 0, 0)
            assert 0 < charge <= hold
            assert paid > charge  # the house pays the lost one on top
            assert charge == cost(given, made)
            assert made == (CHECKPOINT if marked else LIMIT)
        finally:
            assert await server.stop() == 0
