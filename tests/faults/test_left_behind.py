"""What is refused leaves no cycle: nobody looks for those while little is left, and they would hold bodies."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.faults.test_revoked import answers, desk, known
from tests.faults.worker import ONE_ATTEMPT, chat, worker
from tests.upstream import ScriptedUpstream, chat_json, error_json, http_head

from headgate.http.incoming import Incoming
from headgate.ops.accounts import AccountChange, change_account
from headgate.ops.actors import LOCAL
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key
from headgate.values import Call

pytestmark = pytest.mark.anyio
LONG = [{"role": "user", "content": "word " * 200}]
REDIRECT = [http_head(302, [("location", "https://elsewhere.example/"), ("content-length", "0")])]


def left(before: Sequence[Any] = ()) -> list[Any]:
    """The calls and requests that live, but for those of before: other modules of tests keep some for good."""
    known = {id(each) for each in before}
    return [each for each in gc.get_objects() if isinstance(each, (Call, Incoming)) and id(each) not in known]


async def test_refused_calls_leave_nothing_that_holds_them(tmp_path: Path) -> None:
    script = [chat_json(), error_json(500), error_json(400), REDIRECT]
    async with (
        ScriptedUpstream(*script) as upstream,
        worker(tmp_path, upstream.base_url, more=ONE_ATTEMPT) as gateway,
    ):
        own = gateway.key
        with desk(tmp_path) as on:
            slow = create_key(LOCAL, on, KeyOrder(name="slow", rpm=1, queue_ms=50))
            await known(gateway, slow.text)
            gateway.key = own
            gc.collect()
            gc.disable()
            before = left()
            try:
                seen = [(await gateway.ask(chat(messages=LONG))).status for _ in script]
                seen.append((await gateway.ask(chat(model="none", messages=LONG))).status)
                gateway.key = slow.text
                upstream.answers.append(chat_json())
                seen += [(await gateway.ask(chat(messages=LONG))).status for _ in range(2)]
                change_account(LOCAL, on, slow.record.account, AccountChange(status="suspended"))
                await answers(gateway, slow.text, {401})
                seen.append((await gateway.ask(chat(messages=LONG))).status)
                gateway.key = "sk-hg-live-" + "x" * 49
                seen.append((await gateway.ask(chat(messages=LONG))).status)
                await asyncio.sleep(0.05)
                assert [str(each)[:80] for each in left(before)] == []
            finally:
                gc.enable()
        assert seen == [200, 500, 400, 502, 404, 200, 429, 401, 401]
