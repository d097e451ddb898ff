"""`n` as so many calls, where a target gives one answer at a time: one answer for the caller, exact books."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.faults.worker import INPUT, OUTPUT, Reply, Worker, chat, worker
from tests.upstream import (
    HANG,
    RESET,
    ScriptedUpstream,
    chat_frames,
    chat_json,
    chat_stream,
    error_json,
    http_head,
    stream_steps,
)

from headgate.records import UsageOrder
from headgate.stores.sql.database import connect
from headgate.stores.sql.reports import SqlReports
from headgate.values import Book

pytestmark = pytest.mark.anyio

TEXTS = ("one", "two", "three")


@asynccontextmanager
async def asking(folder: Path, upstream: ScriptedUpstream, **more: Any) -> AsyncIterator[Worker]:
    async with upstream, worker(folder, upstream.base_url, extra="several = false", **more) as gateway:
        yield gateway


def ask(n: int = 3, **more: Any) -> bytes:
    return chat(model="scripted-1", n=n, **more)


async def parents(gateway: Worker) -> list[tuple[str, int, int]]:
    """The parent, status and charge of each call in the books."""
    await gateway.books()
    sql = connect(gateway._folder, read_only=True)
    try:
        rows = sql.execute("SELECT parent, status, charge FROM calls ORDER BY call").fetchall()
    finally:
        sql.close()
    return [
        ("" if parent is None else "req_" + parent.hex(), status, charge) for parent, status, charge in rows
    ]


async def test_a_whole_answer_has_all_choices_and_the_sum_of_what_was_used(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(*map(chat_json, TEXTS))
    async with asking(tmp_path, upstream) as gateway:
        reply = await gateway.ask(ask())
        body = json.loads(reply.body)
        assert reply.status == 200, body
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert {choice["message"]["content"] for choice in body["choices"]} == set(TEXTS)
        assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (57, 9)
        assert all("n" not in json.loads(request.body) for request in upstream.requests)
        assert reply.headers["x-headgate-emulated"] == "n"
        charge = 19 * INPUT + 3 * OUTPUT
        assert await parents(gateway) == [(reply.request_id, 200, charge)] * 3
        lines = SqlReports(gateway._folder).calls(UsageOrder(book=Book.REAL))
        assert [(line.parent, line.cost_nano_usd) for line in lines] == [(reply.request_id, charge)] * 3
        assert reply.headers["x-headgate-cost"] == f"0.{3 * charge:09d}"


async def test_a_stream_has_the_choices_between_one_another(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(*(chat_stream([text, "!"]) for text in TEXTS))
    async with asking(tmp_path, upstream) as gateway:
        reply = await gateway.ask(ask(stream=True, stream_options={"include_usage": True}))
        assert (reply.status, reply.events[-1]) == (200, b"[DONE]"), reply.body
        chunks = [json.loads(event) for event in reply.events[:-1]]
        assert len({chunk["id"] for chunk in chunks}) == 1
        said: dict[int, str] = {}
        for chunk in chunks:
            for choice in chunk["choices"]:
                said[choice["index"]] = said.get(choice["index"], "") + (choice["delta"].get("content") or "")
        assert set(said) == {0, 1, 2}
        assert set(said.values()) == {text + "!" for text in TEXTS}
        last = chunks[-1]
        assert last["choices"] == []
        assert last["usage"]["prompt_tokens"] == 57
        assert [chunk for chunk in chunks[:-1] if chunk.get("usage")] == []
        assert [row[0] for row in await parents(gateway)] == [reply.request_id] * 3


async def test_of_a_whole_answer_that_fails_nobody_pays_anything(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(chat_json("one"), error_json(400, "no"), chat_json("three"))
    async with asking(tmp_path, upstream) as gateway:
        reply = await gateway.ask(ask())
        assert reply.status == 400
        assert [charge for _, _, charge in await parents(gateway)] == [0, 0, 0]
        assert gateway.spent == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_pays_for_what_was_on_its_way_when_another_failed(tmp_path: Path, stream: bool) -> None:
    sent = asyncio.Event()
    upstream = ScriptedUpstream([http_head(200), HANG], [HANG], [sent, error_json(400, "no")])
    async with asking(tmp_path, upstream) as gateway:
        asked = asyncio.ensure_future(gateway.ask(ask(stream=stream)))
        await upstream.received(3)
        sent.set()
        assert (await asked).status == 400
        assert [charge for _, _, charge in await parents(gateway)] == [0, 0, 0]
        assert (gateway.spent, gateway.held) == (0, 0)
        assert len(await gateway.lost()) == 1, "its provider had begun to answer, and may bill that"


async def test_of_a_stream_that_fails_what_was_shown_is_paid(tmp_path: Path) -> None:
    begun = asyncio.Event()
    steps = stream_steps(chat_frames(["a", "b"]))
    upstream = ScriptedUpstream([*steps[:3], HANG], [steps[0], begun, RESET])
    async with asking(tmp_path, upstream) as gateway:
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(gateway.request(ask(2, stream=True)))
        async with asyncio.timeout(20):
            await reader.readuntil(b'"index":0')  # the first one has been shown
            begun.set()
            rest = await reader.read()
        writer.close()
        assert b'"error"' in rest
        assert b"[DONE]" not in rest
        assert sum(charge > 0 for _, _, charge in await parents(gateway)) == 1


async def test_the_money_of_all_is_held_before_anything_is_sent(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(chat_json("one"))
    cap = "0.0002/total"  # for two such calls and a half
    async with asking(tmp_path, upstream, cap=cap) as gateway:
        reply = await gateway.ask(ask(3))
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["type"]) == (429, "insufficient_quota")
        assert "n=3 is that many calls" in error["message"]
        assert not upstream.requests
        assert (gateway.held, await parents(gateway)) == (0, [])
        assert (await gateway.ask(ask(2))).status == 200


async def test_a_hang_up_ends_all(tmp_path: Path) -> None:
    upstream = ScriptedUpstream([http_head(200), HANG])
    async with asking(tmp_path, upstream) as gateway:
        _, writer = await asyncio.open_connection(*gateway.address)
        writer.write(gateway.request(ask()))
        await upstream.received(3)
        writer.close()
        await gateway.idle(10)
        assert [status for _, status, _ in await parents(gateway)] == [499] * 3


async def test_n_passes_as_it_came_where_a_target_gives_several(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(chat_json("one"))
    async with upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply: Reply = await gateway.ask(ask(2))
        assert reply.status == 200
        assert json.loads(upstream.requests[0].body)["n"] == 2
        assert len(upstream.requests) == 1


async def test_each_answer_is_held_to_the_schema_that_was_asked_for(tmp_path: Path) -> None:
    good, wanted = '{"a": 1}', {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": wanted}}
    upstream = ScriptedUpstream(chat_json(good), chat_json("{}"), chat_json(good))
    async with asking(tmp_path, upstream) as gateway:
        reply = await gateway.ask(ask(2, response_format=shape))
        choices = json.loads(reply.body)["choices"]
        assert [choice["message"]["content"] for choice in choices] == [good, good]
        assert len(upstream.requests) == 3
        assert len(await gateway.lost()) == 1
