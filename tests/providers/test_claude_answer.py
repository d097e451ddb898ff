"""Anthropic's answers as OpenAI's bytes: whole, streamed, and cut at every byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers import claude_wire as wire
from tests.providers.asking import chat, chunks, message, put_together, read, target

from headgate.errors import UpstreamError, UpstreamInterrupted
from headgate.money.cost import cost
from headgate.ports import Head
from headgate.providers.registry import CODECS
from headgate.values import Prices, Usage

CODEC = CODECS["anthropic"]["chat"]
TO = target("anthropic", "claude-opus-4-8")
ASKED = {"stream_options": {"include_usage": True}}
PRICES = Prices(5_000_000, 25_000_000, 500_000, 6_250_000, 25_000_000, 5_000_000, 25_000_000)

TEXT = {"type": "text", "text": "你好, \u2028 world"}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
BARE = {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}
THOUGHT = {"type": "thinking", "thinking": "let me see", "signature": "EqoB=="}
REDACTED = {"type": "redacted_thinking", "data": "Emw="}
SERVER = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}}
WEB = {
    "type": "web_search_result_location",
    "url": "https://x/y",
    "title": "Y",
    "cited_text": "w",
    "encrypted_index": "e",
}

MESSAGES: dict[str, tuple[tuple[dict[str, Any], ...], str]] = {
    "text": ((TEXT,), "end_turn"),
    "tools": ((TEXT, TOOL, BARE), "tool_use"),
    "a tool alone": ((BARE,), "tool_use"),
    "thinking": ((THOUGHT, REDACTED, TEXT, TOOL), "tool_use"),
    "two thoughts": ((THOUGHT, TEXT, THOUGHT, TEXT), "end_turn"),
    "a server's tool": ((SERVER, TEXT), "end_turn"),
    "citations": (({**TEXT, "citations": [WEB]},), "end_turn"),
    "nothing": ((), "end_turn"),
    "cut": ((TEXT,), "max_tokens"),
}


def whole(*blocks: dict[str, Any], **more: Any) -> tuple[dict[str, Any], Usage | None]:
    out, usage = read(CODEC, chat(), TO, [wire.message(*blocks, **more)])
    return message(out), usage


def streamed(*blocks: dict[str, Any], **more: Any) -> tuple[bytes, Usage | None]:
    return read(CODEC, chat(True, **ASKED), TO, [wire.stream(*blocks, **more)])


@pytest.mark.parametrize(("blocks", "stop"), MESSAGES.values(), ids=MESSAGES)
def test_stream_and_body_give_the_same_message_usage_and_charge(blocks: Any, stop: str) -> None:
    body, counted = whole(*blocks, stop=stop)
    out, streamed_count = streamed(*blocks, stop=stop)
    assert put_together(out) == body
    assert counted == streamed_count == Usage(20, 15)
    assert cost(counted, PRICES) == cost(streamed_count, PRICES) == 20 * 5_000 + 15 * 25_000
    assert chunks(out)[-1]["usage"]["total_tokens"] == 35


@pytest.mark.parametrize(("blocks", "stop"), MESSAGES.values(), ids=MESSAGES)
def test_a_stream_cut_at_every_byte_reads_the_same(blocks: Any, stop: str) -> None:
    data = wire.stream(*blocks, stop=stop)
    known = read(CODEC, chat(True, **ASKED), TO, [data])
    assert read(CODEC, chat(True, **ASKED), TO, [data[i : i + 1] for i in range(len(data))]) == known
    for cut in range(1, len(data), 3):
        assert read(CODEC, chat(True, **ASKED), TO, [data[:cut], data[cut:]]) == known


def test_an_answer_to_the_byte() -> None:
    out, _ = read(CODEC, chat(), TO, [wire.message(TEXT, TOOL, stop="tool_use")])
    answer = json.loads(out)
    assert answer == {
        "model": "m",
        "object": "chat.completion",
        "id": answer["id"],
        "created": answer["created"],
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": TEXT["text"],
                    "refusal": None,
                    "annotations": [],
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                        }
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 15,
            "total_tokens": 35,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def test_blocks_of_all_kinds_are_counted_upstream_and_tools_alone_here() -> None:
    out, _ = streamed(THOUGHT, TEXT, TOOL, BARE, stop="tool_use")
    pieces = [
        piece
        for chunk in chunks(out)
        for choice in chunk["choices"]
        for piece in choice["delta"].get("tool_calls", ())
    ]
    assert [(piece["index"], piece.get("id")) for piece in pieces if "id" in piece] == [
        (0, "toolu_1"),
        (1, "toolu_2"),
    ]
    assert pieces[-1] == {"index": 1, "function": {"arguments": "{}"}}


def test_thinking_is_shown_and_kept_with_its_signature() -> None:
    said, _ = whole(THOUGHT, REDACTED, TEXT)
    assert said["reasoning_content"] == "let me see"
    assert said["thinking_blocks"] == [THOUGHT, REDACTED]
    sent = chat(messages=[{"role": "user", "content": "x"}, {**said, "role": "assistant"}])
    turn = msgspec.json.decode(CODEC.encode(sent, TO).body)["messages"][1]["content"]
    assert turn == [THOUGHT, REDACTED, TEXT]


def test_a_web_citation_is_an_annotation() -> None:
    said, _ = whole({**TEXT, "citations": [WEB]})
    assert said["annotations"] == [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 0,
                "end_index": len(TEXT["text"]),
                "url": "https://x/y",
                "title": "Y",
            },
        }
    ]


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "content_filter"),
        ("a_reason_of_2027", "length"),
    ],
)
def test_each_stop_reason_has_its_meaning(stop: str, reason: str) -> None:
    assert whole(TEXT, stop=stop)[0]["finish_reason"] == reason
    assert put_together(streamed(TEXT, stop=stop)[0])["finish_reason"] == reason


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    said, _ = whole(stop="refusal", stop_details=details)
    assert (said["content"], said["refusal"], said["finish_reason"]) == ("", "Not this.", "content_filter")
    assert put_together(streamed(stop="refusal", stop_details=details)[0]) == said


# ── usage ───────────────────────────────────────────────────────────────────────────────────────


def test_the_last_count_takes_the_place_of_the_first() -> None:
    """Recorded: 702 at the start, 1,591 at the end, for a server's tools had brought more input."""
    start = wire.START_USAGE | {"input_tokens": 702}
    _, usage = streamed(TEXT, start=start, usage={"input_tokens": 1591, "output_tokens": 40})
    assert usage == Usage(1591, 40)
    _, usage = streamed(TEXT, start=start, usage={"output_tokens": 40})
    assert usage == Usage(702, 40)


def test_what_the_cache_read_and_wrote_is_input() -> None:
    given = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 1000,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
    }
    _, usage = whole(TEXT, usage=given)
    assert usage == Usage(1110, 50, 1000, 100, 30)
    assert cost(usage, PRICES) == 10 * 5_000 + 100 * 6_250 + 1000 * 500 + 50 * 25_000
    assert streamed(TEXT, start=wire.START_USAGE | given | {"output_tokens": 1}, usage=given)[1] == usage
    out, _ = read(CODEC, chat(), TO, [wire.message(TEXT, usage=given)])
    shown = json.loads(out)["usage"]
    assert shown["total_tokens"] == 1160
    assert shown["prompt_tokens_details"] == {
        "cached_tokens": 1000,
        "audio_tokens": 0,
        "cache_write_tokens": 100,
    }
    assert shown["completion_tokens_details"]["reasoning_tokens"] == 30


@pytest.mark.parametrize(
    "given",
    [
        {"input_tokens": -1, "output_tokens": 3},
        {"input_tokens": "9", "output_tokens": 3},
        {"input_tokens": 9, "output_tokens": 10**12},
        {"input_tokens": 9, "output_tokens": 3, "output_tokens_details": {"thinking_tokens": 7}},
        {"input_tokens": 9},
    ],
)
def test_an_absurd_count_is_none(given: dict) -> None:
    body = json.loads(wire.message(TEXT)) | {"usage": given}
    assert read(CODEC, chat(), TO, [json.dumps(body).encode()])[1] is None


def test_a_stream_that_breaks_off_has_no_count_of_the_providers() -> None:
    """The count of its beginning says one token of output, whatever was made since."""
    reader = CODEC.reader(chat(True), TO)
    data = wire.stream(TEXT)
    reader.feed(data[: data.index(b"event: message_delta")])
    assert (reader.usage(), reader.text()) == (None, TEXT["text"])
    with pytest.raises(UpstreamInterrupted):
        reader.finish()


# ── schemas ─────────────────────────────────────────────────────────────────────────────────────


def test_a_schemas_answer_by_a_forced_tool_is_text() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "shape", "schema": {"type": "object"}}}
    block = {"type": "tool_use", "id": "toolu_1", "name": "shape", "input": {"a": 1}}
    out, _ = read(CODEC, chat(response_format=wanted), TO, [wire.message(block, stop="tool_use")])
    assert message(out) == {
        "role": "assistant",
        "content": '{"a":1}',
        "refusal": None,
        "finish_reason": "stop",
    }
    data = wire.stream(block, stop="tool_use")
    said = put_together(read(CODEC, chat(True, response_format=wanted), TO, [data])[0])
    assert (said["content"], said["finish_reason"]) == ('{"a":1}', "stop")


# ── errors ──────────────────────────────────────────────────────────────────────────────────────


def error(kind: str, text: str = "no", **more: Any) -> bytes:
    body = {"type": "error", "error": {"type": kind, "message": text, **more}, "request_id": "req_1"}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("status", "body", "seen", "kind", "code"),
    [
        (400, error("invalid_request_error"), 400, "invalid_request_error", None),
        (
            400,
            error("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (
            400,
            error("invalid_request_error", "Your credit balance is too low to access the API."),
            502,
            "server_error",
            "provider_denied",
        ),
        (401, error("authentication_error"), 502, "server_error", "provider_denied"),
        (402, error("billing_error"), 502, "server_error", "provider_denied"),
        (403, error("permission_error"), 502, "server_error", "provider_denied"),
        (
            403,
            error("forbidden", "Request not allowed"),
            502,
            "server_error",
            "unsupported_country_region_territory",
        ),
        (404, error("not_found_error", "model: claude-x"), 404, "invalid_request_error", "model_not_found"),
        (409, error("conflict_error"), 409, "invalid_request_error", None),
        (413, error("request_too_large"), 413, "invalid_request_error", None),
        (429, error("rate_limit_error"), 429, "requests", "rate_limit_exceeded"),
        (
            429,
            error("rate_limit_error", "exceeds your rate limit of 10,000 input tokens per minute"),
            429,
            "tokens",
            "rate_limit_exceeded",
        ),
        (
            429,
            error("rate_limit_error", "no", details={"error_code": "enforced_spend_limit_reached"}),
            502,
            "server_error",
            "provider_denied",
        ),
        (500, error("api_error"), 500, "server_error", None),
        (504, error("timeout_error"), 504, "server_error", None),
        (529, error("overloaded_error"), 503, "service_unavailable_error", "server_is_overloaded"),
        (529, b"<html>", 503, "service_unavailable_error", "server_is_overloaded"),
    ],
)
def test_each_refusal_has_its_meaning(status, body, seen, kind, code) -> None:
    found = CODEC.error(Head(status, ((b"retry-after", b"7"),)), body)
    assert (found.http_status, found.error_type, found.code) == (seen, kind, code)
    if seen in {429, 503}:
        assert found.retry_after_s == 7


@pytest.mark.parametrize(
    ("kind", "seen"), [("overloaded_error", 503), ("api_error", 500), ("rate_limit_error", 429), ("new", 500)]
)
def test_an_error_in_a_stream_is_raised_with_its_status(kind: str, seen: int) -> None:
    reader = CODEC.reader(chat(True), TO)
    with pytest.raises(UpstreamError, match="boom") as caught:
        reader.feed(b"event: error\ndata: %b\n\n" % error(kind, "boom"))
    assert caught.value.http_status == seen


@pytest.mark.parametrize(
    "junk", [b"", b"<html>", b"[]", b'{"content":5}', b'{"type":"message","content":["a"]}']
)
def test_what_is_not_a_message_is_an_interruption(junk: bytes) -> None:
    reader = CODEC.reader(chat(), TO)
    reader.feed(junk)
    with pytest.raises(UpstreamError):
        reader.finish()


@pytest.mark.parametrize(
    "junk",
    [
        b"data: {\n\n",
        b"data: 5\n\n",
        b'data: {"type":5}\n\n',
    ],
)
def test_junk_in_a_stream_is_an_interruption(junk: bytes) -> None:
    reader = CODEC.reader(chat(True), TO)
    with pytest.raises(UpstreamInterrupted):
        reader.feed(junk)
