"""What the log says of a provider that fails: which, why, and what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.answers import chat_json, error_json
from tests.faults.worker import chat, worker
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
