"""A provider that answers `stream: true` with one JSON body: the caller gets a stream of it, and pays its count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.answers import usage_of
from tests.faults.worker import COUNTED, INPUT, MODELS, OUTPUT, chat, worker
from tests.upstream import ScriptedUpstream, json_answer

pytestmark = pytest.mark.anyio

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
SAID = {"role": "assistant", "content": "Hello there.", "tool_calls": [CALL]}
CHOICE = {"index": 0, "message": SAID, "logprobs": None, "finish_reason": "tool_calls"}
WHOLE = {"id": "x", "object": "chat.completion", "created": 7, "model": "m-2026", "choices": [CHOICE]}
NAMED = {"gpt-4o-mini": "m-2026", "scripted-1": "scripted-1"}  # OpenAI's names pass, as snapshots
ASKED = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("model", MODELS)
async def test_the_caller_gets_the_stream_and_pays_what_the_answer_counts(model: str, tmp_path: Path) -> None:
    whole = json_answer(WHOLE | {"usage": usage_of(19, 7)})
    async with ScriptedUpstream(whole) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat(stream=True, model=model, **ASKED))
        assert (reply.status, reply.whole) == (200, True)
        assert reply.headers["content-type"].startswith("text/event-stream")
        *events, done = reply.events
        assert done == b"[DONE]"
        *chunks, count = [json.loads(event) for event in events]
        assert {chunk["object"] for chunk in (*chunks, count)} == {"chat.completion.chunk"}
        assert {chunk["model"] for chunk in (*chunks, count)} == {NAMED[model]}
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert deltas == [
            {"role": "assistant", "content": "", "refusal": None},
            {"content": "Hello there."},
            {"tool_calls": [CALL | {"index": 0}]},
            {},
        ]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "tool_calls"]
        assert (count["choices"], count["usage"]) == ([], usage_of(19, 7))
        booked = await gateway.booked(reply)
        assert booked is not None
        assert (booked.status, booked.input, booked.output, booked.estimated) == (200, 19, 7, False)
        assert booked.charge == 19 * INPUT + 7 * OUTPUT
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("model", MODELS)
async def test_without_a_count_it_is_counted_here(model: str, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(json_answer(WHOLE)) as upstream,
        worker(tmp_path, upstream.base_url) as gateway,
    ):
        reply = await gateway.ask(chat(stream=True, model=model, **ASKED))
        booked = await gateway.booked(reply)
        assert booked is not None
        assert booked.estimated
        assert booked.input == COUNTED[model][0]
        count = json.loads(reply.events[-2])["usage"]
        assert (count["prompt_tokens"], count["completion_tokens"]) == (booked.input, booked.output)
        assert booked.output > 3, "the call of the tool is counted, too"


async def test_another_apis_form_of_it_is_a_stream_too(tmp_path: Path) -> None:
    whole = json_answer(WHOLE | {"usage": usage_of(19, 7)})
    async with ScriptedUpstream(whole) as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await gateway.ask(chat(stream=True), "/v1/messages")
        assert reply.status == 200
        events = [json.loads(frame.partition(b"data: ")[2]) for frame in reply.body.split(b"\n\n")[:-1]]
        assert [event["type"] for event in events][:: len(events) - 1] == ["message_start", "message_stop"]
        assert (
            "".join(event["delta"].get("text", "") for event in events if "delta" in event) == "Hello there."
        )
        assert any(event.get("usage", {}).get("output_tokens") == 7 for event in events)
