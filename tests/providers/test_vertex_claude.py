"""Claude at Vertex AI: calls under Google's paths, and batches of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers import claude_wire as wire
from tests.providers.asking import ID, chat, chunks, read
from tests.providers.test_bucket_batches import GOOGLE, JOB, PROJECT, job, said
from tests.providers.test_claude_request import CLOSED, WEATHER, schema
from tests.providers.test_messages_face import ask

from headgate.credentials import Bearer
from headgate.errors import (
    GatewayError,
    NotFound,
    UpstreamDenied,
    UpstreamInterrupted,
    UpstreamLacks,
    UpstreamOverloaded,
    UpstreamRefused,
)
from headgate.ports import Head
from headgate.providers.batches import BatchState, Found
from headgate.providers.buckets import Said, placed
from headgate.providers.registry import BATCHES, CODECS, SCHEMAS
from headgate.values import Host, Model, Prices, Schemas, Target

CODEC = CODECS["vertex-claude"]["chat"]
JOBS = BATCHES["vertex-claude"]
TEXT = {"type": "text", "text": "你好, world"}
STRICT = {"type": "function", "function": {**WEATHER["function"], "parameters": CLOSED, "strict": True}}


def there(model: str = "claude-opus-4-8", keeps: Schemas = "tried", base: str = "https://v") -> Target:
    bearer = Bearer()
    bearer.renew("a-token")
    host = Host(
        name="vertex-claude", kind="vertex-claude", base_url=base, bearer=bearer, schema=keeps,
        bucket=placed(GOOGLE, Said("gs://our-bucket/ours/", "", ""), "us-east5"),
    )  # fmt: skip
    headers = (("content-type", "application/json"), ("x-own", "1"))
    made = Model(name=model, max_output=1000, context_window=100_000)
    return Target(host=host, model=made, prices=Prices(), headers=headers, base_path=PROJECT)


def body(to: Target, **members: Any) -> Any:
    return msgspec.json.decode(CODEC.encode(chat(**members), to).body)


# ── calls ───────────────────────────────────────────────────────────────────────────────────────


def test_the_model_is_in_the_path_and_the_version_in_the_body() -> None:
    request = CODEC.encode(chat(temperature=0.5), there("claude-sonnet-4-5@20250929"))
    path = f"{PROJECT}/publishers/anthropic/models/claude-sonnet-4-5@20250929"
    assert (request.method, request.path) == ("POST", f"{path}:rawPredict")
    assert dict(request.headers) == {
        "content-type": "application/json",
        "x-own": "1",
        "authorization": "Bearer a-token",
    }
    assert json.loads(request.body) == {
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
        "temperature": 0.5,
    }


def test_a_stream_has_a_verb_of_its_own() -> None:
    request = CODEC.encode(chat(stream=True), there())
    assert request.path.endswith("/claude-opus-4-8:streamRawPredict")
    assert json.loads(request.body)["stream"] is True


@pytest.mark.parametrize("name", ["a/b", "..", "a?b", "claude:x"])
def test_a_name_that_leads_elsewhere_is_no_model(name: str) -> None:
    with pytest.raises(NotFound):
        CODEC.encode(chat(), there(name))


def test_an_answer_is_the_same_whole_and_in_a_stream() -> None:
    whole, usage = read(CODEC, chat(), there(), [wire.message(TEXT)])
    assert json.loads(whole)["choices"][0]["message"]["content"] == TEXT["text"]
    stream = [wire.stream(TEXT)[at : at + 1] for at in range(len(wire.stream(TEXT)))]
    streamed, again = read(CODEC, chat(stream=True), there(), stream)
    parts = [
        chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks(streamed) if chunk["choices"]
    ]
    assert ("".join(parts), again) == (TEXT["text"], usage)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (20, 15)


@pytest.mark.parametrize(
    ("keeps", "word", "strict"), [("tried", "tried", None), ("enforced", "enforced", True)]
)
def test_schemas_are_sent_as_schemas_where_the_organisation_allows_that(
    keeps: Schemas, word: str, strict: bool | None
) -> None:
    asked, to = {"response_format": schema(CLOSED)}, there(keeps=keeps)
    made = body(to, **asked)
    assert ("output_config" in made, "tools" in made) == (keeps == "enforced", keeps == "tried")
    assert SCHEMAS["vertex-claude"](chat(**asked), to) == word
    assert body(to, tools=[STRICT])["tools"][0].get("strict") is strict
    if keeps == "tried":
        [tool] = made["tools"]
        use = {"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": {"a": "b"}}
        answer = wire.message(use, stop="tool_use")
    else:
        answer = wire.message({"type": "text", "text": '{"a":"b"}'})
    whole, _ = read(CODEC, chat(**asked), to, [answer])
    choice = json.loads(whole)["choices"][0]
    assert json.loads(choice["message"]["content"]) == {"a": "b"}
    assert choice["finish_reason"] == "stop"


def test_a_message_goes_there_as_it_was_asked_for() -> None:
    headers = {b"anthropic-version": b"2023-06-01", b"anthropic-beta": b"context-1m-2025-08-07"}
    to = there()
    call = ask(to, headers, max_tokens=5000, top_k=5)
    request = CODEC.encode(call, to)
    told = dict(request.headers)
    assert (told["anthropic-beta"], "anthropic-version" in told) == ("context-1m-2025-08-07", False)
    made = json.loads(request.body)
    assert (made["max_tokens"], made["top_k"], made["anthropic_version"]) == (5000, 5, "vertex-2023-10-16")
    assert "model" not in made
    assert call.id == ID


CLAUDES = {
    "type": "error",
    "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"},
}
GOOGLES = {
    "error": {"code": 429, "message": "Quota exceeded for input tokens", "status": "RESOURCE_EXHAUSTED"}
}
ABSENT = {"error": {"code": 404, "message": "Publisher Model was not found", "status": "NOT_FOUND"}}


@pytest.mark.parametrize(
    ("status", "told", "kind", "code"),
    [
        (400, CLAUDES, UpstreamRefused, "context_length_exceeded"),
        (429, GOOGLES, UpstreamOverloaded, "rate_limit_exceeded"),
        (429, [GOOGLES], UpstreamOverloaded, "rate_limit_exceeded"),
        (404, ABSENT, UpstreamLacks, "model_not_found"),
        (403, {"error": {"code": 403, "message": "Permission denied"}}, UpstreamDenied, None),
        (529, {"type": "error", "error": {"type": "overloaded_error"}}, UpstreamOverloaded, None),
        (502, "<html>", GatewayError, None),
    ],
)
def test_either_of_the_two_may_refuse(status: int, told: Any, kind: type, code: str | None) -> None:
    error = CODEC.error(Head(status, ()), said(told) if not isinstance(told, str) else told.encode())
    assert isinstance(error, kind)
    assert code is None or error.code == code


# ── batches ─────────────────────────────────────────────────────────────────────────────────────


def test_a_line_has_its_number_for_an_id() -> None:
    request = CODEC.encode(chat(), there())
    line = JOBS.line(JOB, 50_000, request.body.replace(b",", b",\n "))
    assert b"\n" not in line
    assert json.loads(line) == {"custom_id": "50000", "request": json.loads(request.body)}


def test_a_job_is_of_anthropics_model_and_found_like_googles() -> None:
    request = JOBS.create(JOB, there("claude-haiku-4-5@20251001"))
    assert request.path == f"{PROJECT}/batchPredictionJobs"
    order = json.loads(request.body)
    assert order["model"] == "publishers/anthropic/models/claude-haiku-4-5@20251001"
    assert (order["displayName"], order["inputConfig"]["instancesFormat"]) == ("headgate batch_0a.2", "jsonl")
    assert order["outputConfig"]["gcsDestination"] == {
        "outputUriPrefix": "gs://our-bucket/ours/batch_0a.2/out"
    }
    assert JOBS.found(said({"batchPredictionJobs": [job()]}), JOB, "") == Found("456", "")
    ended = JOBS.state(said(job(state="JOB_STATE_SUCCEEDED")))
    assert ended == BatchState("456", "completed", "ours/batch_0a.2/out")


def answer(**more: Any) -> bytes:
    return said({"custom_id": "7", "request": {"messages": []}, **more})


MESSAGE = json.loads(wire.message(TEXT))


@pytest.mark.parametrize(
    "more",
    [
        {"status": "", "response": MESSAGE},
        {"response": MESSAGE},
        {"status": "OK", "response": MESSAGE},
        {"status": None, "response": json.dumps(MESSAGE)},  # as a table has it
    ],
)
def test_a_message_is_an_answer_whatever_its_status_says(more: dict[str, Any]) -> None:
    told = JOBS.reading(JOB)(answer(**more))
    assert told is not None
    assert (told.n, told.status) == (7, 200)
    whole, usage = read(CODEC, chat(), there(), [told.body])
    assert json.loads(whole)["choices"][0]["message"]["content"] == TEXT["text"]
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (20, 15)


REFUSED = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
LIMITED = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({"status": f"Bad Request: {json.dumps(REFUSED)}", "response": None}, 400, "no"),
        ({"status": f"Bad Request: {json.dumps(REFUSED)}"}, 400, "no"),
        ({"status": "Too Many Requests: slow down", "response": ""}, 429, "Too Many Requests: slow down"),
        ({"status": 'Bad Request: {"error": {"code": 403, "message": "no"}}', "response": {}}, 403, "no"),
        ({"status": "it broke", "response": {}}, 500, "it broke"),
        ({"status": "", "response": LIMITED}, 429, "slow"),
        ({"status": "x", "response": {"type": "error", "error": {"type": "new", "message": "?"}}}, 500, "x"),
        ({"status": "", "response": {"type": "error", "error": {"message": "?"}}}, 500, "?"),
        ({"status": {"code": 3, "message": "odd"}, "response": "words"}, 500, '{"code":3,"message":"odd"}'),
    ],
)
def test_a_status_is_the_error_of_its_line(more: dict[str, Any], status: int, message: str) -> None:
    told = JOBS.reading(JOB)(answer(**more))
    assert told is not None
    assert (told.n, told.status, json.loads(told.body)["error"]["message"]) == (7, status, message)
    assert CODEC.error(Head(told.status, ()), told.body).http_status in {status, 502, 503}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"[" * 5_000, b'{"custom_id": "x", "status": "no"}', answer(),
        answer(status="", response={}), answer(status="", response={"type": 7}), answer(status="", response=None),
    ],
)  # fmt: skip
def test_what_says_nothing_is_said_to_say_nothing(data: bytes) -> None:
    with pytest.raises(UpstreamInterrupted):
        JOBS.reading(JOB)(data)


@pytest.mark.parametrize(
    ("place", "fit"), [("global", False), ("us-east5", True), ("europe-west1", True), ("globally", True)]
)
def test_the_global_endpoint_runs_none(place: str, fit: bool) -> None:
    told = JOBS.unfit(there(base=f"https://v/v1/projects/p/locations/{place}").host)
    assert (not told) is fit
    assert fit or "Name a region" in told
    assert not BATCHES["vertex"].unfit(there().host)
