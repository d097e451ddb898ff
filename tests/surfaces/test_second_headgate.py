"""A Headgate is a provider like any other for another one: same answers, same tokens, same money."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from tests.faults.worker import ONE_ATTEMPT
from tests.surfaces.conftest import Gateway

ASK: Any = [{"role": "user", "content": "Count from 1 to 12"}]
SAME = ("model", "input_tokens", "output_tokens", "cost_nano_usd", "status", "estimated")
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


@dataclass(frozen=True, slots=True)
class Pair:
    """`outer` has `inner` for its only provider."""

    outer: Gateway
    inner: Gateway

    def client(self, gateway: Gateway) -> openai.OpenAI:
        return openai.OpenAI(base_url=gateway.base, api_key=gateway.key, max_retries=0)

    def last(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What both have booked of the last call."""
        found = [
            json.loads(each.command("usage", "--calls", "--json").stdout) for each in (self.outer, self.inner)
        ]
        return found[0][-1], found[1][-1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("second")
    inner = Gateway(folder / "inner")
    config = folder / "headgate.toml"
    config.write_text(
        f'[[providers]]\nname = "openai"\nkind = "headgate"\nbase_url = "{inner.base}"\napi_key = "env:INNER"\n'
        'models = ["*"]\n' + ONE_ATTEMPT
    )
    outer = Gateway(folder / "outer", "--config", str(config), INNER=inner.key)
    yield Pair(outer, inner)
    for each in (outer, inner):
        assert each.command("ledger", "check").returncode == 0
        code, _, err = each.stop()
        assert code == 0
        assert {json.loads(line)["level"] for line in err.splitlines()} <= {
            "info"
        }  # the id of each other's calls


def test_chat_whole_and_streamed(pair: Pair) -> None:
    with pair.client(pair.outer) as sdk, pair.client(pair.inner) as direct:
        through = sdk.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        outer, inner = pair.last()
        assert [outer[name] for name in SAME] == [inner[name] for name in SAME]
        assert outer["cost_nano_usd"] > 0
        with sdk.chat.completions.stream(
            model="gpt-4o-mini", messages=ASK, stream_options={"include_usage": True}
        ) as stream:
            streamed = stream.get_final_completion()
        assert pair.last()[0]["cost_nano_usd"] == outer["cost_nano_usd"]
        near = direct.chat.completions.create(model="gpt-4o-mini", messages=ASK)
        assert near.choices == through.choices
        assert near.usage == through.usage == streamed.usage
        assert near.choices[0].message.content == streamed.choices[0].message.content


def test_tools_and_embeddings(pair: Pair) -> None:
    with pair.client(pair.outer) as sdk:
        asked: Any = [{"role": "user", "content": "Weather in Oslo?"}]
        made = sdk.chat.completions.create(
            model="gpt-4o-mini", messages=asked, tools=TOOLS, tool_choice="required"
        )
        calls: Any = made.choices[0].message.tool_calls
        assert json.loads(calls[0].function.arguments).keys() == {"city"}
        both = [sdk.embeddings.create(model="text-embedding-3-small", input=["a", "b"]) for _ in range(2)]
        assert both[0].data == both[1].data
        assert len(both[0].data[0].embedding) == 1536


def test_its_refusals_are_told(pair: Pair) -> None:
    with pair.client(pair.outer) as sdk:
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.chat.completions.create(model="gpt-4o-mini", messages=ASK, temperature=9)
        assert refused.value.param == "temperature"
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.create(model="nobody-has-this", messages=ASK)
        with pytest.raises(openai.RateLimitError) as busy:
            sdk.chat.completions.create(model="sim-429", messages=ASK)
        assert busy.value.code == "rate_limit_exceeded"
