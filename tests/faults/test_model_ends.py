"""A model whose end is announced: its answers say so, and the list of models too."""

import json
from pathlib import Path

import pytest
from tests.faults.worker import chat, worker
from tests.upstream import ScriptedUpstream

from headgate.money import catalogue
from headgate.money.cards import Cards
from headgate.money.pricedata import DATA

pytestmark = pytest.mark.anyio


async def test_an_answer_says_when_its_model_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((DATA / "cards.json").read_bytes())
    content["sources"]["openai"]["hosts"] = ["http://127.0.0.1"]
    here = Cards(json.dumps(content).encode())
    monkeypatch.setattr(catalogue, "cards", lambda: here)
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        for stream in (False, True):
            reply = await gateway.ask(chat(model="gpt-4o-mini", stream=stream))
            assert reply.status == 200
            assert reply.headers["sunset"] == "Thu, 14 Jan 2027 00:00:00 GMT"
            assert reply.headers["deprecation"] == "@1791936000"
            assert reply.headers["x-headgate-use-instead"] == "gpt-6-luna"
        reply = await gateway.ask(chat(model="scripted-1"))
        assert "sunset" not in reply.headers
