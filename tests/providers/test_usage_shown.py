"""The usage that a caller reads is the one that is booked, whatever the provider's looks like."""

from typing import Any

import msgspec
import pytest
from tests.providers.test_openai_codec import CHUNK, CODEC, STRAIGHT, USAGE, call, events, payloads, target

from headgate.providers.openai import CODECS
from headgate.values import Call, Host, Target, Usage
from headgate.wire.answers import Delta

OPEN_HOST = Host(name="h", base_url="http://h/v1")
HOSTS = pytest.mark.parametrize("host", [STRAIGHT, OPEN_HOST], ids=["openai", "compatible"])
BOOKED = Usage(9, 3)
UNUSABLE: dict[str, Any] = {
    "negative": {"prompt_tokens": -9, "completion_tokens": 3, "total_tokens": -6},
    "null members": {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    "strings": {"prompt_tokens": "9", "completion_tokens": "3", "total_tokens": "12"},
    "absurd": {"prompt_tokens": 10**18, "completion_tokens": 3, "total_tokens": 10**18 + 3},
    "a wrong total": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": -1},
    "no total": {"prompt_tokens": 9, "completion_tokens": 3},
    "a list": [],
    "a number": 12,
    "null": None,
    "empty": {},
}


def shown(usage: Any, booked: Usage) -> None:
    given, made = booked.input_tokens, booked.output_tokens
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (given, made)
    assert usage["total_tokens"] == given + made
    assert usage["prompt_tokens_details"]["cached_tokens"] == booked.cached_tokens
    assert usage["completion_tokens_details"]["reasoning_tokens"] == booked.reasoning_tokens


def whole(usage: Any, host: Host, booked: Usage | None = None) -> tuple[dict[str, Any], Usage | None]:
    """A JSON answer with this usage, as the caller gets it, and what was read of it."""
    answer = {"id": "c", "choices": [{"index": 0, "message": {"content": "hi"}}], "usage": usage, "own": [1]}
    reader = CODEC.reader(call(stream=False), target(host))
    reader.feed(msgspec.json.encode(answer))
    reader.finish()
    read = reader.usage()
    return msgspec.json.decode(reader.end(booked or read or BOOKED)), read


def streamed(usage: Any, host: Host, booked: Usage | None = None) -> tuple[list[dict], Usage | None]:
    last = msgspec.json.decode(USAGE) | {"usage": usage}
    wire = events(
        CHUNK % ('"content":"hi"', "null"),
        CHUNK % ("", '"stop"'),
        msgspec.json.encode(last).decode(),
        "[DONE]",
    )
    reader = CODEC.reader(call(stream_options={"include_usage": True}), target(host))
    out = reader.feed(wire) + reader.finish()
    assert b"total_tokens" not in out
    read = reader.usage()
    return payloads(out + reader.end(booked or read or BOOKED)), read


@HOSTS
@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_usage_is_replaced_in_an_answer(name: str, host: Host) -> None:
    answer, _ = whole(UNUSABLE[name], host)
    shown(answer["usage"], BOOKED)
    assert answer["own"] == [1]
    assert answer["choices"][0]["message"]["content"] == "hi"


@HOSTS
@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_usage_is_replaced_in_a_stream(name: str, host: Host) -> None:
    chunks, _ = streamed(UNUSABLE[name], host)
    assert len(chunks) == 3
    assert chunks[-1]["choices"] == []
    shown(chunks[-1]["usage"], BOOKED)
    assert host.deviates or chunks[-1]["id"] == chunks[0]["id"]


@HOSTS
def test_a_usage_that_others_do_not_believe_is_replaced(host: Host) -> None:
    """Its numbers are fine, but the pipeline booked its own count."""
    good = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    shown(whole(good, host, Usage(7, 2))[0]["usage"], Usage(7, 2))
    shown(streamed(good, host, Usage(7, 2))[0][-1]["usage"], Usage(7, 2))


@HOSTS
def test_a_stream_without_a_usage_gets_the_booked_one_when_it_was_asked_for(host: Host) -> None:
    wire = events(CHUNK % ('"content":"hi"', '"stop"'), "[DONE]")
    for asked in (True, False):
        reader = CODEC.reader(
            call(**({"stream_options": {"include_usage": True}} if asked else {})), target(host)
        )
        chunks = payloads(reader.feed(wire) + reader.finish() + reader.end(BOOKED))
        assert len(chunks) == 1 + asked
        if asked:
            shown(chunks[-1]["usage"], BOOKED)


def test_a_usage_beside_a_choice_is_shown_in_a_chunk_of_its_own_by_any_host() -> None:
    last = msgspec.json.decode(CHUNK % ('"content":"hi"', '"stop"'))
    last["usage"] = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    reader = CODEC.reader(call(stream_options={"include_usage": True}), target())
    out = (
        reader.feed(events(msgspec.json.encode(last).decode(), "[DONE]"))
        + reader.finish()
        + reader.end(BOOKED)
    )
    first, count = payloads(out)
    assert first["usage"] is None
    shown(count["usage"], BOOKED)


@HOSTS
def test_embeddings_without_a_usage_show_the_booked_one(host: Host) -> None:
    made = Call(bytes(16), "embeddings", 0)
    made.model = "e"
    reader = CODECS["embeddings"].reader(made, target(host, model="e"))
    reader.feed(b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1]}],"model":"e"}')
    reader.finish()
    answer = msgspec.json.decode(reader.end(Usage(5, 0)))
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert answer["data"][0]["embedding"] == [0.1]


# Usage objects as hosts send them, and what they mean.
RECORDED: dict[str, tuple[dict[str, Any], Usage]] = {
    "xAI counts reasoning beside the completion": (
        {
            "prompt_tokens": 10120,
            "completion_tokens": 1499,
            "total_tokens": 14428,
            "prompt_tokens_details": {"cached_tokens": 128},
            "completion_tokens_details": {"reasoning_tokens": 2809},
        },
        Usage(10120, 1499 + 2809, 128, 0, 2809),
    ),
    "xAI, an answer of one token": (
        {
            "prompt_tokens": 12,
            "completion_tokens": 1,
            "total_tokens": 399,
            "prompt_tokens_details": {
                "text_tokens": 12,
                "audio_tokens": 0,
                "image_tokens": 0,
                "cached_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 386,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "num_sources_used": 0,
        },
        Usage(12, 387, 0, 0, 386),
    ),
    "OpenAI counts reasoning within the completion": (
        {
            "prompt_tokens": 75,
            "completion_tokens": 1186,
            "total_tokens": 1261,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 1024, "audio_tokens": 0},
        },
        Usage(75, 1186, 0, 0, 1024),
    ),
    "DeepSeek counts its cache beside the details": (
        {
            "prompt_tokens": 40,
            "completion_tokens": 20,
            "total_tokens": 60,
            "completion_tokens_details": {"reasoning_tokens": 15},
            "prompt_cache_hit_tokens": 32,
            "prompt_cache_miss_tokens": 8,
        },
        Usage(40, 20, 32, 0, 15),
    ),
    "Moonshot counts its cache at the top": (
        {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42, "cached_tokens": 16},
        Usage(40, 2, 16),
    ),
    "OpenRouter adds what it costs": (
        {
            "prompt_tokens": 14,
            "completion_tokens": 163,
            "total_tokens": 177,
            "cost": 0.0012,
            "is_byok": False,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "cost_details": {"upstream_inference_cost": None},
            "completion_tokens_details": {"reasoning_tokens": 96, "image_tokens": 0},
        },
        Usage(14, 163, 0, 0, 96),
    ),
    "a total that nothing explains changes nothing": (
        {"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 999},
        Usage(14, 3),
    ),
}


@HOSTS
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_usage_is_read_and_shown_alike_in_both_forms(name: str, host: Host) -> None:
    wire, meant = RECORDED[name]
    for answer, read in (whole(wire, host), streamed(wire, host)):
        assert read == meant
        shown_to = answer[-1] if isinstance(answer, list) else answer
        usage = shown_to["usage"]
        assert usage["prompt_tokens"] == meant.input_tokens
        assert usage["completion_tokens"] == meant.output_tokens
        assert usage["total_tokens"] == meant.input_tokens + meant.output_tokens
        details = usage.get("prompt_tokens_details") or {}
        assert details.get("cached_tokens", 0) == meant.cached_tokens
        details = usage.get("completion_tokens_details") or {}
        assert details.get("reasoning_tokens", 0) == meant.reasoning_tokens


TEXTS: dict[str, tuple[dict[str, Any], str]] = {
    "DeepSeek": ({"content": None, "reasoning_content": "thought"}, "thought"),
    "DeepSeek, beside no content": ({"content": "", "reasoning_content": "thought"}, "thought"),
    "Groq": ({"content": "", "reasoning": "thought"}, "thought"),
    "OpenRouter": ({"role": "assistant", "content": "", "reasoning": "thought", "refusal": None}, "thought"),
    "both names of one text": ({"content": "", "reasoning": "x", "reasoning_content": "x"}, "x"),
    "thought and content": ({"content": "said", "reasoning": "thought"}, "thoughtsaid"),
    "a refusal": ({"content": "", "refusal": "no"}, "no"),
    "an old function call": ({"content": "", "function_call": {"name": "f", "arguments": "{}"}}, "f{}"),
    "a tool call": ({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}, "f{}"),
    "Mistral": (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "thought"}]},
                {"type": "text", "text": "said"},
            ]
        },
        "thoughtsaid",
    ),
    "parts of no known kind": (
        {"content": [1, None, "x", {"type": "y"}, {"text": 5}, {"thinking": [7]}]},
        "",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_of_a_delta_counts(name: str) -> None:
    wire, text = TEXTS[name]
    assert msgspec.convert(wire, Delta).pieces() == text


@pytest.mark.parametrize("operation", ["chat", "completions"])
def test_choices_and_thoughts_are_the_same_text_in_both_forms(operation: str) -> None:
    """Counted here, an answer costs the same streamed or not."""
    chat = operation == "chat"
    said = [{"reasoning_content": "thought", "content": "one two"}, {"content": "three four"}]
    if not chat:
        said = [{"content": each["content"]} for each in said]
    whole = [
        {"index": i, "message": each} if chat else {"index": i, "text": each["content"]}
        for i, each in enumerate(said)
    ]
    made = call(stream=False)
    made.operation = operation  # type: ignore[assignment]
    reader = CODECS[made.operation].reader(made, target())
    reader.feed(msgspec.json.encode({"choices": whole}))
    reader.finish()
    pieces = [(0, "reasoning_content", "thought")] * chat
    pieces += [
        (0, "content", "one"),
        (1, "content", "three"),
        (1, "content", " four"),
        (0, "content", " two"),
    ]
    streamed = call(n=2)
    streamed.operation = made.operation
    stream = CODECS[made.operation].reader(streamed, target())
    for index, name, text in pieces:
        choice = {"index": index, "delta": {name: text}} if chat else {"index": index, "text": text}
        stream.feed(events(msgspec.json.encode({"choices": [choice]}).decode()))
    assert stream.text() == reader.text() == "thought" * chat + "one twothree four"


def test_only_a_count_is_awaited_once_every_choice_has_ended() -> None:
    made: Call = call(n=2)
    to: Target = target()
    reader = CODEC.reader(made, to)
    steps = [
        (CHUNK % ('"content":"a"', "null"), False),
        (CHUNK % ("", '"stop"'), False),
        (CHUNK % ("", '"stop"'), True),
        (USAGE, False),
    ]
    for payload, awaits in steps:
        assert not CODEC.reader(call(stream=False), to).awaits_count
        reader.feed(events(payload))
        assert reader.awaits_count is awaits
