"""Calls to providers with bounds, through a whole worker: what callers see, and what the books say."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from openai import AsyncOpenAI, InternalServerError
from tests.answers import default_answer, json_answer
from tests.faults.worker import Worker, chat, worker
from tests.upstream import Peer, Received, ScriptedUpstream

pytestmark = pytest.mark.anyio
MODEL = "scripted-1"
QUEUED = "x-headgate-queued-ms"


class Narrow:
    """A provider that answers when it is told to, and notes how many calls it had at once."""

    def __init__(self) -> None:
        self.now = self.most = self.calls = 0
        self.go = asyncio.Event()

    async def __call__(self, peer: Peer, request: Received) -> None:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await peer.wait(self.go)
        await asyncio.sleep(0.005)
        self.now -= 1
        await peer.send(default_answer(request))


async def until(true, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


def waiting(gateway: Worker) -> int:
    return gateway.app.outward.doors.waiting


async def test_a_provider_never_has_more_calls_than_it_may_and_all_are_served(tmp_path: Path) -> None:
    narrow = Narrow()
    async with (
        ScriptedUpstream(narrow) as upstream,
        worker(tmp_path, upstream.base_url, extra="max_concurrent = 2") as gateway,
    ):
        body = [chat(model=MODEL, stream=bool(index % 2)) for index in range(20)]
        asked = [asyncio.create_task(gateway.ask(each)) for each in body]
        await until(lambda: waiting(gateway) == 18)
        narrow.go.set()
        replies = await asyncio.gather(*asked)
        assert [reply.status for reply in replies] == [200] * 20
        assert (narrow.most, narrow.calls) == (2, 20)
        assert sum(QUEUED in reply.headers for reply in replies) == 18
        assert len(await gateway.books()) == 20
        assert gateway.app.outward.doors._rooms["compatible", ""].open == 0


async def test_who_finds_no_place_or_waits_in_vain_gets_503_and_pays_nothing(tmp_path: Path) -> None:
    narrow = Narrow()
    bounds = "max_concurrent = 1\nmax_waiting = 1\nlongest_wait_s = 3.0"
    async with (
        ScriptedUpstream(narrow) as upstream,
        worker(tmp_path, upstream.base_url, extra=bounds) as gateway,
    ):
        first = asyncio.create_task(gateway.ask(chat(model=MODEL)))
        await until(lambda: narrow.calls)
        late = asyncio.create_task(gateway.ask(chat(model=MODEL)))
        await until(lambda: waiting(gateway) == 1)
        full = await gateway.ask(chat(model=MODEL))
        for reply in (full, await late):
            assert reply.status == 503
            assert 1 <= int(reply.headers["retry-after"]) <= 2
            assert json.loads(reply.body)["error"]["code"] == "server_is_overloaded"
        assert QUEUED not in full.headers
        assert int((await late).headers[QUEUED]) >= 2_900  # a timer may be early
        narrow.go.set()
        assert (await first).status == 200
        assert set(await gateway.books()) == {(await first).request_id}


async def test_the_sdk_comes_back_as_it_is_told_and_is_served(tmp_path: Path) -> None:
    narrow = Narrow()
    bounds = "max_concurrent = 1\nmax_waiting = 0"
    async with (
        ScriptedUpstream(narrow) as upstream,
        worker(tmp_path, upstream.base_url, extra=bounds) as gateway,
        AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key) as client,
    ):
        first = asyncio.create_task(gateway.ask(chat(model=MODEL)))
        await until(lambda: narrow.calls)
        asking = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hi"}])
        again = asyncio.create_task(asking)
        await until(lambda: sum(gateway.app.metrics.refusals.values()))
        with pytest.raises(InternalServerError):
            await client.with_options(max_retries=0).chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hi"}]
            )
        narrow.go.set()
        assert (await first).status == 200
        assert (await again).choices[0].message.content


async def test_who_hangs_up_while_waiting_frees_its_place_and_its_money(tmp_path: Path) -> None:
    narrow = Narrow()
    async with (
        ScriptedUpstream(narrow) as upstream,
        worker(tmp_path, upstream.base_url, extra="max_concurrent = 1") as gateway,
    ):
        first = asyncio.create_task(gateway.ask(chat(model=MODEL)))
        await until(lambda: narrow.calls)
        held = gateway.held
        _, writer = await asyncio.open_connection(*gateway.address)
        writer.write(gateway.request(chat(model=MODEL)))
        await until(lambda: waiting(gateway) == 1)
        assert gateway.held > held  # it may be sent in the next moment
        writer.close()
        await until(lambda: waiting(gateway) == 0)
        await until(lambda: gateway.held == held)
        narrow.go.set()
        assert (await first).status == 200
        assert narrow.calls == 1


FALLBACK = """
[[models]]
name = "either"
targets = [
  { provider = "openai", model = "gpt-4o-mini", max_concurrent = 1 },
  { provider = "compatible", model = "scripted-1", max_concurrent = 1 },
]
[retries]
attempts = 1
"""


async def test_a_fallback_with_room_is_asked_before_anybody_waits(tmp_path: Path) -> None:
    narrow = Narrow()
    async with (
        ScriptedUpstream(narrow) as upstream,
        worker(tmp_path, upstream.base_url, more=FALLBACK) as gateway,
    ):
        asked = [asyncio.create_task(gateway.ask(chat(model="either"))) for _ in range(3)]
        await until(lambda: narrow.calls == 2 and waiting(gateway) == 1)
        assert sorted(request.json()["model"] for request in upstream.requests) == ["gpt-4o-mini", MODEL]
        narrow.go.set()
        replies = await asyncio.gather(*asked)
        assert [reply.status for reply in replies] == [200] * 3
        providers = sorted(reply.headers["x-headgate-provider"] for reply in replies)
        assert providers in (["compatible", "compatible", "openai"], ["compatible", "openai", "openai"])


async def test_answers_that_wait_for_one_another_do_not_keep_one_another_out(tmp_path: Path) -> None:
    bounds = "max_concurrent = 1\nseveral = false\nlongest_wait_s = 5.0"
    async with (
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, extra=bounds) as gateway,
    ):
        for stream in (False, True):
            reply = await gateway.ask(chat(model=MODEL, n=3, stream=stream))
            assert reply.status == 200, reply.body


class Limited:
    """A provider that allows so many calls in a window."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._window = self._used = 0
        self.refused = 0

    async def __call__(self, peer: Peer, request: Received) -> None:
        now = time.monotonic()
        window, ahead = int(now / self._window_s), self._window_s - now % self._window_s
        if window != self._window:
            self._window, self._used = window, 0
        self._used += 1
        left = max(0, self._limit - self._used)
        rows = (
            ("x-ratelimit-limit-requests", str(self._limit)),
            ("x-ratelimit-remaining-requests", str(left)),
            ("x-ratelimit-reset-requests", f"{ahead * 1000:.3f}ms"),
        )
        if self._used > self._limit:
            self.refused += 1
            error = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
            await peer.send(json_answer(error, 429, (*rows, ("retry-after-ms", f"{ahead * 1000:.0f}"))))
            return
        whole = default_answer(request)
        first, _, rest = whole.partition(b"\r\n")
        await peer.send(first + b"\r\n" + "".join(f"{k}: {v}\r\n" for k, v in rows).encode() + rest)


async def test_a_provider_that_says_what_is_left_refuses_no_call_but_the_first_and_serves_all(
    tmp_path: Path,
) -> None:
    limited = Limited(6, 0.5)
    async with (
        ScriptedUpstream(limited) as upstream,
        worker(tmp_path, upstream.base_url, more="") as gateway,
    ):
        assert (await gateway.ask(chat(model=MODEL))).status == 200
        assert not gateway.app.outward.doors.idle
        replies = await asyncio.gather(*(gateway.ask(chat(model=MODEL)) for _ in range(30)))
        assert [reply.status for reply in replies] == [200] * 30
        assert limited.refused <= 1
        assert len(await gateway.books()) == 31
