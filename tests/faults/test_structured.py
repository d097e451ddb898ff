"""Structured output on any model: checked on the way out, asked for once more, never a silent wrong shape."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.faults.worker import Reply, Worker, chat, worker
from tests.upstream import ScriptedUpstream, chat_json, chat_stream, json_answer

pytestmark = pytest.mark.anyio

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "size": {"type": "integer", "minimum": 0}},
    "required": ["city", "size"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}
GOOD, BAD = '{"city": "Paris", "size": 2}', '{"city": "Paris"}'


def upstream_for(stream: bool, *texts: str) -> ScriptedUpstream:
    if stream:
        return ScriptedUpstream(*(chat_stream([text[:5], text[5:]]) for text in texts))
    return ScriptedUpstream(*map(chat_json, texts))


@asynccontextmanager
async def asking(folder: Path, upstream: ScriptedUpstream, schema: str) -> AsyncIterator[Worker]:
    """A gateway before a host that does `schema` for schemas."""
    async with (
        upstream,
        worker(folder, upstream.base_url, hangup="cancel", extra=f'schema = "{schema}"') as gateway,
    ):
        yield gateway


def asked(number: int, upstream: ScriptedUpstream) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(upstream.requests[number].body)
    return body


def said(reply: Reply, *, stream: bool) -> str:
    if not stream:
        text: str = json.loads(reply.body)["choices"][0]["message"]["content"]
        return text
    assert reply.events[-1] == b"[DONE]"
    chunks = [json.loads(event) for event in reply.events[:-1]]
    return "".join(row["choices"][0]["delta"].get("content") or "" for row in chunks if row["choices"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("schema", ["tried", "json", "none"])
async def test_a_wrong_answer_is_asked_for_once_more(tmp_path: Path, schema: str, stream: bool) -> None:
    upstream = upstream_for(stream, BAD, GOOD)
    async with asking(tmp_path, upstream, schema) as gateway:
        reply = await gateway.ask(chat(model="scripted-1", response_format=FORMAT, stream=stream))
        assert (reply.status, said(reply, stream=stream)) == (200, GOOD)
        assert reply.headers["x-headgate-repaired"] == "response_format"
        first, second = asked(0, upstream), asked(1, upstream)
        sent = {"tried": FORMAT, "json": {"type": "json_object"}}
        assert first.get("response_format") == sent.get(schema)
        if schema != "tried":
            assert json.dumps(SCHEMA, separators=(",", ":")) in first["messages"][0]["content"]
            assert reply.headers["x-headgate-emulated"] == "response_format"
        assert second["messages"][:-2] == first["messages"]
        assert second["messages"][-2] == {"role": "assistant", "content": BAD}
        assert "lacks the required member 'size'" in second["messages"][-1]["content"]
        books = await gateway.books()
        assert len(books) == 1
        assert len(upstream.requests) == 2
        assert await gateway.lost() == [(0, 19, 3)] if not stream else len(await gateway.lost()) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_wrong_answer_is_an_error_and_nothing_was_shown(tmp_path: Path, stream: bool) -> None:
    upstream = upstream_for(stream, BAD, "no JSON", GOOD)
    async with asking(tmp_path, upstream, "json") as gateway:
        reply = await gateway.ask(chat(model="scripted-1", response_format=FORMAT, stream=stream))
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["code"], error["param"]) == (
            502,
            "invalid_structured_output",
            "response_format",
        )
        assert "asked twice" in error["message"]
        assert reply.headers["x-should-retry"] == "false"
        assert len(upstream.requests) == 2
        assert (await gateway.booked(reply)).charge == 0  # type: ignore[union-attr]
        assert [row[0] for row in await gateway.lost()] == [0, 1]


async def test_a_right_answer_passes_and_a_fence_is_taken_off(tmp_path: Path) -> None:
    fenced = f"```json\n{GOOD}\n```"
    for number, stream in enumerate((False, True)):
        upstream = upstream_for(stream, GOOD, fenced)
        (tmp_path / str(number)).mkdir()
        async with asking(tmp_path / str(number), upstream, "none") as gateway:
            for _ in range(2):
                reply = await gateway.ask(chat(model="scripted-1", response_format=FORMAT, stream=stream))
                assert (reply.status, said(reply, stream=stream)) == (200, GOOD)
            assert len(upstream.requests) == 2
            reply = await gateway.ask(
                chat(model="scripted-1", response_format={"type": "json_object"}, stream=stream)
            )
            assert reply.status == 200


async def test_an_answer_that_was_cut_passes_as_openai_lets_it_pass(tmp_path: Path) -> None:
    body = json.loads(chat_json(BAD).partition(b"\r\n\r\n")[2])
    body["choices"][0]["finish_reason"] = "length"
    async with asking(tmp_path, ScriptedUpstream(json_answer(body)), "json") as gateway:
        reply = await gateway.ask(chat(model="scripted-1", response_format=FORMAT))
        assert (reply.status, said(reply, stream=False)) == (200, BAD)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_host_that_keeps_to_schemas_passes_untouched(tmp_path: Path, stream: bool) -> None:
    upstream = upstream_for(stream, GOOD)
    async with upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat(response_format=FORMAT, stream=stream))
        assert (reply.status, said(reply, stream=stream)) == (200, GOOD)
        assert asked(0, upstream)["response_format"] == FORMAT


async def test_a_host_that_fails_to_keep_to_a_schema_is_told_of(tmp_path: Path) -> None:
    upstream = upstream_for(False, BAD)
    async with upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat(response_format=FORMAT))
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (502, "invalid_structured_output")
        assert len(upstream.requests) == 1
        booked = await gateway.booked(reply)
        assert booked is not None
        assert booked.charge == 0


async def test_a_stream_that_fails_to_keep_to_a_schema_ends_in_an_error(tmp_path: Path) -> None:
    upstream = upstream_for(True, BAD)
    async with upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat(response_format=FORMAT, stream=True))
        *shown, last = map(json.loads, reply.events)
        assert "".join(row["choices"][0]["delta"].get("content") or "" for row in shown) == BAD
        assert last["error"]["code"] == "invalid_structured_output"
        booked = await gateway.booked(reply)
        assert booked is not None
        assert booked.charge > 0


async def test_a_schema_that_nobody_enforces_is_refused_before_money_is_spent(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(chat_json(GOOD))
    async with asking(tmp_path, upstream, "json") as gateway:
        wanted = {**FORMAT, "json_schema": {"name": "x", "schema": {"pattern": "(a+)+", "type": "string"}}}
        reply = await gateway.ask(chat(model="scripted-1", response_format=wanted))
        error = json.loads(reply.body)["error"]
        assert (reply.status, error["code"]) == (400, "unsupported_parameter")
        assert error["param"] == "response_format.json_schema.schema.pattern"
        assert not upstream.requests
