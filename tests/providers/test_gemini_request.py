"""OpenAI's requests as Gemini's bytes, and Google's errors as ours."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers.asking import chat, notes, read, sent, target

from headgate.credentials import Bearer
from headgate.errors import (
    CallerError,
    NotFound,
    UpstreamDenied,
    UpstreamOverloaded,
)
from headgate.providers.gemini import located
from headgate.providers.registry import CODECS
from headgate.values import Host, Model, Place, Prices, Target

CODEC = CODECS["gemini"]["chat"]
OLD = target("gemini", "gemini-2.5-flash")
NEW = target("gemini", "gemini-3.7-flash")
ASK = {"role": "user", "content": "Weather?"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Now", "parameters": CITY}}
NOW = {"type": "function", "function": {"name": "now"}}


def use(name: str, call: str, arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def said(*messages: dict[str, Any], to: Target = OLD) -> Any:
    return sent(CODEC, chat(messages=list(messages)), to)


def config(to: Target = OLD, **members: Any) -> Any:
    return sent(CODEC, chat(**members), to).get("generationConfig", {})


def refused(to: Target = OLD, **members: Any) -> tuple[str | None, str | None]:
    with pytest.raises(CallerError) as caught:
        CODEC.encode(chat(**members), to)
    return caught.value.param, caught.value.code


# ── where it goes ───────────────────────────────────────────────────────────────────────────────


def test_the_plain_request_to_the_byte() -> None:
    request = CODEC.encode(chat(temperature=0.5, max_completion_tokens=9), OLD)
    assert (request.method, request.path) == ("POST", "/v1/models/gemini-2.5-flash:generateContent")
    assert request.headers is OLD.headers
    assert request.body == (
        b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}],'
        b'"generationConfig":{"maxOutputTokens":9,"temperature":0.5}}'
    )
    assert CODEC.encode(chat(True), OLD).path.endswith(":streamGenerateContent?alt=sse")
    assert CODEC.encode(chat(), OLD).body == b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'


@pytest.mark.parametrize("name", ["a/../b", "x?key=1", "x:predict", "x y", "", "../x", "é", "x" + "\n"])
def test_a_name_never_leads_elsewhere(name: str) -> None:
    with pytest.raises(NotFound):
        CODEC.encode(chat(), target("gemini", name))


@pytest.mark.parametrize(
    ("base", "location", "found"),
    [
        ("https://aiplatform.googleapis.com/v1", "", "https://aiplatform.googleapis.com/v1/{}/global"),
        (
            "https://aiplatform.googleapis.com/v1",
            "us-east5",
            "https://us-east5-aiplatform.googleapis.com/v1/{}/us-east5",
        ),
        ("https://aiplatform.googleapis.com/v1", "eu", "https://aiplatform.eu.rep.googleapis.com/v1/{}/eu"),
        ("http://127.0.0.1:9/v1", "us-east5", "http://127.0.0.1:9/v1/{}/us-east5"),
    ],
)
def test_where_vertex_is(base: str, location: str, found: str) -> None:
    assert located(base, Place(project="p-1", location=location)) == found.format("projects/p-1/locations")
    whole = "https://x/v1/projects/a/locations/b"
    assert located(whole, Place()) == whole
    with pytest.raises(ValueError, match="project"):
        located(base, Place(location=location))


def vertex(bearer: Bearer | None, name: str = "gemini-3.7-flash") -> Target:
    host = Host(name="h", kind="vertex", base_url="http://h/v1", bearer=bearer)
    path = "/v1/projects/p/locations/eu"
    return Target(host=host, model=Model(name=name), prices=Prices(), base_path=path, headers=(("a", "b"),))


def test_vertex_is_asked_with_the_token_of_the_moment() -> None:
    bearer = Bearer()
    to = vertex(bearer)
    codec = CODECS["vertex"]["chat"]
    with pytest.raises(UpstreamOverloaded) as early:
        codec.encode(chat(), to)
    assert early.value.retry_after_s == 1
    bearer.renew("t1")
    first = codec.encode(chat(), to)
    path = "/v1/projects/p/locations/eu/publishers/google/models/gemini-3.7-flash:generateContent"
    assert (first.path, first.headers) == (path, (("a", "b"), ("authorization", "Bearer t1")))
    assert codec.encode(chat(), to).headers is first.headers  # so that the transport knows its bytes
    bearer.renew("t2")
    assert codec.encode(chat(), to).headers[-1] == ("authorization", "Bearer t2")
    bearer.renew("", "revoked")
    with pytest.raises(UpstreamDenied):
        codec.encode(chat(), to)
    assert codec.encode(chat(), vertex(None)).headers == (("a", "b"),)


# ── messages ────────────────────────────────────────────────────────────────────────────────────


def test_system_and_developer_messages_stand_apart_wherever_they_were() -> None:
    body = said(
        {"role": "system", "content": "A"},
        ASK,
        {"role": "developer", "content": [{"type": "text", "text": "B"}]},
        {"role": "assistant", "content": "Sun."},
        {"role": "system", "content": ""},
    )
    assert body == {
        "systemInstruction": {"parts": [{"text": "A"}, {"text": "B"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Weather?"}]},
            {"role": "model", "parts": [{"text": "Sun."}]},
        ],
    }


def test_there_is_always_a_content() -> None:
    asked = [{"role": "user", "parts": [{"text": "A"}]}]
    assert said({"role": "system", "content": "A"}) == {"contents": asked}
    assert said({"role": "user", "content": ""})["contents"] == [{"role": "user", "parts": [{"text": " "}]}]


def test_a_tool_loop_with_parallel_calls() -> None:
    body = said(
        ASK,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                use(
                    "weather",
                    "call_a",
                    '{"city":"Paris"}',
                    extra_content={"google": {"thought_signature": "S"}},
                ),
                use("now", "call_b", ""),
                use("odd", "call_c", "{broken"),
            ],
        },
        {"role": "tool", "tool_call_id": "call_b", "content": "noon"},
        {"role": "tool", "tool_call_id": "call_a", "content": '{"sky":"clear"}'},
        {"role": "tool", "tool_call_id": "call_c", "content": "[1, 2]"},
        {"role": "user", "content": "And?"},
        {"role": "user", "content": "Quick!"},
        to=NEW,
    )
    _, calls, results, more = body["contents"]
    assert calls == {
        "role": "model",
        "parts": [
            {
                "functionCall": {"id": "call_a", "name": "weather", "args": {"city": "Paris"}},
                "thoughtSignature": "S",
            },
            {"functionCall": {"id": "call_b", "name": "now", "args": {}}},
            {"functionCall": {"id": "call_c", "name": "odd", "args": {"arguments": "{broken"}}},
        ],
    }
    assert results["role"] == "user"
    assert [part["functionResponse"] for part in results["parts"]] == [
        {"id": "call_b", "name": "now", "response": {"output": "noon"}},
        {"id": "call_a", "name": "weather", "response": {"sky": "clear"}},
        {"id": "call_c", "name": "odd", "response": {"output": [1, 2]}},
    ]
    assert more == {"role": "user", "parts": [{"text": "And?"}, {"text": "Quick!"}]}


def test_a_result_whose_call_is_not_there_has_no_name() -> None:
    messages = [ASK, {"role": "tool", "tool_call_id": "x", "content": "1"}]
    assert refused(messages=messages) == ("messages[1].tool_call_id", "invalid_value")
    named = said(ASK, {"role": "tool", "tool_call_id": "x", "name": "f", "content": "1"})
    assert named["contents"][1]["parts"][0]["functionResponse"]["name"] == "f"


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("gemini-3.7-flash", "skip_thought_signature_validator"),
        ("gemini-flash-latest", "skip_thought_signature_validator"),
        ("gemini-2.5-pro", None),
        ("gemma-3-27b-it", None),
    ],
)
def test_a_lost_signature_is_no_400(model: str, signature: str | None) -> None:  # vercel/ai#12218
    calls = {"role": "assistant", "tool_calls": [use("f", "a"), use("g", "b")]}
    parts = said(ASK, calls, to=target("gemini", model))["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [signature, None]


def test_what_gemini_signed_comes_back_where_it_was() -> None:
    """Answer, echo by the client, next request: the parts are those that the model gave."""
    from tests.providers import gemini_wire as wire

    parts = [
        wire.text("Sun.", thoughtSignature="A=="),
        wire.call("f", {"x": 1}, id="i", thoughtSignature="B=="),
    ]
    answer = read(CODEC, chat(), NEW, [wire.body(wire.candidate(*parts))])[0]
    echoed = json.loads(answer)["choices"][0]["message"]
    assert said(ASK, echoed, to=NEW)["contents"][1] == {"role": "model", "parts": parts}

    parts = [wire.text("thought", thought=True), wire.text("Sun."), wire.text("", thoughtSignature="A==")]
    answer = read(CODEC, chat(), NEW, [wire.body(wire.candidate(*parts))])[0]
    echoed = json.loads(answer)["choices"][0]["message"]
    assert said(ASK, echoed, to=NEW)["contents"][1] == {"role": "model", "parts": parts[1:]}


PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an image": (
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
    ),
    "URL-safe base64": (
        {"type": "image_url", "image_url": {"url": "data:;base64,-_-_"}},
        {"inlineData": {"mimeType": "image/jpeg", "data": "+/+/"}},
    ),
    "an image elsewhere": (
        {"type": "image_url", "image_url": {"url": "https://x/a.webp?size=2"}},
        {"fileData": {"fileUri": "https://x/a.webp?size=2", "mimeType": "image/webp"}},
    ),
    "an image of no kind": (
        {"type": "image_url", "image_url": {"url": "https://x/a"}},
        {"fileData": {"fileUri": "https://x/a", "mimeType": "image/jpeg"}},
    ),
    "a sound": (
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "aGk="}},
    ),
    "a file": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
    ),
    "a file elsewhere": (
        {"type": "file", "file": {"file_data": "https://x/b.csv"}},
        {"fileData": {"fileUri": "https://x/b.csv", "mimeType": "text/csv"}},
    ),
    "a file that Google has": (
        {"type": "file", "file": {"file_id": "https://generativelanguage.googleapis.com/v1beta/files/x"}},
        {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}},
    ),
    "a video in a bucket": (
        {"type": "file", "file": {"file_id": "gs://bucket/film.mp4"}},
        {"fileData": {"fileUri": "gs://bucket/film.mp4", "mimeType": "video/mp4"}},
    ),
}


@pytest.mark.parametrize(("part", "theirs"), PARTS.values(), ids=PARTS)
def test_media_go_inline_or_by_uri(part: dict[str, Any], theirs: dict[str, Any]) -> None:
    body = said({"role": "user", "content": [{"type": "text", "text": "See"}, part]})
    assert body["contents"] == [{"role": "user", "parts": [{"text": "See"}, theirs]}]


def test_media_that_cannot_be_there() -> None:
    file = {"type": "file", "file": {"file_id": "file-abc"}}
    where = "messages[0].content[0].file.file_id"
    assert refused(messages=[{"role": "user", "content": [file]}]) == (where, "unsupported_parameter")
    image = {"type": "image_url", "image_url": {"url": "https://x/a.png"}}
    assert refused(messages=[{"role": "system", "content": [image]}])[1] == "unsupported_parameter"


def test_the_detail_of_an_image_is_left_out_and_named() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "low"}}
    call = chat(messages=[{"role": "user", "content": [image, image]}])
    sent(CODEC, call, OLD)
    assert notes(call) == [("dropped", "messages[].content[].image_url.detail")]


# ── settings ────────────────────────────────────────────────────────────────────────────────────


def test_every_setting_that_gemini_has() -> None:
    assert config(
        temperature=1.5, top_p=0.9, frequency_penalty=0.5, presence_penalty=-1, seed=7, n=3, max_tokens=50,
        stop=["a", "b"], logprobs=True, top_logprobs=4, top_k=20, response_format={"type": "json_object"},
    ) == {
        "maxOutputTokens": 50, "temperature": 1.5, "topP": 0.9, "frequencyPenalty": 0.5, "presencePenalty": -1,
        "topK": 20, "candidateCount": 3, "stopSequences": ["a", "b"], "responseLogprobs": True, "logprobs": 4,
        "seed": 7, "responseMimeType": "application/json",
    }  # fmt: skip
    assert config(stop="x") == {"stopSequences": ["x"]}


def test_a_limit_that_was_shrunk_to_the_money_is_sent_and_named() -> None:
    call = chat(max_tokens=5000)
    call.shrunk_to = 1200
    assert sent(CODEC, call, OLD)["generationConfig"] == {"maxOutputTokens": 1200}
    assert notes(call) == [("max-tokens", "1200")]


def test_what_gemini_has_not_goes_by_the_policy() -> None:
    call = chat(logit_bias={"1": 1}, user="u", store=True, seed=1 << 40, service_tier="flex")
    assert "generationConfig" not in sent(CODEC, call, OLD)
    dropped = {value for name, value in notes(call) if name == "dropped"}
    assert dropped == {"logit_bias", "user", "store", "seed", "service_tier"}
    strict = target("gemini", "gemini-2.5-flash", parameters="strict")
    assert refused(strict, seed=1 << 40) == ("seed", "unsupported_parameter")
    assert refused(web_search_options={}) == ("web_search_options", "unsupported_parameter")
    drops = msgspec.structs.replace(
        OLD, host=Host(name="h", base_url="http://h", drops=("presence_penalty",))
    )
    call = chat(presence_penalty=1)
    assert "generationConfig" not in sent(CODEC, call, drops)
    assert notes(call) == [("dropped", "presence_penalty")]


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "noted"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}, []),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024}, []),
        ("gemini-2.5-flash-lite", "medium", {"thinkingBudget": 8192}, []),
        ("gemini-2.5-pro", "high", {"thinkingBudget": 24576}, []),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}, [("changed", "reasoning_effort=minimal")]),
        ("gemini-3-pro-preview", "low", {"thinkingLevel": "low"}, []),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "high"}, [("changed", "reasoning_effort=high")]),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "medium"}, []),
        (
            "gemini-3.1-pro-preview",
            "minimal",
            {"thinkingLevel": "low"},
            [("changed", "reasoning_effort=low")],
        ),
        ("gemini-3.7-flash", "minimal", {"thinkingLevel": "minimal"}, []),
        ("gemini-3.7-flash", "none", {"thinkingLevel": "minimal"}, [("changed", "reasoning_effort=minimal")]),
        ("gemini-4-argon", "xhigh", {"thinkingLevel": "high"}, [("changed", "reasoning_effort=high")]),
        ("gemini-flash-latest", "high", {"thinkingLevel": "high"}, []),
        ("gemini-2.0-flash", "high", None, [("dropped", "reasoning_effort")]),
        ("gemini-pro-1.5", "high", None, [("dropped", "reasoning_effort")]),
        ("gemma-3-27b-it", "low", None, [("dropped", "reasoning_effort")]),
    ],
)
def test_effort_is_a_budget_or_a_level_by_model(model: str, effort: str, thinking: Any, noted: list) -> None:
    call = chat(reasoning_effort=effort)
    body = sent(CODEC, call, target("gemini", model))
    assert body.get("generationConfig", {}).get("thinkingConfig") == thinking
    assert notes(call) == noted


def test_googles_own_members_in_all_their_places() -> None:
    safety = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    thinking = {"thinking_budget": 512, "include_thoughts": True}
    inner = {"safety_settings": safety, "thinking_config": thinking, "cached_content": "cachedContents/x"}
    for members in (inner, {"google": inner}, {"extra_body": {"google": inner}}):
        body = sent(CODEC, chat(reasoning_effort="low", **members), OLD)
        assert body["safetySettings"] == safety
        assert body["cachedContent"] == "cachedContents/x"
        thought = {"thinkingBudget": 512, "includeThoughts": True}
        assert body["generationConfig"]["thinkingConfig"] == thought
    only = sent(CODEC, chat(reasoning_effort="low", thinking_config={"includeThoughts": True}), NEW)
    both = {"includeThoughts": True, "thinkingLevel": "low"}
    assert only["generationConfig"]["thinkingConfig"] == both
    assert refused(safety_settings={"a": 1}) == ("safety_settings", "invalid_type")
    call = chat(google={"odd": 1})
    sent(CODEC, call, OLD)
    assert notes(call) == [("dropped", "google.odd")]


# ── tools and schemas ───────────────────────────────────────────────────────────────────────────


def test_tools_are_declared() -> None:
    body = sent(CODEC, chat(tools=[TOOL, NOW]), OLD)
    weather = {"name": "weather", "description": "Now", "parametersJsonSchema": CITY}
    assert body["tools"] == [{"functionDeclarations": [weather, {"name": "now"}]}]
    assert "toolConfig" not in body


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "now"}}, {"mode": "ANY", "allowedFunctionNames": ["now"]}),
    ],
)
def test_tool_choice(choice: Any, calling: dict[str, Any]) -> None:
    body = sent(CODEC, chat(tools=[TOOL, NOW], tool_choice=choice, parallel_tool_calls=False), OLD)
    assert body["toolConfig"] == {"functionCallingConfig": calling}


def test_a_schema_is_what_the_answer_has() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "c", "strict": True, "schema": CITY}}
    asked = {"responseMimeType": "application/json", "responseJsonSchema": CITY}
    assert config(response_format=wanted) == asked
    assert config(NEW, response_format=wanted, tools=[TOOL]) == asked


def test_a_schema_beside_tools_is_refused_where_the_model_cannot() -> None:
    wanted = {"type": "json_object"}
    assert refused(response_format=wanted, tools=[TOOL]) == ("response_format", "unsupported_parameter")
    lenient = target("gemini", "gemini-2.5-flash", parameters="lenient")
    assert config(lenient, response_format=wanted, tools=[TOOL]) == {}


def test_a_constraint_without_words_is_named_and_refused_where_it_was_promised() -> None:
    schema = {"type": "string", "pattern": "^a", "format": "email"}
    loose = {"type": "json_schema", "json_schema": {"name": "c", "schema": schema}}
    call = chat(response_format=loose)
    assert sent(CODEC, call, OLD)["generationConfig"]["responseJsonSchema"] == {"type": "string"}
    where = "response_format.json_schema.schema."
    assert notes(call) == [("dropped", where + "format"), ("dropped", where + "pattern")]
    loose["json_schema"]["strict"] = True
    assert refused(response_format=loose) == (where + "format", "unsupported_parameter")
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}}}
    call = chat(tools=[{"type": "function", "function": function}])
    sent(CODEC, call, OLD)
    assert ("dropped", "tools[].function.parameters.pattern") in notes(call)
