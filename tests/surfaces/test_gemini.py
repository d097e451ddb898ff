"""The official OpenAI SDK reaches Gemini through a running gateway: tools, streams, tokens, exact books."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.answers import SSE, http_answer, json_answer
from tests.faults.worker import ONE_ATTEMPT
from tests.providers import gemini_wire as wire
from tests.surfaces.conftest import Gateway, complaints
from tests.surfaces.test_claude import ASK, TOOLS, client, spent
from tests.upstream import ScriptedUpstream

PRICED = "gemini-2.5-flash"
INPUT, OUTPUT = 300, 2_500  # nano-USD per token of the latter, as the shipped book has them
COST = 29 * INPUT + 212 * OUTPUT
SIGNED = wire.call("weather", {"city": "Paris"}, thoughtSignature="CpwBAVSoXO4=")
PLAIN = wire.call("weather", {"city": "Rome"})
TEXT = wire.text("It is sunny in Paris.")


def whole(*parts: dict[str, Any], **more: Any) -> bytes:
    given = wire.body(wire.candidate(*parts), **more)
    return http_answer(given, headers=[("content-type", "application/json; charset=UTF-8")])


def streamed(*parts: dict[str, Any]) -> bytes:
    return http_answer(wire.stream(*parts), headers=SSE)


@contextmanager
def gateway(folder: Path, toml: str) -> Iterator[Gateway]:
    config = folder / "headgate.toml"
    config.write_text(toml + ONE_ATTEMPT)
    made = Gateway(folder, "--config", str(config), "--cap", "5/day")
    try:
        yield made
        assert made.command("ledger", "check").returncode == 0
    finally:
        code, _, err = made.stop()
    assert (code, complaints(err)) == (0, [])


def on_demand(upstream: ScriptedUpstream) -> str:
    base = upstream.base_url.removesuffix("/v1") + "/v1beta"
    return f'[[providers]]\nname = "gemini"\nbase_url = "{base}"\napi_key = "AIza1"\n'


def loop_of(message: Any) -> Any:
    """The conversation that a client goes on with after calls of tools."""
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in message.tool_calls]
    return [*ASK, message.model_dump(exclude_none=True), *results]


def test_a_tool_loop(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(whole(SIGNED, PLAIN), whole(TEXT)) as upstream,
        gateway(tmp_path, on_demand(upstream)) as made,
        client(made) as sdk,
    ):
        first = sdk.chat.completions.create(model=PRICED, messages=ASK, tools=TOOLS, reasoning_effort="low")
        message, usage = first.choices[0].message, first.usage
        assert (first.choices[0].finish_reason, first.model) == ("tool_calls", PRICED)
        assert usage is not None
        assert usage.completion_tokens_details is not None
        counts = (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.completion_tokens_details.reasoning_tokens,
        )
        assert counts == (29, 212, 202)
        calls: Any = message.tool_calls
        assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Rome"]
        second = sdk.chat.completions.create(model=PRICED, messages=loop_of(message), tools=TOOLS)
        assert second.choices[0].message.content == TEXT["text"]

        asked = upstream.requests
        assert asked[0].path == f"/v1beta/models/{PRICED}:generateContent"
        assert (asked[0].get("x-goog-api-key"), asked[0].get("authorization")) == ("AIza1", None)
        assert asked[0].json()["generationConfig"] == {"thinkingConfig": {"thinkingBudget": 1024}}
        _, called, answered = asked[1].json()["contents"]
        assert [part.get("thoughtSignature") for part in called["parts"]] == ["CpwBAVSoXO4=", None]
        assert [part["functionResponse"]["name"] for part in answered["parts"]] == ["weather", "weather"]
        assert spent(made) == 2 * COST


def test_a_tool_loop_in_streams(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(streamed(SIGNED, PLAIN), streamed(TEXT)) as upstream,
        gateway(tmp_path, on_demand(upstream)) as made,
        client(made) as sdk,
    ):
        with sdk.chat.completions.stream(model=PRICED, messages=ASK, tools=TOOLS) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].finish_reason == "tool_calls"
        message: Any = final.choices[0].message
        pieces = [call.function.arguments for call in message.tool_calls]
        assert pieces == ['{"city":"Paris"}', '{"city":"Rome"}']
        asked = {"include_usage": True}
        chunks = list(
            sdk.chat.completions.create(
                model=PRICED, messages=loop_of(message), stream=True, stream_options=asked
            )
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert said == TEXT["text"]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 241
        assert upstream.requests[0].path.endswith(":streamGenerateContent?alt=sse")
        assert upstream.requests[1].json()["contents"][1]["parts"][0]["thoughtSignature"] == "CpwBAVSoXO4="
        assert spent(made) == 2 * COST


def test_errors_notes_and_blocked_prompts_reach_the_sdk(tmp_path: Path) -> None:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    slow = {"error": {"code": 429, "message": "Quota.", "status": "RESOURCE_EXHAUSTED", "details": [retry]}}
    key = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}
    blocked = wire.body(promptFeedback={"blockReason": "SAFETY"}, usage={"promptTokenCount": 4})
    broken = wire.body(wire.candidate(finish="MALFORMED_FUNCTION_CALL"))
    answers = [
        json_answer(slow, 429),
        json_answer(key, 400),
        http_answer(blocked),
        http_answer(broken),
        whole(TEXT),
    ]
    with (
        ScriptedUpstream(*answers) as upstream,
        gateway(tmp_path, on_demand(upstream)) as made,
        client(made) as sdk,
    ):
        create = sdk.chat.completions.create
        with pytest.raises(openai.RateLimitError) as limited:
            create(model=PRICED, messages=ASK)
        assert limited.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.InternalServerError) as denied:
            create(model=PRICED, messages=ASK)
        assert denied.value.code == "provider_denied"
        filtered = create(model=PRICED, messages=ASK)
        assert (filtered.choices[0].finish_reason, filtered.choices[0].message.content) == (
            "content_filter",
            "",
        )
        with pytest.raises(openai.InternalServerError) as failed:
            create(model=PRICED, messages=ASK)
        assert failed.value.status_code == 502
        with pytest.raises(openai.BadRequestError) as refused:
            create(model=PRICED, messages=ASK, modalities=["text", "audio"])
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "modalities")
        raw = sdk.chat.completions.with_raw_response.create(model=PRICED, messages=ASK, user="me")
        assert raw.headers["x-headgate-dropped"] == "user"
        assert len(upstream.requests) == 5
        calls = json.loads(made.command("usage", "--calls", "--json").stdout)
        assert sorted(call["cost_nano_usd"] for call in calls if call["cost_nano_usd"]) == [4 * INPUT, COST]


def test_embeddings(tmp_path: Path) -> None:
    vectors = [{"values": [0.25, -1.0]}, {"values": [0.5, 2.0]}]
    answer = json_answer({"embeddings": vectors, "usageMetadata": {"promptTokenCount": 8}})
    with (
        ScriptedUpstream(answer) as upstream,
        gateway(tmp_path, on_demand(upstream)) as made,
        client(made) as sdk,
    ):
        got = sdk.embeddings.create(model="gemini-embedding-001", input=["a", "b"], dimensions=2)
        assert [row.embedding for row in got.data] == [[0.25, -1.0], [0.5, 2.0]]
        assert got.usage.prompt_tokens == 8
        assert upstream.requests[0].path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
        assert spent(made) == 8 * 150


def test_vertex_with_a_service_account(tmp_path: Path) -> None:
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    grant = json_answer({"access_token": "ya29.one", "expires_in": 3600, "token_type": "Bearer"})
    with ScriptedUpstream(grant) as tokens, ScriptedUpstream(whole(TEXT), streamed(TEXT)) as upstream:
        url = tokens.base_url.removesuffix("/v1") + "/token"
        account = {"client_email": "bot@p.iam", "private_key": pem.decode(), "token_uri": url}
        (tmp_path / "account.json").write_text(json.dumps(account))
        toml = (
            f'[[providers]]\nname = "vertex"\nbase_url = "{upstream.base_url}"\nproject = "p-1"\n'
            f'location = "europe-west4"\nservice_account = "account.json"\n'
        )
        with gateway(tmp_path, toml) as made:
            sdk = openai.OpenAI(base_url=made.base, api_key=made.key, max_retries=3)
            with sdk:
                answer = sdk.chat.completions.create(model=PRICED, messages=ASK)
                assert answer.choices[0].message.content == TEXT["text"]
                chunks = sdk.chat.completions.create(model=PRICED, messages=ASK, stream=True)
                said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert said == TEXT["text"]
            place = "/v1/projects/p-1/locations/europe-west4/publishers/google/models/"
            paths = [asked.path for asked in upstream.requests]
            stream = "streamGenerateContent?alt=sse"
            assert paths == [f"{place}{PRICED}:generateContent", f"{place}{PRICED}:{stream}"]
            assert {asked.get("authorization") for asked in upstream.requests} == {"Bearer ya29.one"}
            assert len(tokens.requests) == 1
            calls = json.loads(made.command("usage", "--calls", "--json").stdout)
            assert sum(call["cost_nano_usd"] for call in calls) == 2 * COST
