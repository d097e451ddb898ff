"""The official OpenAI SDK reaches Claude through a running gateway: tools, streams, thinking, exact books."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.answers import SSE, http_answer, json_answer
from tests.faults.worker import ONE_ATTEMPT
from tests.providers import claude_wire as wire
from tests.surfaces.conftest import Gateway
from tests.upstream import ScriptedUpstream

MODEL = "claude-haiku-4-5"
INPUT, OUTPUT = 1_000, 5_000  # nano-USD per token, as the shipped book has them
THOUGHT = {"type": "thinking", "thinking": "Which city?", "signature": "EqoB=="}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
TEXT = {"type": "text", "text": "It is sunny in Paris."}
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
ANTHROPIC = 'name = "anthropic"\napi_key = "sk-ant-1"\n'
VERTEX = (
    'name = "vertex-claude"\nproject = "p-1"\nlocation = "us-east5"\ntoken_command = ["echo", "ya29.one"]\n'
)
ASK: Any = [{"role": "user", "content": "Weather in Paris?"}]


def whole(*blocks: dict[str, Any], stop: str = "end_turn") -> bytes:
    return http_answer(wire.message(*blocks, stop=stop), headers=[("content-type", "application/json")])


def streamed(*blocks: dict[str, Any], stop: str = "end_turn") -> bytes:
    return http_answer(wire.stream(*blocks, stop=stop), headers=SSE)


@contextmanager
def gateway(folder: Path, upstream: ScriptedUpstream, row: str = ANTHROPIC) -> Iterator[Gateway]:
    config = folder / "headgate.toml"
    config.write_text(f'[[providers]]\nbase_url = "{upstream.base_url}"\n{row}{ONE_ATTEMPT}')
    made = Gateway(folder, "--config", str(config), "--cap", "5/day")
    try:
        yield made
        assert made.command("ledger", "check").returncode == 0
    finally:
        code, _, err = made.stop()
    assert (code, err) == (0, "")


def spent(made: Gateway) -> int:
    """What the books say that was spent, in nano-USD."""
    calls = json.loads(made.command("usage", "--calls", "--json").stdout)
    assert not any(call["estimated"] for call in calls)
    return sum(call["cost_nano_usd"] for call in calls)


def client(made: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=made.base, api_key=made.key, max_retries=0)


def test_a_tool_loop_whole_and_streamed(tmp_path: Path) -> None:
    answers = [
        whole(THOUGHT, TOOL, stop="tool_use"),
        whole(TEXT),
        streamed(THOUGHT, TOOL, stop="tool_use"),
        streamed(TEXT),
    ]
    with ScriptedUpstream(*answers) as upstream, gateway(tmp_path, upstream) as made, client(made) as sdk:
        first = sdk.chat.completions.create(
            model=MODEL, messages=ASK, tools=TOOLS, reasoning_effort="low", max_tokens=5000
        )
        message = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        assert first.usage is not None
        assert first.usage.total_tokens == 35
        assert message.tool_calls is not None
        (call,) = message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Paris"}
        answer: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        loop: Any = [*ASK, message.model_dump(exclude_none=True), answer]
        second = sdk.chat.completions.create(
            model=MODEL, messages=loop, tools=TOOLS, reasoning_effort="low", max_tokens=5000
        )
        assert second.choices[0].message.content == TEXT["text"]
        sent = upstream.requests[1].json()
        assert sent["messages"][1]["content"] == [THOUGHT, TOOL]
        assert sent["thinking"] == {"type": "enabled", "budget_tokens": 2048}
        assert dict(upstream.requests[1].headers)["x-api-key"] == "sk-ant-1"

        with sdk.chat.completions.stream(model=MODEL, messages=ASK, tools=TOOLS) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].finish_reason == "tool_calls"
        assert final.choices[0].message.tool_calls is not None
        assert final.choices[0].message.tool_calls[0].function.arguments == '{"city":"Paris"}'
        chunks = list(
            sdk.chat.completions.create(
                model=MODEL, messages=loop, stream=True, stream_options={"include_usage": True}
            )
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert said == TEXT["text"]
        assert chunks[-1].usage == second.usage
        assert spent(made) == 4 * (20 * INPUT + 15 * OUTPUT)


def test_errors_and_notes_reach_the_sdk(tmp_path: Path) -> None:
    slow = {"type": "error", "error": {"type": "rate_limit_error", "message": "input tokens per minute"}}
    answers = [json_answer(slow, 429, [("retry-after", "7")]), whole(TEXT)]
    with ScriptedUpstream(*answers) as upstream, gateway(tmp_path, upstream) as made, client(made) as sdk:
        with pytest.raises(openai.RateLimitError) as limited:
            sdk.chat.completions.create(model=MODEL, messages=ASK)
        assert limited.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.chat.completions.create(model=MODEL, messages=ASK, logprobs=True)
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "logprobs")
        raw = sdk.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, seed=1)
        assert raw.headers["x-headgate-dropped"] == "seed"
        assert len(upstream.requests) == 2
        assert spent(made) == 20 * INPUT + 15 * OUTPUT


def test_claude_at_vertex(tmp_path: Path) -> None:
    answers = (whole(TEXT), streamed(TEXT), whole(TEXT))
    with ScriptedUpstream(*answers) as upstream, gateway(tmp_path, upstream, VERTEX) as made:
        dated = f"{MODEL}@20251001"
        sdk = openai.OpenAI(base_url=made.base, api_key=made.key, max_retries=3)  # until the token is there
        with sdk:
            answer = sdk.chat.completions.create(model=dated, messages=ASK)
            assert (answer.choices[0].message.content, answer.model) == (TEXT["text"], dated)
            stream = sdk.chat.completions.create(model=dated, messages=ASK, stream=True)
            said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
            assert said == TEXT["text"]
            body = {"model": dated, "max_tokens": 50, "messages": ASK}
            shown = sdk.post("/messages", body=body, cast_to=object)
        assert isinstance(shown, dict)
        assert shown["content"] == [TEXT]
        place = f"/v1/projects/p-1/locations/us-east5/publishers/anthropic/models/{dated}"
        verbs = [asked.path.removeprefix(place) for asked in upstream.requests]
        assert verbs == [":rawPredict", ":streamRawPredict", ":rawPredict"]
        assert {asked.get("authorization") for asked in upstream.requests} == {"Bearer ya29.one"}
        assert not any(asked.get("anthropic-version") for asked in upstream.requests)
        bodies = [json.loads(asked.body) for asked in upstream.requests]
        assert {each["anthropic_version"] for each in bodies} == {"vertex-2023-10-16"}
        assert not any("model" in each for each in bodies)
        assert spent(made) == 3 * (20 * INPUT + 15 * OUTPUT)
