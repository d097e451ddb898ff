"""Embeddings at Bedrock, whose bodies are each maker's own: Titan's and Cohere's."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers.asking import ID, read, target

from headgate.errors import CallerError, UpstreamInterrupted
from headgate.http.parse import parse
from headgate.providers.registry import CODECS
from headgate.values import Call, Usage


def embedding(model: str, **members: Any) -> tuple[str, Any]:
    call = Call(ID, "embeddings", 0)
    parse(msgspec.json.encode({"model": "m", **members}), call)
    request = CODECS["bedrock"]["embeddings"].encode(call, target("bedrock", model))
    return request.path, msgspec.json.decode(request.body)


def test_embeddings_of_titan_and_of_cohere() -> None:
    path, made = embedding("amazon.titan-embed-text-v2:0", input="a", dimensions=256, normalize=False)
    assert path == "/v1/model/amazon.titan-embed-text-v2%3A0/invoke"
    assert made == {"inputText": "a", "normalize": False, "dimensions": 256}
    assert embedding("amazon.titan-embed-image-v1", input="a", dimensions=256)[1] == {
        "inputText": "a",
        "embeddingConfig": {"outputEmbeddingLength": 256},
    }
    common = {"texts": ["a", "b"], "input_type": "search_document"}
    assert embedding("cohere.embed-multilingual-v3", input=["a", "b"])[1] == common
    wide = embedding("us.cohere.embed-v4:0", input=["a", "b"], dimensions=512, truncate="RIGHT")[1]
    assert wide == {**common, "truncate": "RIGHT", "output_dimension": 512}
    asked = embedding("cohere.embed-v4:0", input="a", input_type="search_query", encoding_format="base64")[1]
    assert asked == {"texts": ["a"], "input_type": "search_query"}


@pytest.mark.parametrize(
    ("model", "members", "param"),
    [
        ("amazon.titan-embed-text-v2:0", {"input": ["a", "b"]}, "input"),
        ("amazon.titan-embed-text-v2:0", {"input": [1, 2]}, "input"),
        ("amazon.titan-embed-text-v1", {"input": "a", "dimensions": 9}, "dimensions"),
        ("cohere.embed-english-v3", {"input": "a", "dimensions": 9}, "dimensions"),
        ("us.anthropic.claude-opus-4-8-v1:0", {"input": "a"}, "model"),
    ],
)
def test_embeddings_that_cannot_be_made(model: str, members: dict, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        embedding(model, **members)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("model", "texts", "answer", "count"),
    [
        (
            "amazon.titan-embed-text-v2:0",
            ["a"],
            {"embedding": [0.5, 2], "inputTextTokenCount": 3},
            Usage(3, 0),
        ),
        ("cohere.embed-english-v3", ["a", "b"], {"embeddings": [[0.5, 2], [1, 1]]}, None),
        (
            "cohere.embed-v4:0",
            ["a"],
            {"embeddings": {"float": [[0.5, 2]]}, "response_type": "embeddings_by_type"},
            None,
        ),
    ],
)
def test_embeddings(model: str, texts: list[str], answer: Any, count: Usage | None) -> None:
    call = Call(ID, "embeddings", 0)
    parse(msgspec.json.encode({"model": "m", "input": texts}), call)
    out, usage = read(
        CODECS["bedrock"]["embeddings"], call, target("bedrock", model), [json.dumps(answer).encode()]
    )
    made = json.loads(out)
    assert made["data"][0]["embedding"] == [0.5, 2]
    assert len(made["data"]) == len(texts)
    assert usage == count
    with pytest.raises(UpstreamInterrupted):
        read(CODECS["bedrock"]["embeddings"], call, target("bedrock", model), [b'{"message":"x"}'])
