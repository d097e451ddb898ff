"""OpenAI's requests as Converse's bytes; every body is checked against botocore's description of the service."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
import pytest
from botocore.session import Session
from botocore.validate import ParamValidator
from tests.providers.asking import HELLO, chat, notes, target

from headgate.errors import CallerError, NotFound
from headgate.providers.registry import CODECS
from headgate.values import Target

CODEC = CODECS["bedrock"]["chat"]
OLD = target("bedrock", "anthropic.claude-3-haiku-20240307-v1:0")
CLAUDE = target("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", max_output=64_000)
NEW = target("bedrock", "global.anthropic.claude-opus-4-8-v1:0", max_output=128_000)
NOVA = target("bedrock", "us.amazon.nova-2-lite-v1:0")
LLAMA = target("bedrock", "meta.llama3-1-8b-instruct-v1:0")
QWEN = target("bedrock", "qwen.qwen3-32b-v1:0")
OSS = target("bedrock", "openai.gpt-oss-120b-1:0")
GPT = target("bedrock", "us.openai.gpt-5.6-sol")
OPAQUE = target(
    "bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6"
)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**CITY, "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Now", "parameters": CITY}}
NOW = {"type": "function", "function": {"name": "now"}}
SPEC = {"toolSpec": {"name": "weather", "inputSchema": {"json": CITY}, "description": "Now"}}
CACHE = {"cache_control": {"type": "ephemeral"}}
POINT = {"cachePoint": {"type": "default"}}


@cache
def described() -> Any:
    return Session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape


def body(to: Target = CLAUDE, **members: Any) -> Any:
    made = msgspec.json.decode(CODEC.encode(chat(**members), to).body)
    report = ParamValidator().validate({"modelId": to.model.name, **made}, described())
    assert not report.has_errors(), report.generate_report()
    return made


def said(*messages: dict[str, Any], to: Target = CLAUDE, **members: Any) -> Any:
    return body(to, messages=list(messages), **members)["messages"]


def noted(to: Target = CLAUDE, **members: Any) -> list[tuple[str, str]]:
    call = chat(**members)
    CODEC.encode(call, to)
    return notes(call)


def refused(to: Target = CLAUDE, **members: Any) -> tuple[str | None, str | None]:
    with pytest.raises(CallerError) as caught:
        CODEC.encode(chat(**members), to)
    return caught.value.param, caught.value.code


def called(*ids: str, **more: Any) -> dict[str, Any]:
    calls = [
        {"id": id_, "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
        for id_ in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls, **more}


def answered(id_: str, content: Any = "sunny", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": content, **more}


def block_of(id_: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"toolResult": {"toolUseId": id_, "content": list(content)}}


# ── where it goes ───────────────────────────────────────────────────────────────────────────────


def test_the_plain_request_to_the_byte() -> None:
    request = CODEC.encode(chat(temperature=0.5, top_p=0.9, max_completion_tokens=9, stop="X"), OLD)
    assert request.path == "/v1/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse"
    assert (request.method, request.headers is OLD.headers) == ("POST", True)
    assert request.body == (
        b'{"messages":[{"role":"user","content":[{"text":"Hello"}]}],"inferenceConfig":'
        b'{"maxTokens":9,"stopSequences":["X"],"temperature":0.5,"topP":0.9}}'
    )
    assert CODEC.encode(chat(True), OLD).path.endswith("/converse-stream")
    assert CODEC.encode(chat(), OLD).body == b'{"messages":[{"role":"user","content":[{"text":"Hello"}]}]}'


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("us.amazon.nova-lite-v1:0", "us.amazon.nova-lite-v1%3A0"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
            "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova-lite-v1%3A0",
        ),
        (OPAQUE.model.name, OPAQUE.model.name.replace(":", "%3A").replace("/", "%2F")),
    ],
)
def test_profiles_and_arns_are_one_segment_of_the_path(name: str, place: str) -> None:
    assert CODEC.encode(chat(), target("bedrock", name)).path == f"/v1/model/{place}/converse"


@pytest.mark.parametrize("name", ["", "../x", "x?y", "x y", "x%2F", "é", "x\n", "/x", "x" * 2049])
def test_a_name_never_leads_elsewhere(name: str) -> None:
    with pytest.raises(NotFound):
        CODEC.encode(chat(), target("bedrock", name))


# ── turns ───────────────────────────────────────────────────────────────────────────────────────


def test_system_and_developer_messages_stand_apart_in_order() -> None:
    made = body(
        messages=[
            {"role": "system", "content": "A"},
            *HELLO,
            {"role": "developer", "content": [{"type": "text", "text": "B"}, {"type": "text", "text": " "}]},
        ]
    )
    assert made["system"] == [{"text": "A"}, {"text": "B"}]
    assert made["messages"] == [{"role": "user", "content": [{"text": "Hello"}]}]
    alone = body(messages=[{"role": "system", "content": "A"}])
    assert alone == {"messages": [{"role": "user", "content": [{"text": "A"}]}]}


def test_parallel_results_stand_in_one_message_before_the_text() -> None:
    turns = said(
        *HELLO,
        {**called("a", "b"), "content": "I look."},
        answered("a"),
        answered("b", [{"type": "text", "text": "rain"}]),
        {"role": "user", "content": "And?"},
        tools=[TOOL],
    )
    use = {"name": "weather", "input": {"city": "Paris"}}
    assert turns[1]["content"] == [
        {"text": "I look."},
        {"toolUse": {"toolUseId": "a", **use}},
        {"toolUse": {"toolUseId": "b", **use}},
    ]
    assert turns[2] == {
        "role": "user",
        "content": [block_of("a", {"text": "sunny"}), block_of("b", {"text": "rain"}), {"text": "And?"}],
    }


@pytest.mark.parametrize("given", ["call:1|x", "toolu_" + "x" * 90, "é"])
def test_ids_of_others_are_made_to_fit_and_still_meet(given: str) -> None:
    turns = said(*HELLO, called(given), answered(given), tools=[TOOL])
    use = turns[1]["content"][0]["toolUse"]["toolUseId"]
    assert use == turns[2]["content"][0]["toolResult"]["toolUseId"]
    assert len(use) <= 64


def test_arguments_empty_or_broken_and_results_of_nothing() -> None:
    calls = called("a", "b")
    calls["tool_calls"][0]["function"]["arguments"] = ""
    calls["tool_calls"][1]["function"]["arguments"] = '{"city": "Par'
    turns = said(*HELLO, calls, answered("a", ""), answered("b"), tools=[TOOL])
    inputs = [block["toolUse"]["input"] for block in turns[1]["content"]]
    assert inputs == [{}, {"arguments": '{"city": "Par'}]
    assert turns[2]["content"][0] == block_of("a")


def test_calls_are_text_where_no_tool_is_offered() -> None:
    """Bedrock answers 400 to calls and results without `toolConfig`; OpenAI takes them."""
    loop = [*HELLO, called("a"), answered("a"), {"role": "user", "content": "So?"}]
    for more in ({}, {"tools": [TOOL], "tool_choice": "none"}):
        made = body(messages=loop, **more)
        assert "toolConfig" not in made
        assert made["messages"][1]["content"] == [{"text": '[called weather with {"city":"Paris"}]'}]
        assert made["messages"][2]["content"] == [
            {"text": "[result of weather]"},
            {"text": "sunny"},
            {"text": "So?"},
        ]
        assert noted(messages=loop, **more) == [("changed", "messages[].tool_calls=text")]
    assert noted(messages=HELLO) == []


def test_a_beginning_to_go_on_with_has_no_white_space_at_its_end() -> None:
    assert said(*HELLO, {"role": "assistant", "content": "So: \n"})[1]["content"] == [{"text": "So:"}]


# ── media ───────────────────────────────────────────────────────────────────────────────────────


def file(name: str, data: str) -> dict[str, Any]:
    return {"type": "file", "file": {"filename": name, "file_data": data}}


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,aGk="}},
            {"image": {"format": "jpeg", "source": {"bytes": "aGk="}}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/webp;base64,a-_k"}},
            {"image": {"format": "webp", "source": {"bytes": "a+/k"}}},
        ),
        (
            file("Q3 report_v2!.pdf", "data:application/pdf;base64,aGk"),
            {"document": {"format": "pdf", "name": "Q3 report v2", "source": {"bytes": "aGk="}}},
        ),
        (file("a.docx", "aGk="), {"document": {"format": "docx", "name": "a", "source": {"bytes": "aGk="}}}),
        (file("", "aGk="), {"document": {"format": "pdf", "name": "document", "source": {"bytes": "aGk="}}}),
        (
            file("数据", "data:text/csv;base64,aGk="),
            {"document": {"format": "csv", "name": "document", "source": {"bytes": "aGk="}}},
        ),
    ],
)
def test_media_become_blocks(part: dict, block: dict) -> None:
    content = [{"type": "text", "text": "x"}, part]
    assert said({"role": "user", "content": content})[0]["content"][1] == block
    result = said(*HELLO, called("a"), answered("a", [part]), tools=[TOOL])[2]["content"]
    assert result == [block_of("a", block)]


def test_documents_of_one_name_are_told_apart() -> None:
    part = file("a.pdf", "aGk=")
    names = [
        block["document"]["name"]
        for block in said({"role": "user", "content": [part, part, part]})[0]["content"]
    ]
    assert names == ["a", "a (2)", "a (3)"]


@pytest.mark.parametrize(
    ("role", "part"),
    [
        ("user", {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}),
        ("user", {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,aGk="}}),
        ("user", {"type": "image_url", "image_url": {"url": "https://x/y.png"}}),
        ("user", {"type": "file", "file": {"file_id": "file-openai"}}),
        ("user", file("a.zip", "data:application/zip;base64,aGk=")),
        ("system", {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}),
        ("assistant", {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}),
    ],
)
def test_media_that_have_no_place_are_refused(role: str, part: dict) -> None:
    param, code = refused(messages=[{"role": role, "content": [part]}, *HELLO])
    assert code == "unsupported_parameter"
    assert str(param).startswith("messages[0].content[0]")


# ── tools and schemas ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", None),  # a 400 of models that know no choice, and what is so anyway
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
    ],
)
def test_tools_and_their_choice(choice: Any, sent: Any) -> None:
    made = body(tools=[TOOL, NOW], **({"tool_choice": choice} if choice else {}))["toolConfig"]
    bare = {"toolSpec": {"name": "now", "inputSchema": {"json": {"type": "object", "properties": {}}}}}
    assert made == {"tools": [SPEC, bare]} | ({"toolChoice": sent} if sent else {})


def test_one_call_at_a_time_is_honoured_here() -> None:
    assert body(tools=[TOOL], parallel_tool_calls=False) == body(tools=[TOOL])
    assert noted(tools=[TOOL], parallel_tool_calls=False) == []


def strictly(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "w", "strict": True, "parameters": parameters}}


def test_strict_tools_where_they_are_kept() -> None:
    spec = body(tools=[strictly(CLOSED)])["toolConfig"]["tools"][0]["toolSpec"]
    assert spec["strict"] is True
    for to, parameters in ((CLAUDE, CITY), (OLD, CLOSED), (LLAMA, CLOSED)):
        assert "strict" not in body(to, tools=[strictly(parameters)])["toolConfig"]["tools"][0]["toolSpec"]


def shaped(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    wanted = {"name": "city", "schema": schema, **more}
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


@pytest.mark.parametrize(("to", "schema"), [(CLAUDE, CLOSED), (QWEN, CLOSED), (QWEN, CITY), (OSS, CLOSED)])
def test_a_schema_where_the_model_keeps_one(to: Target, schema: dict) -> None:
    made = body(to, **shaped(schema, description="A city"), tools=[TOOL])
    wanted = made["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (json.loads(wanted.pop("schema")), wanted) == (schema, {"name": "city", "description": "A city"})
    assert made["toolConfig"] == {"tools": [SPEC]}


@pytest.mark.parametrize(("to", "schema"), [(OLD, CLOSED), (CLAUDE, CITY), (NOVA, CLOSED)])
def test_a_schema_by_a_forced_tool(to: Target, schema: dict) -> None:
    alone = body(to, **shaped(schema))["toolConfig"]
    assert alone["toolChoice"] == {"any": {}}
    assert alone["tools"][0]["toolSpec"]["inputSchema"] == {"json": schema}
    beside = body(to, **shaped(schema), tools=[TOOL])["toolConfig"]
    assert (beside["tools"][0], beside["toolChoice"]) == (SPEC, {"any": {}})
    assert body(to, **shaped(schema), tools=[TOOL], tool_choice="none")["toolConfig"] == alone


def test_a_schema_that_nothing_keeps_is_refused() -> None:
    assert refused(LLAMA, **shaped(CLOSED)) == ("response_format", "unsupported_parameter")
    assert refused(CLAUDE, response_format={"type": "json_object"}) == (
        "response_format",
        "unsupported_parameter",
    )
    array = {"type": "array", "items": {"type": "string"}}
    assert refused(OLD, **shaped(array)) == ("response_format.json_schema.schema", "unsupported_parameter")
    lenient = target("bedrock", LLAMA.model.name, parameters="lenient")
    assert "outputConfig" not in body(lenient, **shaped(array))


# ── reasoning ───────────────────────────────────────────────────────────────────────────────────

THOUGHT = {"index": 0, "type": "thinking", "thinking": "hm", "signature": "sig=="}
REDACTED = {"type": "redacted_thinking", "data": "eHl6"}


def test_thinking_comes_back_unchanged_and_first() -> None:
    turn = called("a", content="I look", thinking_blocks=[THOUGHT, REDACTED])
    blocks = said(*HELLO, turn, answered("a"), tools=[TOOL])[1]["content"]
    assert blocks[:3] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig=="}}},
        {"reasoningContent": {"redactedContent": "eHl6"}},
        {"text": "I look"},
    ]
    elsewhere = said(*HELLO, turn, answered("a"), tools=[TOOL], to=GPT)[1]["content"]
    assert elsewhere[0] == {"reasoningContent": {"redactedContent": "eHl6"}}  # a seal is of one maker alone
    unsigned = {**THOUGHT, "signature": ""}
    assert (
        said(*HELLO, called("a", thinking_blocks=[unsigned]), answered("a"), tools=[TOOL])[1]["content"]
        == (said(*HELLO, called("a"), answered("a"), tools=[TOOL])[1]["content"])
    )


@pytest.mark.parametrize(
    ("to", "effort", "fields", "changed"),
    [
        (CLAUDE, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}, ""),
        (NEW, "high", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, ""),
        (NEW, "none", {"thinking": {"type": "disabled"}}, ""),
        (NOVA, "low", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}, ""),
        (NOVA, "xhigh", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}, "high"),
        (NOVA, "none", {"reasoningConfig": {"type": "disabled"}}, ""),
        (OSS, "minimal", {"reasoning_effort": "low"}, "low"),
        (GPT, "max", {"reasoning": {"effort": "max"}}, ""),
        (GPT, "minimal", {"reasoning": {"effort": "low"}}, "low"),
    ],
)
def test_effort_in_the_words_of_each_maker(to: Target, effort: str, fields: dict, changed: str) -> None:
    made = body(to, reasoning_effort=effort)
    assert made["additionalModelRequestFields"] == fields
    found = noted(to, reasoning_effort=effort)
    assert found == ([("changed", f"reasoning_effort={changed}")] if changed else [])


def test_effort_beside_what_excludes_it() -> None:
    """Claude's budget is below its limit, which is sent then; Nova's most stands alone; a schema has effort within."""
    assert body(CLAUDE, reasoning_effort="low")["inferenceConfig"] == {"maxTokens": 64_000}
    tight = body(CLAUDE, reasoning_effort="high", max_tokens=3000, temperature=0.5)
    assert tight["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2999
    assert tight["inferenceConfig"] == {"maxTokens": 3000}
    nova = body(NOVA, reasoning_effort="high", max_tokens=100)
    assert nova["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"] == "medium"
    beside = body(NEW, reasoning_effort="low", **shaped(CLOSED))
    assert beside["outputConfig"]["effort"] == "low"
    assert "output_config" not in beside["additionalModelRequestFields"]
    forced = body(CLAUDE, reasoning_effort="low", tools=[TOOL], tool_choice="required")
    assert "additionalModelRequestFields" not in forced
    for to in (OLD, LLAMA, OPAQUE):
        assert noted(to, reasoning_effort="low") == [("dropped", "reasoning_effort")]


# ── all other members ───────────────────────────────────────────────────────────────────────────


def test_sampling() -> None:
    assert body(NOVA, temperature=1.7, top_p=0.5)["inferenceConfig"] == {"temperature": 1, "topP": 0.5}
    assert noted(NOVA, temperature=1.7) == [("changed", "temperature=1")]
    assert body(CLAUDE, temperature=0.2, top_p=0.5)["inferenceConfig"] == {"temperature": 0.2}
    assert noted(CLAUDE, temperature=0.2, top_p=0.5) == [("dropped", "top_p")]
    assert noted(NEW, temperature=0.2) == [("dropped", "temperature")]
    assert body(OLD, top_k=5)["additionalModelRequestFields"] == {"top_k": 5}
    assert noted(NOVA, top_k=5) == [("dropped", "top_k")]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("seed", 1),
        ("presence_penalty", 1),
        ("logit_bias", {"1": 1}),
        ("user", "u"),
        ("service_tier", "priority"),
    ],
)
def test_tuning_that_has_no_place_is_left_out_and_named(member: str, value: Any) -> None:
    assert body(**{member: value}) == body()
    assert noted(**{member: value}) == [("dropped", member)]


@pytest.mark.parametrize(
    ("member", "value"), [("n", 2), ("logprobs", True), ("modalities", ["text", "audio"])]
)
def test_features_that_have_no_place_are_refused(member: str, value: Any) -> None:
    more = {"audio": {"voice": "alloy", "format": "wav"}} if member == "modalities" else {}
    assert refused(**{member: value}, **more)[1] == "unsupported_parameter"


def test_metadata_labels_the_request_where_it_can() -> None:
    assert body(metadata={"team": "a/b"})["requestMetadata"] == {"team": "a/b"}
    assert noted(metadata={"team": "字"}) == [("dropped", "metadata")]


def test_bedrocks_own_members() -> None:
    guard = {"guardrailIdentifier": "gr1", "guardrailVersion": "1", "trace": "enabled"}
    made = body(OLD, guardrailConfig=guard, top_k=5, additionalModelRequestFields={"top_k": 6, "x": [1]})
    assert made["guardrailConfig"] == guard
    assert made["additionalModelRequestFields"] == {"top_k": 6, "x": [1]}
    assert refused(guardrailConfig="gr1") == ("guardrailConfig", "invalid_type")
    assert noted(performanceConfig={"latency": "optimized"}) == [("dropped", "performanceConfig")]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 9},
        {"maxTokens": 9},
        {"max_gen_len": 9},
        {"n": 2},
        {"a": {"maxTokenCount": 9}},
        {"tools": []},
    ],
)
def test_a_models_own_members_lift_no_limit(fields: dict) -> None:
    (name,) = fields
    found = refused(additionalModelRequestFields=fields)
    assert found == (f"additionalModelRequestFields.{name}", "unsupported_parameter")


def test_cache_marks_become_points_where_the_model_has_them() -> None:
    marked = {"type": "text", "text": "x", **CACHE}
    turns = [
        {"role": "system", "content": [marked]},
        {"role": "user", "content": [marked, {"type": "text", "text": "y"}]},
        called("a"),
        {**answered("a", [marked]), **CACHE},
    ]
    made = body(messages=turns, tools=[{**TOOL, **CACHE}, NOW])
    assert made["system"] == [{"text": "x"}, POINT]
    assert made["messages"][0]["content"] == [{"text": "x"}, POINT, {"text": "y"}]
    assert made["messages"][2]["content"] == [block_of("a", {"text": "x"}), POINT]
    assert made["toolConfig"]["tools"][:2] == [SPEC, POINT]
    assert body(**CACHE)["messages"][0]["content"] == [{"text": "Hello"}, POINT]
    nova = body(NOVA, messages=turns, tools=[{**TOOL, **CACHE}])
    assert (nova["system"][1], nova["toolConfig"]["tools"]) == (POINT, [SPEC])
    plain = body(LLAMA, messages=turns, tools=[{**TOOL, **CACHE}])
    assert "cachePoint" not in json.dumps(plain)
    assert ("dropped", "cache_control") in noted(LLAMA, messages=turns, tools=[TOOL])


def test_an_hours_cache_is_made_one_of_five_minutes_and_said() -> None:
    marked = {"role": "user", "content": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert said(marked)[0]["content"] == [{"text": "x"}, POINT]
    assert noted(messages=[marked]) == [("dropped", "cache_control.ttl")]


def test_a_limit_shrunk_to_the_money_is_sent() -> None:
    call = chat(max_tokens=900)
    call.shrunk_to = 77
    assert msgspec.json.decode(CODEC.encode(call, LLAMA).body)["inferenceConfig"] == {"maxTokens": 77}
    assert notes(call) == [("max-tokens", "77")]
