"""Bedrock's answers as OpenAI's bytes: whole, streamed, cut at every byte; its errors."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from botocore.eventstream import EventStream
from botocore.parsers import create_parser
from botocore.session import Session
from tests.providers import bedrock_wire as wire
from tests.providers.asking import chat, chunks, message, put_together, read, target

from headgate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamLacks,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamRegion,
    UpstreamTimeout,
)
from headgate.money.cost import cost
from headgate.ports import Head
from headgate.providers.registry import CODECS
from headgate.values import Prices, Usage

CODEC = CODECS["bedrock"]["chat"]
TO = target("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
ASKED = {"stream_options": {"include_usage": True}}
PRICES = Prices(3_000_000, 15_000_000, 300_000, 3_750_000, 15_000_000, 3_000_000, 15_000_000)

TEXT = wire.text("你好, \u2028 world")
TOOL = wire.use("weather", "tooluse_1", {"city": "Paris"})
BARE = wire.use("now", "tooluse_2")
THOUGHT = wire.thought("let me see")
WEB = {"title": "Y", "location": {"web": {"url": "https://x/y", "domain": "x"}}}
CITED = {"citationsContent": {"content": [TEXT], "citations": [WEB, {"title": "Z"}]}}
SERVERS = wire.use("search", "srv_1", {"query": "x"}, type="server_tool_use")

MESSAGES: dict[str, tuple[tuple[dict[str, Any], ...], str, dict[str, int], str]] = {
    "text": ((TEXT,), "end_turn", wire.USAGE, "stop"),
    "tools": ((TEXT, TOOL, BARE), "tool_use", wire.USAGE, "tool_calls"),
    "a tool alone": ((BARE,), "tool_use", wire.USAGE, "tool_calls"),
    "thinking": ((THOUGHT, wire.redacted("eHl6"), TEXT, TOOL), "tool_use", wire.USAGE, "tool_calls"),
    "unsigned thought": ((wire.thought("hm", ""), TEXT), "end_turn", wire.USAGE, "stop"),
    "citations": ((CITED,), "end_turn", wire.USAGE, "stop"),
    "a server's tool": ((SERVERS, TEXT), "end_turn", wire.USAGE, "stop"),
    "nothing": ((), "end_turn", wire.USAGE, "stop"),
    "a cache": ((TEXT,), "stop_sequence", wire.CACHED, "stop"),
    "cut": ((TEXT,), "max_tokens", wire.USAGE, "length"),
    "a full window": ((TEXT,), "model_context_window_exceeded", wire.USAGE, "length"),
    "a guardrail": ((TEXT,), "guardrail_intervened", wire.USAGE, "content_filter"),
    "a filter": ((), "content_filtered", wire.USAGE, "content_filter"),
    "a new reason": ((TEXT,), "paused_by_moon", wire.USAGE, "length"),
}


def whole(*blocks: dict[str, Any], **more: Any) -> tuple[dict[str, Any], Usage | None]:
    out, usage = read(CODEC, chat(), TO, [wire.body(*blocks, **more)])
    return message(out), usage


def streamed(*blocks: dict[str, Any], **more: Any) -> tuple[bytes, Usage | None]:
    return read(CODEC, chat(True, **ASKED), TO, [wire.stream(*blocks, **more)])


@pytest.mark.parametrize(("blocks", "stop", "usage", "reason"), MESSAGES.values(), ids=MESSAGES)
def test_stream_and_body_give_the_same_message_usage_and_charge(
    blocks: Any, stop: str, usage: Any, reason: str
) -> None:
    body, counted = whole(*blocks, stop=stop, usage=usage)
    out, streamed_count = streamed(*blocks, stop=stop, usage=usage)
    assert put_together(out) == body
    assert body["finish_reason"] == reason
    cached = usage is wire.CACHED
    assert counted == streamed_count == (Usage(140, 15, 80, 40) if cached else Usage(20, 15))
    charge = 20 * 3_000 + 15 * 15_000 + (80 * 300 + 40 * 3_750 if cached else 0)
    assert cost(counted, PRICES) == cost(streamed_count, PRICES) == charge
    assert chunks(out)[-1]["usage"]["total_tokens"] == (155 if cached else 35)


@pytest.mark.parametrize(("blocks", "stop", "usage", "reason"), MESSAGES.values(), ids=MESSAGES)
def test_a_stream_cut_at_every_byte_reads_the_same(blocks: Any, stop: str, usage: Any, reason: str) -> None:
    data = wire.stream(*blocks, stop=stop, usage=usage)
    known = read(CODEC, chat(True, **ASKED), TO, [data])
    assert read(CODEC, chat(True, **ASKED), TO, [data[i : i + 1] for i in range(len(data))]) == known
    for cut in range(1, len(data), 7):
        assert read(CODEC, chat(True, **ASKED), TO, [data[:cut], data[cut:]]) == known


def test_botocore_reads_the_same_streams() -> None:
    """What the tests call Bedrock's wire is what Amazon's own client takes for it."""
    model = Session().get_service_model("bedrock-runtime").operation_model("ConverseStream")
    data = wire.stream(THOUGHT, TEXT, TOOL, usage=wire.CACHED)

    class Raw(BytesIO):
        def stream(self) -> Any:
            yield self.read()

    shape = model.output_shape.members["stream"]
    parser = create_parser("rest-json")._event_stream_parser
    events = list(EventStream(Raw(data), shape, parser, "ConverseStream"))
    texts = [
        event["contentBlockDelta"]["delta"].get("text", "")
        for event in events
        if "contentBlockDelta" in event
    ]
    assert "".join(texts) == TEXT["text"]
    assert events[-1]["metadata"]["usage"] == wire.CACHED


def test_an_answer_to_the_byte() -> None:
    out, _ = read(CODEC, chat(), TO, [wire.body(TEXT, TOOL, stop="tool_use")])
    answer = json.loads(out)
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": TEXT["text"],
                "refusal": None,
                "annotations": [],
                "tool_calls": [
                    {
                        "id": "tooluse_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                    }
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
    assert (answer["model"], answer["object"]) == ("m", "chat.completion")


def test_blocks_of_all_kinds_are_counted_upstream_and_tools_alone_here() -> None:
    out, _ = streamed(THOUGHT, TEXT, TOOL, BARE, stop="tool_use")
    pieces = [
        piece
        for chunk in chunks(out)
        for choice in chunk["choices"]
        for piece in choice["delta"].get("tool_calls", ())
    ]
    assert [(piece["index"], piece["id"]) for piece in pieces if "id" in piece] == [
        (0, "tooluse_1"),
        (1, "tooluse_2"),
    ]
    assert pieces[-1] == {"index": 1, "function": {"arguments": "{}"}}


def test_thinking_is_kept_as_claudes_own_api_has_it() -> None:
    said, _ = whole(THOUGHT, wire.redacted("eHl6"), TEXT)
    assert said["reasoning_content"] == "let me see"
    assert said["thinking_blocks"] == [
        {"type": "thinking", "thinking": "let me see", "signature": "EqoB=="},
        {"type": "redacted_thinking", "data": "eHl6"},
    ]
    assert "thinking_blocks" not in whole(wire.thought("hm", ""), TEXT)[0]


def test_one_call_at_a_time() -> None:
    for stream in (False, True):
        call = chat(
            stream, tools=[{"type": "function", "function": {"name": "now"}}], parallel_tool_calls=False
        )
        data = (wire.stream if stream else wire.body)(TOOL, TEXT, BARE, TOOL, stop="tool_use")
        out, _ = read(CODEC, call, TO, [data])
        made = put_together(out) if stream else message(out)
        assert [use["id"] for use in made["tool_calls"]] == ["tooluse_1"]


def test_the_arguments_of_the_schemas_tool_are_the_text() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}}
    for stream in (False, True):
        data = (wire.stream if stream else wire.body)(TOOL, stop="tool_use")
        out, _ = read(CODEC, chat(stream, response_format=wanted), TO, [data])
        made = put_together(out) if stream else message(out)
        assert (made["content"], made["finish_reason"]) == ('{"city":"Paris"}', "stop")
        assert "tool_calls" not in made


# ── what is wrong ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stop", ["malformed_model_output", "malformed_tool_use"])
def test_a_broken_answer_is_an_error(stop: str) -> None:
    for ask in (whole, streamed):
        with pytest.raises(UpstreamFailed) as caught:
            ask(TEXT, stop=stop)
        assert caught.value.http_status == 502


@pytest.mark.parametrize(
    ("kind", "message", "error", "code"),
    [
        ("throttlingException", "Too many requests, please wait", UpstreamOverloaded, "rate_limit_exceeded"),
        ("serviceUnavailableException", "Busy", UpstreamOverloaded, "server_is_overloaded"),
        ("modelStreamErrorException", "The model failed", UpstreamFailed, None),
        ("internalServerException", "Oh", UpstreamFailed, None),
        (
            "validationException",
            "Input is too long for requested model.",
            UpstreamRefused,
            "context_length_exceeded",
        ),
        ("modelTimeoutException", "Late", UpstreamTimeout, "upstream_timeout"),
        ("somethingNewException", "New", UpstreamFailed, None),
    ],
)
def test_exceptions_in_a_stream(
    kind: str, message: str, error: type[UpstreamError], code: str | None
) -> None:
    reader = CODEC.reader(chat(True), TO)
    assert b"Hi" in reader.feed(wire.event("contentBlockDelta", contentBlockIndex=0, delta=wire.text("Hi")))
    with pytest.raises(error) as caught:
        reader.feed(wire.exception(kind, message, originalStatusCode=500))
    assert (caught.value.code, caught.value.message) == (code, message)


def test_an_error_message_of_the_stream_itself() -> None:
    headers = {":message-type": "error", ":error-code": "InternalServerException", ":error-message": "Oh"}
    with pytest.raises(UpstreamFailed, match="Oh"):
        CODEC.reader(chat(True), TO).feed(wire.packed(headers, b""))


@pytest.mark.parametrize(
    "data",
    [
        wire.stream(TEXT)[:-1],
        wire.event("messageStart", role="assistant"),
        b"",
        b'{"metrics": ',
        wire.packed({":message-type": "event", ":event-type": "messageStop"}, b"{"),
        wire.event("contentBlockDelta", contentBlockIndex=0, delta={"image": {"source": {}}}),
    ],
)
def test_a_stream_that_is_none_or_breaks_off(data: bytes) -> None:
    with pytest.raises(UpstreamInterrupted):
        read(CODEC, chat(True), TO, [data])


def test_an_error_in_place_of_a_stream() -> None:
    with pytest.raises(UpstreamFailed, match="not a stream"):
        read(CODEC, chat(True), TO, [b'{"message": "not a stream"}'])


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"output":{}}', wire.body({"image": {}})])
def test_a_body_that_is_none(data: bytes) -> None:
    with pytest.raises(UpstreamInterrupted):
        read(CODEC, chat(), TO, [data])


def test_a_count_that_cannot_be_true_is_not_believed() -> None:
    for usage in (
        {"inputTokens": -1, "outputTokens": 1},
        {"inputTokens": 1},
        {"inputTokens": "1", "outputTokens": 1},
    ):
        assert whole(TEXT, usage=usage)[1] is None
        assert streamed(TEXT, usage=usage)[1] is None


def test_a_stream_without_its_last_event_has_an_answer_and_no_count() -> None:
    last = wire.event("metadata", usage=wire.USAGE, metrics={"latencyMs": 551})
    out, usage = read(CODEC, chat(True), TO, [wire.stream(TEXT).removesuffix(last)])
    assert usage is None
    assert put_together(out)["content"] == TEXT["text"]


def refusal(status: int, body: Any, kind: str = "", **headers: str) -> UpstreamError:
    rows = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if kind:
        rows.append((b"x-amzn-errortype", f"{kind}:http://internal.amazon.com/coral/".encode()))
    return CODEC.error(
        Head(status, tuple(rows)), body if isinstance(body, bytes) else json.dumps(body).encode()
    )


NO_MODEL = "The provided model identifier is invalid."
COUNTRY = "Access to Anthropic models is not allowed from unsupported countries, regions, or territories."
ON_DEMAND = "Invocation of model ID x with on-demand throughput isn’t supported."


@pytest.mark.parametrize(
    ("status", "body", "kind", "error", "shown", "code"),
    [
        (400, {"message": "Bad"}, "ValidationException", UpstreamRefused, 400, None),
        (400, {"message": ON_DEMAND}, "ValidationException", UpstreamRefused, 400, None),
        (400, {"message": NO_MODEL}, "ValidationException", UpstreamLacks, 404, "model_not_found"),
        (400, {"message": "Input is too long"}, "", UpstreamRefused, 400, "context_length_exceeded"),
        (400, {"message": COUNTRY}, "ValidationException", UpstreamRegion, 502, None),
        (400, {"message": f"Invalid: {COUNTRY}"}, "ValidationException", UpstreamRefused, 400, None),
        (404, {"message": "No"}, "ResourceNotFoundException", UpstreamLacks, 404, "model_not_found"),
        (403, {"message": "You don't have access to the model"}, "AccessDeniedException", UpstreamDenied, 502, None),
        (403, {"Message": "Signature expired: 1 < 2"}, "InvalidSignatureException", UpstreamDenied, 502, None),
        (403, {"message": "The security token is expired"}, "ExpiredTokenException", UpstreamDenied, 502, None),
        (408, {"message": "Late"}, "ModelTimeoutException", UpstreamTimeout, 504, None),
        (424, {"message": "Oh", "originalStatusCode": 500}, "ModelErrorException", UpstreamFailed, 502, None),
        (429, {"message": "Too many tokens"}, "ThrottlingException", UpstreamOverloaded, 429, "rate_limit_exceeded"),
        (429, {"message": "Wait"}, "ModelNotReadyException", UpstreamOverloaded, 503, "server_is_overloaded"),
        (400, {"message": "Quota"}, "ServiceQuotaExceededException", UpstreamOverloaded, 429, "rate_limit_exceeded"),
        (500, {"message": "Oh"}, "InternalServerException", UpstreamFailed, 500, None),
        (503, b"<html>", "", UpstreamOverloaded, 503, "server_is_overloaded"),
        (400, {"__type": "com.amazon.coral#ThrottlingException", "message": "W"}, "", UpstreamOverloaded, 429, "rate_limit_exceeded"),
    ],
)  # fmt: skip
def test_refusals(status: int, body: Any, kind: str, error: type, shown: int, code: str | None) -> None:
    found = refusal(status, body, kind)
    assert type(found) is error
    assert found.http_status == shown
    assert found.code == (code or found.default_code)


def test_waits_and_what_limits() -> None:
    found = refusal(429, {"message": "Too many tokens per day"}, "ThrottlingException", retry_after="7")
    assert isinstance(found, UpstreamOverloaded)
    assert (found.retry_after_s, found.limited_by) == (7.0, "tokens")
    assert (
        "ask for access" in refusal(403, {"message": "You don't have access to the model with the"}).message
    )
    assert "clock" in refusal(403, {"message": "Signature not yet current"}).message
    assert "clock" not in refusal(403, {"message": "no"}, "UnrecognizedClientException").message
