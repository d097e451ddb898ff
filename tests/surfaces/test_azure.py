"""The official OpenAI SDK reaches deployments at Azure through a running gateway: tokens, filters, exact books."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import openai
import pytest
from tests.answers import SSE, http_answer, json_answer
from tests.providers import azure_wire as wire
from tests.surfaces.test_claude import ASK, client, spent
from tests.surfaces.test_gemini import gateway
from tests.upstream import ScriptedUpstream

COST = 11 * 2_500 + 8 * 1_250 + 7 * 10_000  # nano-USD, of gpt-4o as the shipped book has it
HI = {"content": "It is sunny in Paris."}


def settings(upstream: ScriptedUpstream, credential: str) -> str:
    base = upstream.base_url.removesuffix("/v1")
    return (
        f'[[providers]]\nname = "eu"\nkind = "azure"\nbase_url = "{base}"\napi_version = "2024-10-21"\n'
        f'{credential}\n[providers.deployments]\nprod-4o = "gpt-4o"\n'
    )


def test_with_a_key(tmp_path: Path) -> None:
    answers: list[Any] = [
        http_answer(wire.body(HI), headers=[("content-type", "application/json")]),
        http_answer(wire.stream(HI), headers=SSE),
        http_answer(wire.FIRST + wire.data(wire.REFUSED), headers=SSE),
        json_answer(wire.REFUSED, status=400),
    ]
    with ScriptedUpstream(*answers) as upstream:
        with gateway(tmp_path, settings(upstream, 'api_key = "k1"')) as made, client(made) as sdk:
            whole = sdk.chat.completions.create(model="gpt-4o", messages=ASK)
            assert (whole.choices[0].message.content, whole.model) == (HI["content"], "gpt-4o")
            assert spent(made) == COST
            the_stream(sdk)
            assert spent(made) == 2 * COST
            the_filter(sdk)
            assert [model.id for model in sdk.models.list()][:2] == ["prod-4o", "gpt-4o"]
            with pytest.raises(openai.NotFoundError):
                sdk.chat.completions.create(model="eu/../admin", messages=ASK)
        path = "/openai/deployments/prod-4o/chat/completions?api-version=2024-10-21"
        asked = [(one.path, one.get("api-key"), one.get("authorization")) for one in upstream.requests]
        assert asked == [(path, "k1", None)] * len(answers)


def the_stream(sdk: openai.OpenAI) -> None:
    parts = list(
        sdk.chat.completions.create(
            model="prod-4o", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == HI["content"]
    assert {part.id for part in parts} == {wire.COMMON["id"]}
    usage = parts[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (19, 7, 26)


def the_filter(sdk: openai.OpenAI) -> None:
    """A prompt that is refused: after the head of a stream, and at once."""
    for stream in (True, False):
        with pytest.raises(openai.BadRequestError) as caught:
            sdk.chat.completions.create(model="prod-4o", messages=ASK, stream=stream)
        assert caught.value.code == "content_filter"
        assert "Filtered: jailbreak, violence (medium)." in caught.value.message


def test_with_a_clients_secret(tmp_path: Path) -> None:
    token = json_answer({"token_type": "Bearer", "expires_in": 3599, "access_token": "t1"})
    answer = http_answer(wire.body(HI), headers=[("content-type", "application/json")])
    with ScriptedUpstream(token) as authority, ScriptedUpstream(answer) as upstream:
        where = authority.base_url.removesuffix("/v1")
        secret = f'client_id = "c1"\nclient_secret = "s&1"\ntenant = "t1"\nauthority = "{where}"'
        with gateway(tmp_path, settings(upstream, secret)) as made, client(made) as sdk:
            patient = sdk.with_options(max_retries=5)
            assert patient.chat.completions.create(model="gpt-4o", messages=ASK).choices[0].message.content
        assert (upstream.requests[-1].get("authorization"), upstream.requests[-1].get("api-key")) == (
            "Bearer t1",
            None,
        )
        asked = authority.requests[0]
        assert asked.path == "/t1/oauth2/v2.0/token"
        assert parse_qs(asked.body.decode()) == {
            "grant_type": ["client_credentials"],
            "client_id": ["c1"],
            "client_secret": ["s&1"],
            "scope": ["https://cognitiveservices.azure.com/.default"],
        }
