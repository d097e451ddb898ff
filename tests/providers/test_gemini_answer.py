"""Gemini's answers as OpenAI's bytes: whole, streamed, and cut at every byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers import gemini_wire as wire
from tests.providers.asking import chat, chunks, message, put_together, read, target
from tests.providers.gemini_wire import body, call, candidate, frame, stream, text

from headgate.errors import UpstreamDenied, UpstreamError, UpstreamInterrupted
from headgate.money.cost import cost
from headgate.providers.registry import CODECS
from headgate.values import Prices, Usage

CODEC = CODECS["gemini"]["chat"]
TO = target("gemini", "gemini-2.5-flash")
ASKED = {"stream_options": {"include_usage": True}}
PRICES = Prices(300_000, 2_500_000, 30_000, 300_000, 2_500_000, 1_000_000, 2_500_000)

TEXT = text("你好, \u2028 world")
THOUGHT = text("**Looking** at it", thought=True)
CALL = call("weather", {"city": "Paris", "days": 2, "at": 1.5})
SIGNED = call("weather", {"city": "Paris"}, thoughtSignature="CpwBAVSoXO4=")

ANSWERS: dict[str, tuple[tuple[dict[str, Any], ...], str]] = {
    "text": ((TEXT,), "STOP"),
    "a call": ((CALL,), "STOP"),
    "text and calls": ((TEXT, SIGNED, call("now")), "STOP"),
    "calls with ids": ((call("a", id="fc_1"), call("b", {"x": []}, id="fc_2")), "STOP"),
    "thoughts": ((THOUGHT, TEXT, SIGNED), "STOP"),
    "a signed text": ((text("Sunny.", thoughtSignature="Q2k="),), "STOP"),
    "a signature on nothing": ((TEXT, text("", thoughtSignature="Q2k=")), "STOP"),
    "cut": ((TEXT,), "MAX_TOKENS"),
    "blocked half-way": ((TEXT,), "SAFETY"),
}


def whole(given: bytes, **members: Any) -> tuple[dict[str, Any], Usage | None]:
    out, usage = read(CODEC, chat(**members), TO, [given])
    return message(out), usage


def streamed(given: bytes, **members: Any) -> tuple[dict[str, Any], Usage | None]:
    out, usage = read(CODEC, chat(True, **ASKED, **members), TO, [given])
    return put_together(out), usage


def test_an_answer_whole() -> None:
    out, usage = read(CODEC, chat(), TO, [body(candidate(THOUGHT, text("Hi"), SIGNED))])
    assert json.loads(out) == {
        "id": "chatcmpl-0199c5f4a1b2" + "0" * 20,
        "object": "chat.completion",
        "created": 1759962767,
        "model": "m",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "refusal": None,
                    "annotations": [],
                    "reasoning_content": "**Looking** at it",
                    "tool_calls": [
                        {
                            "id": "call_80c7922b74c1652a28c26317",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                            "extra_content": {"google": {"thought_signature": "CpwBAVSoXO4="}},
                        }
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 29,
            "completion_tokens": 212,
            "total_tokens": 241,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 202,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }
    assert usage == Usage(29, 212, 0, 0, 202)


def test_a_stream_has_openais_grammar() -> None:
    out, _ = read(CODEC, chat(True, **ASKED), TO, [stream(text("Hello"), SIGNED)])
    found = chunks(out)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in found}) == 1
    assert all(chunk["usage"] is None for chunk in found[:-1])
    assert [chunk["choices"][0]["delta"] for chunk in found[:-1]] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "He"},
        {"content": "llo"},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_80c7922b74c1652a28c26317",
                    "type": "function",
                    "function": {"name": "weather", "arguments": ""},
                    "extra_content": {"google": {"thought_signature": "CpwBAVSoXO4="}},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":"Paris"}'}}]},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in found[:-1]] == [None] * 5 + ["tool_calls"]
    assert (found[-1]["choices"], found[-1]["usage"]["total_tokens"]) == ([], 241)


@pytest.mark.parametrize(("parts", "finish"), ANSWERS.values(), ids=ANSWERS)
def test_stream_and_whole_say_count_and_cost_the_same(parts: tuple[dict, ...], finish: str) -> None:
    said, usage = whole(body(candidate(*parts, finish=finish)))
    other, other_usage = streamed(stream(*parts, finish=finish))
    assert other == said
    assert usage == other_usage == Usage(29, 212, 0, 0, 202)
    assert cost(usage, PRICES) == 29 * 300 + 212 * 2_500


@pytest.mark.parametrize(("parts", "finish"), ANSWERS.values(), ids=ANSWERS)
def test_bytes_may_be_cut_anywhere(parts: tuple[dict, ...], finish: str) -> None:
    for asked, given in (
        (chat(True, **ASKED), stream(*parts, finish=finish)),
        (chat(), body(candidate(*parts, finish=finish))),
    ):
        once = read(CODEC, asked, TO, [given])
        assert read(CODEC, asked, TO, [given[i : i + 1] for i in range(len(given))]) == once
        for cut in range(1, len(given), 7):
            assert read(CODEC, asked, TO, [given[:cut], given[cut:]]) == once


# ── traps, by name ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "frames",
    [
        [candidate(CALL, finish=None), candidate(text(""), finish="STOP")],
        [candidate(CALL, finish="STOP"), candidate(finish=None)],
        [candidate(text("a"), finish="STOP"), candidate(CALL, finish="STOP"), candidate(text("b"))],
        [candidate(text("Let me"), finish=None), candidate(CALL, finish=None), candidate(finish="STOP")],
    ],
    ids=["stop after it", "stop with it", "stop in every chunk", "stop without content"],
)
def test_stop_with_a_tool_call_in_another_chunk_is_tool_calls(frames: list[dict]) -> None:
    said, _ = streamed(b"".join(map(frame, frames)))
    assert said["finish_reason"] == "tool_calls"
    assert len(said["tool_calls"]) == 1


def test_tool_arguments_are_not_lost_in_a_stream() -> None:  # BerriAI/litellm#25836
    said, _ = streamed(stream(call("f", {"deep": {"list": [1, "zwei", None]}}), call("g")))
    arguments = [made["function"]["arguments"] for made in said["tool_calls"]]
    assert [json.loads(text) for text in arguments] == [{"deep": {"list": [1, "zwei", None]}}, {}]


def test_missing_ids_are_made_and_differ_between_turns_calls_and_choices() -> None:
    ids = set()
    for turn in range(3):
        asked = chat()
        asked.id = bytes([turn]) * 16
        given = body(candidate(CALL, CALL), candidate(CALL, index=1))
        answer = json.loads(read(CODEC, asked, TO, [given])[0])
        again = json.loads(read(CODEC, asked, TO, [given])[0])
        found = [made["id"] for choice in answer["choices"] for made in choice["message"]["tool_calls"]]
        assert found == [
            made["id"] for choice in again["choices"] for made in choice["message"]["tool_calls"]
        ]
        assert all(len(made) <= 40 for made in found)  # what OpenAI takes, should the client go on there
        ids.update(found)
    assert len(ids) == 9


def test_a_blocked_prompt_without_candidates_is_a_filtered_answer() -> None:
    usage = {"promptTokenCount": 4, "totalTokenCount": 4}
    feedback = {"blockReason": "PROHIBITED_CONTENT"}
    said, counted = whole(body(promptFeedback=feedback, usage=usage))
    assert (said["content"], said["finish_reason"]) == ("", "content_filter")
    other, other_counted = streamed(frame(promptFeedback=feedback, usage=usage))
    assert other == said
    assert counted == other_counted == Usage(4, 0)


def test_a_limit_that_thinking_used_up_is_length_with_no_text() -> None:
    usage = {"promptTokenCount": 5, "thoughtsTokenCount": 97, "totalTokenCount": 102}
    said, counted = whole(body(candidate(finish="MAX_TOKENS"), usage=usage))
    assert (said["content"], said["finish_reason"]) == ("", "length")
    assert counted == Usage(5, 97, 0, 0, 97)


REASONS = {
    "content_filter": [
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"),
        *("IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER", "NO_IMAGE", "MODEL_ARMOR", "OTHER", "ESCALATION"),
        "A_REASON_OF_NEXT_YEAR",  # not a quiet stop
    ],
    "length": ["MAX_TOKENS", "CONTINUATION"],
    "stop": ["STOP"],
    "tool_calls": ["FUNCTION_CALL"],
}


@pytest.mark.parametrize(
    ("theirs", "ours"), [(theirs, ours) for ours, all_of in REASONS.items() for theirs in all_of]
)
def test_every_reason_to_stop(theirs: str, ours: str) -> None:
    assert whole(body(candidate(TEXT, finish=theirs)))[0]["finish_reason"] == ours
    assert streamed(stream(TEXT, finish=theirs))[0]["finish_reason"] == ours


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("MALFORMED_FUNCTION_CALL", 502),
        ("UNEXPECTED_TOOL_CALL", 502),
        ("TOO_MANY_TOOL_CALLS", 502),
        ("MALFORMED_RESPONSE", 502),
        ("MISSING_THOUGHT_SIGNATURE", 400),
    ],
)
@pytest.mark.parametrize("flowing", [False, True])
def test_a_broken_answer_is_an_error_and_its_usage_is_known(reason: str, status: int, flowing: bool) -> None:
    ended = candidate(finish=reason, finishMessage="print(default_api.f(")
    reader = CODEC.reader(chat(flowing), TO)
    if not flowing:
        reader.feed(body(ended))
    with pytest.raises(UpstreamError) as caught:
        reader.feed(frame(ended)) if flowing else reader.finish()
    assert caught.value.http_status == status
    assert caught.value.another_target is (status == 502)
    assert "default_api" in caught.value.message
    assert reader.usage() == Usage(29, 212, 0, 0, 202)


def test_a_limited_account_of_ours_is_nothing_for_the_caller() -> None:
    with pytest.raises(UpstreamDenied):
        whole(body(candidate(finish="PUP_LIMITED_DISABLED")))


def test_one_call_at_a_time_where_the_caller_asks_for_it() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    said, _ = whole(body(candidate(SIGNED, CALL)), tools=tools, parallel_tool_calls=False)
    assert len(said["tool_calls"]) == 1
    assert said["tool_calls"][0]["extra_content"]["google"]["thought_signature"]
    other, _ = streamed(stream(SIGNED, CALL), tools=tools, parallel_tool_calls=False)
    assert other == said


def test_choices_are_told_apart() -> None:
    given = b"".join(
        [
            frame(candidate(text("a"), finish=None), candidate(text("x"), index=1, finish=None)),
            frame(candidate(CALL, finish="STOP"), candidate(text("y"), index=1, finish="MAX_TOKENS")),
        ]
    )
    out, _ = read(CODEC, chat(True, n=2), TO, [given])
    reasons = {
        choice["index"]: choice["finish_reason"] for chunk in chunks(out) for choice in chunk["choices"]
    }
    assert reasons == {0: "tool_calls", 1: "length"}
    both = json.loads(
        read(CODEC, chat(n=2), TO, [body(candidate(text("a")), candidate(text("b"), index=1))])[0]
    )
    assert [choice["message"]["content"] for choice in both["choices"]] == ["a", "b"]


def test_logprobs() -> None:
    result = {
        "topCandidates": [
            {"candidates": [{"token": "Hé", "logProbability": -0.1}, {"token": "A", "logProbability": -3}]}
        ],
        "chosenCandidates": [{"token": "Hé", "tokenId": 7, "logProbability": -0.1}],
    }
    out, _ = read(CODEC, chat(logprobs=True), TO, [body(candidate(text("Hé"), logprobsResult=result))])
    told = {"token": "Hé", "logprob": -0.1, "bytes": [72, 195, 169]}
    top = [told, {"token": "A", "logprob": -3, "bytes": [65]}]
    logprobs = json.loads(out)["choices"][0]["logprobs"]
    assert logprobs == {"content": [{**told, "top_logprobs": top}], "refusal": None}
    given = frame(candidate(text("Hé"), logprobsResult=result))
    first, second = chunks(read(CODEC, chat(True, logprobs=True), TO, [given])[0])[:2]
    assert (first["choices"][0]["logprobs"], second["choices"][0]["logprobs"]) == (None, logprobs)


@pytest.mark.parametrize(
    "given",
    [
        b"<html>",
        b"[]",
        b'{"candidates": 3}',
        body(candidate(text("half"), finish=None)),
        body(),
        body(candidate(text("a")), candidate(text("b"), index=1, finish=None)),
        body(candidate({"inlineData": {"mimeType": "image/png", "data": "aGk="}})),
    ],
    ids=["html", "an array", "types", "no end", "nothing", "one has no end", "an image"],
)
def test_what_is_no_answer_is_not_passed_on(given: bytes) -> None:
    with pytest.raises(UpstreamInterrupted):
        whole(given)


def test_a_stream_that_breaks_off_is_noticed() -> None:
    given = stream(TEXT)
    for cut in (0, len(given) // 3, given.rindex(b"finishReason") - 20):
        with pytest.raises(UpstreamInterrupted):
            streamed(given[:cut])


@pytest.mark.parametrize(
    ("code", "status"), [(503, 503), (429, 429), (500, 500), (400, 400), ("x", 500), (None, 500)]
)
def test_an_error_inside_a_stream_has_its_own_status(code: Any, status: int) -> None:
    error = {"error": {"code": code, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    given = frame(candidate(text("a"), finish=None)) + f"data: {json.dumps(error)}\n\n".encode()
    reader = CODEC.reader(chat(True), TO)
    with pytest.raises(UpstreamError) as caught:
        reader.feed(given)
    assert caught.value.http_status == status
    assert reader.produced() == 1


# ── the count ───────────────────────────────────────────────────────────────────────────────────

COUNTS: dict[str, tuple[dict[str, Any], Usage | None]] = {
    "thoughts beside candidates": (wire.USAGE, Usage(29, 212, 0, 0, 202)),
    "thoughts within candidates": (
        {"promptTokenCount": 10, "candidatesTokenCount": 50, "thoughtsTokenCount": 30, "totalTokenCount": 60},
        Usage(10, 50, 0, 0, 30),
    ),
    "no candidates": ({"promptTokenCount": 10, "totalTokenCount": 10}, Usage(10, 0)),
    "cached, which the prompt has in it": (
        {"promptTokenCount": 5000, "cachedContentTokenCount": 4096, "candidatesTokenCount": 7},
        Usage(5000, 7, 4096),
    ),
    "what tools brought": (
        {"promptTokenCount": 10, "toolUsePromptTokenCount": 90, "candidatesTokenCount": 7},
        Usage(100, 7),
    ),
    "sound, partly cached": (
        {
            "promptTokenCount": 300,
            "candidatesTokenCount": 5,
            "cachedContentTokenCount": 150,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 100},
                {"modality": "AUDIO", "tokenCount": 200},
            ],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 120}],
        },
        Usage(300, 5, 150, 0, 0, 80),
    ),
    "spoken output": (
        {
            "promptTokenCount": 3,
            "candidatesTokenCount": 50,
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
        },
        Usage(3, 50, 0, 0, 0, 0, 50),
    ),
    "negative": ({"promptTokenCount": 3, "candidatesTokenCount": -1}, None),
    "a fraction": ({"promptTokenCount": 3.5}, None),
    "more cached than there is": ({"promptTokenCount": 3, "cachedContentTokenCount": 4}, None),
    "absurd": ({"promptTokenCount": 10**12}, None),
    "a text": ({"promptTokenCount": "12"}, None),
    "zero": ({"promptTokenCount": 0, "totalTokenCount": 0}, None),
    "nothing yet": ({"trafficType": "ON_DEMAND"}, None),
}


@pytest.mark.parametrize(("given", "usage"), COUNTS.values(), ids=COUNTS)
def test_every_count(given: dict[str, Any], usage: Usage | None) -> None:
    assert whole(body(candidate(TEXT), usage=given))[1] == usage
    assert streamed(frame(candidate(TEXT), usage=given))[1] == usage


def test_the_count_of_every_chunk_is_of_all_so_far() -> None:
    counts = [(4, 0), (4, 12), (4, 30)]
    frames = [
        frame(
            candidate(text("w"), finish="STOP" if made == 30 else None),
            usage={"promptTokenCount": given, "candidatesTokenCount": made, "totalTokenCount": given + made},
        )
        for given, made in counts
    ]
    assert streamed(b"".join(frames))[1] == Usage(4, 30)
    reader = CODEC.reader(chat(True), TO)
    reader.feed(frames[0] + frames[1])
    assert reader.usage() == Usage(4, 12)  # what a caller who hangs up here has used
    assert streamed(b"".join(reversed(frames[1:])))[1] is None  # one that falls is not believed


def test_a_chunk_without_a_count_changes_nothing() -> None:
    given = frame(candidate(TEXT, finish="STOP")) + frame(usage={"trafficType": "ON_DEMAND"})
    assert streamed(given)[1] == Usage(29, 212, 0, 0, 202)


def test_deep_arguments_come_back_as_json() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = {"a": [deep]}
    said, _ = whole(body(candidate(call("f", deep))))
    assert msgspec.json.decode(said["tool_calls"][0]["function"]["arguments"]) == deep
