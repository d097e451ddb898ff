"""A `Retry-After` that is a date, in an answer that does not say when it was sent: our clock counts it."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.faults.worker import chat, worker
from tests.upstream import Peer, Received, ScriptedUpstream, error_json

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("ahead_s", "within"), [(20, (10_000, 20_000)), (3 * 3600, None), (-60, None)])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_wait_until_a_date_is_passed_on_when_it_makes_sense(
    status: int, ahead_s: int, within: tuple[int, int] | None, tmp_path: Path
) -> None:
    async def limited(peer: Peer, _request: Received) -> None:
        until = formatdate(time.time() + ahead_s, usegmt=True)
        await peer.send(error_json(status, headers=[("retry-after", until)]))

    async with ScriptedUpstream(limited) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat())
        assert reply.status == status
        said = reply.headers.get("retry-after-ms")
        assert (within is None) == (said is None)
        assert within is None or within[0] <= int(said or 0) <= within[1], said
