"""What is sent where a target does not keep to a schema by itself, and what is let through."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers.asking import chat, notes, target

from headgate.errors import CallerError, WrongShape
from headgate.providers import shaping
from headgate.providers.registry import CODECS, SCHEMAS, known_hosts
from headgate.values import Call, Target, Usage

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
OPEN = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^x"}}, "required": ["a"]}
OBJECT = {"type": "json_object"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def wanted(schema: Any = None, *, strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "strict": strict, "schema": schema or SCHEMA}}


def sent(call: Call, to: Target) -> Any:
    shaping.prepare(call, (to,))
    given = dict(call.members)
    request = shaping.encode(CODECS[to.host.kind]["chat"], call, to)
    assert call.members == given
    return msgspec.json.decode(request.body)


def host(schema: str, **more: Any) -> Target:
    to = target("openai", **more)
    return msgspec.structs.replace(to, host=msgspec.structs.replace(to.host, schema=schema))


def test_a_host_that_keeps_to_schemas_is_sent_what_came():
    call, to = chat(response_format=wanted()), host("enforced")
    body = sent(call, to)
    assert body["response_format"] == wanted()
    assert call.shape is not None
    assert (call.shape.spare_input, notes(call)) == (0, [])
    right, wrong = whole({"content": '{"a":1}'}), whole({"content": '{"a":"1"}'})
    assert b'"content":"{\\"a\\":1}"' in judge(call, to, right)
    with pytest.raises(WrongShape) as caught:
        judge(call, to, wrong)
    assert not shaping.asks_again(call, caught.value)  # nothing is held for a second attempt


def test_what_a_host_keeps_to_and_we_cannot_check_passes_unchecked():
    call, to = chat(response_format=wanted({"type": "string", "pattern": "(a+)+"})), host("enforced")
    reader = CODECS["openai"]["chat"].reader(call, to)
    assert shaping.checked(reader, call, to) is reader


def test_a_model_may_keep_to_schemas_where_its_host_does_not():
    to = host("json", model="qwen-plus-x")
    to = msgspec.structs.replace(to, host=msgspec.structs.replace(to.host, schema_models=("qwen-plus*",)))
    assert sent(chat(response_format=wanted()), to)["response_format"] == wanted()


def test_a_host_of_json_is_told_the_schema_in_words_after_what_the_system_says():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    call = chat(messages=messages, response_format=wanted())
    body = sent(call, host("json"))
    assert body["response_format"] == OBJECT
    assert [row["role"] for row in body["messages"]] == ["system", "system", "user"]
    assert json.dumps(SCHEMA, separators=(",", ":")) in body["messages"][1]["content"]
    assert "JSON" in body["messages"][1]["content"]  # without that word some hosts refuse
    assert notes(call) == [("emulated", "response_format")]
    assert sent(chat(response_format=OBJECT), host("json"))["messages"] == [
        {"role": "user", "content": "Hello"}
    ]


def test_a_host_of_text_gets_words_alone():
    body = sent(chat(response_format=OBJECT), host("none"))
    assert "response_format" not in body
    assert "one JSON object alone" in body["messages"][0]["content"]


def test_a_strict_model_is_not_asked_in_words():
    with pytest.raises(CallerError) as caught:
        sent(chat(response_format=wanted()), host("json", parameters="strict"))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "response_format")


def test_claude_gets_a_schema_as_its_own_as_a_tool_or_json_in_words():
    assert "output_config" in sent(chat(response_format=wanted()), target("anthropic", "claude-sonnet-4-5"))
    for model, schema in (("claude-3-5-haiku", SCHEMA), ("claude-sonnet-4-5", OPEN)):
        call, to = chat(response_format=wanted(schema)), target("anthropic", model)
        assert sent(call, to)["tool_choice"] == {
            "type": "tool",
            "name": "n",
            "disable_parallel_tool_use": True,
        }
        assert call.shape is not None
        assert call.shape.spare_input > 0
    body = sent(chat(response_format=OBJECT), target("anthropic", "claude-opus-4-7"))
    assert (
        "one JSON object alone" in body["system"][0]["text"]
        if isinstance(body["system"], list)
        else body["system"]
    )


def test_gemini_is_sent_what_its_words_can_say_and_the_rest_is_checked_here():
    new, old = target("gemini", "gemini-3.8-flash"), target("gemini", "gemini-2.5-flash")
    call = chat(response_format=wanted())
    assert sent(call, new)["generationConfig"]["responseJsonSchema"]
    assert call.shape is not None
    assert call.shape.spare_input == 0
    call = chat(response_format=wanted(OPEN))
    assert "pattern" not in str(sent(call, new)["generationConfig"]["responseJsonSchema"])
    assert notes(call)[0][0] == "dropped"
    body = sent(chat(response_format=wanted(), tools=[TOOL]), old)
    assert "responseMimeType" not in body.get("generationConfig", {})
    assert "JSON Schema" in body["systemInstruction"]["parts"][0]["text"]


@pytest.mark.parametrize(
    ("model", "shape", "support"),
    [
        ("anthropic.claude-sonnet-4-5-v1:0", wanted(), "enforced"),
        ("anthropic.claude-3-haiku-v1:0", wanted(), "tried"),
        ("meta.llama3-3-70b", wanted(), "none"),
        ("amazon.nova-pro-v1:0", OBJECT, "none"),
    ],
)
def test_what_bedrocks_models_do_for_schemas(model, shape, support):
    call, to = chat(response_format=shape), target("bedrock", model)
    body = sent(call, to)
    assert SCHEMAS["bedrock"](call, to) == support
    assert ("alone" in str(body["system"])) is (support == "none") if "system" in body else support != "none"


def judge(call: Call, to: Target, answer: bytes) -> bytes:
    reader = shaping.checked(CODECS["openai"]["chat"].reader(call, to), call, to)
    assert reader.feed(answer) == b""
    return reader.finish() + reader.end(Usage(1, 1))


def whole(message: dict[str, Any], reason: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return msgspec.json.encode({"choices": [choice], "usage": usage, "model": "m"})


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": '{"a": 1}'}, "stop"),
        ({"content": ' {"a": 1}\n'}, "stop"),
        ({"content": '{"a"'}, "length"),
        ({"content": "", "refusal": "No."}, "stop"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls"),
        ({"content": ""}, "content_filter"),
    ],
)
def test_what_openai_lets_pass_passes(message, reason):
    body = judge(chat(response_format=wanted()), host("tried"), whole(message, reason))
    assert msgspec.json.decode(body)["choices"][0]["message"]["content"] == message["content"]


@pytest.mark.parametrize(
    "content", ["", "   ", "yes", '{"a": "1"}', '{"a": 1} or so', '{"a": NaN}', "[" * 5_000, '{"a":1e999}']
)
def test_everything_else_is_wrong(content):
    with pytest.raises(WrongShape) as caught:
        judge(chat(response_format=wanted()), host("tried"), whole({"content": content}))
    assert caught.value.text == content


def test_each_choice_is_looked_at():
    answer = msgspec.json.decode(whole({"content": '{"a": 1}'}))
    answer["choices"].append({"index": 1, "message": {"content": "{}"}, "finish_reason": "stop"})
    with pytest.raises(WrongShape):
        judge(chat(response_format=wanted(), n=2), host("tried"), msgspec.json.encode(answer))


def test_a_wrong_answer_is_asked_for_once_more_and_not_twice():
    call = chat(response_format=wanted())
    shaping.prepare(call, (host("tried"),))
    error = WrongShape("m", "x" * 50_000, ["$ is wrong"])
    assert shaping.asks_again(call, error)
    assert not shaping.asks_again(call, error)
    body = sent(call, host("tried"))
    assert [row["role"] for row in body["messages"]] == ["user", "assistant", "user"]
    assert call.shape is not None
    assert len(json.dumps(body["messages"][1:])) < call.shape.spare_input
    assert notes(call) == [("repaired", "response_format")]


def test_every_known_host_says_what_it_does_for_schemas():
    assert {row.schema for row in known_hosts().values()} == {"enforced", "tried", "json", "none"}
