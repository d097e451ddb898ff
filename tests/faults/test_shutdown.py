"""A gateway that stops tells whom it cuts off, and charges for what they got."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.faults.worker import COUNTED, INPUT, MODELS, OUTPUT, chat, worker
from tests.limits.served import limit
from tests.upstream import ScriptedUpstream, chat_frames, chunk, http_head

from headgate import app
from headgate.config import ServeOptions, load
from headgate.ports import SystemClock
from headgate.process.background import Leave
from headgate.settings.upstreams import ConfigError
from headgate.stores.sql import meters
from headgate.stores.sql.database import connect
from headgate.stores.sql.recovery import recover

pytestmark = pytest.mark.anyio
PROMPT = COUNTED[MODELS[0]][0]
SSE = [("content-type", "text/event-stream")]


def last_call(folder: Path) -> tuple[int, int, int, int]:
    sql = connect(folder / "data", read_only=True)
    try:
        (row,) = sql.execute("SELECT status, input, output, charge FROM calls").fetchall()
    finally:
        sql.close()
    return tuple(row)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_worker_that_has_stopped_holds_no_file_and_no_socket(tmp_path: Path) -> None:
    async def life(name: str) -> int:
        folder = tmp_path / name
        folder.mkdir()
        async with ScriptedUpstream() as upstream, worker(folder, upstream.base_url) as gateway:
            assert (await gateway.ask(chat())).status == 200
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    assert await life("first") == await life("second") == await life("third")


async def test_a_stream_that_is_cut_ends_with_an_error_event(tmp_path: Path) -> None:
    frames = chat_frames(("one", " two", " three"))
    steps = [http_head(200, SSE), *map(chunk, frames[:3]), asyncio.Event()]
    async with ScriptedUpstream(steps) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        await gateway.warm()
        asked = asyncio.create_task(gateway.ask(chat(stream=True)))
        async with asyncio.timeout(10):
            while not any(run.call is not None for run in gateway.app.calls.runs):
                await asyncio.sleep(0.01)
            await upstream.received(1)
            await asyncio.sleep(0.2)
        assert await gateway.app.calls.drain(0.1) == 1
        reply = await asked
        assert reply.whole
        error = json.loads(reply.events[-1])["error"]
        assert "shutting down" in error["message"]
        assert error["type"] == "service_unavailable_error"
        await gateway.idle()
        await gateway.app.drain.flush()
        assert last_call(tmp_path) == (503, PROMPT, 2, PROMPT * INPUT + 2 * OUTPUT)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_a_call_without_an_answer_is_told_to_come_again(stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream([asyncio.Event()]) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        asked = asyncio.create_task(gateway.ask(chat(stream=stream)))
        await upstream.received(1)
        assert await gateway.app.calls.drain(0.05) == 1
        reply = await asked
        assert (reply.status, reply.whole) == (503, True)
        assert json.loads(reply.body)["error"]["message"].startswith("The gateway is shutting down")
        assert "retry-after" in reply.headers
        await gateway.idle()


async def test_a_second_signal_ends_the_time_in_which_calls_are_still_taken() -> None:
    leave = Leave()
    taking = asyncio.create_task(leave.take(3600))
    await asyncio.sleep(0)
    assert (leave.begun, taking.done()) == (True, False)
    leave.hurry()
    async with asyncio.timeout(10):
        await taking


@pytest.mark.parametrize(("seconds", "said"), [("-1", "is below 0"), ("301", "301 is above 300")])
def test_a_time_in_which_no_balancer_looks_is_refused(seconds: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "h.toml"
    path.write_text(f"[server]\nleave_s = {seconds}\n")
    with pytest.raises(ConfigError, match=f"leave_s.*{said}"):
        load(ServeOptions(config=str(path), env_file=""), environment={})


async def test_a_stop_writes_down_what_was_settled_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "_EVERY_S", 3600.0)
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url, ends=False) as gateway:
        await limit(gateway, "account", rpm=50)
        gateway.app.drain._every_s = 5.0  # nothing is written down in passing
        assert await gateway.books() == {}
        assert (await gateway.ask(chat())).status == 200
    assert last_call(tmp_path)[0] == 200
    sql = connect(tmp_path / "data", read_only=True)
    try:
        assert sql.execute("SELECT count(*) FROM meters WHERE used > 0").fetchone() == (1,)
    finally:
        sql.close()


@pytest.mark.parametrize("refuses", [False, True], ids=["all is booked", "the books refuse"])
async def test_a_slot_is_left_only_when_its_journal_is_in_the_books(
    refuses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch whose worker has left looks up what its lines were charged, and runs again what was not."""
    monkeypatch.setattr(app, "_FLUSH_S", 0.5)
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url, ends=False) as gateway:
        await gateway.warm()
        await gateway.app.drain.flush()
        with closing(connect(tmp_path / "data")) as sql:
            if refuses:
                sql.define("CREATE TRIGGER no BEFORE INSERT ON calls BEGIN SELECT RAISE(ABORT, 'no'); END;")
        assert (await gateway.ask(chat())).status == 200
    with closing(connect(tmp_path / "data")) as sql:
        assert sql.execute("SELECT pid <> 0 FROM slots").fetchall() == [(refuses,)]
        (lent,) = sql.execute("SELECT coalesce(sum(amount), 0) FROM slices").fetchone()
        (booked,) = sql.execute("SELECT coalesce(sum(charge), 0) FROM calls").fetchone()
        sql.execute("DROP TRIGGER IF EXISTS no")
        recover(tmp_path / "data", sql, SystemClock())
        (charged,) = sql.execute("SELECT coalesce(sum(charge), 0) FROM calls").fetchone()
        assert charged - booked == lent  # only what was charged stayed with it
        assert bool(lent) == refuses
        assert sql.execute("SELECT pid FROM slots").fetchall() == [(0,)]
