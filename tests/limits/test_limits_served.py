"""Limits as a caller sees them: headers on every answer, and refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.answers import json_answer
from tests.faults.worker import chat, worker
from tests.limits.served import limit, tier, told
from tests.upstream import ScriptedUpstream

pytestmark = pytest.mark.anyio


async def test_every_answer_tells_what_is_left_true_within_one(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        assert told(await gateway.ask(chat())) == {}
        await limit(gateway, "account", rpm=50, tpm=1_000_000)
        await limit(gateway, "project", tpm=900_000)
        await limit(gateway, "key", rpd=40)
        used = 0
        for calls in range(1, 6):
            reply = await gateway.ask(chat())
            seen = told(reply)
            assert (seen["limit-requests"], int(seen["remaining-requests"])) == ("40", 40 - calls)
            assert seen["limit-tokens"] == seen["limit-project-tokens"] == "900000"
            assert int(seen["remaining-tokens"]) == int(seen["remaining-project-tokens"])
            used += json.loads(reply.body)["usage"]["total_tokens"]
            # 15,000 tokens a second come back, so the few of each call do before the next
            assert 900_000 - used <= int(seen["remaining-tokens"]) <= 900_000
            assert seen["reset-requests"].endswith("s")


async def test_streams_and_refusals_tell_it_too(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await limit(gateway, "account", rpm=4, tpm=1000)
        stream = told(await gateway.ask(chat(stream=True)))
        assert (stream["limit-requests"], stream["remaining-requests"]) == ("4", "3")
        assert 900 <= int(stream["remaining-tokens"]) < 990  # what it reserved is taken until it ends
        for body in (chat(model="no-such-model"), chat(temperature=9), chat(n="x")):
            reply = await gateway.ask(body)
            assert reply.status in {400, 404}
            assert told(reply)["remaining-requests"] == "3"
        unknown = await gateway.ask(chat(), path="/v1/nothing")
        assert told(unknown) == {}


async def test_a_refusal_by_a_limit_says_when_to_come_back(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await limit(gateway, "project", model="gpt-4o*", rpm=2)
        assert [(await gateway.ask(chat())).status for _ in range(3)] == [200, 200, 429]
        reply = await gateway.ask(chat())
        assert told(reply)["remaining-requests"] == "0"
        assert 28_000 < int(reply.headers["retry-after-ms"]) <= 30_000
        assert reply.headers["retry-after"] in {"29", "30"}
        error = json.loads(reply.body)["error"]
        assert (error["type"], error["code"], error["param"]) == ("requests", "rate_limit_exceeded", None)
        assert re.search(
            r"on requests per min \(RPM\): Limit 2, Used 2, Requested 1\. Please try again in (2\d(\.\d+)?|30)s\.",
            error["message"],
        )
        assert (await gateway.ask(chat(model="scripted-1"))).status == 200
        await limit(gateway, "account", tpm=90)
        large = await gateway.ask(chat(model="scripted-1"))
        assert "Request too large for scripted-1" in json.loads(large.body)["error"]["message"]
        assert large.headers["x-should-retry"] == "false"
        assert "retry-after" not in large.headers


async def test_a_call_that_money_refuses_counts_nothing_and_one_that_fails_upstream_does(
    tmp_path: Path,
) -> None:
    refusal = json_answer({"error": {"message": "no"}}, 500)
    async with (
        ScriptedUpstream(refusal) as upstream,
        worker(tmp_path, upstream.base_url, cap="0.005/month") as gateway,
    ):
        await limit(gateway, "account", rpm=50)
        for several in (1, 20):
            dear = await gateway.ask(chat(max_tokens=16_000, n=several))
            assert (dear.status, told(dear)["remaining-requests"]) == (429, "50")
        failed = await gateway.ask(chat())
        assert (failed.status, told(failed)["remaining-requests"]) == (500, "49")


async def test_a_chosen_tier_bounds_an_account_within_a_second(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        assert told(await gateway.ask(chat())) == {}  # no tier until one is chosen
        await tier(gateway, "free")
        assert [(await gateway.ask(chat())).status for _ in range(4)] == [200, 200, 200, 429]
        reply = await gateway.ask(chat())
        assert (told(reply)["limit-requests"], told(reply)["limit-tokens"]) == ("3", "40000")
        assert "organization, tier free." in json.loads(reply.body)["error"]["message"]
        await tier(gateway, "tier2")
        raised = told(await gateway.ask(chat()))
        assert (raised["limit-requests"], raised["limit-tokens"]) == ("5000", "450000")
        assert 4_990 <= int(raised["remaining-requests"]) <= 4_996 + 1  # what was used stays used
        await tier(gateway, "")
        assert told(await gateway.ask(chat())) == {}
