"""The bytes of a chat completion: OpenAI's grammar, rule by rule, and streams equal to JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.simulator.sim_upstream import NOW, Upstream, joined

pytestmark = pytest.mark.anyio

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CODE = {"type": "custom", "custom": {"name": "run_code", "description": "Runs Python code"}}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
VARIETY: list[dict[str, Any]] = [
    {"text": "say pong"},
    {"text": "回复 你好，世界 🎉 👩‍👩‍👧"},
    {"text": "What is the meaning of life?"},
    {"text": "count to 40", "max_tokens": 7},
    {"text": "count to 40", "stop": ["5", "12"]},
    {"text": "say hello there", "n": 3},
    {
        "text": "张三今年25岁",
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA}},
    },
    {"text": "weather in Paris and London", "tools": [WEATHER]},
    {"text": "weather in Paris", "tools": [WEATHER], "n": 2},
    {"text": "weather in Paris", "tools": [WEATHER], "max_tokens": 5},
    {"text": "run print(1)", "tools": [CODE], "tool_choice": "required"},
    {"text": "say no", "wish": "fault=refusal"},
    {"text": "say nothing", "wish": "fault=empty"},
    {"text": "say nothing", "wish": "fault=filter"},
    {"text": "say pong", "wish": "tokens=33; reasoning=8; cached=2"},
]


@pytest.mark.parametrize("case", VARIETY, ids=lambda case: case["text"])
async def test_a_stream_says_what_the_json_says_and_costs_the_same(
    upstream: Upstream, case: dict[str, Any]
) -> None:
    members = {k: v for k, v in case.items() if k not in {"text", "wish"}}
    whole = (await upstream.chat(case["text"], case.get("wish", ""), **members)).json
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    stream = (await upstream.chat(case["text"], case.get("wish", ""), **members, **asked)).chunks
    for choice in whole["choices"]:
        said = joined(stream, choice["index"])
        assert said["content"] == choice["message"]["content"]
        assert said["refusal"] == choice["message"]["refusal"]
        assert said["finish_reason"] == choice["finish_reason"]
        assert _bare(said["tool_calls"]) == _bare(choice["message"].get("tool_calls", []))
    assert stream[-1]["usage"] == whole["usage"]


def _bare(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert len({call["id"] for call in calls}) == len(calls)
    return [{k: v for k, v in call.items() if k != "id"} for call in calls]


@pytest.mark.parametrize("case", VARIETY, ids=lambda case: case["text"])
async def test_a_stream_keeps_to_the_grammar(upstream: Upstream, case: dict[str, Any]) -> None:
    members = {k: v for k, v in case.items() if k not in {"text", "wish"}}
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    seen = await upstream.chat(case["text"], case.get("wish", ""), **members, **asked)
    assert seen.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    chunks = seen.chunks
    shared = {(c["id"], c["created"], c["model"], c["system_fingerprint"], c["service_tier"]) for c in chunks}
    assert len(shared) == 1
    assert all(c["object"] == "chat.completion.chunk" for c in chunks)
    *said, usage = chunks
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] > 0
    assert all(c["usage"] is None for c in said)
    for index in range(case.get("n", 1)):
        _check_choice([choice for c in said for choice in c["choices"] if choice["index"] == index])


def _check_choice(parts: list[dict[str, Any]]) -> None:
    first, *deltas, finish = parts
    calls = any("tool_calls" in part["delta"] for part in deltas)
    refused = any("refusal" in part["delta"] for part in deltas)
    content = None if calls or refused else ""
    assert first["delta"] == {"role": "assistant", "content": content, "refusal": None}
    assert finish["delta"] == {}
    assert finish["finish_reason"] in {"stop", "length", "tool_calls", "content_filter"}
    assert all(part["finish_reason"] is None and part["logprobs"] is None for part in (first, *deltas))
    known: set[int] = set()
    for part in deltas:
        assert len(part["delta"]) == 1
        ((name, value),) = part["delta"].items()
        if name != "tool_calls":
            assert isinstance(value, str)
            assert value
            continue
        (call,) = value
        new = call["index"] not in known
        known.add(call["index"])
        assert ("id" in call) == ("type" in call) == new
        kind = "custom" if "custom" in call else "function"
        text = "input" if kind == "custom" else "arguments"
        assert set(call[kind]) == ({"name", text} if new else {text})
        assert (call[kind][text] == "") == new


async def test_usage_is_on_no_chunk_where_it_was_not_asked_for(upstream: Upstream) -> None:
    chunks = (await upstream.chat("say pong", stream=True)).chunks
    assert all("usage" not in chunk for chunk in chunks)
    assert all(chunk["choices"] for chunk in chunks)


async def test_padding_is_left_out_where_it_is_not_wanted(upstream: Upstream) -> None:
    padded = (await upstream.chat("say pong", stream=True)).chunks
    plain = (
        await upstream.chat("say pong", stream=True, stream_options={"include_obfuscation": False})
    ).chunks
    assert all(isinstance(chunk["obfuscation"], str) for chunk in padded)
    assert not any("obfuscation" in chunk for chunk in plain)


async def test_a_stream_comes_token_by_token(upstream: Upstream) -> None:
    chunks = (await upstream.chat("say one two three four", stream=True)).chunks
    deltas = [c["choices"][0]["delta"].get("content") for c in chunks[1:-1]]
    assert deltas == ["one", " two", " three", " four"]


async def test_n_choices_are_interleaved(upstream: Upstream) -> None:
    chunks = (await upstream.chat("say a b c", stream=True, n=2)).chunks
    assert [c["choices"][0]["index"] for c in chunks] == [0, 1] * (len(chunks) // 2)


async def test_a_json_answer_has_every_member_nulls_included(upstream: Upstream) -> None:
    seen = await upstream.chat("say pong")
    body = seen.json
    assert seen.headers[b"content-type"] == b"application/json"
    assert int(seen.headers[b"content-length"]) == len(seen.body)
    assert body.pop("id").startswith("chatcmpl-")
    details = {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    assert body == {
        "object": "chat.completion",
        "created": NOW,
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "pong", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 1,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": details,
        },
        "service_tier": "default",
        "system_fingerprint": "fp_headgate_sim",
    }


async def test_log_probabilities_have_a_row_per_token_in_both_forms(upstream: Upstream) -> None:
    asked = {"logprobs": True, "top_logprobs": 3}
    rows = (await upstream.chat("say red green", **asked)).json["choices"][0]["logprobs"]
    assert rows["refusal"] is None
    assert [row["token"] for row in rows["content"]] == ["red", " green"]
    for row in rows["content"]:
        assert bytes(row["bytes"]).decode() == row["token"]
        assert len(row["top_logprobs"]) == 3
        assert row["top_logprobs"][0]["token"] == row["token"]
        assert 0 >= row["logprob"] == row["top_logprobs"][0]["logprob"] > row["top_logprobs"][1]["logprob"]
    chunks = (await upstream.chat("say red green", stream=True, **asked)).chunks
    streamed = [row for c in chunks for row in (c["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert streamed == rows["content"]


async def test_the_same_request_gives_the_same_bytes(upstream: Upstream) -> None:
    for members in ({}, {"stream": True}, {"tools": [WEATHER]}):
        first = await upstream.chat("weather in Rome", **members)
        again = await upstream.chat("weather in Rome", **members)
        assert first.body == again.body


async def test_two_calls_have_different_ids_and_the_same_text(upstream: Upstream) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "say pong"}]}
    one = (await upstream.ask("/chat/completions", body, request_id="req_1")).json
    two = (await upstream.ask("/chat/completions", body, request_id="req_2")).json
    assert one.pop("id") != two.pop("id")
    assert one == two


async def test_older_functions_are_called_in_the_older_way(upstream: Upstream) -> None:
    members = {"functions": [WEATHER["function"]], "function_call": {"name": "get_weather"}}
    choice = (await upstream.chat("weather in Oslo", **members)).json["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    chunks = (await upstream.chat("weather in Oslo", stream=True, **members)).chunks
    parts = [c["choices"][0]["delta"].get("function_call", {}) for c in chunks]
    assert [part["name"] for part in parts if "name" in part] == ["get_weather"]
    assert json.loads("".join(part.get("arguments", "") for part in parts)) == {"city": "Oslo"}


async def test_unknown_paths_and_broken_bodies_are_refused_in_openais_shape(upstream: Upstream) -> None:
    seen = await upstream.ask("/files", {"model": "gpt-4o"})
    assert (seen.status, seen.json["error"]["message"]) == (404, "Invalid URL (POST /v1/files)")
    seen = await upstream.ask("/chat/completions", {"model": "gpt-4o", "messages": "hi"})
    assert seen.status == 400
    assert set(seen.json["error"]) == {"message", "type", "param", "code"}
