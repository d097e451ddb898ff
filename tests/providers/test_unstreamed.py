"""A whole answer where a stream was asked for is read as that answer, and given as the stream that says it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.answers import usage_of
from tests.providers.asking import chat, chunks, message, put_together, target

from headgate.errors import UpstreamOverloaded
from headgate.http.parse import parse
from headgate.providers.registry import CODECS
from headgate.values import Call, Host, Model, Prices, Target, Usage

KINDS = ("openai", "azure")
CALLS = [
    {"id": f"call_{n}", "type": "function", "function": {"name": "look", "arguments": f'{{"at":{n}}}'}}
    for n in (1, 2)
]
MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"role": "assistant", "content": "你好 there.", "refusal": None, "annotations": []}, "stop"),
    "thought": ({"content": "Hi", "reasoning_content": "Hm. ", "role": "assistant"}, "length"),
    "refusal": ({"role": "assistant", "content": None, "refusal": "No."}, "content_filter"),
    "tools": ({"role": "assistant", "content": None, "tool_calls": CALLS}, "tool_calls"),
    "text and a tool": ({"role": "assistant", "content": "Wait.", "tool_calls": CALLS[:1]}, "tool_calls"),
    "cited": (
        {"role": "assistant", "content": "x", "annotations": [{"type": "url_citation", "url_citation": {}}]},
        "stop",
    ),
}


def whole(said: dict[str, Any], reason: str = "stop", **members: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": reason}
    kind = {"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m-2026"}
    return {**kind, "choices": [choice], "usage": usage_of(19, 5), **members}


def streamed(
    kind: str, call: Call, body: bytes, to: Target | None = None, every: int = 0
) -> tuple[bytes, Any]:
    """What the caller gets of a body that comes in pieces, and its reader."""
    reader = CODECS[kind][call.operation].reader(call, to or target(kind))
    every = every or len(body)
    for at in range(0, len(body), every):
        assert reader.feed(body[at : at + every]) == b"", "nothing is known before its end"
    out = reader.finish()
    assert reader.done
    return out + reader.end(reader.usage() or Usage(1, 1)), reader


def plainly(kind: str, call: Call, body: bytes) -> tuple[bytes, Any]:
    reader = CODECS[kind][call.operation].reader(call, target(kind))
    reader.feed(body)
    reader.finish()
    return reader.end(reader.usage() or Usage(1, 1)), reader


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", MESSAGES)
def test_the_stream_says_what_the_answer_says(kind: str, case: str) -> None:
    body = json.dumps(whole(*MESSAGES[case])).encode()
    plain, read = plainly(kind, chat(), body)
    out, reader = streamed(kind, chat(stream=True), body)
    said = put_together(out)
    assert {name: value for name, value in said.items() if value is not None} == {
        name: value for name, value in message(plain).items() if value is not None
    }
    assert reader.usage() == read.usage() == Usage(19, 5)
    assert reader.text() == read.text()
    seen = chunks(out)
    assert {(chunk["id"], chunk["created"], chunk["object"]) for chunk in seen} == {
        ("chatcmpl-1", 7, "chat.completion.chunk")
    }
    assert seen[0]["choices"][0]["delta"]["role"] == "assistant"
    assert seen[-1]["choices"][0]["delta"] == {}
    assert all("usage" not in chunk for chunk in seen)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("before", [b"", b"\n\n\n", b"\r\n", b"\xef\xbb\xbf", b": wait\n\n"])
def test_it_may_be_cut_anywhere_and_come_after_signs_of_life(before: bytes, indent: int | None) -> None:
    body = before + json.dumps(whole(*MESSAGES["tools"]), indent=indent).encode() + b"\n"
    out = streamed("openai", chat(stream=True), body)[0]
    for every in (1, 2, 7):
        assert streamed("openai", chat(stream=True), body, every=every)[0] == out


@pytest.mark.parametrize("deviates", [False, True])
def test_the_count_is_shown_when_it_is_asked_for(deviates: bool) -> None:
    host = Host(name="h", base_url="http://h/v1", deviates=deviates)
    to = Target(host=host, model=Model(name="real"), prices=Prices(), base_path="/v1")
    call = chat(stream=True, stream_options={"include_usage": True})
    seen = chunks(streamed("openai", call, json.dumps(whole({"content": "Hi"})).encode(), to)[0])
    assert [chunk["usage"] for chunk in seen] == [None] * (len(seen) - 1) + [usage_of(19, 5)]
    assert [chunk["choices"] for chunk in seen][-1] == []
    assert {chunk["model"] for chunk in seen} == {"m"}


def test_an_answer_without_a_count_has_none() -> None:
    for body in (whole({"content": "Hi there"}, usage=None), whole({"content": "Hi there"}, usage=[])):
        out, reader = streamed("openai", chat(stream=True), json.dumps(body).encode())
        assert reader.usage() is None
        assert reader.text() == put_together(out)["content"] == "Hi there"


def test_each_choice_is_streamed_with_its_number_and_its_logprobs() -> None:
    said = {
        "content": [{"token": "x", "logprob": -0.25, "bytes": [120], "top_logprobs": []}],
        "refusal": None,
    }
    choices = [
        {"index": n, "message": {"content": str(n)}, "logprobs": said, "finish_reason": "stop"}
        for n in (0, 1)
    ]
    out, reader = streamed("openai", chat(stream=True, n=2), json.dumps(whole({}, choices=choices)).encode())
    assert reader.text() == "01"
    told = [choice for chunk in chunks(out) for choice in chunk["choices"]]
    assert [choice["index"] for choice in told] == [0, 0, 0, 1, 1, 1]
    assert [choice["logprobs"] for choice in told] == [None, said, None] * 2
    assert [choice["finish_reason"] for choice in told] == [None, None, "stop"] * 2


def test_what_a_filter_says_of_an_answer_is_kept() -> None:
    verdict = {"hate": {"filtered": False, "severity": "safe"}}
    body = whole({"content": "Hi"})
    body["choices"][0]["content_filter_results"] = verdict
    seen = chunks(streamed("azure", chat(stream=True), json.dumps(body).encode())[0])
    assert seen[-1]["choices"][0]["content_filter_results"] == verdict


def test_a_completion_is_streamed_too() -> None:
    call = Call(bytes(16), "completions", 0)
    parse(msgspec.json.encode({"model": "m", "prompt": "x", "stream": True}), call)
    choice = {"index": 0, "text": "Hi there", "logprobs": None, "finish_reason": "length"}
    body = {"id": "c", "object": "text_completion", "created": 7, "model": "m", "choices": [choice]}
    seen = chunks(streamed("openai", call, json.dumps(body | {"usage": usage_of(1, 2)}).encode())[0])
    assert [(c["object"], c["choices"][0]["text"], c["choices"][0]["finish_reason"]) for c in seen] == [
        ("text_completion", "Hi there", None),
        ("text_completion", "", "length"),
    ]


def test_what_is_longer_than_any_event_may_be_is_read() -> None:
    text = "x" * (3 * 1024 * 1024)
    body = json.dumps(whole({"content": text})).encode()
    assert put_together(streamed("openai", chat(stream=True), body, every=65536)[0])["content"] == text


def test_an_error_with_events_after_it_is_still_one() -> None:
    error = {"error": {"message": "slow down", "code": "rate_limit_exceeded", "type": "requests"}}
    reader = CODECS["openai"]["chat"].reader(chat(stream=True), target("openai"))
    assert reader.feed(json.dumps(error).encode() + b"\r\n\r\ndata: [DONE]\r\n\r\n") == b""
    with pytest.raises(UpstreamOverloaded, match="slow down"):
        reader.finish()
