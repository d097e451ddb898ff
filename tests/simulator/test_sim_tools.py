"""Tools are called when the prompt is for them, with arguments that the prompt gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.simulator.schema_check import problems
from tests.simulator.sim_upstream import Upstream

pytestmark = pytest.mark.anyio


def tool(
    name: str, description: str = "", required: list[str] | None = None, **members: Any
) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": members,
        "required": [*members] if required is None else required,
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


TEXT = {"type": "string"}
UNIT = {"type": "string", "enum": ["celsius", "fahrenheit"]}
WEATHER = tool("get_weather", "Get the current weather", ["city"], city=TEXT, unit=UNIT)
MAIL = tool("send_email", "Send an email", ["to", "body"], to=TEXT, body=TEXT)
ADD = tool("add", "", a={"type": "number"}, b={"type": "number"})
FLIGHT = tool(
    "book_flight", "Book a flight", origin=TEXT, destination=TEXT, date={"type": "string", "format": "date"}
)
PARCEL = tool("kuaidi", "查询快递物流信息", number={"type": "string", "description": "快递单号"})
ALL = [WEATHER, MAIL, ADD, FLIGHT, PARCEL]

CALLED = [
    ("weather in Paris", [("get_weather", {"city": "Paris"})]),
    ("What's the weather like in san francisco?", [("get_weather", {"city": "San Francisco"})]),
    ("北京天气", [("get_weather", {"city": "北京"})]),
    ("齐齐哈尔今天的天气怎么样？", [("get_weather", {"city": "齐齐哈尔"})]),
    ("上海和北京的天气怎么样", [("get_weather", {"city": "上海"}), ("get_weather", {"city": "北京"})]),
    (
        "Weather in Paris, London and Tokyo in celsius?",
        [("get_weather", {"city": city, "unit": "celsius"}) for city in ("Paris", "London", "Tokyo")],
    ),
    (
        'Send an email to bob@x.com saying "hi there"',
        [("send_email", {"to": "bob@x.com", "body": "hi there"})],
    ),
    ("add 3 and 4", [("add", {"a": 3, "b": 4})]),
    ("What is 3.5 + 4?", [("add", {"a": 3.5, "b": 4})]),
    (
        "Book a flight from London to New York on March 5, 2026",
        [("book_flight", {"origin": "London", "destination": "New York", "date": "2026-03-05"})],
    ),
    ("查一下快递 SF123456 到哪了", [("kuaidi", {"number": "SF123456"})]),
]


@pytest.mark.parametrize(("prompt", "calls"), CALLED)
async def test_the_right_tool_is_called_with_what_the_prompt_says(
    upstream: Upstream, prompt: str, calls: list[tuple[str, Any]]
) -> None:
    assert await upstream.calls(prompt, ALL) == calls


async def test_a_call_is_the_whole_message(upstream: Upstream) -> None:
    choice = (await upstream.chat("weather in Paris", tools=ALL)).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert call["type"] == "function"


async def test_a_prompt_that_is_for_no_tool_is_answered_in_words(upstream: Upstream) -> None:
    for prompt in ("hello", "say pong", "Tell me a joke", "你好"):
        assert await upstream.calls(prompt, ALL) == []
        assert await upstream.say(prompt, tools=ALL)


async def test_the_choice_of_the_caller_is_kept(upstream: Upstream) -> None:
    named = {"type": "function", "function": {"name": "add"}}
    assert [name for name, _ in await upstream.calls("weather in Paris", ALL, tool_choice=named)] == ["add"]
    assert await upstream.calls("weather in Paris", ALL, tool_choice="none") == []
    (forced,) = await upstream.calls("hello", [WEATHER], tool_choice="required")
    assert problems(forced[1], WEATHER["function"]["parameters"]) == []
    only = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [MAIL]}}
    assert [name for name, _ in await upstream.calls("weather in Paris", ALL, tool_choice=only)] == [
        "send_email"
    ]


async def test_calls_come_one_by_one_where_parallel_calls_are_off(upstream: Upstream) -> None:
    calls = await upstream.calls("weather in Paris and Rome", ALL, parallel_tool_calls=False)
    assert calls == [("get_weather", {"city": "Paris"})]


async def test_strict_arguments_conform_also_where_the_prompt_says_nothing(upstream: Upstream) -> None:
    item = {"type": "object", "properties": {"sku": TEXT, "count": {"type": "integer", "minimum": 1}}}
    item |= {"required": ["sku", "count"], "additionalProperties": False}
    order = tool(
        "order",
        "Place an order",
        items={"type": "array", "items": item, "minItems": 1},
        note={"type": ["string", "null"]},
    )
    for prompt in ("order something", "order 5 of A-100 and 6 of B-200", "下订单"):
        for _, arguments in await upstream.calls(prompt, [order], tool_choice="required"):
            assert problems(arguments, order["function"]["parameters"]) == []


async def test_a_tool_without_parameters_gets_an_empty_object(upstream: Upstream) -> None:
    bare = {"type": "function", "function": {"name": "get_time", "description": "Tell the time"}}
    assert await upstream.calls("what time is it", [bare]) == [("get_time", {})]


async def test_a_custom_tool_gets_free_text(upstream: Upstream) -> None:
    code = {"type": "custom", "custom": {"name": "run_code", "description": "Runs python"}}
    message = (await upstream.chat("run print('hi')", tools=[code], tool_choice="required")).json["choices"][
        0
    ]["message"]
    (call,) = message["tool_calls"]
    assert (call["type"], call["custom"]) == ("custom", {"name": "run_code", "input": "print('hi')"})


async def test_a_tools_result_is_told_in_words(upstream: Upstream) -> None:
    def after(prompt: str, *results: str) -> list[dict[str, Any]]:
        ids = [f"call_{n}" for n in range(len(results))]
        made = [
            {"id": i, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}} for i in ids
        ]
        said = [
            {"role": "tool", "tool_call_id": i, "content": text} for i, text in zip(ids, results, strict=True)
        ]
        return [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": None, "tool_calls": made},
            *said,
        ]

    result = json.dumps({"city": "Paris", "temp_c": 22, "sky": ["sunny", "dry"]})
    answer = await upstream.say("", messages=after("weather in Paris", result), tools=ALL)
    assert answer == "get_weather returned: city: Paris, temp c: 22, sky: sunny, dry."
    answer = await upstream.say("", messages=after("北京天气", "晴，22度"), tools=ALL)
    assert answer == "get_weather 的结果：晴，22度。"
    answer = await upstream.say("", messages=after("weather in Paris and Rome", "sunny", "rain"), tools=ALL)
    assert answer == "get_weather returned: sunny. get_weather returned: rain."


async def test_arguments_stream_in_pieces_that_make_json(upstream: Upstream) -> None:
    chunks = (await upstream.chat("北京天气", tools=ALL, stream=True)).chunks
    parts = [call for c in chunks for call in c["choices"][0]["delta"].get("tool_calls", [])]
    assert json.loads("".join(part["function"].get("arguments", "") for part in parts)) == {"city": "北京"}
    assert len(parts) > 2
