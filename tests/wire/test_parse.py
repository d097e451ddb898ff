import asyncio
import json

import msgspec
import pytest
from hypothesis import given, strategies as st

from headgate.errors import CallerError
from headgate.http.parse import parse
from headgate.http.scan import scan
from headgate.money.tokens import Tokenizers
from headgate.process.counting import LocalCounter
from headgate.values import Call, Host, Media, Model, Target
from headgate.wire.messages import Weight, inspect, plain_bytes, text_bytes

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}


def parsed(body: object, operation: str = "chat") -> Call:
    call = Call(bytes(16), operation, 0)  # type: ignore[arg-type]
    parse(body if isinstance(body, bytes) else msgspec.json.encode(body), call)
    return call


def refused(body: object, operation: str = "chat") -> CallerError:
    with pytest.raises(CallerError) as caught:
        parsed(body, operation)
    return caught.value


def test_a_plain_request_is_read():
    call = parsed(
        HELLO | {"stream": True, "max_tokens": 5, "n": 2, "stream_options": {"include_usage": True}}
    )
    assert (call.model, call.stream, call.include_usage, call.max_output, call.n) == (
        "gpt-4o",
        True,
        True,
        5,
        2,
    )


@pytest.mark.parametrize(
    ("body", "operation"),
    [
        (HELLO | {"response_format": None}, "chat"),
        ({"model": "m", "prompt": "p", "response_format": None}, "images"),
        ({"model": "m", "input": "i", "voice": "alloy", "response_format": None}, "speech"),
        ({"model": "m", "input": "i", "response_format": {"type": "json_object"}}, "embeddings"),
    ],
)
def test_a_form_of_the_answer_that_says_nothing_asks_for_none(body, operation):
    assert parsed(body, operation).shape is None


def test_the_bound_is_never_below_the_text():
    text = "你好 hello 👋🏽 \\u0041"
    assert parsed({"model": "m", "messages": [{"role": "user", "content": text}]}).input_bytes >= len(
        text.encode()
    )


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": [{}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, None, "messages.[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, None, "messages.[0].content"),
        ({"messages": [{"role": "assistant", "refusal": None}]}, None, "messages.[0].content"),
        ({"messages": [{"role": "user", "refusal": "no"}]}, None, "messages.[0].content"),
        ({"messages": [{"role": "developer"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "developer", "content": None}]}, "invalid_type", "messages[0].content"),
        ({"messages": ["hi"]}, "invalid_type", "messages[0]"),
        (
            {"messages": [{"role": "function", "content": "x"}]},
            "missing_required_parameter",
            "messages[0].name",
        ),
        (
            {"messages": [{"role": "assistant", "function_call": "x"}]},
            "invalid_type",
            "messages[0].function_call",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": "x"}]},
            "invalid_type",
            "messages[0].tool_calls",
        ),
        ({"messages": [{"role": "bot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type", "messages[0].content"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "missing_required_parameter",
            "messages[0].tool_call_id",
        ),
        (
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "missing_required_parameter",
            "messages[0].content[0].type",
        ),
        ({"temperature": -1}, "decimal_below_min_value", "temperature"),
        ({"temperature": 200}, "decimal_above_max_value", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"n": 0}, "integer_below_min_value", "n"),
        ({"n": True}, "invalid_type", "n"),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
        ({"max_completion_tokens": 0}, "integer_below_min_value", "max_completion_tokens"),
        ({"max_tokens": 1.5}, "invalid_type", "max_tokens"),
        ({"n": 129}, "integer_above_max_value", "n"),
        ({"top_p": 1.1}, "decimal_above_max_value", "top_p"),
        ({"frequency_penalty": 3}, "decimal_above_max_value", "frequency_penalty"),
        ({"presence_penalty": -3}, "decimal_below_min_value", "presence_penalty"),
        ({"stop": ["a"] * 5}, "array_above_max_length", "stop"),
        ({"stop": []}, "empty_array", "stop"),
        ({"stop": [1]}, "invalid_type", "stop[0]"),
        ({"stop": 1}, "invalid_type", "stop"),
        ({"logprobs": 1}, "invalid_type", "logprobs"),
        ({"top_logprobs": -1}, "integer_below_min_value", "top_logprobs"),
        ({"logit_bias": {"50256": 101}}, "decimal_above_max_value", "logit_bias.50256"),
        ({"logit_bias": {"50256": "x"}}, "invalid_type", "logit_bias.50256"),
        ({"logit_bias": []}, "invalid_type", "logit_bias"),
        ({"seed": 1.5}, "invalid_type", "seed"),
        ({"user": 5}, "invalid_type", "user"),
        ({"safety_identifier": "x" * 65}, "string_above_max_length", "safety_identifier"),
        ({"metadata": "x"}, "invalid_type", "metadata"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "string_above_max_length", "metadata.a"),
        ({"metadata": {"k" * 65: "x"}}, "property_name_above_max_length", "metadata." + "k" * 65),
        ({"metadata": {str(i): "x" for i in range(17)}}, "object_above_max_properties", "metadata"),
        ({"service_tier": "gold"}, "invalid_value", "service_tier"),
        ({"verbosity": "loud"}, "invalid_value", "verbosity"),
        ({"reasoning_effort": "hard"}, "invalid_value", "reasoning_effort"),
        ({"modalities": ["smell"]}, "invalid_value", "modalities[0]"),
        ({"audio": {"format": "wav"}}, "missing_required_parameter", "audio.voice"),
        ({"prediction": {"type": "content"}}, "missing_required_parameter", "prediction.content"),
        ({"prediction": {"type": "x", "content": "y"}}, "invalid_value", "prediction.type"),
        ({"moderation": {}}, "missing_required_parameter", "moderation.model"),
        ({"prompt_cache_retention": "x"}, None, "prompt_cache_retention"),
        ({"prompt_cache_retention": {}}, "invalid_type", "prompt_cache_retention"),
        ({"stream_options": {"include_usage": True}}, None, "stream_options"),
        ({"stream": True, "stream_options": "x"}, "invalid_type", "stream_options"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "invalid_type",
            "stream_options.include_usage",
        ),
        ({"response_format": "json"}, "invalid_type", "response_format"),
        ({"response_format": {}}, "missing_required_parameter", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            "missing_required_parameter",
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "missing_required_parameter",
            "response_format.json_schema.name",
        ),
        ({"tools": "x"}, "invalid_type", "tools"),
        ({"tools": ["x"]}, "invalid_type", "tools[0]"),
        ({"tools": [{}]}, "missing_required_parameter", "tools[0].type"),
        (
            {"tools": [{"type": "function", "function": {}}]},
            "missing_required_parameter",
            "tools[0].function.name",
        ),
        ({"tools": [{"type": "custom"}]}, "missing_required_parameter", "tools[0].custom"),
        ({"tool_choice": "maybe"}, "invalid_value", "tool_choice"),
        ({"tool_choice": 7}, "invalid_type", "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "missing_required_parameter", "tool_choice.function"),
        (
            {"tool_choice": {"type": "function", "function": {}}},
            "missing_required_parameter",
            "tool_choice.function.name",
        ),
        ({"functions": "x"}, "invalid_type", "functions"),
        ({"functions": [{}]}, "missing_required_parameter", "functions[0].name"),
        ({"function_call": {}}, "missing_required_parameter", "function_call.name"),
        ({"function_call": "maybe"}, "invalid_value", "function_call"),
        ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
    ],
)
def test_each_fault_is_named_as_openai_names_it(change, code, param):
    error = refused(HELLO | change)
    assert (error.http_status, error.error_type, error.code, error.param) == (
        400,
        "invalid_request_error",
        code,
        param,
    )


def test_the_sentences_are_openais():
    assert refused(HELLO | {"temperature": -1}).message == (
        "Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -1 instead."
    )
    assert refused({"model": "gpt-4o"}).message == "Missing required parameter: 'messages'."
    for change, sentence in (
        ({"seed": 1.5}, "Invalid type for 'seed': expected an integer, but got a decimal number instead."),
        ({"tools": "x"}, "Invalid type for 'tools': expected an array of objects, but got a string instead."),
        (
            {"functions": "x"},
            "Invalid type for 'functions': expected an array of function definitions, but got a string instead.",
        ),
        (
            {"metadata": 1},
            "Invalid type for 'metadata': expected a metadata object, but got an integer instead.",
        ),
        (
            {"verbosity": 1},
            "Invalid type for 'verbosity': expected one of 'low', 'medium', or 'high', but got an integer instead.",
        ),
        (
            {"response_format": {"type": "xml"}},
            "Invalid value: 'xml'. Supported values are: 'json_object', 'json_schema', and 'text'.",
        ),
        ({"function_call": "x"}, "Invalid value: 'x'. Supported values are: 'none' and 'auto'."),
        ({"messages": [{"role": "user"}]}, "Invalid value for 'content': expected a string, got null."),
    ):
        assert refused(HELLO | change).message == sentence


def test_null_means_not_given_except_where_something_is_required():
    assert parsed(HELLO | {"temperature": None, "max_tokens": None, "stream": None}).max_output is None
    assert refused(HELLO | {"model": None}).code == "invalid_type"


def test_an_assistant_turn_may_have_tool_calls_instead_of_content():
    turns = [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "y"},
    ]
    assert parsed(HELLO | {"messages": turns}).model == "gpt-4o"


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"model":"x",}', b"\xff\xfe{}", b'{"a":"\xed\xa0\x80"}', b"nul"]
)
def test_what_is_not_json_is_said_so(body):
    error = refused(body)
    assert error.http_status == 400
    assert "JSON body" in error.message


def test_an_array_is_not_a_request():
    assert "must be an object" in refused(b"[1]").message


def test_a_doubled_member_counts_once_and_is_sent_once():
    call = parsed(b'{"model":"a","model":"gpt-4o","messages":[{"role":"user","content":"x"}]}')
    assert call.model == "gpt-4o"
    assert bytes(call.members["model"]) == b'"gpt-4o"'


@pytest.mark.parametrize("depth", [65, 1000, 100_000, 1_000_000])
def test_depth_is_refused_before_anything_is_parsed(depth):
    with pytest.raises(CallerError, match=r"nested deeper|more than 310000"):
        scan(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


@pytest.mark.parametrize("pad", [0, 31 * 1024, 33 * 1024, 200 * 1024])  # bytes
@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_depth_is_64_at_most_however_long_a_body_is(pair, pad):
    opened, closed = pair
    levels = 2 if opened.startswith(b"[{") else 1
    inside = b'"' + b"x" * pad + b'"'
    deep = opened * (64 // levels) + inside + closed * (64 // levels)
    scan(deep)
    with pytest.raises(CallerError, match="nested deeper than 64"):
        scan(b"[" + deep + b"]")
    scan(b"[" + b"[{}]," * 200 + inside + b"]")


def test_brackets_inside_strings_are_text():
    scan(b'{"a":"' + b"[{" * 1000 + b'\\"[[[\\\\"}')


def test_too_many_nodes_are_refused():
    with pytest.raises(CallerError, match="more than 310000"):
        scan(b"[" + b"1," * 310_001 + b"1]")
    scan(b'["' + b"," * 400_000 + b'"]')
    scan(b'{"model":"text-embedding-3-small","input":[' + b"9," * 299_999 + b"9]}")


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ("a", True),
        (["a", "b"], True),
        ([1, 2], True),
        ([[1], [2, 3]], True),
        ("", False),
        ([], False),
        ([1, "a"], False),
    ],
)
def test_embeddings_take_texts_and_tokens(value, fine):
    body = {"model": "text-embedding-3-small", "input": value}
    if fine:
        assert parsed(body, "embeddings").input_bytes > 0
    else:
        assert refused(body, "embeddings").param.startswith("input")


def with_parts(*parts: object) -> Call:
    text = {"type": "text", "text": "x"}
    return parsed(HELLO | {"messages": [{"role": "user", "content": [text, *parts]}]})


def test_media_are_weighed_apart_from_text():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 40_000, "format": "wav"}}
    call = with_parts(image, sound, image)
    assert call.media == Media(images=2, audio=40_000)
    assert call.input_bytes < 400
    assert with_parts().media is None


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "https://example.com/a.mp3"}},
        {"type": "input_audio"},
        {"type": "input_audio", "input_audio": {"data": 5}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"file_data": "A" * 100_000}},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
    ],
)
def test_parts_of_unknown_length_are_noted(part):
    call = with_parts(part)
    assert call.media == Media(hidden=1, files=int(part["type"] == "file"))
    assert call.input_bytes < 300


@pytest.mark.parametrize(
    ("change", "hidden"),
    [
        ({"web_search_options": {}}, 1),
        ({"tools": [{"type": "web_search"}, {"type": "function", "function": {"name": "f"}}]}, 1),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, 0),
        ({"data_sources": [{"type": "azure_search"}], "enable_search": True}, 2),
        ({"top_k": 5, "enable_thinking": True}, 0),
        ({"messages": [{"role": "assistant", "content": "x", "audio": {"id": "audio_1"}}]}, 1),
    ],
)
def test_what_brings_input_that_the_request_does_not_show_is_noted(change, hidden):
    assert (parsed(HELLO | change).media or Media()).hidden == hidden


def test_unknown_members_and_predictions_are_weighed():
    plain = parsed(HELLO)
    extra = parsed(HELLO | {"context": "字" * 1000})
    assert extra.input_bytes - plain.input_bytes >= 3000
    predicted = parsed(HELLO | {"prediction": {"type": "content", "content": "x" * 1000}})
    assert predicted.predicted >= 1000
    assert predicted.input_bytes - plain.input_bytes >= 1000


def test_escapes_are_not_taken_for_text():
    text = "你好\\u0041\n" * 100
    escaped = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    plain = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=False)
    assert len(escaped) > len(plain.encode()) + 500
    assert len(text.encode()) <= parsed(escaped).input_bytes <= parsed(plain.encode()).input_bytes


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_weight_is_never_below_the_text(text):
    for ascii_only in (True, False):
        assert text_bytes(json.dumps(text, ensure_ascii=ascii_only).encode()) >= len(text.encode())


def test_zero_tokens_are_said_and_not_the_same_as_unsaid():
    body = {"model": "m", "prompt": "x", "echo": True}
    assert parsed(body | {"max_tokens": 0}, "completions").max_output == 0
    assert parsed(body, "completions").max_output is None


def test_every_prompt_and_candidate_is_bounded():
    body = {"model": "m", "prompt": ["a", "b", "c"], "best_of": 4.0}
    assert parsed(body, "completions").n == 12


def test_of_two_limits_the_larger_bounds_the_call():
    assert parsed(HELLO | {"max_tokens": 9, "max_completion_tokens": 5}).max_output == 9
    assert parsed(HELLO | {"max_tokens": 5, "max_completion_tokens": 9}).max_output == 9


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000])
def test_a_number_that_nothing_holds_is_a_400(number):
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":%b}' % number.encode()
    assert refused(body).param == "temperature"


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000])
def test_a_message_with_such_a_number_is_a_400_or_counted(number):
    body = b'{"model":"m","messages":[{"role":"user","content":%b}]}' % number.encode()
    assert refused(body).param == "messages[0].content"
    turn = b'{"role":"assistant","content":"x","tool_calls":[{"id":%b}]}' % number.encode()
    call = parsed(b'{"model":"m","messages":[%b]}' % turn)
    counter = LocalCounter(Tokenizers())
    host = Host(name="h", base_url="http://h")
    target = Target(host=host, model=Model(name="m"), prices=None)
    assert asyncio.run(counter.input_tokens(call, target)) > 0


def test_a_text_part_has_its_text():
    part = {"messages": [{"role": "user", "content": [{"type": "text"}]}]}
    assert refused(HELLO | part).param == "messages[0].content[0].text"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "function", "name": "f", "content": None},
        {"role": "assistant", "refusal": "no"},
        {"role": "assistant", "audio": {"id": "audio_1"}},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
    ],
)
def test_content_may_be_null_where_something_stands_for_it(message):
    assert parsed(HELLO | {"messages": [message]}).model == "gpt-4o"


def test_a_null_prompt_is_a_new_document():
    assert parsed({"model": "m", "prompt": None}, "completions").n == 1


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
@pytest.mark.parametrize("text", ["", "hi", "\u00e9", "\\u0041", '"', "\u2028\x00"])
def test_messages_that_are_texts_are_weighed_at_once(role, text):
    raw = msgspec.Raw(
        json.dumps([{"role": role, "content": text}, {"content": "x", "role": "user"}]).encode()
    )
    assert plain_bytes(raw) == inspect(bytes(raw)).size
    assert inspect(bytes(raw)) == Weight(plain_bytes(raw))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x", "tool_call_id": "a"},
        {"role": "tool", "content": "x"},
        {"role": "function", "content": "x", "name": "f"},
        {"role": "robot", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {"role": "user", "content": "x", "name": "n"},
        {"role": "user", "content": "x", "odd": 1},
        {"role": "user", "content": None},
        {"role": "user"},
        {"content": "x"},
        {"role": "assistant", "content": "x", "audio": {"id": "a"}},
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "assistant", "content": "x", "function_call": {}},
        "x",
        None,
    ],
)
def test_messages_that_are_more_than_texts_are_inspected(message):
    assert plain_bytes(msgspec.Raw(json.dumps([{"role": "user", "content": "x"}, message]).encode())) == 0


@pytest.mark.parametrize("messages", [[], {}, None, "x", 5])
def test_what_is_no_list_of_messages_is_inspected(messages):
    assert plain_bytes(msgspec.Raw(json.dumps(messages).encode())) == 0
