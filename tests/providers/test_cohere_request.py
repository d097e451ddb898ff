"""OpenAI's requests as Cohere's bytes, and its settings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.providers.asking import HELLO, ID, chat, notes, sent, target

from headgate.app import build_routes
from headgate.config import ServeOptions, load
from headgate.errors import CallerError
from headgate.http.parse import parse
from headgate.providers.cohere.schema import clean
from headgate.providers.registry import CODECS, SCHEMAS, constant_headers
from headgate.values import Book, Call, Target

CODEC = CODECS["cohere"]["chat"]
TO = target("cohere", "command-a-03-2025")
THINKS = target("cohere", "command-a-reasoning-08-2025")
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Now", "parameters": CITY}}
NOW = {"type": "function", "function": {"name": "now"}}
NO_PARAMETERS = {"type": "object", "properties": {}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "out", "schema": CITY, "strict": True}}
NOW_1_790 = 1_790_000_000_000_000


def use(name: str, call: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}


def said(*messages: dict[str, Any], to: Target = TO) -> Any:
    return sent(CODEC, chat(messages=list(messages)), to)["messages"]


def settings(to: Target = TO, **members: Any) -> dict[str, Any]:
    """What is sent beside the model and the messages."""
    body = sent(CODEC, chat(**members), to)
    return {name: body[name] for name in body if name not in {"model", "messages"}}


def refused(to: Target = TO, **members: Any) -> tuple[str | None, str | None]:
    with pytest.raises(CallerError) as caught:
        CODEC.encode(chat(**members), to)
    return caught.value.param, caught.value.code


# ── where it goes ───────────────────────────────────────────────────────────────────────────────


def test_the_plain_request_to_the_byte() -> None:
    request = CODEC.encode(chat(temperature=0.5, max_completion_tokens=9), TO)
    assert (request.method, request.path) == ("POST", "/v1/chat")
    assert request.headers is TO.headers
    assert request.body == (
        b'{"model":"command-a-03-2025","messages":[{"role":"user","content":"Hello"}],'
        b'"max_tokens":9,"temperature":0.5}'
    )
    assert sent(CODEC, chat(True), TO)["stream"] is True


def test_the_usual_variables_and_prices() -> None:
    for name in ("CO_API_KEY", "COHERE_API_KEY"):
        config = load(ServeOptions(env_file=""), {name: "k1"})
        (host,) = config.hosts
        assert (host.name, host.kind, host.base_url) == ("cohere", "cohere", "https://api.cohere.com/v2")
        assert dict(constant_headers(host, {}))["authorization"] == "Bearer k1"
    routes = build_routes(config, "i")
    for model, price in (("command-a-03-2025", 2_500_000), ("command-r7b-12-2024", 37_500)):
        (found,) = routes.candidates(model, Book.REAL, NOW_1_790)
        assert found.prices is not None
        assert (found.host.name, found.prices.input, found.base_path) == ("cohere", price, "/v2")
    (found,) = routes.candidates("embed-v4.0", Book.REAL, NOW_1_790)
    assert found.prices is not None
    assert found.prices.input == 120_000


# ── messages ────────────────────────────────────────────────────────────────────────────────────


def test_what_the_system_says_stands_first_and_is_one() -> None:
    asked = [
        {"role": "system", "content": "Be kind."},
        *HELLO,
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "system", "content": ""},
    ]
    assert said(*asked) == [{"role": "system", "content": "Be kind.\n\nBe brief."}, *HELLO]
    assert said({"role": "system", "content": "Be kind."}) == [{"role": "user", "content": "Be kind."}]


def test_a_tool_loop() -> None:
    calls = [use("weather", "c1", '{"city":"Paris"}'), use("now", "c2", "")]
    asked = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": "I will look."},
        {"role": "tool", "tool_call_id": "c1", "content": "20 degrees"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "assistant", "content": "It is warm.", "refusal": None},
        {"role": "user", "content": "Thanks"},
    ]
    sent_calls = [calls[0], use("now", "c2")]
    results = [
        {"role": "tool", "tool_call_id": "c1", "content": "20 degrees"},
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
    ]
    rest = [{"role": "assistant", "content": "It is warm."}, {"role": "user", "content": "Thanks"}]
    first = {"role": "assistant", "tool_calls": sent_calls}
    assert said(*asked) == [*HELLO, {**first, "tool_plan": "I will look."}, *results, *rest]
    thinking = [{"type": "thinking", "thinking": "I will look."}]
    assert said(*asked, to=THINKS) == [*HELLO, {**first, "content": thinking}, *results, *rest]


def test_text_beside_calls_is_their_plan() -> None:
    one = {"role": "assistant", "content": "Let me see.", "tool_calls": [use("now", "c1")]}
    first = {"role": "assistant", "tool_calls": [use("now", "c1")]}
    assert said(one)[0] == {**first, "tool_plan": "Let me see."}
    both = {**one, "reasoning_content": "Hm."}
    assert said(both)[0] == {**first, "tool_plan": "Hm.\nLet me see."}
    content = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Let me see."}]
    assert said(both, to=THINKS)[0] == {**first, "content": content}


def test_images() -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://e.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
    ]
    assert said({"role": "user", "content": parts}) == [{"role": "user", "content": parts}]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}],
            },
            "messages[0].content[0].type",
        ),
        (
            {
                "role": "user",
                "content": [{"type": "file", "file": {"file_data": "aGk=", "filename": "a.pdf"}}],
            },
            "messages[0].content[0].type",
        ),
        (
            {
                "role": "tool",
                "tool_call_id": "c",
                "content": [{"type": "image_url", "image_url": {"url": "http://e"}}],
            },
            "messages[0].content[0].type",
        ),
    ],
    ids=["sound", "a file", "an image as a result"],
)
def test_parts_that_cohere_does_not_take(message: Any, param: str) -> None:
    assert refused(messages=[message]) == (param, "unsupported_parameter")


def test_names_are_left_out_and_said() -> None:
    made = chat(messages=[{"role": "user", "content": "Hi", "name": "Ann"}] * 2)
    assert sent(CODEC, made, TO)["messages"] == [{"role": "user", "content": "Hi"}] * 2
    assert notes(made) == [("dropped", "messages[].name")]


# ── tuning ──────────────────────────────────────────────────────────────────────────────────────


def test_everything_that_has_a_name_there() -> None:
    given = settings(
        top_p=0.5,
        frequency_penalty=0.5,
        presence_penalty=1,
        seed=7,
        stop=["a", "b"],
        logprobs=True,
        top_k=9,
        safety_mode="STRICT",
        citation_options={"mode": "FAST"},
        max_tokens=5,
    )
    assert given == {
        "max_tokens": 5,
        "p": 0.5,
        "frequency_penalty": 0.5,
        "presence_penalty": 1,
        "seed": 7,
        "stop_sequences": ["a", "b"],
        "logprobs": True,
        "k": 9,
        "safety_mode": "STRICT",
        "citation_options": {"mode": "FAST"},
    }
    assert settings(stop="x") == {"stop_sequences": ["x"]}


def test_what_is_out_of_coheres_range() -> None:
    made = chat(top_p=1, frequency_penalty=-1, presence_penalty=1.5, seed=-3, user="u", logit_bias={"1": 2})
    assert sent(CODEC, made, TO)["p"] == 0.99
    assert set(notes(made)) == {
        ("changed", "top_p=0.99"),
        *(
            ("dropped", name)
            for name in ("frequency_penalty", "presence_penalty", "seed", "user", "logit_bias")
        ),
    }
    assert settings(top_p=0) == {"p": 0.01}


def test_a_limit_that_was_shrunk_to_the_money() -> None:
    made = chat(max_tokens=900)
    made.shrunk_to = 100
    assert sent(CODEC, made, TO)["max_tokens"] == 100
    assert ("max-tokens", "100") in notes(made)


@pytest.mark.parametrize("documents", [["a text"], [{"data": {"text": "x"}}]])
def test_documents_are_left_out_and_said_or_refused(documents: Any) -> None:
    made = chat(documents=documents)
    assert "documents" not in sent(CODEC, made, TO)
    assert notes(made) == [("dropped", "documents")]
    strict = target("cohere", "command-a-03-2025", parameters="strict")
    assert refused(strict, documents=documents) == ("documents", "unknown_parameter")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True, "top_logprobs": 3}, "top_logprobs"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
    ],
)
def test_features_that_it_has_not(members: Any, param: str) -> None:
    assert refused(**members) == (param, "unsupported_parameter")


@pytest.mark.parametrize("members", [{"top_k": "9"}, {"thinking": True}, {"safety_mode": 1}, {"top_k": True}])
def test_members_of_its_own_of_another_type(members: Any) -> None:
    assert refused(**members)[1] == "invalid_type"


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [
        ("none", {"type": "disabled"}),
        ("minimal", {"type": "enabled", "token_budget": 1024}),
        ("low", {"type": "enabled", "token_budget": 1024}),
        ("medium", {"type": "enabled", "token_budget": 8192}),
        ("high", {"type": "enabled"}),
        ("xhigh", {"type": "enabled"}),
    ],
)
def test_effort(effort: str, thinking: Any) -> None:
    for model in ("command-a-reasoning-08-2025", "command-a-plus-05-2026", "command-b"):
        assert settings(target("cohere", model), reasoning_effort=effort) == {"thinking": thinking}
    for model in (
        "command-a-03-2025",
        "command-r7b-12-2024",
        "command-a-vision-07-2025",
        "c4ai-aya-vision-8b",
    ):
        made = chat(reasoning_effort=effort)
        assert "thinking" not in sent(CODEC, made, target("cohere", model))
        assert notes(made) == ([] if effort == "none" else [("dropped", "reasoning_effort")])
    own = {"type": "enabled", "token_budget": 9}
    assert settings(THINKS, reasoning_effort=effort, thinking=own) == {"thinking": own}


# ── tools and schemas ───────────────────────────────────────────────────────────────────────────


def tools(*given: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {"parameters": NO_PARAMETERS, **one["function"]}} for one in given
    ]


def test_tools_and_the_choice_among_them() -> None:
    both: dict[str, Any] = {"tools": [TOOL, NOW]}
    assert settings(**both) == {"tools": tools(TOOL, NOW)}
    assert settings(**both, tool_choice="auto") == {"tools": tools(TOOL, NOW)}
    assert settings(**both, tool_choice="none") == {"tools": tools(TOOL, NOW), "tool_choice": "NONE"}
    assert settings(**both, tool_choice="required") == {"tools": tools(TOOL, NOW), "tool_choice": "REQUIRED"}
    named = {"type": "function", "function": {"name": "now"}}
    assert settings(**both, tool_choice=named) == {"tools": tools(NOW), "tool_choice": "REQUIRED"}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    assert settings(**both, tool_choice=allowed) == {"tools": tools(NOW)}
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    assert settings(tools=[strict, NOW]) == {"tools": tools(TOOL, NOW), "strict_tools": True}


def test_structured_output() -> None:
    wanted = {"type": "json_object", "json_schema": CITY}
    assert settings(response_format=SCHEMA) == {"response_format": wanted}
    assert settings(response_format={"type": "json_object"}) == {"response_format": {"type": "json_object"}}
    assert settings(response_format=SCHEMA, tools=[NOW], tool_choice="none") == {"response_format": wanted}


def test_a_schema_among_tools_is_a_tool_that_must_be_called() -> None:
    given = settings(response_format=SCHEMA, tools=[NOW])
    out = {"name": "out", "parameters": CITY, "description": "Give the answer in this form."}
    assert given == {
        "tools": [*tools(NOW), {"type": "function", "function": out}],
        "strict_tools": True,
        "tool_choice": "REQUIRED",
    }
    forced = settings(response_format=SCHEMA, tools=[NOW], tool_choice="required")
    assert forced == {"tools": tools(NOW), "tool_choice": "REQUIRED"}
    json_object = {"type": "json_object"}
    assert refused(response_format=json_object, tools=[NOW])[0] == "response_format"
    lenient = target("cohere", "command-a-03-2025", parameters="lenient")
    assert settings(lenient, response_format=json_object, tools=[NOW]) == {"tools": tools(NOW)}


@pytest.mark.parametrize(
    ("members", "support"),
    [
        ({"response_format": SCHEMA}, "enforced"),
        ({"response_format": {"type": "json_object"}}, "enforced"),
        ({"response_format": SCHEMA, "tools": [NOW], "tool_choice": "none"}, "enforced"),
        ({"response_format": SCHEMA, "tools": [NOW]}, "tried"),
        ({"response_format": {"type": "json_object"}, "tools": [NOW]}, "none"),
    ],
)
def test_what_it_does_for_a_schema(members: Any, support: str) -> None:
    assert SCHEMAS["cohere"](chat(**members), TO) == support


def test_what_cohere_cannot_say_of_a_schema() -> None:
    number = {"type": "integer", "minimum": 1, "maximum": 9}
    given = {
        "type": "object",
        "properties": {
            "minimum": number,  # a name is no keyword
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "uniqueItems": True},
            "day": {"type": "string", "format": "date"},
            "mail": {"type": "string", "format": "email"},
            "either": {"oneOf": [number, {"type": "null"}]},
            "any": {"anyOf": [{"type": "string", "pattern": "a+"}, True]},
        },
        "$defs": {"tag": {"type": "string", "pattern": "^a", "enum": ["a"]}},
        "additionalProperties": False,
        "required": ["day"],
    }
    cleaned, lost = clean(given)
    assert cleaned == {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer"},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
            "day": {"type": "string", "format": "date"},
            "mail": {"type": "string"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "any": {"anyOf": [{"type": "string", "pattern": "a+"}, True]},
        },
        "$defs": {"tag": {"type": "string", "enum": ["a"]}},
        "additionalProperties": False,
        "required": ["day"],
    }
    assert lost == ["format", "maximum", "minItems", "minimum", "oneOf", "pattern", "uniqueItems"]
    shape: Any = {
        "type": "json_schema",
        "json_schema": {"name": "out", "schema": {"type": "object", "not": {}}},
    }
    made = chat(response_format=shape)
    assert sent(CODEC, made, TO)["response_format"]["json_schema"] == {"type": "object"}
    assert notes(made) == [("dropped", "response_format.json_schema.schema.not")]
    assert SCHEMAS["cohere"](made, TO) == "tried"
    shape["json_schema"]["strict"] = True
    assert refused(response_format=shape) == (
        "response_format.json_schema.schema.not",
        "unsupported_parameter",
    )


# ── embeddings ──────────────────────────────────────────────────────────────────────────────────


def embedding(**members: Any) -> Call:
    made = Call(ID, "embeddings", 0)
    parse(msgspec.json.encode({"model": "m", "input": "a", **members}), made)
    return made


def test_embeddings() -> None:
    codec, to = CODECS["cohere"]["embeddings"], target("cohere", "embed-v4.0")
    assert codec.encode(embedding(), to).path == "/v1/embed"
    common = {"model": "embed-v4.0", "embedding_types": ["float"], "truncate": "NONE"}
    assert sent(codec, embedding(encoding_format="base64"), to) == {
        **common,
        "texts": ["a"],
        "input_type": "search_document",
    }
    own = embedding(input=["a", "b"], input_type="search_query", truncate="END", dimensions=256, user="u")
    assert sent(codec, own, to) == {
        **common,
        "texts": ["a", "b"],
        "input_type": "search_query",
        "truncate": "END",
        "output_dimension": 256,
    }
    assert notes(own) == [("dropped", "user")]
    newer = target("cohere", "embed-v5.0-fast")
    assert sent(codec, embedding(dimensions=256), newer)["output_dimension"] == 256
    old = target("cohere", "embed-english-v3.0")
    for made, param in ((embedding(dimensions=256), "dimensions"), (embedding(input=[1, 2]), "input")):
        with pytest.raises(CallerError) as caught:
            codec.encode(made, old)
        assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
