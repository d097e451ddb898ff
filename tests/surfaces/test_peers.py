"""The official SDKs reach every kind of provider, as others imitate it, with tools and streams."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.faults.worker import ONE_ATTEMPT
from tests.surfaces.conftest import Gateway
from tests.surfaces.nodejs import SOURCE, install_modules
from tests.surfaces.peers import CALLS, HELLO, TOKENS, Aimock

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]  # the first test installs the modules

# name, kind, path of the base URL, further settings, model
PEERS = [
    ("anthropic", "anthropic", "/v1", "", "claude-haiku-4-5"),
    ("gemini", "gemini", "/v1beta", "", "gemini-2.5-flash"),
    ("openai", "openai", "/v1", "", "gpt-4o-mini"),
    (
        "azure",
        "azure",
        "",
        'api_version = "2024-10-21"\ndeployments = {prod-mini = "gpt-4o-mini"}\n',
        "prod-mini",
    ),
    ("cohere", "cohere", "/v2", "", "command-a-03-2025"),
    ("bedrock", "bedrock", "", 'location = "us-east-1"\n', "anthropic.claude-haiku-4-5-20251001-v1:0"),
]
MODELS = [model for *_, model in PEERS]
EMBEDDERS = ["text-embedding-3-small"]  # of Gemini's it knows single texts, which we never send
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Tell",
            "parameters": {"type": "object", "properties": {member: {"type": "string"} for member in given}},
        },
    }
    for name, given in CALLS
]
HELLO_ASK: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Say hello"}]
TOOL_ASK: Any = [{"role": "user", "content": "Weather and time in NYC?"}]


@dataclass(frozen=True, slots=True)
class Rig:
    gateway: Gateway
    peer: Aimock
    sdk: openai.OpenAI

    def calls(self) -> list[dict[str, Any]]:
        return list(json.loads(self.gateway.command("usage", "--calls", "--json").stdout))


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("peers")
    peer = Aimock(folder)
    try:
        (folder / "headgate.toml").write_text(
            "".join(
                f'[[providers]]\nname = "{name}"\nkind = "{kind}"\nbase_url = "{peer.base}{path}"\n'
                f'api_key = "secret-of-{name}"\nmodels = ["{model.partition("-")[0]}*"]\n{more}'
                for name, kind, path, more, model in PEERS
            )
            + '[[models]]\nname = "text-embedding-3-small"\n'
            'targets = [{ provider = "openai", model = "text-embedding-3-small" }]\n' + ONE_ATTEMPT
        )
        gateway = Gateway(folder, "--config", "headgate.toml")
        try:
            with openai.OpenAI(base_url=gateway.base, api_key=gateway.key, max_retries=0) as sdk:
                yield Rig(gateway, peer, sdk)
            assert gateway.command("ledger", "check").returncode == 0
        finally:
            code, _, err = gateway.stop()
        assert (code, err) == (0, "")
    finally:
        peer.stop()


@pytest.mark.parametrize("model", MODELS)
def test_whole_and_streamed_say_and_cost_the_same(rig: Rig, model: str) -> None:
    raw = rig.sdk.chat.completions.with_raw_response.create(model=model, messages=HELLO_ASK, max_tokens=50)
    whole = raw.parse()
    assert whole.choices[0].message.content == HELLO
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == tuple(TOKENS.values())
    with rig.sdk.chat.completions.stream(
        model=model, messages=HELLO_ASK, max_tokens=50, stream_options={"include_usage": True}
    ) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.content == HELLO
    assert streamed.usage == whole.usage
    paid = [call for call in rig.calls() if call["model"] == model][-2:]
    assert raw.headers["x-request-id"] in {call["request_id"] for call in paid}
    assert len({call["cost_nano_usd"] for call in paid}) == 1
    assert not any(call["estimated"] for call in paid)
    assert paid[0]["cost_nano_usd"] > 0


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_parallel_tools_and_their_results(rig: Rig, model: str, streams: bool) -> None:
    if streams:
        with rig.sdk.chat.completions.stream(model=model, messages=TOOL_ASK, tools=TOOLS) as stream:
            choice: Any = stream.get_final_completion().choices[0]
    else:
        choice = rig.sdk.chat.completions.create(model=model, messages=TOOL_ASK, tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls"
    made = choice.message.tool_calls
    assert [(call.function.name, json.loads(call.function.arguments)) for call in made] == CALLS
    assert len({call.id for call in made}) == len(CALLS)
    said = choice.message.model_dump(exclude_none=True, exclude={"parsed"})
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in made]
    last = rig.sdk.chat.completions.create(model=model, messages=[*TOOL_ASK, said, *results], tools=TOOLS)
    assert last.choices[0].message.content == "It is sunny."


@pytest.mark.parametrize("model", MODELS)
def test_the_anthropic_sdk_reaches_it_too(rig: Rig, model: str) -> None:
    import anthropic  # for this test alone: it takes two seconds

    base = rig.gateway.base.removesuffix("/v1")
    tools: Any = [
        {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} for tool in TOOLS
    ]
    with anthropic.Anthropic(base_url=base, api_key=rig.gateway.key, max_retries=0) as sdk:
        with sdk.messages.stream(model=model, max_tokens=90, messages=TOOL_ASK, tools=tools) as stream:
            first = stream.get_final_message()
        used: Any = [block for block in first.content if block.type == "tool_use"]
        assert [(block.name, block.input) for block in used] == CALLS
        assert first.stop_reason == "tool_use"
        results: Any = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"} for block in used
        ]
        turns: Any = [
            *TOOL_ASK,
            {"role": "assistant", "content": [block.model_dump() for block in used]},
            {"role": "user", "content": results},
        ]
        last = sdk.messages.create(model=model, max_tokens=90, messages=turns, tools=tools)
    assert [block.text for block in last.content if block.type == "text"] == ["It is sunny."]


@pytest.mark.parametrize("model", MODELS)
def test_its_errors_are_openais(rig: Rig, model: str) -> None:
    with pytest.raises(openai.RateLimitError) as busy:
        rig.sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Be busy"}])
    assert busy.value.response.headers["retry-after"] == "1"
    with pytest.raises(openai.InternalServerError):
        rig.sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Fail"}])
    assert not any(call["cost_nano_usd"] for call in rig.calls() if call["status"] >= 400)


@pytest.mark.parametrize("model", EMBEDDERS)
def test_it_embeds(rig: Rig, model: str) -> None:
    made = rig.sdk.embeddings.create(model=model, input="embed me")
    assert made.data[0].embedding == pytest.approx([0.5, -0.25, 0.125])


def test_the_clients_in_javascript_reach_them_all(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(install_modules() / "node_modules", target_is_directory=True)
    shutil.copy(SOURCE / "peers" / "clients.mjs", tmp_path)
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "clients.mjs"],
        cwd=tmp_path,
        env={**rig.gateway.client_environment(), "MODELS": ",".join(MODELS)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"# pass {3 * len(MODELS)}" in done.stdout


def test_no_provider_saw_the_callers_key(rig: Rig) -> None:
    asked = rig.peer.asked()
    assert asked
    assert rig.gateway.key not in json.dumps(asked)
