"""Cohere's answers as OpenAI's bytes: whole, streamed, and cut at every byte; its errors, and its vectors."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from tests.providers import cohere_wire as wire
from tests.providers.asking import ID, chat, chunks, message, put_together, read, target
from tests.providers.cohere_wire import body, call, ended, event, stream, text, thought

from headgate.errors import UpstreamError, UpstreamFailed, UpstreamInterrupted, UpstreamTimeout
from headgate.http.parse import parse
from headgate.money.cost import cost
from headgate.ports import Head
from headgate.providers.registry import CODECS
from headgate.values import Call, Prices, Usage

CODEC = CODECS["cohere"]["chat"]
TO = target("cohere", "command-a-03-2025")
ASKED = {"stream_options": {"include_usage": True}}
PRICES = Prices(2_500_000, 10_000_000, 2_500_000, 2_500_000, 10_000_000, 2_500_000, 10_000_000)
BILLED = Usage(11, 3)
TEXT = text("你好, \u2028 world")
CALL = call("weather", '{"city": "Paris"}')
PAGE = {
    "start": 0,
    "end": 2,
    "text": "你好",
    "sources": [{"type": "document", "id": "d1", "document": {"url": "https://e.org", "title": "E"}}],
    "type": "TEXT_CONTENT",
}
TOOLS_OWN = {**PAGE, "sources": [{"type": "tool", "id": "weather_1:0", "tool_output": {"t": "20"}}]}

ANSWERS: dict[str, tuple[tuple[dict[str, Any], ...], str, dict[str, Any]]] = {
    "text": ((TEXT,), "COMPLETE", {}),
    "stopped by a sequence": ((TEXT,), "STOP_SEQUENCE", {}),
    "cut": ((TEXT,), "MAX_TOKENS", {}),
    "thoughts": ((thought("First, greet."), TEXT), "COMPLETE", {}),
    "two texts": ((text("One. "), text("Two.")), "COMPLETE", {}),
    "a plan and calls": ((), "TOOL_CALL", {"plan": "I will look.", "calls": [CALL, call("now", "")]}),
    "a thought and a call": ((thought("Look it up."),), "TOOL_CALL", {"calls": [CALL]}),
    "a page cited": ((TEXT,), "COMPLETE", {"citations": [PAGE]}),
    "results of a tool cited": ((TEXT,), "COMPLETE", {"citations": [TOOLS_OWN]}),
    "blocked half-way": ((TEXT,), "ERROR_TOXIC", {}),
    "stopped for a new reason": ((TEXT,), "PAUSED", {}),
}
REASONS = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "PAUSED": "length",
}


def test_an_answer_whole() -> None:
    given = body(finish="TOOL_CALL", plan="I will look.", calls=[CALL])
    out, usage = read(CODEC, chat(), TO, [given])
    assert json.loads(out) == {
        "id": "chatcmpl-0199c5f4a1b2" + "0" * 20,
        "object": "chat.completion",
        "created": 1759962767,
        "model": "m",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "annotations": [],
                    "reasoning_content": "I will look.",
                    "tool_calls": [CALL],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 3,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }
    assert usage == BILLED


@pytest.mark.parametrize("asked", [{}, {"citation_options": {"mode": "FAST"}}], ids=["plain", "citing"])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_says_what_a_whole_answer_says_and_costs_the_same(name: str, asked: Any) -> None:
    content, finish, more = ANSWERS[name]
    one, counted = read(CODEC, chat(**asked), TO, [body(*content, finish=finish, **more)])
    many, count = read(CODEC, chat(True, **ASKED, **asked), TO, [stream(*content, finish=finish, **more)])
    whole, together = message(one), put_together(many)
    if whole["content"] is None:
        assert not together.pop("content")
        whole.pop("content")
    assert together == whole
    assert whole["finish_reason"] == REASONS[finish]
    assert counted == count == BILLED
    assert cost(BILLED, PRICES) == 11 * 2_500 + 3 * 10_000
    assert chunks(many)[-1]["usage"] == json.loads(one)["usage"]


@pytest.mark.parametrize("name", ["thoughts", "a plan and calls"])
def test_a_stream_cut_at_every_byte_reads_the_same(name: str) -> None:
    content, finish, more = ANSWERS[name]
    given = stream(*content, finish=finish, **more)
    whole, usage = read(CODEC, chat(True, **ASKED), TO, [given])
    assert usage == BILLED
    for cut in range(1, len(given)):
        assert read(CODEC, chat(True, **ASKED), TO, [given[:cut], given[cut:]])[0] == whole
    assert read(CODEC, chat(True, **ASKED), TO, [given[at : at + 1] for at in range(len(given))])[0] == whole
    assert read(CODEC, chat(True, **ASKED), TO, [given.removesuffix(wire.DONE)])[0] == whole


def test_citations_of_pages_are_annotations_and_others_are_for_who_asks() -> None:
    span = {"start_index": 0, "end_index": 2}
    page = {"type": "url_citation", "url_citation": {**span, "url": "https://e.org", "title": "E"}}
    given = body(TEXT, citations=[PAGE, TOOLS_OWN])
    said = json.loads(read(CODEC, chat(), TO, [given])[0])["choices"][0]["message"]
    assert said["annotations"] == [page]
    out, _ = read(CODEC, chat(citation_options={"mode": "FAST"}), TO, [given])
    said = json.loads(out)["choices"][0]["message"]
    assert said["annotations"] == [page, {"type": "citation", "citation": TOOLS_OWN}]


def test_one_call_at_a_time_where_the_caller_wants_that() -> None:
    calls = [CALL, call("now", "{}")]
    for out in (
        message(read(CODEC, chat(parallel_tool_calls=False), TO, [body(finish="TOOL_CALL", calls=calls)])[0]),
        put_together(
            read(CODEC, chat(True, parallel_tool_calls=False), TO, [stream(finish="TOOL_CALL", calls=calls)])[
                0
            ]
        ),
    ):
        assert out["tool_calls"] == [CALL]


def test_calls_of_tools_as_a_list_and_without_an_id() -> None:
    bare = {"type": "function", "function": {"name": "now", "arguments": ""}}
    given = wire.START + event("tool-call-start", {"tool_calls": [bare]}, 0)
    given += event("tool-call-delta", {"tool_calls": [{"function": {"arguments": '{"a":1}'}}]}, 0)
    streamed = put_together(read(CODEC, chat(True), TO, [given + ended("TOOL_CALL")])[0])
    whole_call = {**bare, "function": {"name": "now", "arguments": '{"a":1}'}}
    whole = message(read(CODEC, chat(), TO, [body(finish="TOOL_CALL", calls=[whole_call])])[0])
    assert streamed["tool_calls"] == whole["tool_calls"]
    (called,) = whole["tool_calls"]
    assert called["id"].startswith("call_")
    assert called["function"] == {"name": "now", "arguments": '{"a":1}'}


def test_logprobs() -> None:
    items = [
        {"text": "Hi", "token_ids": [1], "logprobs": [-0.25]},
        {"text": " you", "token_ids": [2, 3], "logprobs": [-0.5, -1]},
    ]
    whole = json.loads(read(CODEC, chat(logprobs=True), TO, [body(text("Hi you"), logprobs=items)])[0])
    given = wire.START
    for item in items:
        given += event("content-delta", {"content": {"text": item["text"]}}, 0, logprobs=item)
    seen = chunks(read(CODEC, chat(True, logprobs=True), TO, [given + ended()])[0])
    tokens = [
        {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []},
        {"token": " you", "logprob": -1.5, "bytes": [32, 121, 111, 117], "top_logprobs": []},
    ]
    assert whole["choices"][0]["logprobs"] == {"content": tokens, "refusal": None}
    said = [chunk["choices"][0]["logprobs"] for chunk in seen]
    assert [one["content"][0] for one in said if one] == tokens


def test_a_schemas_answer_among_tools_is_the_arguments_of_a_tool() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    asked: dict[str, Any] = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "out", "schema": schema}},
        "tools": [{"type": "function", "function": {"name": "weather"}}],
    }
    calls = [call("out", '{"a": 1}')]
    for out in (
        message(read(CODEC, chat(**asked), TO, [body(finish="TOOL_CALL", calls=calls)])[0]),
        put_together(read(CODEC, chat(True, **asked), TO, [stream(finish="TOOL_CALL", calls=calls)])[0]),
    ):
        assert (out["content"], out["finish_reason"]) == ('{"a": 1}', "stop")
        assert "tool_calls" not in out


# ── what is counted ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("usage", "read_as"),
    [
        (wire.USAGE, BILLED),
        ({"tokens": {"input_tokens": 506, "output_tokens": 4}}, Usage(506, 4)),
        (
            {"billed_units": {"search_units": 1}, "tokens": {"input_tokens": 9, "output_tokens": 4}},
            Usage(9, 4),
        ),
        ({"billed_units": {"input_tokens": 11.0, "output_tokens": 3.0}}, BILLED),
        ({"billed_units": {"output_tokens": 3}}, Usage(0, 3)),
        ({"billed_units": {"input_tokens": -1, "output_tokens": 3}}, None),
        ({"billed_units": {"input_tokens": 1.5, "output_tokens": 3}}, None),
        ({"billed_units": {"input_tokens": "9", "output_tokens": 3}}, None),
        ({"billed_units": {"input_tokens": True, "output_tokens": 3}}, None),
        ({"billed_units": {"input_tokens": 0, "output_tokens": 0}}, None),
        ({"billed_units": {"input_tokens": 10**18, "output_tokens": 3}}, None),
        ({"billed_units": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_what_is_billed_is_counted(usage: Any, read_as: Usage | None) -> None:
    assert read(CODEC, chat(), TO, [body(TEXT, usage=usage)])[1] == read_as
    assert read(CODEC, chat(True), TO, [stream(TEXT, usage=usage)])[1] == read_as


def test_a_count_that_is_not_a_number() -> None:
    given = body(TEXT, usage={"billed_units": {"input_tokens": math.nan, "output_tokens": 1}})
    with pytest.raises(UpstreamInterrupted):
        read(CODEC, chat(), TO, [given])


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_that_ends_with_a_fault(streamed: bool) -> None:
    made = stream if streamed else body
    with pytest.raises(UpstreamFailed, match="had an error"):
        read(CODEC, chat(streamed), TO, [made(TEXT, finish="ERROR")])
    with pytest.raises(UpstreamTimeout):
        read(CODEC, chat(streamed), TO, [made(TEXT, finish="TIMEOUT")])


def test_an_error_in_a_stream() -> None:
    given = wire.START + event("content-delta", {"content": {"text": "Hi"}}, 0)
    with pytest.raises(UpstreamFailed, match="backend failed"):
        read(CODEC, chat(True), TO, [given + ended("ERROR", error="backend failed")])
    with pytest.raises(UpstreamError, match="it broke"):
        read(CODEC, chat(True), TO, [given + b'data: {"id":"x","message":"it broke"}\n\n'])
    with pytest.raises(UpstreamError, match="it broke"):
        read(CODEC, chat(), TO, [b'{"id":"x","message":"it broke"}'])


@pytest.mark.parametrize(
    "given", [b"", wire.START, b"data: {\n\n", b"data: [1]\n\n", b'data: {"type":5}\n\n']
)
def test_a_stream_that_breaks_off_or_is_junk(given: bytes) -> None:
    with pytest.raises(UpstreamInterrupted):
        read(CODEC, chat(True), TO, [given])


@pytest.mark.parametrize("given", [b"", b"<html>", b"[]", b'{"message":{"content":5}}', b"{}"])
def test_what_is_no_answer(given: bytes) -> None:
    with pytest.raises(UpstreamInterrupted):
        read(CODEC, chat(), TO, [given])


def test_events_of_no_known_kind_say_nothing() -> None:
    odd = event("debug", prompt="x") + event("content-delta", {"content": None}, 0)
    odd += event("tool-call-delta", {"tool_calls": {"function": {"arguments": "{"}}}, 7) + event("later")
    given = wire.START + odd + event("content-start", {"content": {"type": "text", "text": "Hi"}}, 0)
    assert put_together(read(CODEC, chat(True), TO, [given + ended()])[0])["content"] == "Hi"


@pytest.mark.parametrize(
    ("status", "said", "seen", "code"),
    [
        (400, "invalid request: message must be at least 1 token long", 400, None),
        (400, "too many tokens: total number of tokens in the prompt", 400, "context_length_exceeded"),
        (401, "invalid api token", 502, "provider_denied"),
        (402, "Please add or update your payment method", 502, "provider_denied"),
        (404, "model 'x' not found, make sure the correct model ID was used", 404, "model_not_found"),
        (404, "404 page not found", 404, None),
        (422, "invalid type", 422, None),
        (
            429,
            "trial token rate limit exceeded, limit is 100000 tokens per minute",
            429,
            "rate_limit_exceeded",
        ),
        (
            429,
            "You are using a Trial key, which is limited to 1000 API calls / month",
            502,
            "provider_denied",
        ),
        (498, "the request holds a deny-listed token", 400, "content_filter"),
        (499, "request cancelled", 502, None),
        (503, "", 503, "server_is_overloaded"),
        (500, "internal server error, this has been reported", 500, None),
    ],
)
def test_each_refusal_has_its_meaning(status: int, said: str, seen: int, code: str | None) -> None:
    error = CODEC.error(Head(status, ()), msgspec.json.encode({"id": "x", "message": said}))
    assert (error.http_status, error.code) == (seen, code)


def test_what_limits_us_and_how_long() -> None:
    head = Head(429, ((b"retry-after", b"3"),))
    limited: Any = CODEC.error(head, b'{"message":"You are past the per minute request limit"}')
    assert (limited.error_type, limited.retry_after_s) == ("requests", 3.0)
    limited = CODEC.error(head, b'{"message":"trial token rate limit exceeded"}')
    assert limited.error_type == "tokens"


# ── vectors ─────────────────────────────────────────────────────────────────────────────────────

EMBED = CODECS["cohere"]["embeddings"]
VECTORS = {
    "id": "a",
    "embeddings": {"float": [[0.5, -0.25], [1.0, 2.0]]},
    "texts": ["a", "b"],
    "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2}},
    "response_type": "embeddings_by_type",
}


def embedding(**members: Any) -> Call:
    made = Call(ID, "embeddings", 0)
    parse(msgspec.json.encode({"model": "m", "input": ["a", "b"], **members}), made)
    return made


@pytest.mark.parametrize("packed", [False, True], ids=["float", "base64"])
def test_vectors(packed: bool) -> None:
    asked = {"encoding_format": "base64" if packed else "float"}
    to = target("cohere", "embed-v4.0")
    out, usage = read(EMBED, embedding(**asked), to, [msgspec.json.encode(VECTORS)])
    answer = json.loads(out)
    assert [row["embedding"] for row in answer["data"]] == (
        ["AAAAPwAAgL4=", "AACAPwAAAEA="] if packed else [[0.5, -0.25], [1.0, 2.0]]
    )
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert usage == Usage(2, 0)
    assert answer["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


@pytest.mark.parametrize(
    "given", [{}, {"embeddings": {}}, {"embeddings": {"float": [[1]]}}, {"embeddings": None}]
)
def test_what_are_no_vectors(given: Any) -> None:
    with pytest.raises(UpstreamInterrupted):
        read(EMBED, embedding(), TO, [msgspec.json.encode(given)])


def test_vectors_without_a_count() -> None:
    for meta in (None, {}, {"billed_units": {"input_tokens": -1}}):
        out, usage = read(EMBED, embedding(), TO, [msgspec.json.encode({**VECTORS, "meta": meta})])
        assert usage is None
        assert json.loads(out)["data"]
