"""The official OpenAI SDK reaches Cohere through a running gateway: a tool loop, vectors, exact books."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from tests.answers import SSE, http_answer, json_answer
from tests.providers import cohere_wire as wire
from tests.surfaces.test_claude import ASK, TOOLS, client, spent
from tests.surfaces.test_gemini import gateway
from tests.upstream import ScriptedUpstream

MODEL = "command-a-03-2025"
COST = 11 * 2_500 + 3 * 10_000  # nano-USD, of what is billed, as the shipped book has it
CALL = wire.call("weather", '{"city":"Paris"}')
TEXT = wire.text("It is sunny in Paris.")
VECTORS = {"embeddings": {"float": [[0.5, -0.25]]}, "meta": {"billed_units": {"input_tokens": 2}}}


def test_a_tool_loop_and_vectors(tmp_path: Path) -> None:
    answers: list[Any] = [
        http_answer(wire.stream(finish="TOOL_CALL", plan="I will look.", calls=[CALL]), headers=SSE),
        http_answer(wire.body(TEXT), headers=[("content-type", "application/json")]),
        json_answer(VECTORS),
        json_answer({"id": "x", "message": "too many tokens: try a shorter prompt"}, status=400),
    ]
    with ScriptedUpstream(*answers) as upstream:
        base = upstream.base_url.removesuffix("/v1") + "/v2"
        toml = f'[[providers]]\nname = "cohere"\nbase_url = "{base}"\napi_key = "co1"\n'
        with gateway(tmp_path, toml) as made, client(made) as sdk:
            with sdk.chat.completions.stream(model=MODEL, messages=ASK, tools=TOOLS) as stream:
                said = stream.get_final_completion().choices[0].message
            (called,) = said.tool_calls or ()
            turns: Any = [*ASK, said.model_dump(exclude_none=True, exclude={"parsed"})]
            turns += [{"role": "tool", "tool_call_id": called.id, "content": "sunny"}]
            last = sdk.chat.completions.create(model=MODEL, messages=turns, tools=TOOLS)
            assert last.choices[0].message.content == TEXT["text"]
            assert spent(made) == 2 * COST
            vector = sdk.embeddings.create(model="embed-v4.0", input="Hi").data[0].embedding
            assert vector == [0.5, -0.25]
            assert spent(made) == 2 * COST + 2 * 120
            with pytest.raises(openai.BadRequestError) as caught:
                sdk.chat.completions.create(model=MODEL, messages=ASK)
            assert caught.value.code == "context_length_exceeded"
    asked = upstream.requests
    assert [one.path for one in asked] == ["/v2/chat", "/v2/chat", "/v2/embed", "/v2/chat"]
    assert {one.get("authorization") for one in asked} == {"Bearer co1"}
    _, second, third = asked[1].json()["messages"]
    assert (second["tool_plan"], second["tool_calls"]) == ("I will look.", [CALL])
    assert third == {"role": "tool", "tool_call_id": CALL["id"], "content": "sunny"}
