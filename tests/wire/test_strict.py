"""What only hosts that take exactly OpenAI's API refuse: sentences and paths as OpenAI gives them."""

import re

import msgspec
import pytest

from headgate.errors import CallerError
from headgate.http.parse import parse
from headgate.money.catalogue import Catalogue
from headgate.providers.registry import CODECS
from headgate.values import Call, Host, Model, Operation, Target

TEXT = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ],
}
FIRST = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
SECOND = {"role": "tool", "tool_call_id": "call_2", "content": "rainy"}


def sent(extras: str, **members: object) -> bytes:
    call = Call(bytes(16), "chat", 0)
    parse(msgspec.json.encode({"model": "m", "messages": TEXT} | members), call)
    host = Host(name="h", base_url="http://h", extras=extras)  # type: ignore[arg-type]
    return CODECS["openai"]["chat"].encode(call, Target(host=host, model=Model(name="m"), prices=None)).body


def parts(*content: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(content)}]}


TABLE = [
    ({"foo": 1}, "unknown_parameter", "foo", "Unknown parameter: 'foo'."),
    (
        {"stream": True, "stream_options": {"bogus": 1}},
        "unknown_parameter",
        "stream_options.bogus",
        "Unknown parameter: 'stream_options.bogus'.",
    ),
    (
        {"max_tokens": 5, "max_completion_tokens": 5},
        "invalid_parameter_combination",
        "max_tokens",
        "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
    ),
    (
        {"tool_choice": "auto"},
        None,
        "tool_choice",
        "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
    ),
    (
        {"parallel_tool_calls": True},
        None,
        "parallel_tool_calls",
        (
            "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are "
            "specified."
        ),
    ),
    (
        {"function_call": "auto"},
        None,
        "function_call",
        "Invalid value for 'function_call': 'function_call' is only allowed when 'functions' are specified.",
    ),
    (
        {"top_logprobs": 2},
        None,
        "top_logprobs",
        "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
    ),
    (
        {"tools": []},
        "empty_array",
        "tools",
        "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.",
    ),
    (
        {"tools": [{"type": "web_search"}]},
        "invalid_value",
        "tools[0].type",
        "Invalid value: 'web_search'. Supported values are: 'function' and 'custom'.",
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "get weather"}}]},
        "invalid_value",
        "tools[0].function.name",
        (
            "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the "
            "pattern '^[a-zA-Z0-9_-]+$'."
        ),
    ),
    (
        {"tools": [{"type": "function", "function": {"name": ""}}]},
        "empty_string",
        "tools[0].function.name",
        (
            "Invalid 'tools[0].function.name': empty string. Expected a string with minimum length 1, but got an "
            "empty string instead."
        ),
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "x" * 65}}]},
        "string_above_max_length",
        "tools[0].function.name",
        (
            "Invalid 'tools[0].function.name': string too long. Expected a string with maximum length 64, but got a "
            "string with length 65 instead."
        ),
    ),
    ({"tools": [{"type": "custom", "custom": {"name": "é"}}]}, "invalid_value", "tools[0].custom.name", None),
    ({"functions": [{"name": "a b"}]}, "invalid_value", "functions[0].name", None),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        None,
        "function_call",
        "Invalid value for 'function_call': no function named 'other' was specified in the 'functions' parameter.",
    ),
    (
        {"response_format": {"type": "json_object"}},
        None,
        "messages",
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
        "invalid_value",
        "response_format.json_schema.name",
        None,
    ),
    (
        {"messages": [FIRST]},
        None,
        "messages.[0].role",
        (
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls'."
        ),
    ),
    ({"messages": [CALLS, FIRST, SECOND, *TEXT, FIRST]}, None, "messages.[4].role", None),
    (
        {"messages": [CALLS, FIRST, *TEXT]},
        None,
        "messages.[2].role",
        (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: call_2"
        ),
    ),
    ({"messages": [CALLS]}, None, "messages.[1].role", None),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": []}]},
        "empty_array",
        "messages[0].tool_calls",
        (
            "Invalid 'messages[0].tool_calls': empty array. Expected an array with minimum length 1, but got an empty "
            "array instead."
        ),
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "function"}]}]},
        "missing_required_parameter",
        "messages[0].tool_calls[0].id",
        None,
    ),
    (
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f"}}],
                }
            ]
        },
        "missing_required_parameter",
        "messages[0].tool_calls[0].function.arguments",
        None,
    ),
    (
        {"messages": [{"role": "user", "name": "Ann Lee", "content": "x"}]},
        "invalid_value",
        "messages[0].name",
        (
            "Invalid 'messages[0].name': string does not match pattern. Expected a string that matches the pattern "
            r"'^[^\s<|\\/>]+$'."
        ),
    ),
    (parts(), "empty_array", "messages[0].content", None),
    (
        parts({"type": "image"}),
        "invalid_value",
        "messages[0].content[0].type",
        (
            "Invalid value: 'image'. Supported values are: 'text', 'image_url', 'input_audio', 'refusal', 'audio', and "
            "'file'."
        ),
    ),
    (
        parts({"type": "image_url"}),
        "missing_required_parameter",
        "messages[0].content[0].image_url",
        "Missing required parameter: 'messages[0].content[0].image_url'.",
    ),
    (
        parts({"type": "image_url", "image_url": "https://example.com/a.png"}),
        "invalid_type",
        "messages[0].content[0].image_url",
        "Invalid type for 'messages[0].content[0].image_url': expected an object, but got a string instead.",
    ),
    (
        parts({"type": "image_url", "image_url": {"url": "https://x", "detail": "best"}}),
        "invalid_value",
        "messages[0].content[0].image_url.detail",
        None,
    ),
    (
        parts({"type": "input_audio", "input_audio": {"format": "wav"}}),
        "missing_required_parameter",
        "messages[0].content[0].input_audio.data",
        None,
    ),
    (
        parts({"type": "input_audio", "input_audio": {"data": "", "format": "ogg"}}),
        "invalid_value",
        "messages[0].content[0].input_audio.format",
        None,
    ),
    (parts({"type": "file", "file": None}), "invalid_type", "messages[0].content[0].file", None),
]


@pytest.mark.parametrize(("members", "code", "param", "sentence"), TABLE)
def test_a_strict_host_refuses_in_openais_words(members, code, param, sentence):
    with pytest.raises(CallerError) as caught:
        sent("refuse", **members)
    error = caught.value
    assert (error.http_status, error.error_type, error.code, error.param) == (
        400,
        "invalid_request_error",
        code,
        param,
    )
    if sentence is not None:
        assert error.message == sentence


@pytest.mark.parametrize("members", [row[0] for row in TABLE])
def test_a_compatible_host_decides_for_itself(members):
    assert set(members) <= set(msgspec.json.decode(sent("pass", **members)))


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        {
            "tools": [{"type": "custom", "custom": {"name": "code"}}],
            "tool_choice": {"type": "custom", "custom": {}},
        },
        {"functions": [{"name": "f"}], "function_call": {"name": "f"}},
        {"tool_choice": None, "top_logprobs": None, "max_tokens": None, "max_completion_tokens": 5},
        {"logprobs": True, "top_logprobs": 2},
        {"messages": [*TEXT, CALLS, SECOND, FIRST, *TEXT]},
        {"messages": [{"role": "user", "content": "as JSON"}], "response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "name": "安_1", "content": "x"}]},
        {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}]},
        parts({"type": "file", "file": {"file_id": "file-1"}}, {"type": "text", "text": "x"}),
        parts({"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}}),
    ],
)
def test_what_openai_documents_passes(members):
    assert set(members) <= set(msgspec.json.decode(sent("refuse", **members)))


MISPLACED = [
    ("completions", "gpt-4o", {"prompt": "x"}, 404, "This is a chat model and not supported"),
    ("completions", "text-embedding-3-small", {"prompt": "x"}, 403, "not allowed to sample"),
    ("completions", "gpt-3.5-turbo-instruct", {"prompt": "x", "n": 3, "best_of": 2}, 400, "(currently 3)"),
    ("chat", "gpt-3.5-turbo-instruct", {"messages": TEXT}, 404, "Did you mean to use v1/completions?"),
    ("chat", "text-embedding-3-small", {"messages": TEXT}, 403, "not allowed to sample"),
    ("embeddings", "gpt-4o", {"input": "x"}, 403, "not allowed to generate embeddings"),
    ("embeddings", "text-embedding-ada-002", {"input": "x", "dimensions": 2}, 400, "does not support"),
    ("embeddings", "text-embedding-3-small", {"input": "x", "dimensions": 1537}, 400, "equal to 1536."),
]
PLACED = [
    ("completions", "gpt-3.5-turbo-instruct", {"prompt": "x", "n": 2, "best_of": 2}),
    ("completions", "gpt-3.5-turbo-instruct", {"prompt": "x", "n": None, "best_of": None}),
    ("chat", "gpt-4o", {"messages": TEXT}),
    ("chat", "o1-pro", {"messages": TEXT}),
    ("chat", "nobody-knows-it", {"messages": TEXT}),
    ("embeddings", "text-embedding-3-small", {"input": "x", "dimensions": 1536}),
    ("embeddings", "text-embedding-ada-002", {"input": "x", "dimensions": None}),
    ("completions", "deepseek-chat", {"prompt": "x"}),
    ("embeddings", "nobody-knows-it", {"input": "x"}),
]


def placed(operation: Operation, name: str, members: dict[str, object], *, simulated: bool = True) -> None:
    call = Call(bytes(16), operation, 0)
    parse(msgspec.json.encode({"model": name} | members), call)
    model = Catalogue.load().model("openai", name)
    host = Host(name="h", base_url="http://h")
    CODECS["openai"][operation].encode(call, Target(host=host, model=model, prices=None, simulated=simulated))


@pytest.mark.parametrize(("operation", "name", "members", "status", "said"), MISPLACED)
def test_the_simulator_refuses_a_model_on_the_wrong_route(
    operation: Operation, name: str, members: dict[str, object], status: int, said: str
) -> None:
    with pytest.raises(CallerError, match=re.escape(said)) as caught:
        placed(operation, name, members)
    assert (caught.value.http_status, caught.value.code) == (status, None)
    placed(operation, name, members, simulated=False)  # a real provider says what it does


@pytest.mark.parametrize(("operation", "name", "members"), PLACED)
def test_the_simulator_takes_what_is_in_its_place(
    operation: Operation, name: str, members: dict[str, object]
) -> None:
    placed(operation, name, members)
