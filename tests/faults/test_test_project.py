"""A project for tests: none of its keys reaches a provider, also those that were made as live ones."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from tests.caps.money import Money, change
from tests.faults.worker import chat, worker
from tests.upstream import ScriptedUpstream

from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.database import connect

pytestmark = pytest.mark.anyio


def move(data: Path, project: int, environment: str) -> None:
    with closing(connect(data)) as sql, writing(sql):
        sql.execute("UPDATE projects SET environment = ? WHERE id = ?", (environment, project))
        [(name,)] = sql.execute("SELECT public_id FROM projects WHERE id = ?", (project,)).fetchall()
        change(sql, "project", name)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_the_simulator_answers_a_project_of_the_environment_test(stream: bool, tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url, ends=False) as gateway:
        money = Money(tmp_path / "data")
        payer = money.payer()
        gateway.key = payer.keys[0][1]
        assert gateway.key.startswith("sk-hg-live-")
        move(tmp_path / "data", payer.project, "test")
        await gateway.app._follow()
        simulated = await gateway.ask(chat(stream=stream))
        assert (simulated.status, simulated.headers["x-headgate-simulated"]) == (200, "true")
        assert upstream.requests == []
        move(tmp_path / "data", payer.project, "production")
        await gateway.app._follow()
        real = await gateway.ask(chat(stream=stream))
        assert (real.status, "x-headgate-simulated" in real.headers) == (200, False)
        assert len(upstream.requests) == 1
        await gateway.books()
        assert money.ask("SELECT book, charge > 0 FROM calls ORDER BY opened_at") == [(1, 1), (0, 1)]


async def test_a_model_that_the_simulator_does_not_have_is_not_asked_for_elsewhere(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url, ends=False) as gateway:
        payer = Money(tmp_path / "data").payer()
        gateway.key = payer.keys[0][1]
        move(tmp_path / "data", payer.project, "test")
        await gateway.app._follow()
        reply = await gateway.ask(chat(model="scripted-1"))
        assert reply.status in {200, 404}
        assert reply.status == 404 or reply.headers["x-headgate-simulated"] == "true"
        assert "error" in json.loads(reply.body) or reply.status == 200
        assert upstream.requests == []
