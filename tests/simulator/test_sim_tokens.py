"""Counts are tiktoken's own, in both forms of an answer, and limits are kept to the token."""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulator.sim_upstream import Upstream, joined

from headgate.money.tokens import Tokenizers

pytestmark = pytest.mark.anyio


def count(tokenizers: Tokenizers, text: str, encoding: str = "o200k_base") -> int:
    tokenizers.load_now(encoding)
    return tokenizers.count_text(encoding, text)


@pytest.mark.parametrize(
    "text", ["say pong", "说“你好世界”", "say 🎉👩‍👩‍👧 龘𠮷", "What is the sea like?", "讲一个关于大海的故事"]
)
@pytest.mark.parametrize(("model", "encoding"), [("gpt-4o", "o200k_base"), ("gpt-3.5-turbo", "cl100k_base")])
async def test_usage_is_the_formulas_count(
    upstream: Upstream, tokenizers: Tokenizers, text: str, model: str, encoding: str
) -> None:
    messages = [
        {"role": "system", "content": "You are kind."},
        {"role": "user", "content": text, "name": "ann"},
    ]
    answer = (await upstream.ask("/chat/completions", {"model": model, "messages": messages})).json

    def size(text: str) -> int:
        return count(tokenizers, text, encoding)

    expected = 3 + (3 + 1 + size("You are kind.")) + (3 + 1 + size(text) + 1 + size("ann"))
    usage = answer["usage"]
    assert usage["prompt_tokens"] == expected
    assert usage["completion_tokens"] == size(answer["choices"][0]["message"]["content"])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [1, 2, 9, 30])
async def test_a_limit_is_reached_exactly(
    upstream: Upstream, tokenizers: Tokenizers, member: str, limit: int
) -> None:
    answer = (await upstream.chat("count from 1 to 500", **{member: limit})).json
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == limit == count(tokenizers, choice["message"]["content"])


async def test_a_limit_within_a_character_never_breaks_it(upstream: Upstream) -> None:
    text = "龘𠮷🎉👩‍👩‍👧" * 3
    for limit in range(1, 30):
        answer = (await upstream.chat(f"say “{text}”", max_tokens=limit)).json
        assert text.startswith(answer["choices"][0]["message"]["content"])
        assert answer["usage"]["completion_tokens"] == limit


async def test_an_answer_of_exactly_the_limit_stops_by_itself(
    upstream: Upstream, tokenizers: Tokenizers
) -> None:
    size = count(tokenizers, "one two three")
    answer = (await upstream.chat("say one two three", max_tokens=size)).json
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_every_choice_is_counted(upstream: Upstream) -> None:
    one = (await upstream.chat("say hello world")).json["usage"]
    four = (await upstream.chat("say hello world", n=4)).json
    assert len(four["choices"]) == 4
    assert four["usage"]["completion_tokens"] == 4 * one["completion_tokens"]
    assert four["usage"]["prompt_tokens"] == one["prompt_tokens"]


async def test_an_answer_of_any_length_can_be_asked_for(upstream: Upstream, tokenizers: Tokenizers) -> None:
    for tokens in (1, 50, 777):
        answer = (await upstream.chat("hello", f"tokens={tokens}")).json
        assert answer["usage"]["completion_tokens"] == tokens
        assert count(tokenizers, answer["choices"][0]["message"]["content"]) == tokens
        assert answer["choices"][0]["finish_reason"] == "stop"
    assert (await upstream.ask("/chat/completions", _body("sim-long-321"))).json["usage"][
        "completion_tokens"
    ] == 321


def _body(model: str, text: str = "hello") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def test_reasoning_and_cached_tokens_are_reported_as_asked(upstream: Upstream) -> None:
    plain = (await upstream.chat("say hello world")).json["usage"]
    usage = (await upstream.chat("say hello world", "reasoning=100; cached=4")).json["usage"]
    assert usage["completion_tokens"] == plain["completion_tokens"] + 100
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 100
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert usage["prompt_tokens"] == plain["prompt_tokens"]


async def test_reasoning_uses_up_the_limit_first(upstream: Upstream) -> None:
    answer = (await upstream.chat("count to 50", "reasoning=10", max_completion_tokens=10)).json
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 10
    short = (await upstream.chat("count to 50", "reasoning=40", max_completion_tokens=10)).json["usage"]
    assert short["completion_tokens"] == short["completion_tokens_details"]["reasoning_tokens"] == 10


async def test_a_stream_of_split_characters_loses_none(upstream: Upstream) -> None:
    text = "龘𠮷🎉👩‍👩‍👧 and 中文"
    chunks = (await upstream.chat(f"say “{text}”", stream=True)).chunks
    assert joined(chunks)["content"] == text
    assert all("\ufffd" not in str(chunk) for chunk in chunks)


async def test_a_stop_sequence_ends_the_answer_and_is_not_in_it(upstream: Upstream) -> None:
    assert await upstream.say("say alpha beta gamma", stop="beta") == "alpha "
    assert await upstream.say("count to 9", stop=["7", "3"]) == "1, 2, "
