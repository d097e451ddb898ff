"""OpenAI's chat requests as the bytes of Anthropic's Messages API."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from tests.providers.asking import HELLO, chat, notes, target

from headgate.errors import CallerError
from headgate.providers.anthropic.abilities import abilities_of
from headgate.providers.registry import CODECS, constant_headers
from headgate.values import Host

CODEC = CODECS["anthropic"]["chat"]
NEW, MIDDLE, OLD = "claude-opus-4-8", "claude-sonnet-4-5-20250929", "claude-3-7-sonnet-20250219"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Look up",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def schema(of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "shape", "schema": of, **more}}


def called(*ids: str) -> dict[str, Any]:
    calls = [
        {"id": id_, "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
        for id_ in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def answered(id_: str, content: Any = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": content}


def body(model: str = NEW, facts: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    made = chat(**members)
    return msgspec.json.decode(CODEC.encode(made, target("anthropic", model, **(facts or {}))).body)


def noted(model: str = NEW, **members: Any) -> list[tuple[str, str]]:
    made = chat(**members)
    CODEC.encode(made, target("anthropic", model))
    return notes(made)


def refused(model: str = NEW, **members: Any) -> tuple[str | None, str | None]:
    with pytest.raises(CallerError) as caught:
        body(model, **members)
    return caught.value.param, caught.value.code


# ── the whole ───────────────────────────────────────────────────────────────────────────────────


def test_a_conversation_to_the_byte() -> None:
    made = chat(
        stream=True,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            called("call_1", "call_2"),
            answered("call_1"),
            answered("call_2", "rain"),
            {"role": "user", "content": "So?"},
        ],
        tools=[WEATHER],
        max_tokens=50,
        stop="END",
        user="u1",
    )
    request = CODEC.encode(made, target("anthropic", NEW))
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.body == (
        b'{"model":"claude-opus-4-8","max_tokens":50,"system":[{"type":"text","text":"Be brief."}],'
        b'"messages":[{"role":"user","content":[{"type":"text","text":"Weather?"}]},'
        b'{"role":"assistant","content":['
        b'{"type":"tool_use","id":"call_1","name":"weather","input":{"city":"Paris"}},'
        b'{"type":"tool_use","id":"call_2","name":"weather","input":{"city":"Paris"}}]},'
        b'{"role":"user","content":['
        b'{"type":"tool_result","tool_use_id":"call_1","content":[{"type":"text","text":"sunny"}]},'
        b'{"type":"tool_result","tool_use_id":"call_2","content":[{"type":"text","text":"rain"}]},'
        b'{"type":"text","text":"So?"}]}],'
        b'"tools":[{"name":"weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}},'
        b'"required":["city"]},"description":"Look up"}],'
        b'"stop_sequences":["END"],"metadata":{"user_id":"u1"},"stream":true}'
    )
    assert notes(made) == []


def test_the_key_and_the_version_go_as_headers() -> None:
    host = Host(name="h", kind="anthropic", base_url="http://h/v1", api_key="sk-ant-1")
    headers = constant_headers(host, {"user-agent": "x"})
    assert dict(headers)["x-api-key"] == "sk-ant-1"
    assert "authorization" not in dict(headers)
    to = msgspec.structs.replace(target("anthropic", MIDDLE), headers=headers)
    plain, sampled = (CODEC.encode(chat(**more), to).headers for more in ({}, {"top_p": 0.9}))
    assert dict(plain)["anthropic-version"] == "2026-10-21"
    assert dict(sampled)["anthropic-version"] == "2023-06-01"
    assert CODEC.encode(chat(), to).headers is plain


# ── messages ────────────────────────────────────────────────────────────────────────────────────


def test_system_and_developer_messages_join_in_order_wherever_they_stand() -> None:
    said = body(messages=[*HELLO, {"role": "system", "content": "b"}, {"role": "developer", "content": "c"}])
    assert [block["text"] for block in said["system"]] == ["b", "c"]
    assert len(said["messages"]) == 1


def test_blank_texts_are_no_blocks() -> None:
    said = body(messages=[{"role": "system", "content": " "}, {"role": "assistant", "content": ""}, *HELLO])
    assert "system" not in said
    assert said["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]


def test_parallel_results_are_one_user_message() -> None:
    said = body(messages=[*HELLO, called("a", "b"), answered("b"), answered("a")], tools=[WEATHER])
    assert [message["role"] for message in said["messages"]] == ["user", "assistant", "user"]
    assert [block["tool_use_id"] for block in said["messages"][2]["content"]] == ["b", "a"]


def test_foreign_ids_are_made_ones_that_anthropic_takes() -> None:
    said = body(messages=[*HELLO, called("call:1|x"), answered("call:1|x")], tools=[WEATHER])
    use, result = said["messages"][1]["content"][0]["id"], said["messages"][2]["content"][0]["tool_use_id"]
    assert use == result
    assert use.replace("_", "").replace("-", "").isalnum()


def test_arguments_empty_or_broken_are_an_object() -> None:
    calls = called("a", "b")
    calls["tool_calls"][0]["function"]["arguments"] = ""
    calls["tool_calls"][1]["function"]["arguments"] = '{"city": "Par'
    said = body(messages=[*HELLO, calls, answered("a"), answered("b")], tools=[WEATHER])
    assert [block["input"] for block in said["messages"][1]["content"]] == [
        {},
        {"arguments": '{"city": "Par'},
    ]


def test_a_result_without_text_has_no_content() -> None:
    said = body(messages=[*HELLO, called("a"), answered("a", "")], tools=[WEATHER])
    assert said["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "a"}]


def test_a_beginning_to_go_on_with_has_no_white_space_at_its_end() -> None:
    said = body(messages=[*HELLO, {"role": "assistant", "content": "So: \n"}])
    assert said["messages"][1]["content"] == [{"type": "text", "text": "So:"}]


PDF = b64encode(b"%PDF-1.7").decode()


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,aGk="}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "aGk="}},
        ),
        (
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
            },
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"filename": "a.txt", "file_data": b64encode("你好".encode()).decode()}},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "你好"},
                "title": "a.txt",
            },
        ),
        (
            {"type": "file", "file": {"file_id": "file_011"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_011"}},
        ),
        (
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
        ),
    ],
)
def test_media_become_blocks(part: dict, block: dict) -> None:
    assert body(messages=[{"role": "user", "content": [part]}])["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("user", {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}),
        ("user", {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,aGk="}}),
        ("user", {"type": "file", "file": {"file_id": "file-openai"}}),
        ("system", {"type": "image_url", "image_url": {"url": "https://x/y.png"}}),
        ("assistant", {"type": "image_url", "image_url": {"url": "https://x/y.png"}}),
    ],
)
def test_media_that_claude_does_not_take_there_are_refused(role: str, part: dict) -> None:
    param, code = refused(messages=[{"role": role, "content": [part]}, *HELLO])
    assert code == "unsupported_parameter"
    assert param is not None
    assert param.startswith("messages[0].content[0]")


def test_an_hours_cache_is_made_one_of_five_minutes_and_said() -> None:
    marked = {"role": "user", "content": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert body(messages=[marked])["messages"][0]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert noted(messages=[marked, marked]) == [("dropped", "cache_control.ttl")]


# ── thinking ────────────────────────────────────────────────────────────────────────────────────

THOUGHT = {"index": 0, "type": "thinking", "thinking": "hm", "signature": "sig=="}
REDACTED = {"type": "redacted_thinking", "data": "xyz"}


def test_thinking_comes_back_unchanged_and_first() -> None:
    turn = {**called("a"), "content": "I look", "thinking_blocks": [THOUGHT, REDACTED]}
    said = body(messages=[*HELLO, turn, answered("a")], tools=[WEATHER])
    assert [block["type"] for block in said["messages"][1]["content"]] == [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
    ]
    assert said["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "sig=="}


def test_a_client_that_drops_its_thinking_is_served_without_more_of_it() -> None:
    loop = [*HELLO, called("a"), answered("a")]
    asked = {"messages": loop, "tools": [WEATHER], "reasoning_effort": "low", "max_tokens": 1000}
    wide = {"max_output": 64_000}
    more = asked | {"max_tokens": 9_000}
    assert "thinking" not in body(OLD, wide, **more)
    assert noted(OLD, **asked) == [("dropped", "reasoning_effort")]
    loop[1] = {**loop[1], "thinking_blocks": [THOUGHT]}
    assert body(OLD, wide, **more)["thinking"] == {"type": "enabled", "budget_tokens": 2_048}


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "config"),
    [
        (NEW, "high", {"type": "adaptive"}, {"effort": "high"}),
        (NEW, "minimal", {"type": "adaptive"}, {"effort": "low"}),
        (NEW, "none", {"type": "disabled"}, None),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive"}, {"effort": "high"}),
        ("claude-fable-5", "none", None, None),
        (MIDDLE, "medium", {"type": "enabled", "budget_tokens": 8_192}, None),
        (MIDDLE, "max", {"type": "enabled", "budget_tokens": 19_999}, None),
        ("claude-3-haiku", "high", None, None),
        ("something-else", "low", {"type": "adaptive"}, {"effort": "low"}),
    ],
)
def test_an_effort_is_said_as_the_model_knows_it(model, effort, thinking, config) -> None:
    said = body(model, {"max_output": 64_000}, reasoning_effort=effort, max_tokens=20_000)
    assert (said.get("thinking"), said.get("output_config")) == (thinking, config)


def test_a_budget_is_below_the_limit_or_there_is_none() -> None:
    assert "thinking" not in body(MIDDLE, reasoning_effort="high", max_tokens=1_024)
    assert noted(MIDDLE, reasoning_effort="high", max_tokens=1_000) == [("dropped", "reasoning_effort")]


def test_a_forced_tool_and_thinking_do_not_go_together() -> None:
    asked = {"tools": [WEATHER], "tool_choice": "required", "reasoning_effort": "high"}
    assert "thinking" not in body(NEW, **asked)
    assert noted(MIDDLE, **asked) == [("dropped", "reasoning_effort")]


def test_the_callers_own_thinking_passes() -> None:
    own = {"type": "enabled", "budget_tokens": 2_000}
    assert body(MIDDLE, thinking=own, max_tokens=1_000)["thinking"] == own


# ── parameters ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "given", "sent", "said"),
    [
        (
            OLD,
            {"temperature": 0.3, "top_p": 0.9, "top_k": 5},
            {"temperature": 0.3, "top_p": 0.9, "top_k": 5},
            [],
        ),
        (OLD, {"temperature": 1.7}, {"temperature": 1}, [("changed", "temperature=1")]),
        (MIDDLE, {"temperature": 0.3, "top_p": 0.9}, {"temperature": 0.3}, [("dropped", "top_p")]),
        (NEW, {"temperature": 0.3, "top_k": 3}, {}, [("dropped", "temperature"), ("dropped", "top_k")]),
    ],
)
def test_sampling_is_what_the_model_takes(model, given, sent, said) -> None:
    found = body(model, **given)
    assert {name: found[name] for name in ("temperature", "top_p", "top_k") if name in found} == sent
    assert noted(model, **given) == said


def test_thinking_takes_no_temperature() -> None:
    asked = {"temperature": 0.3, "reasoning_effort": "low", "max_tokens": 5_000}
    assert "temperature" not in body(MIDDLE, {"max_output": 64_000}, **asked)


def test_the_limit_is_always_sent() -> None:
    assert body()["max_tokens"] == 1000
    assert body(facts={"max_output": 0})["max_tokens"] == 4096
    assert body(max_completion_tokens=7)["max_tokens"] == 7


def test_blank_stop_sequences_are_left_out() -> None:
    assert body(stop=["\n", "END"])["stop_sequences"] == ["END"]
    assert "stop_sequences" not in body(stop=["\n"])
    assert noted(stop=["\n\n"]) == [("dropped", "stop")]


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, True, None),
        ("auto", True, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", True, {"type": "any"}),
        ({"type": "function", "function": {"name": "weather"}}, True, {"type": "tool", "name": "weather"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_a_choice_of_tools(choice, parallel, sent) -> None:
    more = {"tool_choice": choice} if choice else {}
    assert body(tools=[WEATHER], parallel_tool_calls=parallel, **more).get("tool_choice") == sent


def test_a_tool_without_parameters_has_an_empty_object() -> None:
    bare = {"type": "function", "function": {"name": "now"}}
    assert body(tools=[bare])["tools"] == [
        {"name": "now", "input_schema": {"type": "object", "properties": {}}}
    ]


@pytest.mark.parametrize(
    ("member", "value"),
    [("n", 2), ("logprobs", True), ("response_format", {"type": "json_object"}), ("modalities", ["audio"])],
)
def test_what_claude_cannot_do_is_refused(member: str, value: Any) -> None:
    assert refused(**{member: value}) == (member, "unsupported_parameter")


def test_tuning_that_claude_does_not_know_is_dropped() -> None:
    said = noted(seed=1, logit_bias={"1": 2}, frequency_penalty=1, presence_penalty=1, verbosity="low")
    assert sorted(name for _, name in said) == [
        "frequency_penalty",
        "logit_bias",
        "presence_penalty",
        "seed",
        "verbosity",
    ]


# ── schemas ─────────────────────────────────────────────────────────────────────────────────────


def test_a_closed_schema_is_the_native_format_where_the_model_has_it() -> None:
    said = body(NEW, response_format=schema(CLOSED))
    assert said["output_config"] == {"format": {"type": "json_schema", "schema": CLOSED}}
    assert "tools" not in said


@pytest.mark.parametrize(
    ("model", "of"),
    [
        (OLD, CLOSED),
        (NEW, {"type": "object", "properties": {"a": {"type": "string"}}}),
        (NEW, {**CLOSED, "properties": {"a": {"type": "integer", "minimum": 3}}}),
        (NEW, {**CLOSED, "properties": {"a": {"type": "array", "items": {"type": "object"}}}}),
    ],
)
def test_any_other_is_a_forced_tool(model: str, of: dict) -> None:
    said = body(model, response_format=schema(of))
    assert said["tool_choice"] == {"type": "tool", "name": "shape", "disable_parallel_tool_use": True}
    assert said["tools"][-1]["input_schema"] == of
    assert "output_config" not in said


def test_a_forced_schema_leaves_the_callers_tools_callable() -> None:
    named = {"type": "function", "function": {"name": "shape"}}
    said = body(OLD, response_format=schema(CLOSED), tools=[named])
    assert [tool["name"] for tool in said["tools"]] == ["shape", "shape_"]
    assert said["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


def test_a_schema_of_no_object_is_refused() -> None:
    assert refused(OLD, response_format=schema({"type": "array"})) == (
        "response_format.json_schema.schema",
        "unsupported_parameter",
    )


@pytest.mark.parametrize(
    ("name", "adaptive", "native"),
    [
        ("claude-2.1", False, False),
        ("claude-3-5-sonnet-20241022", False, False),
        ("claude-opus-4-20250514", False, False),
        ("claude-opus-4-0", False, False),
        ("claude-haiku-4-5-20251001", False, True),
        ("claude-sonnet-4-6", True, True),
        ("claude-opus-5-5", True, True),
        ("claude-fable-5", True, True),
        ("anthropic.claude-opus-4-1-20250805-v1:0", False, False),
    ],
)
def test_abilities_are_read_off_the_name(name: str, adaptive: bool, native: bool) -> None:
    able = abilities_of(name)
    assert (able.adaptive, able.schema) == (adaptive, native)
