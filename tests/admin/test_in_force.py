"""What the admin API has changed is in force in its own process when it answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.faults.worker import Worker, chat, worker
from tests.limits.served import another_key
from tests.upstream import ScriptedUpstream

from headgate.process import replicas
from headgate.process.background import Watch

pytestmark = pytest.mark.anyio
_NEVER_S = 600.0


async def test_a_key_is_served_and_refused_with_the_answer_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        admin = await another_key(gateway, "root", kind="admin")
    monkeypatch.setattr(replicas, "_POLL_S", _NEVER_S)
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        admin = Worker(gateway.app, admin.key, tmp_path)
        for _ in range(3):
            made = json.loads((await admin.ask(b'{"name": "new"}', "/admin/v1/keys")).body)
            new = Worker(gateway.app, made["key"], tmp_path)
            assert (await new.ask(chat())).status == 200
            limit = {"scope": "key", "ref": made["record"]["id"], "rpm": 1}
            assert (await admin.ask(json.dumps(limit).encode(), "/admin/v1/limits")).status == 200
            assert (await new.ask(chat())).headers["x-ratelimit-limit-requests"] == "1"
            turned = f"/admin/v1/keys/{made['record']['id']}/rotate"
            assert (await admin.ask(b"{}", turned)).status == 200
            assert (await new.ask(chat())).status == 401


async def test_who_waits_for_a_look_gets_one_of_its_own_and_not_the_one_under_way() -> None:
    looks, gate = 0, asyncio.Event()

    async def look() -> None:
        nonlocal looks
        looks += 1
        await gate.wait()

    watch = Watch(look, _NEVER_S)
    task = asyncio.create_task(watch.run())
    first = asyncio.create_task(watch.now(_NEVER_S))
    while not looks:
        await asyncio.sleep(0)
    second = asyncio.create_task(watch.now(_NEVER_S))
    third = asyncio.create_task(watch.now(_NEVER_S))
    await watch.now(0.01)  # who cannot wait is let go
    assert not first.done()
    gate.set()
    await asyncio.gather(first, second, third)
    assert looks == 2
    task.cancel()
