"""Structured output conforms to its schema, and its values come from the prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.simulator.schema_check import problems
from tests.simulator.sim_upstream import Upstream

from headgate.transport.simulator.facts import Facts
from headgate.transport.simulator.patterns import sample
from headgate.transport.simulator.schemas import Filler

pytestmark = pytest.mark.anyio

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}


def record(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def listing(item: Any, **rules: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, **rules}


async def shaped(upstream: Upstream, prompt: str, schema: Any) -> Any:
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}
    content = await upstream.say(prompt, response_format=wanted)
    value = json.loads(content)
    assert problems(value, schema) == []
    return value


PEOPLE = {"$defs": {"P": record(name=TEXT, age=WHOLE)}, **record(people=listing({"$ref": "#/$defs/P"}))}
READ = [
    (
        "Alice is 30 and Bob Smith is 25.",
        PEOPLE,
        {"people": [{"name": "Alice", "age": 30}, {"name": "Bob Smith", "age": 25}]},
    ),
    (
        "张三今年25岁，李四今年30岁",
        PEOPLE,
        {"people": [{"name": "张三", "age": 25}, {"name": "李四", "age": 30}]},
    ),
    (
        "我叫王小明，今年28岁，邮箱是 wang@example.com，住在杭州",
        record(name=TEXT, age=WHOLE, email={"type": "string", "format": "email"}, city=TEXT),
        {"name": "王小明", "age": 28, "email": "wang@example.com", "city": "杭州"},
    ),
    (
        "名字：赵敏，年龄：33，城市：西安",
        record(姓名=TEXT, 年龄=WHOLE, 城市=TEXT),
        {"姓名": "赵敏", "年龄": 33, "城市": "西安"},
    ),
    (
        "Order 3 apples at $1.50 each for John Doe, phone +1 555-123-4567, on March 5, 2026",
        record(
            customer=TEXT,
            quantity=WHOLE,
            price={"type": "number"},
            phone=TEXT,
            date={"type": "string", "format": "date"},
        ),
        {
            "customer": "John Doe",
            "quantity": 3,
            "price": 1.5,
            "phone": "+1 555-123-4567",
            "date": "2026-03-05",
        },
    ),
    (
        "Alice and Bob are going to a science fair on Friday.",
        record(date=TEXT, participants=listing(TEXT)),
        {"date": "Friday", "participants": ["Alice", "Bob"]},
    ),
    (
        "This phone is terrible",
        record(mood={"enum": ["positive", "negative", "neutral"]}),
        {"mood": "negative"},
    ),
    ("这个产品很好，我很喜欢", record(mood={"enum": ["negative", "positive"]}), {"mood": "positive"}),
    ("I want it in blue", record(color={"type": "string", "enum": ["red", "blue"]}), {"color": "blue"}),
    ("colors: red, green and blue", record(colors=listing(TEXT)), {"colors": ["red", "green", "blue"]}),
    (
        "code AB1234 please",
        record(code={"type": "string", "pattern": r"^[A-Z]{2}\d{4}$"}),
        {"code": "AB1234"},
    ),
    ("2026年3月5日下午3点开会", record(date={"type": "string", "format": "date"}), {"date": "2026-03-05"}),
    (
        "The task is urgent",
        record(is_urgent={"type": "boolean"}, is_done={"type": "boolean"}),
        {"is_urgent": True, "is_done": False},
    ),
    (
        "My name is Ann",
        record(name=TEXT, email={"anyOf": [TEXT, {"type": "null"}]}),
        {"name": "Ann", "email": None},
    ),
    (
        "My name is Ann",
        record(name={"type": ["string", "null"]}, age={"type": ["integer", "null"]}),
        {"name": "Ann", "age": None},
    ),
]


@pytest.mark.parametrize(("prompt", "schema", "value"), READ, ids=[row[0] for row in READ])
async def test_values_come_from_the_prompt(upstream: Upstream, prompt: str, schema: Any, value: Any) -> None:
    assert await shaped(upstream, prompt, schema) == value


SHAPES = [
    record(n={"type": "integer", "minimum": 10, "maximum": 12}),
    record(n={"type": "integer", "exclusiveMinimum": 10, "exclusiveMaximum": 12}),
    record(n={"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}),
    record(n={"type": "number", "multipleOf": 0.25, "minimum": 3.1}),
    record(n={"type": "integer", "multipleOf": 7, "minimum": 30}),
    record(s={"type": "string", "minLength": 50}, t={"type": "string", "maxLength": 3}),
    record(
        **{
            name.replace("-", "_"): {"type": "string", "format": name}
            for name in ("uuid", "date", "date-time", "time", "email", "uri", "ipv4", "hostname")
        }
    ),
    record(a=listing(TEXT, minItems=3, maxItems=4), b=listing(WHOLE, minItems=5, uniqueItems=True)),
    record(a=listing({"enum": ["x", "y", "z"]}, minItems=3, uniqueItems=True)),
    record(a={"type": "array", "prefixItems": [TEXT, WHOLE], "items": False}),
    {
        "$defs": {
            "N": record(
                v=WHOLE,
                next={"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]},
                kids=listing({"$ref": "#/$defs/N"}),
            )
        },
        "$ref": "#/$defs/N",
    },
    {
        "allOf": [
            record(a=TEXT) | {"additionalProperties": True},
            {"type": "object", "properties": {"b": WHOLE}, "required": ["b"]},
        ]
    },
    record(
        shape={
            "oneOf": [record(kind={"const": "circle"}, r=WHOLE), record(kind={"const": "square"}, side=WHOLE)]
        }
    ),
    {"type": "object", "additionalProperties": WHOLE, "minProperties": 3},
    {"type": "object", "required": ["free"]},
    {"type": "object"},
    record(deep=record(deeper=record(deepest=record(end=listing(listing(TEXT, minItems=1), minItems=2))))),
    record(
        p={"type": "string", "pattern": r"^\+?[1-9]\d{1,14}$"},
        q={"type": "string", "pattern": "^[a-z]+$", "minLength": 8},
    ),
    record(
        p={"type": "string", "pattern": r"^(foo|bar)-\w{3}\.(jpg|png)$"},
        q={"type": "string", "pattern": r"^[\u4e00-\u9fa5]{2,4}$"},
    ),
    record(none={"type": "null"}, const={"const": 5}, mixed={"enum": [1, "a", None]}),
]


@pytest.mark.parametrize("schema", SHAPES, ids=lambda schema: json.dumps(schema)[:60])
@pytest.mark.parametrize(
    "prompt", ["hello", "The square has sides of 12 and 7.5 for Bob", "请给我 3 个北京的例子"]
)
async def test_any_schema_is_conformed_to(upstream: Upstream, schema: Any, prompt: str) -> None:
    await shaped(upstream, prompt, schema)


async def test_a_branch_that_the_prompt_names_is_taken(upstream: Upstream) -> None:
    either = SHAPES[12]
    value = await shaped(upstream, "a square with side 4", either)
    assert value == {"shape": {"kind": "square", "side": 4}}


def bounded(low: str, high: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(values, values).map(lambda pair: {low: min(pair), high: max(pair)})


def schemas() -> st.SearchStrategy[Any]:
    whole = st.integers(-50, 50)
    leaves = st.one_of(
        st.builds(lambda rules: {"type": "integer", **rules}, bounded("minimum", "maximum", whole)),
        st.builds(lambda rules: {"type": "number", **rules}, bounded("minimum", "maximum", st.floats(-9, 9))),
        st.builds(
            lambda rules: {"type": "string", **rules}, bounded("minLength", "maxLength", st.integers(0, 40))
        ),
        st.sampled_from(
            [{"type": "boolean"}, {"type": "null"}, {"const": "k"}, {"type": ["string", "null"]}]
        ),
        st.lists(st.text(max_size=5), min_size=1, max_size=4).map(lambda values: {"enum": values}),
    )
    names = st.sampled_from(
        ["name", "age", "city", "email", "tags", "date", "total", "isOpen", "姓名", "value", "items"]
    )

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            st.dictionaries(names, inner, max_size=4).flatmap(
                lambda members: st.sets(st.sampled_from([*members] or ["name"])).map(
                    lambda required: {
                        "type": "object",
                        "properties": members,
                        "required": sorted(required & set(members)),
                        "additionalProperties": False,
                    }
                )
            ),
            st.builds(
                lambda item, rules: {"type": "array", "items": item, **rules},
                inner,
                bounded("minItems", "maxItems", st.integers(0, 4)),
            ),
            st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        )

    return st.recursive(leaves, grow, max_leaves=12)


PROMPTS = [
    "",
    "Bob is 41 and lives in Rome, bob@example.com",
    "张三25岁，北京，总计 99.5 元",
    "tags: a, b and c; 1, 2, 3",
]


@settings(max_examples=150, deadline=None)
@given(schema=schemas(), prompt=st.sampled_from(PROMPTS), eager=st.booleans())
def test_random_schemas_are_conformed_to(schema: Any, prompt: str, eager: bool) -> None:
    value = Filler(schema, Facts(prompt), "en", eager=eager, about=prompt).fill()
    assert problems(value, schema) == []


async def test_a_schema_without_end_is_refused_and_not_followed(upstream: Upstream) -> None:
    loop = {"$defs": {"N": record(a={"$ref": "#/$defs/N"}, b={"$ref": "#/$defs/N"})}, "$ref": "#/$defs/N"}
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": loop}}
    seen = await upstream.chat("hello", response_format=wanted)
    assert (seen.status, seen.json["error"]["code"]) == (400, "invalid_value")
    selfish = {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}
    assert Filler(selfish, Facts(""), "en", eager=True, about="").fill() is not None


def test_patterns_that_are_not_understood_give_nothing() -> None:
    assert sample(r"^(?!x)a$") is None
    assert sample(r"(a)\1") is None
    assert sample("(" * 50 + "a" + ")" * 50) is None
    assert sample("a{5000}") is None


async def test_a_schema_may_use_what_a_tool_said(upstream: Upstream) -> None:
    messages = [
        {"role": "user", "content": "weather in Paris"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "w", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": '{"temperature": 22}'},
    ]
    schema = record(city=TEXT, temperature=WHOLE)
    wanted = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    content = await upstream.say("", messages=messages, response_format=wanted)
    assert json.loads(content) == {"city": "Paris", "temperature": 22}


JSON_MODE = [
    ("Return JSON with name and age: Alice is 30", {"name": "Alice", "age": 30}),
    ("返回JSON，字段：姓名、年龄。张三今年25岁", {"姓名": "张三", "年龄": 25}),
    ("用json返回，包含name和age两个字段：李雷 20 岁", {"name": "李雷", "age": 20}),
    ('Respond as {"title": "...", "year": 0}: "Dune" was published in 1965', {"title": "Dune", "year": 1965}),
    ("What is 2+2? Answer in JSON", {"answer": 4}),
    ("count to 3 in JSON", {"answer": [1, 2, 3]}),
    (
        "Extract as JSON: Bob lives in London, bob@x.com",
        {"name": "Bob", "email": "bob@x.com", "city": "London"},
    ),
    ("请提取姓名和邮箱：王芳 wang@a.cn", {"姓名": "王芳", "邮箱": "wang@a.cn"}),
]


@pytest.mark.parametrize(("prompt", "value"), JSON_MODE)
async def test_json_mode_answers_with_an_object_about_the_prompt(
    upstream: Upstream, prompt: str, value: Any
) -> None:
    assert json.loads(await upstream.say(prompt, response_format={"type": "json_object"})) == value


async def test_json_mode_says_in_json_what_it_cannot_do(upstream: Upstream) -> None:
    content = await upstream.say("Tell me a joke in JSON", response_format={"type": "json_object"})
    assert "OPENAI_API_KEY" in json.loads(content)["message"]


async def test_chinese_is_never_escaped(upstream: Upstream) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "p", "schema": record(name=TEXT)}}
    seen = await upstream.chat("张三今年25岁", response_format=schema)
    assert "张三".encode() in seen.body
    assert b"\\u" not in seen.body
    stream = await upstream.chat("张三今年25岁", response_format=schema, stream=True)
    assert b"\\u" not in stream.body
