"""A short storm on real sockets: SDKs try again while their provider refuses everything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from openai import APIStatusError, AsyncOpenAI
from tests.answers import default_answer, error_json
from tests.faults.worker import MODELS, PROMPT, worker
from tests.upstream import Peer, Received, ScriptedUpstream

pytestmark = pytest.mark.anyio
CLIENTS = 30


@pytest.mark.parametrize("status", [503, 429])
async def test_sdks_that_try_again_hardly_add_calls_and_the_books_hold(tmp_path: Path, status: int) -> None:
    well = asyncio.Event()
    refusal = error_json(status, "busy", headers=[("retry-after-ms", "700")])

    async def answer(peer: Peer, request: Received) -> None:
        await peer.send(default_answer(request) if well.is_set() else refusal)

    async with (
        ScriptedUpstream(answer) as upstream,
        worker(tmp_path, upstream.base_url, more="[breaker]\nrow = 0\n") as gateway,
        AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=2) as client,
    ):
        refused: list[int] = []

        async def ask() -> bool:
            try:
                await client.chat.completions.create(
                    model=MODELS[0], messages=[{"role": "user", "content": PROMPT}], max_tokens=100
                )
            except APIStatusError as error:
                refused.append(error.status_code)
                return False
            return True

        asked = [asyncio.create_task(ask())]
        await upstream.received(1)
        await asyncio.sleep(0.1)
        asked += [asyncio.create_task(ask()) for _ in range(CLIENTS)]
        await asyncio.sleep(1.0)
        well.set()
        served = await asyncio.gather(*asked)
        assert set(refused) <= {status}
        metrics = gateway.app.metrics
        requests = sum(each.calls for each in metrics.series.values()) + sum(metrics.refusals.values())
        assert len(upstream.requests) <= 1.2 * requests
        assert sum(served) >= (CLIENTS // 2 if status == 429 else 1)  # these wait for their turn
        books = await gateway.books()
        assert sum(row.charge > 0 for row in books.values()) == sum(served)
