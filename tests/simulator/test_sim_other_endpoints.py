"""Embeddings and text completions."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest
from tests.simulator.sim_upstream import NOW, Upstream

from headgate.money.tokens import Tokenizers

pytestmark = pytest.mark.anyio
SMALL = "text-embedding-3-small"


async def embed(upstream: Upstream, given: Any, model: str = SMALL, **members: Any) -> Any:
    seen = await upstream.ask("/embeddings", {"model": model, "input": given, **members})
    assert seen.status == 200
    return seen.json


async def vectors(upstream: Upstream, given: list[str], **members: Any) -> list[list[float]]:
    return [row["embedding"] for row in (await embed(upstream, given, **members))["data"]]


def near(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("model", "length"), [(SMALL, 1536), ("text-embedding-3-large", 3072), ("text-embedding-ada-002", 1536)]
)
async def test_a_vector_has_the_real_models_length_and_length_one(
    upstream: Upstream, model: str, length: int
) -> None:
    body = await embed(upstream, "The food was delicious", model)
    (row,) = body["data"]
    assert (body["object"], body["model"], row["object"], row["index"]) == ("list", model, "embedding", 0)
    assert len(row["embedding"]) == length
    assert all(row["embedding"])
    assert math.isclose(near(row["embedding"], row["embedding"]), 1, abs_tol=1e-6)
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


@pytest.mark.parametrize("dimensions", [None, 512, 256])
async def test_similar_texts_lie_close_and_others_do_not(upstream: Upstream, dimensions: int | None) -> None:
    members = {} if dimensions is None else {"dimensions": dimensions}
    cat, mat, stocks = await vectors(
        upstream, ["a cat sits on the mat", "the cat sat on a mat", "share prices fell today"], **members
    )
    assert near(cat, mat) > 0.5 > near(cat, stocks) + 0.3
    apple, apples, shares = await vectors(
        upstream, ["我喜欢吃苹果", "他喜欢吃苹果和香蕉", "今天股市下跌"], **members
    )
    assert near(apple, apples) > 0.5 > near(apple, shares) + 0.3


async def test_dimensions_shorten_the_vector_and_keep_its_length(upstream: Upstream) -> None:
    (row,) = (await embed(upstream, "hello world", dimensions=256))["data"]
    assert len(row["embedding"]) == 256
    assert math.isclose(near(row["embedding"], row["embedding"]), 1, abs_tol=1e-6)


async def test_both_encodings_say_the_same(upstream: Upstream) -> None:
    (plain,) = (await embed(upstream, "hello"))["data"]
    (packed,) = (await embed(upstream, "hello", encoding_format="base64"))["data"]
    raw = base64.b64decode(packed["embedding"])
    assert raw == struct.pack("<1536f", *plain["embedding"])


async def test_token_ids_stand_for_their_text(upstream: Upstream, tokenizers: Tokenizers) -> None:
    tokenizers.load_now("cl100k_base")
    texts = ["hello world", "你好，世界"]
    ids = [tokenizers.encode("cl100k_base", text) for text in texts]
    by_text = await embed(upstream, texts)
    by_ids = await embed(upstream, ids)
    assert by_ids == by_text
    assert (await embed(upstream, ids[0]))["data"] == by_text["data"][:1]
    assert by_text["usage"]["prompt_tokens"] == sum(map(len, ids))


async def test_a_token_id_that_does_not_exist_is_refused(upstream: Upstream) -> None:
    for bad in ([99_999_999], [[1, -5]]):
        seen = await upstream.ask("/embeddings", {"model": SMALL, "input": bad})
        assert (seen.status, seen.json["error"]["type"]) == (400, "invalid_request_error")


async def test_a_long_list_comes_in_order(upstream: Upstream) -> None:
    body = await embed(upstream, [f"text number {n}" for n in range(40)])
    assert [row["index"] for row in body["data"]] == list(range(40))
    assert len({tuple(row["embedding"]) for row in body["data"]}) == 40


async def test_the_same_text_gives_the_same_vector(upstream: Upstream) -> None:
    one, two, other = await vectors(upstream, ["same", "same", "Same but different"])
    assert one == two != other


async def complete(upstream: Upstream, prompt: Any, **members: Any) -> Any:
    return await upstream.ask(
        "/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": prompt, **members}
    )


async def test_a_completion_has_every_member(upstream: Upstream) -> None:
    body = (await complete(upstream, "say pong")).json
    assert body.pop("id").startswith("cmpl-")
    assert body == {
        "object": "text_completion",
        "created": NOW,
        "model": "gpt-3.5-turbo-instruct",
        "choices": [{"text": "pong", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
        "system_fingerprint": "fp_headgate_sim",
    }


async def test_a_completion_stops_at_sixteen_tokens_unless_told_otherwise(upstream: Upstream) -> None:
    short = (await complete(upstream, "count to 100")).json
    assert short["usage"]["completion_tokens"] == 16
    assert short["choices"][0]["finish_reason"] == "length"
    whole = (await complete(upstream, "count to 100", max_tokens=2000)).json
    assert whole["choices"][0]["text"].endswith("100")


async def test_prompts_are_answered_one_by_one(upstream: Upstream, tokenizers: Tokenizers) -> None:
    tokenizers.load_now("cl100k_base")
    ids = tokenizers.encode("cl100k_base", "say two")
    body = (await complete(upstream, ["say one", "say three"], n=2, echo=True)).json
    assert [c["text"] for c in body["choices"]] == [
        "say oneone",
        "say oneone",
        "say threethree",
        "say threethree",
    ]
    assert [c["index"] for c in body["choices"]] == [0, 1, 2, 3]
    assert (await complete(upstream, ids)).json["choices"][0]["text"] == "two"
    assert [c["text"] for c in (await complete(upstream, [ids, ids])).json["choices"]] == ["two", "two"]
    assert (await complete(upstream, None)).status == 200


async def test_candidates_of_best_of_are_charged(upstream: Upstream) -> None:
    one = (await complete(upstream, "say hello world")).json["usage"]["completion_tokens"]
    best = (await complete(upstream, "say hello world", best_of=3)).json
    assert len(best["choices"]) == 1
    assert best["usage"]["completion_tokens"] == 3 * one


async def test_a_completion_streams_its_text_and_usage(upstream: Upstream) -> None:
    members = {"echo": True, "logprobs": 2, "max_tokens": 50}
    whole = (await complete(upstream, ["count to 5", "说你好"], **members)).json
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = (await complete(upstream, ["count to 5", "说你好"], **members, **asked)).chunks
    *said, usage = chunks
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert all(c["usage"] is None and c["object"] == "text_completion" for c in said)
    for choice in whole["choices"]:
        parts = [c["choices"][0] for c in said if c["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [
            choice["finish_reason"]
        ]
        logprobs = [part["logprobs"] for part in parts if part["logprobs"]]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            assert [item for row in logprobs for item in row[name]] == choice["logprobs"][name]
