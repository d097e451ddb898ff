"""Answers of hosts that call themselves compatible, as they spell them, are OpenAI's to the byte; cut anywhere."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.providers.test_openai_codec import CODEC, call, events, target

from headgate.errors import UpstreamError
from headgate.values import Host, Usage


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "theirs"}
    return msgspec.json.encode({**made, "choices": [choice], **more}).decode()


DEEPSEEK = {
    "completion_tokens": 5,
    "prompt_tokens": 7,
    "total_tokens": 12,
    "prompt_cache_hit_tokens": 4,
    "prompt_cache_miss_tokens": 3,
    "completion_tokens_details": {"reasoning_tokens": 2},
}
PLAIN = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
GROQ = {"queue_time": 0.02, **PLAIN, "total_time": 0.01}
ROUTED = {**PLAIN, "cost": 0.0012, "completion_tokens_details": {"reasoning_tokens": 2}}

# The same answer as each of them streams it, with the usage of its whole answer.
STREAMS: dict[str, tuple[bytes, dict[str, Any], Usage]] = {
    "DeepSeek's usage inside the last chunk": (
        events(
            chunk({"role": "assistant", "content": None, "reasoning_content": "Hm"}, usage=None),
            chunk({"content": "Hi ", "reasoning_content": None}, usage=None),
            chunk({"content": "你"}, usage=None),
            chunk({"content": "", "reasoning_content": None}, "stop", usage=DEEPSEEK),
            "[DONE]",
        ),
        DEEPSEEK,
        Usage(7, 5, 4, 0, 2),
    ),
    "Groq's own members": (
        events(
            chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_01"}),
            chunk({"reasoning": "Hm"}),
            chunk({"content": "Hi "}),
            chunk({"content": "你"}),
            chunk({}, "stop", x_groq={"id": "req_01", "usage": GROQ}, usage=GROQ),
            "[DONE]",
        ),
        GROQ,
        Usage(7, 5),
    ),
    "OpenRouter's comments, and its usage beside a choice": (
        b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"
        + events(
            chunk({"role": "assistant", "content": "", "reasoning": "Hm"}, provider="X"),
            chunk({"role": "assistant", "content": "Hi "}, provider="X"),
            chunk({"role": "assistant", "content": "你"}, provider="X"),
            chunk({"role": "assistant", "content": ""}, "stop", provider="X"),
            chunk({"role": "assistant", "content": ""}, provider="X", usage=ROUTED),
            "[DONE]",
        ),
        ROUTED,
        Usage(7, 5, 0, 0, 2),
    ),
}
NAMED = pytest.mark.parametrize("name", STREAMS)
HOST = Host(name="h", base_url="http://h/v1")


def read(pieces: list[bytes], *, asked: bool, stream: bool = True) -> tuple[bytes, Any]:
    more = {"stream_options": {"include_usage": True}} if asked else {}
    reader = CODEC.reader(call(stream, **more), target(HOST))
    out = b"".join(map(reader.feed, pieces)) + reader.finish()
    return out + reader.end(reader.usage() or Usage()), reader


def frames(stream: bytes) -> list[dict[str, Any]]:
    parts = stream.decode().split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [msgspec.json.decode(part.removeprefix("data: ")) for part in parts[:-2]]


@NAMED
def test_a_stream_has_openais_grammar(name: str) -> None:
    wire, _, used = STREAMS[name]
    out, reader = read([wire], asked=True)
    *said, count = frames(out)
    assert "".join(each["choices"][0]["delta"].get("content") or "" for each in said) == "Hi 你"
    assert all(each["usage"] is None and each["choices"][0]["logprobs"] is None for each in said)
    assert {each["model"] for each in said} == {"gpt-4o"}
    assert [each["choices"][0]["finish_reason"] for each in said].count("stop") == 1
    assert count["choices"] == []
    assert (count["usage"]["prompt_tokens"], count["usage"]["completion_tokens"]) == (7, 5)
    assert reader.usage() == used
    assert not any(member.startswith("x_") for each in said for member in each)
    unasked = frames(read([wire], asked=False)[0])
    assert all(each["choices"] and "usage" not in each for each in unasked)


@NAMED
def test_a_stream_cut_at_every_byte_reads_the_same(name: str) -> None:
    wire = STREAMS[name][0]
    whole, _ = read([wire], asked=True)
    for cut in range(1, len(wire)):
        assert read([wire[:cut], wire[cut:]], asked=True)[0] == whole
    assert read([wire[at : at + 1] for at in range(len(wire))], asked=True)[0] == whole


@NAMED
def test_a_whole_answer_says_and_counts_the_same(name: str) -> None:
    wire, counted, used = STREAMS[name]
    message = {"role": "assistant", "content": "Hi 你"}
    body = {
        "id": "c-1",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": counted,
    }
    out, reader = read([msgspec.json.encode(body)], asked=False, stream=False)
    answer = msgspec.json.decode(out)
    *said, count = frames(read([wire], asked=True)[0])
    text = "".join(each["choices"][0]["delta"].get("content") or "" for each in said)
    assert answer["choices"][0]["message"]["content"] == text
    assert reader.usage() == used
    for member in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert answer["usage"][member] == count["usage"][member]


@pytest.mark.parametrize("cut", range(1, 150, 7))
def test_groqs_error_event_is_an_error_and_not_an_end(cut: int) -> None:
    begun = events(chunk({"role": "assistant", "content": "Hi"}))
    error = {"message": "Over capacity, please try again", "type": "internal_server_error"}
    wire = b"event: error\ndata: %b\n\n" % msgspec.json.encode({"error": {**error, "status_code": 503}})
    reader = CODEC.reader(call(), target(HOST))
    assert b"Hi" in reader.feed(begun)
    with pytest.raises(UpstreamError, match="Over capacity") as caught:
        list(map(reader.feed, (wire[:cut], wire[cut:])))
    assert caught.value.http_status == 500


def test_an_error_with_a_number_for_a_code_is_read() -> None:
    reader = CODEC.reader(call(), target(HOST))
    broken = '{"id":"c","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],'
    with pytest.raises(UpstreamError, match="Provider disconnected"):
        reader.feed(events(broken + '"error":{"code":502,"message":"Provider disconnected"}}'))
