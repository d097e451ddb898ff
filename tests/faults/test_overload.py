"""A worker with more calls than it may have: what is refused, and what is not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.faults.worker import chat, parse, worker
from tests.upstream import ScriptedUpstream, chat_json

pytestmark = pytest.mark.anyio


async def test_calls_beyond_the_most_are_refused_at_once_and_health_is_not(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with (
        ScriptedUpstream([go, chat_json("hi")]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        shedder = gateway.app.shedder
        assert shedder._most >= 64  # by the memory of the machine
        shedder._most = 1
        first = asyncio.create_task(gateway.ask(chat()))
        await upstream.received(1)
        shedder.tick(0.0, 0.0)
        refused = await gateway.ask(chat())
        error = json.loads(refused.body)["error"]
        assert (refused.status, error["code"]) == (503, "server_is_overloaded")
        assert 1000 <= int(refused.headers["retry-after-ms"]) <= 2000
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert parse(await reader.read()).status == 200
        writer.close()
        go.set()
        assert (await first).status == 200
        assert (await gateway.ask(chat())).status == 200
        assert len(await gateway.books()) == 2
