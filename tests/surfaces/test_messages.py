"""The official Anthropic SDK reaches any model through a running gateway; books and limits hold as for any call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.answers import SSE, chunk, http_answer, http_head, json_answer
from tests.providers import claude_wire as wire
from tests.surfaces.conftest import Gateway
from tests.surfaces.test_claude import spent
from tests.upstream import ScriptedUpstream

if TYPE_CHECKING:
    import anthropic

HELLO: Any = [{"role": "user", "content": "Say pong"}]
ASK: Any = [{"role": "user", "content": "Weather in Paris?"}]
TOOLS: Any = [
    {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
]
THOUGHT = {"type": "thinking", "thinking": "Which city?", "signature": "EqoB=="}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
TEXT = {"type": "text", "text": "It is sunny in Paris."}


@pytest.fixture(autouse=True, scope="module")
def imported() -> None:
    """Import the SDK for these tests alone: it takes two seconds of every process that imports this file."""
    globals()["anthropic"] = import_module("anthropic")


def client(made: Gateway, key: str | None = None) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=made.base.removesuffix("/v1"), api_key=key or made.key, max_retries=0)


@pytest.fixture
def sdk(simulated: Gateway) -> Iterator[anthropic.Anthropic]:
    with client(simulated) as made:
        yield made


@contextmanager
def gateway(folder: Path, provider: str, upstream: ScriptedUpstream) -> Iterator[Gateway]:
    config = folder / "headgate.toml"
    config.write_text(
        f'[[providers]]\nname = "{provider}"\nbase_url = "{upstream.base_url}"\napi_key = "sk-1"\n'
    )
    made = Gateway(folder, "--config", str(config), "--cap", "5/day")
    try:
        yield made
        assert made.command("ledger", "check").returncode == 0
    finally:
        code, _, err = made.stop()
    assert (code, err) == (0, "")


# ── the simulator ───────────────────────────────────────────────────────────────────────────────


def test_a_message_and_a_stream_of_it_say_and_cost_the_same(sdk: anthropic.Anthropic) -> None:
    raw = sdk.messages.with_raw_response.create(model="gpt-4o-mini", max_tokens=50, messages=HELLO)
    whole = raw.parse()
    assert isinstance(whole.content[0], anthropic.types.TextBlock)
    assert "pong" in whole.content[0].text.lower()
    assert (whole.stop_reason, whole.model) == ("end_turn", "gpt-4o-mini")
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
    assert float(raw.headers["x-headgate-cost"]) > 0
    with sdk.messages.stream(model="gpt-4o-mini", max_tokens=50, messages=HELLO) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == whole.content[0].text  # type: ignore[union-attr]
    assert (final.usage.input_tokens, final.usage.output_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )


def test_tokens_are_counted_and_nothing_is_asked(sdk: anthropic.Anthropic) -> None:
    counted = sdk.messages.count_tokens(model="gpt-4o-mini", messages=HELLO)
    asked = sdk.messages.create(model="gpt-4o-mini", max_tokens=50, messages=HELLO)
    assert counted.input_tokens == asked.usage.input_tokens
    with pytest.raises(anthropic.NotFoundError):
        sdk.messages.count_tokens(model="gpt-4oo", messages=HELLO)


def test_errors_are_the_sdks_own(simulated: Gateway, sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        sdk.messages.create(model="gpt-4oo", max_tokens=5, messages=HELLO)
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index,call-overload]
    assert str(missing.value.request_id).startswith("req_")
    with pytest.raises(anthropic.AuthenticationError):
        client(simulated, "sk-ant-x").messages.create(model="gpt-4o", max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="Extra inputs are not permitted"):
        sdk.messages.create(model="gpt-4o", max_tokens=5, messages=HELLO, extra_body={"foo": 1})
    with pytest.raises(anthropic.RateLimitError):
        sdk.messages.create(model="sim-429", max_tokens=5, messages=HELLO)


def test_a_key_in_either_header_is_known(simulated: Gateway) -> None:
    for headers in ({"x-api-key": simulated.key}, {"authorization": f"Bearer {simulated.key}"}):
        sdk = anthropic.Anthropic(
            base_url=simulated.base.removesuffix("/v1"), api_key=simulated.key, default_headers=headers
        )
        assert sdk.messages.create(model="gpt-4o-mini", max_tokens=9, messages=HELLO).content


# ── a provider of OpenAI's wire ─────────────────────────────────────────────────────────────────


def openai_stream() -> bytes:
    function = {"name": "weather", "arguments": ""}
    start = {"index": 0, "id": "call_1", "type": "function", "function": function}
    rest = {"index": 0, "function": {"arguments": '{"city":"Paris"}'}}
    usage = {"prompt_tokens": 20, "completion_tokens": 15, "total_tokens": 35}
    payloads: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in (
            ({"role": "assistant", "content": None}, None),
            ({"tool_calls": [start]}, None),
            ({"tool_calls": [rest]}, None),
            ({}, "tool_calls"),
        )
    ]
    payloads.append({"choices": [], "usage": usage})
    frames = b"".join(b"data: %b\n\n" % json.dumps(each | {"model": "gpt-4o"}).encode() for each in payloads)
    return http_answer(frames + b"data: [DONE]\n\n", headers=SSE)


def test_a_tool_loop_on_a_model_of_openais(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": TEXT["text"], "refusal": None}
    whole = json_answer(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 15, "total_tokens": 35},
        }
    )
    with (
        ScriptedUpstream(openai_stream(), whole) as upstream,
        gateway(tmp_path, "openai", upstream) as made,
        client(made) as sdk,
    ):
        with sdk.messages.stream(model="gpt-4o", max_tokens=100, messages=ASK, tools=TOOLS) as stream:
            first = stream.get_final_message()
        assert first.stop_reason == "tool_use"
        (use,) = first.content
        assert isinstance(use, anthropic.types.ToolUseBlock)
        assert (use.name, use.input) == ("weather", {"city": "Paris"})
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
        loop = [*ASK, first.to_param(), {"role": "user", "content": [result]}]
        second = sdk.messages.create(model="gpt-4o", max_tokens=100, messages=loop, tools=TOOLS)
        assert second.content[0].text == TEXT["text"]  # type: ignore[union-attr]
        sent = upstream.requests[1].json()
        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
        assert sent["messages"][2]["tool_call_id"] == sent["messages"][1]["tool_calls"][0]["id"] == "call_1"
        assert spent(made) == 2 * (20 * 2_500 + 15 * 10_000)


# ── a provider of Anthropic's wire ──────────────────────────────────────────────────────────────


def test_a_tool_loop_on_claude_passes_as_it_is(tmp_path: Path) -> None:
    answers = [
        http_answer(wire.stream(THOUGHT, USE, stop="tool_use"), headers=SSE),
        http_answer(wire.message(TEXT), headers=[("content-type", "application/json")]),
    ]
    with (
        ScriptedUpstream(*answers) as upstream,
        gateway(tmp_path, "anthropic", upstream) as made,
        client(made) as sdk,
    ):
        asked: Any = {
            "model": "claude-haiku-4-5",
            "max_tokens": 100,
            "tools": TOOLS,
            "thinking": {"type": "adaptive"},
        }
        with sdk.messages.stream(**asked, messages=ASK) as stream:
            first = stream.get_final_message()
        assert [block.type for block in first.content] == ["thinking", "tool_use"]
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
        loop = [*ASK, first.to_param(), {"role": "user", "content": [result]}]
        second = sdk.messages.create(**asked, messages=loop)
        assert second.content[0].text == TEXT["text"]  # type: ignore[union-attr]
        sent = upstream.requests[1].json()
        kept = sent["messages"][1]["content"]
        assert [block["type"] for block in kept] == ["thinking", "tool_use"]
        assert kept[0].items() >= THOUGHT.items()
        assert sent["thinking"] == {"type": "adaptive"}
        headers = dict(upstream.requests[1].headers)
        assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-1", "2026-10-21")
        assert spent(made) == 2 * (20 * 1_000 + 15 * 5_000)


def test_a_stream_that_breaks_off_ends_in_an_error_of_anthropics(tmp_path: Path) -> None:
    data = wire.stream(TEXT)
    part = [http_head(200, SSE), chunk(data[: data.index(b"event: message_delta")]), chunk(b"")]
    with (
        ScriptedUpstream(part) as upstream,
        gateway(tmp_path, "anthropic", upstream) as made,
        client(made) as sdk,
    ):
        with pytest.raises(anthropic.APIStatusError) as caught:
            list(sdk.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=ASK, stream=True))
        assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index,call-overload]
