"""What the log says of a provider that fails: which, why, and what to do."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.answers import chat_json, error_json
from tests.faults.worker import chat, worker
from tests.status.test_health_of_providers import get
from tests.upstream import ScriptedUpstream

from headgate.observe.log import Log
from headgate.vitals import ADVICE

pytestmark = pytest.mark.anyio


class Heard(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []

    def line(self, level: str, event: str, **values: object) -> None:
        self.lines.append({"level": level, "event": event, **values})


async def test_an_address_is_in_the_log_and_nowhere_else(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        place, base_url = f"127.0.0.1:{upstream.port}", upstream.base_url
    async with worker(tmp_path, base_url, more="\n[retries]\nattempts = 1\n") as gateway:
        heard = gateway.app.outward._log = Heard()
        answers = [await gateway.ask(chat(stream=bool(made % 2))) for made in range(5)]
        assert [answer.status for answer in answers] == [502] * 5
        message = json.loads(answers[0].body)["error"]["message"]
        assert message == "Could not connect to provider 'openai': the connection was refused."
        (line,) = heard.lines
        assert (line["error"], line["said"]) == ("interrupted", f"{message} (at {place})")
        answers.append(await get(gateway, "/status"))
        assert "127.0.0.1" not in answers[-1].body.decode()
        assert not any(b":%d" % upstream.port in answer.body for answer in answers)


@pytest.mark.parametrize(
    ("status", "kind", "first"), [(401, "denied", "a provider refuses this gateway"), (500, "failed", None)]
)
async def test_why_a_target_is_out_and_what_to_do_is_in_the_log(
    status: int, kind: str, first: str | None, tmp_path: Path
) -> None:
    refusal = error_json(status, "No.")
    more = "\n[retries]\nattempts = 1\n[breaker]\nout_s = 0.1\n"
    async with (
        ScriptedUpstream(*[refusal] * 5, chat_json("hi")) as upstream,
        worker(tmp_path, upstream.base_url, more=more) as gateway,
    ):
        heard = gateway.app.outward._log = Heard()
        named = {"provider": "openai", "model": "gpt-4o-mini", "error": kind, "says": ADVICE[kind]}
        told = [] if first is None else [{"level": "error", "event": first, **named}]
        for made in range(5):
            assert heard.lines == (told if made else [])
            await gateway.ask(chat())
        told.append({"level": "warning", "event": "a target is taken out", **named})
        assert heard.lines == told
        async with asyncio.timeout(20):
            while len(heard.lines) == len(told):
                await gateway.ask(chat())
        assert heard.lines[len(told) :] == [
            {"level": "info", "event": "a target is well again", "provider": "openai", "model": "gpt-4o-mini"}
        ]
