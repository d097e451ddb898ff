"""Requests of every kind that OpenAI documents for the operations we serve: name -> (body, what we change).

A change is laid over the body to give what must reach the provider; None takes a member away.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Body: TypeAlias = dict[str, Any]
Case: TypeAlias = tuple[Body, Body]

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # fmt: skip
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "城市"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "Get the weather of a city", "parameters": CITY}
TOOL = {"type": "function", "function": {**WEATHER, "strict": True}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
CALLED = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'},
}
COUNTED = {"stream_options": {"include_usage": True}}  # asked for by us, so that a stream can be charged


def _turn(role: str, content: Any, **more: Any) -> Body:
    return {"role": role, "content": content, **more}


def _chat(*turns: Body, **members: Any) -> Body:
    return {"model": "gpt-4o", "messages": list(turns) or [_turn("user", "Say hello")], **members}


def _parts(*parts: Body) -> Body:
    return _turn("user", [{"type": "text", "text": "What is this?"}, *parts])


CHAT: dict[str, Case] = {
    "plain": (_chat(), {}),
    "chinese, emoji and controls": (_chat(_turn("user", '你好 👩‍👩‍👧 "quoted" \\ \n\t\u2028\x7f')), {}),
    "sampling": (
        _chat(temperature=0, top_p=0.5, frequency_penalty=-2, presence_penalty=2, seed=7, user="u-1"),
        {},
    ),
    "nothing but null": (
        _chat(temperature=None, n=None, stop=None, seed=None, max_completion_tokens=None),
        {},
    ),
    "several answers": (_chat(n=3), {}),
    "one stop": (_chat(stop="\n"), {}),
    "four stops": (_chat(stop=["a", "b", "。", "END"]), {}),
    "logprobs": (_chat(logprobs=True, top_logprobs=20), {}),
    "logit bias": (_chat(logit_bias={"50256": -100, "1": 100}), {}),
    "a limit": (_chat(max_tokens=50), {}),
    "a limit by its new name": (_chat(max_completion_tokens=50), {}),
    "a limit for gpt-5": (
        _chat(model="gpt-5", max_tokens=50),
        {"max_tokens": None, "max_completion_tokens": 50},
    ),
    "reasoning": (_chat(model="gpt-5", reasoning_effort="minimal", verbosity="low"), {}),
    "developer": (_chat(_turn("developer", "Be brief."), _turn("user", "Hi", name="ada")), {}),
    "a conversation": (
        _chat(
            _turn("system", [{"type": "text", "text": "Be brief."}], name="boss"),
            _turn("user", "Hi"),
            _turn("assistant", "Hello."),
            _turn("assistant", None, refusal="No."),
            _turn("user", "Why?"),
        ),
        {},
    ),
    "a tool": (_chat(tools=[TOOL], tool_choice="auto", parallel_tool_calls=False), {}),
    "a required tool": (_chat(tools=[TOOL], tool_choice="required"), {}),
    "a named tool": (_chat(tools=[TOOL], tool_choice=NAMED), {}),
    "a tool of free text": (
        _chat(
            model="gpt-5",
            tools=[{"type": "custom", "custom": {"name": "code", "format": {"type": "text"}}}],
            tool_choice={"type": "custom", "custom": {"name": "code"}},
        ),
        {},
    ),
    "a tool's answer": (
        _chat(
            _turn("user", "Weather in Paris?"),
            {"role": "assistant", "tool_calls": [CALLED]},
            _turn("tool", '{"celsius":21}', tool_call_id="call_1"),
            tools=[TOOL],
        ),
        {},
    ),
    "a function of old": (
        _chat(
            _turn("user", "Weather in Paris?"),
            _turn("assistant", None, function_call=CALLED["function"]),
            _turn("function", "21", name="get_weather"),
            functions=[WEATHER],
            function_call={"name": "get_weather"},
        ),
        {},
    ),
    "text": (_chat(response_format={"type": "text"}), {}),
    "json": (_chat(_turn("user", "Answer in JSON"), response_format={"type": "json_object"}), {}),
    "json by schema": (
        _chat(
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "place", "description": "A city", "schema": CITY, "strict": True},
            }
        ),
        {},
    ),
    "metadata": (_chat(metadata={"job": "7", "团队": "甲"}, store=True), {}),
    "an image by address": (
        _chat(
            _parts({"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}})
        ),
        {},
    ),
    "an image in the request": (_chat(_parts({"type": "image_url", "image_url": {"url": PIXEL}})), {}),
    "a file": (
        _chat(
            _parts(
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                }
            )
        ),
        {},
    ),
    "a prediction": (_chat(model="gpt-4o", prediction={"type": "content", "content": "hello"}), {}),
    "tier, cache and safety": (
        _chat(service_tier="default", prompt_cache_key="k", safety_identifier="s", modalities=["text"]),
        {},
    ),
    "a stream": (_chat(stream=True), COUNTED),
    "a stream, not one": (_chat(stream=False), {}),
    "a stream and its usage": (_chat(stream=True, **COUNTED), COUNTED),
    "a stream, its usage unasked": (_chat(stream=True, stream_options={"include_usage": False}), COUNTED),
    "a stream without padding": (
        _chat(stream=True, stream_options={"include_obfuscation": False}),
        {"stream_options": {"include_obfuscation": False, "include_usage": True}},
    ),
    "a stream of several": (_chat(stream=True, n=2, logprobs=True), COUNTED),
    "a stream of tools": (_chat(stream=True, tools=[TOOL]), COUNTED),
    "a stream of gpt-5": (
        _chat(model="gpt-5", stream=True, max_tokens=50),
        {"max_tokens": None, "max_completion_tokens": 50, **COUNTED},
    ),
}


def _complete(prompt: Any = "Say hello", **members: Any) -> Body:
    return {"model": "gpt-3.5-turbo-instruct", "prompt": prompt, **members}


COMPLETIONS: dict[str, Case] = {
    "a text": (_complete(), {}),
    "texts": (_complete(["a", "b"], max_tokens=5), {}),
    "tokens": (_complete([1212, 318]), {}),
    "lists of tokens": (_complete([[1212], [318, 257]]), {}),
    "every member": (
        _complete(
            best_of=2, n=1, echo=True, logprobs=5, suffix=".", stop=["\n"], seed=1, temperature=0, top_p=1,
            frequency_penalty=0, presence_penalty=0, logit_bias={"1": 1}, max_tokens=9, user="u",
        ),
        {},
    ),
    "a stream": (_complete(stream=True), COUNTED),
}  # fmt: skip


def _embed(value: Any, **members: Any) -> Body:
    return {"model": "text-embedding-3-small", "input": value, **members}


EMBEDDINGS: dict[str, Case] = {
    "a text": (_embed("hello"), {}),
    "texts": (_embed(["hello", "世界"]), {}),
    "tokens": (_embed([15339, 1917]), {}),
    "lists of tokens": (_embed([[15339], [1917]]), {}),
    "numbers": (_embed("hello", encoding_format="float", dimensions=256, user="u"), {}),
    "base64": (_embed("hello", encoding_format="base64"), {}),
}

CASES: dict[str, tuple[str, Body, Body]] = {
    f"{operation}: {name}": (path, body, change)
    for operation, path, cases in (
        ("chat", "/chat/completions", CHAT),
        ("completions", "/completions", COMPLETIONS),
        ("embeddings", "/embeddings", EMBEDDINGS),
    )
    for name, (body, change) in cases.items()
}


def forwarded(body: Body, change: Body) -> Body:
    """Return what must reach the provider."""
    return {
        name: value for name, value in {**body, **change}.items() if name not in change or value is not None
    }
