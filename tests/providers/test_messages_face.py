"""`/v1/messages` on any model: what is asked as messages, as chat; what is answered, as a message."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers import claude_wire as wire
from tests.providers.asking import ID, notes, target

from headgate.errors import (
    AuthenticationFailed,
    CallerError,
    GatewayError,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    UpstreamTimeout,
)
from headgate.http.parse import parse
from headgate.providers.anthropic import MessagesFace
from headgate.providers.registry import CODECS
from headgate.values import Call, Target, Usage

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"name": "weather", "description": "Look up", "input_schema": {"type": "object"}}
CLAUDE = target("anthropic", "claude-opus-4-8")
OTHER = target("openai", "gpt-4o")
TEXT = {"type": "text", "text": "你好, world"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "EqoB=="}


def ask(to: Target = OTHER, headers: dict[bytes, bytes] | None = None, **members: Any) -> Call:
    made = Call(ID, "chat", 0)
    face = made.face = MessagesFace((headers or {}).get)
    body = {"model": "m", "max_tokens": 100, "messages": HELLO} | members
    parse(face.read(msgspec.json.encode(body), lambda _: to), made)
    face.weigh(made)
    return made


def as_chat(**members: Any) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in ask(**members).members.items()}


def refused(**members: Any) -> str:
    with pytest.raises(CallerError) as caught:
        ask(**members)
    return caught.value.message


# ── asking ──────────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_as_chat() -> None:
    said = as_chat(
        system=[{"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "I look"}, USE]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        stop_sequences=["END"],
        metadata={"user_id": "u"},
        temperature=0.5,
        stream=True,
    )
    assert said == {
        "model": "m",
        "max_tokens": 100,
        "messages": [
            {"role": "system", "content": "Be brief"},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": "I look",
                "tool_calls": [
                    {
                        "id": "toolu_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "sunny"},
            {"role": "user", "content": [{"type": "text", "text": "So?"}]},
        ],
        "temperature": 0.5,
        "stream": True,
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "parameters": {"type": "object"}, "description": "Look up"},
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "stop": ["END"],
        "user": "u",
    }


def test_images_of_a_result_come_after_it() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [TEXT, image]}
    said = as_chat(messages=[{"role": "user", "content": [result]}])
    assert said["messages"] == [
        {"role": "tool", "tool_call_id": "a", "content": TEXT["text"]},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}],
        },
    ]


def test_a_document_is_a_file() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    said = as_chat(messages=[{"role": "user", "content": [{"type": "document", "source": source}]}])
    assert said["messages"][0]["content"][0]["file"] == {
        "filename": "document.pdf",
        "file_data": "data:application/pdf;base64,aGk=",
    }


def test_a_schema_is_a_response_format() -> None:
    said = as_chat(output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}})
    assert said["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"foo": 1}, "foo: Extra inputs are not permitted"),
        ({"inference_geo": "us"}, "inference_geo: Extra inputs"),
        ({"messages": 5}, "messages: Input should be a valid list"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0: Invalid enum value"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text: Field required"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "'hologram' is not served"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "has a price by the call"),
        ({"tools": [{"description": "x"}]}, "tools.0.name: Field required"),
        ({"tools": [TOOL], "tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
        ({"max_tokens": "x"}, "Invalid type for 'max_tokens'"),
        ({"model": 5}, "Invalid type for 'model'"),
        ({"stop_sequences": "x"}, "stop_sequences: Input should be a valid list"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(members: dict, message: str) -> None:
    assert message in refused(**members)


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_what_must_be_there(name: str) -> None:
    body = {"model": "m", "max_tokens": 1, "messages": HELLO}
    del body[name]
    with pytest.raises(CallerError, match=f"{name}: Field required"):
        MessagesFace({}.get).read(msgspec.json.encode(body), lambda _: OTHER)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"5"])
def test_a_body_that_is_none(body: bytes) -> None:
    with pytest.raises(CallerError, match="not valid JSON"):
        MessagesFace({}.get).read(body, lambda _: OTHER)


def test_an_agent_asks_no_more_of_a_model_than_it_takes() -> None:
    config = {"effort": "high"}
    small = target("openai", max_output=50)
    assert as_chat(to=small, output_config=config, thinking={"type": "adaptive"}).keys() == {
        "model",
        "max_tokens",
        "messages",
    }
    assert as_chat(to=small)["max_tokens"] == 50
    reasons = target("openai", wants_max_completion_tokens=True)
    assert as_chat(to=reasons, output_config=config)["reasoning_effort"] == "high"


def test_earlier_thinking_counts_as_input() -> None:
    turns = [*HELLO, {"role": "assistant", "content": [THOUGHT, TEXT]}, *HELLO]
    bare = [*HELLO, {"role": "assistant", "content": [TEXT]}, *HELLO]
    assert ask(messages=turns).input_bytes >= ask(messages=bare).input_bytes + len(json.dumps(THOUGHT)) - 10


def test_speed_has_a_price_of_its_own() -> None:
    assert ask(speed="fast").tier == "speed=fast"


# ── a target that speaks messages ───────────────────────────────────────────────────────────────


def test_members_pass_as_they_are_to_who_knows_them() -> None:
    given: dict[str, Any] = {
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "5m"}}],
        "messages": [*HELLO, {"role": "assistant", "content": [THOUGHT, USE]}],
        "tools": [TOOL, {"type": "bash_20250124", "name": "bash"}],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "top_k": 5,
        "stop_sequences": ["a", "b", "c", "d", "e"],
        "output_config": {"effort": "max"},
        "context_management": {"edits": []},
    }
    headers = {b"anthropic-version": b"2023-06-01", b"anthropic-beta": b"a-1, b-2"}
    made = ask(CLAUDE, headers, **given)
    request = CODECS["anthropic"]["chat"].encode(made, CLAUDE)
    assert msgspec.json.decode(request.body) == {"model": "claude-opus-4-8", "max_tokens": 100, **given}
    assert dict(request.headers) == {"anthropic-version": "2023-06-01", "anthropic-beta": "a-1,b-2"}
    assert notes(made) == []


def test_what_cannot_pass_is_changed() -> None:
    blank = {**THOUGHT, "signature": ""}
    hour = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    use = {**USE, "input": {"cache_control": {"ttl": "1h"}}}
    made = ask(CLAUDE, messages=[{"role": "assistant", "content": [blank, hour, use]}, *HELLO])
    made.shrunk_to = 70
    sent = msgspec.json.decode(CODECS["anthropic"]["chat"].encode(made, CLAUDE).body)
    assert sent["max_tokens"] == 70
    assert sent["messages"][0]["content"] == [{**hour, "cache_control": {"type": "ephemeral"}}, use]
    assert notes(made) == [("dropped", "cache_control.ttl"), ("max-tokens", "70")]


def read(made: Call, to: Target, pieces: list[bytes], booked: Usage | None = None) -> bytes:
    codec = CODECS[to.host.kind]["chat"]
    assert made.face is not None
    reader = made.face.reader(codec.reader(made, to), made)
    out = b"".join([reader.feed(piece) for piece in pieces]) + reader.finish()
    return out + reader.end(booked or reader.usage() or Usage(1, 1))


def events(stream: bytes) -> list[dict[str, Any]]:
    found = []
    for frame in stream.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_an_answer_passes_byte_for_byte() -> None:
    same = target("anthropic", "m")
    body = wire.message(THOUGHT, TEXT, USE, stop="pause_turn")
    assert read(ask(same), same, [body]) == body
    data = wire.stream(THOUGHT, TEXT, USE)
    for cut in range(1, len(data), 5):
        out = read(ask(same, stream=True), same, [data[:cut], data[cut:]])
        assert events(out) == events(data)
        assert out.startswith(data[: data.index(b"event: message_delta")])


def test_the_model_is_the_callers_and_the_usage_the_booked_one() -> None:
    body = json.loads(read(ask(CLAUDE), CLAUDE, [wire.message(TEXT)], Usage(7, 5, 2, 1)))
    assert body["model"] == "m"
    assert (body["usage"]["input_tokens"], body["usage"]["cache_read_input_tokens"]) == (4, 2)
    seen = events(read(ask(CLAUDE, stream=True), CLAUDE, [wire.stream(TEXT)], Usage(7, 5)))
    assert seen[0]["message"]["model"] == "m"
    assert seen[-2]["usage"]["output_tokens"] == 5
    assert seen[-1] == {"type": "message_stop"}


# ── any other target ────────────────────────────────────────────────────────────────────────────


def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({"id": "c", "model": "gpt-4o", "choices": [choice]}).encode()


def piece(index: int, arguments: str, **start: str) -> dict[str, Any]:
    named = {"name": start["name"]} if start else {}
    function = {**named, "arguments": arguments}
    head = {"id": start["id"], "type": "function"} if start else {}
    return {"tool_calls": [{"index": index, **head, "function": function}]}


CHUNKS = b"".join(
    [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"reasoning_content": "h"}),
        chunk({"reasoning_content": "m"}),
        chunk({"content": "你"}),
        chunk({"content": "好"}),
        chunk(piece(0, "", id="a", name="f")),
        chunk(piece(0, '{"x"')),
        chunk(piece(0, ":1}")),
        chunk(piece(1, "", id="b", name="g")),
        chunk({}, "tool_calls"),
        (
            b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,'
            b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}\n\n'
        ),
        b"data: [DONE]\n\n",
    ]
)
CONTENT = [
    {"type": "thinking", "thinking": "hm", "signature": ""},
    {"type": "text", "text": "你好"},
    {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
    {"type": "tool_use", "id": "b", "name": "g", "input": {}},
]
USAGE = {
    "input_tokens": 5,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 5,
    "output_tokens_details": {"thinking_tokens": 2},
}


def test_a_streams_grammar_is_anthropics() -> None:
    seen = events(read(ask(stream=True), OTHER, [CHUNKS]))
    assert [event["type"].removeprefix("content_block_") for event in seen] == [
        "message_start",
        *("start", "delta", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("start", "delta", "delta", "stop"),
        *("start", "stop"),
        "message_delta",
        "message_stop",
    ]
    assert [event["index"] for event in seen if "index" in event] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 2
    start = seen[0]["message"]
    assert (start["content"], start["stop_reason"], start["model"]) == ([], None, "m")
    assert start["id"].startswith("msg_")
    assert seen[1]["content_block"] == CONTENT[0] | {"thinking": ""}
    assert seen[9]["content_block"] == {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    assert seen[10]["delta"] == {"type": "input_json_delta", "partial_json": '{"x"'}
    assert seen[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": USAGE,
    }


def test_a_stream_cut_at_every_byte_shows_the_same() -> None:
    known = read(ask(stream=True), OTHER, [CHUNKS])
    assert read(ask(stream=True), OTHER, [CHUNKS[i : i + 1] for i in range(len(CHUNKS))]) == known


def test_a_body_says_what_the_stream_says() -> None:
    message = {
        "role": "assistant",
        "content": "你好",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    usage = json.loads(CHUNKS.split(b"\n\n")[-3].removeprefix(b"data: "))["usage"]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    body = json.dumps({"id": "c", "model": "gpt-4o", "choices": [choice], "usage": usage}).encode()
    made = ask(top_k=3, thinking={"type": "adaptive"})
    shown = json.loads(read(made, OTHER, [body]))
    assert shown["content"] == CONTENT
    assert (shown["type"], shown["role"], shown["stop_reason"]) == ("message", "assistant", "tool_use")
    assert shown["usage"] == USAGE
    said = [(note.name, note.value) for note in made.notes]
    assert said == [
        ("x-headgate-dropped", "top_k"),
        ("x-headgate-dropped", "thinking"),
    ]


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("tool_calls", "tool_use"),
    ],
)
def test_each_finish_reason_has_its_meaning(reason: str, stop: str) -> None:
    data = chunk({"content": "x"}) + chunk({}, reason) + b"data: [DONE]\n\n"
    assert events(read(ask(stream=True), OTHER, [data]))[-2]["delta"]["stop_reason"] == stop


def test_a_refusal_is_text_that_ends_in_one() -> None:
    data = chunk({"refusal": "No."}) + chunk({}, "stop") + b"data: [DONE]\n\n"
    seen = events(read(ask(stream=True), OTHER, [data]))
    assert seen[2]["delta"] == {"type": "text_delta", "text": "No."}
    assert seen[-2]["delta"]["stop_reason"] == "refusal"


# ── errors and limits ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CallerError("x"), "invalid_request_error"),
        (AuthenticationFailed("x"), "authentication_error"),
        (RateLimited("x", kind="requests", retry_after_s=1), "rate_limit_error"),
        (QuotaExceeded("x"), "billing_error"),
        (Unavailable("x"), "overloaded_error"),
        (UpstreamTimeout("x"), "timeout_error"),
        (GatewayError("x"), "api_error"),
    ],
)
def test_errors_have_anthropics_form(error: GatewayError, kind: str) -> None:
    face = MessagesFace({}.get)
    body = {"type": "error", "error": {"type": kind, "message": "x"}, "request_id": "req_1"}
    assert json.loads(face.error(error, "req_1")) == body
    assert events(face.event(error, "req_1")) == [body]


def test_limits_are_told_in_anthropics_headers() -> None:
    lines = b"x-ratelimit-limit-requests: 50\r\nx-ratelimit-remaining-tokens: 9\r\nx-ratelimit-reset-tokens: 1m1.5s\r\n"
    made = ask()
    assert made.face is not None
    assert made.face.limits(made, lines) == (
        b"anthropic-ratelimit-requests-limit: 50\r\n"
        b"anthropic-ratelimit-tokens-remaining: 9\r\n"
        b"anthropic-ratelimit-tokens-reset: 2025-10-08T22:33:49Z\r\n"
    )
