"""What Gemini refuses, in our words, and its embeddings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.providers.asking import ID, read, target

from headgate.credentials import Bearer
from headgate.errors import (
    CallerError,
    NotFound,
    UpstreamDenied,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamRegion,
)
from headgate.http.parse import parse
from headgate.ports import Head
from headgate.providers.registry import CODECS
from headgate.values import Call, Host, Model, Prices, Target, Usage

CODEC = CODECS["gemini"]["chat"]
OLD = target("gemini", "gemini-2.5-flash")


def vertex(bearer: Bearer | None, name: str = "gemini-3.7-flash") -> Target:
    host = Host(name="h", kind="vertex", base_url="http://h/v1", bearer=bearer)
    path = "/v1/projects/p/locations/eu"
    return Target(host=host, model=Model(name=name), prices=Prices(), base_path=path, headers=(("a", "b"),))


# ── errors ──────────────────────────────────────────────────────────────────────────────────────

INFO = "type.googleapis.com/google.rpc.ErrorInfo"
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}


def quota(metric: str) -> dict[str, Any]:
    violation = {"quotaMetric": f"generativelanguage.googleapis.com/{metric}", "quotaValue": "250000"}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def told(status: int, message: str = "", *details: Any, headers: Any = (), kind: str = "") -> UpstreamError:
    error = {"error": {"code": status, "message": message, "status": kind, "details": list(details)}}
    first = CODEC.error(Head(status, headers), json.dumps(error).encode())
    again = CODEC.error(Head(status, headers), json.dumps([error], indent=1).encode())  # as streams have it
    assert (type(first), first.message, first.http_status) == (type(again), again.message, again.http_status)
    return first


def test_a_rate_limit_says_when_and_of_what() -> None:
    limited = told(429, "Quota exceeded.", quota("generate_content_free_tier_input_token_count"), RETRY)
    assert isinstance(limited, UpstreamOverloaded)
    assert (limited.http_status, limited.error_type, limited.code) == (429, "tokens", "rate_limit_exceeded")
    assert limited.retry_after_s == pytest.approx(34.07, abs=0.01)
    requests = told(429, "Slow", quota("generate_requests_per_model"), headers=((b"retry-after", b"5"),))
    assert isinstance(requests, UpstreamOverloaded)
    assert (requests.error_type, requests.retry_after_s) == ("requests", 5)
    bare = told(429, "Resource exhausted.")
    assert isinstance(bare, UpstreamOverloaded)
    assert bare.retry_after_s is None


@pytest.mark.parametrize(
    ("status", "message", "details"),
    [
        (400, "API key not valid. Please pass a valid API key.", ()),
        (400, "Bad", ({"@type": INFO, "reason": "API_KEY_INVALID"},)),
        (401, "Request had invalid authentication credentials.", ()),
        (403, "Generative Language API has not been used in project 1 before or it is disabled.", ()),
        (429, "Your prepayment credits are depleted.", ()),
    ],
)
def test_a_key_or_an_account_of_ours_is_nothing_for_the_caller(
    status: int, message: str, details: Any
) -> None:
    denied = told(status, message, *details)
    assert isinstance(denied, UpstreamDenied)
    assert message not in denied.message


def test_a_country_that_is_not_served_is_no_bad_key() -> None:
    said = "User location is not supported for the API use."
    assert isinstance(told(400, said, kind="FAILED_PRECONDITION"), UpstreamRegion)
    quoted = told(400, f"Invalid value: '{said}'", kind="INVALID_ARGUMENT")
    assert (quoted.http_status, quoted.another_target) == (400, False)


def test_the_callers_own_mistakes_are_passed_on() -> None:
    wrong = told(400, "Penalty is not enabled for this model", kind="INVALID_ARGUMENT")
    assert isinstance(wrong, UpstreamRefused)
    assert (wrong.http_status, wrong.error_type, wrong.code) == (400, "invalid_request_error", None)
    long = told(
        400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    )
    assert (long.param, long.code) == ("messages", "context_length_exceeded")
    gone = told(404, "models/gemini-9 is not found for API version v1beta")
    assert (gone.http_status, gone.code) == (404, "model_not_found")


def test_its_own_faults() -> None:
    busy = told(503, "The model is overloaded. Please try again later.", RETRY, kind="UNAVAILABLE")
    assert isinstance(busy, UpstreamOverloaded)
    assert (busy.http_status, busy.another_target) == (503, True)
    assert told(500, "Internal").http_status == 500
    assert told(504, "Deadline").http_status == 504
    for body in (b"<html>", b"", b"[]", b"3", b'{"error": "x"}', b'{"error": {"details": 3, "message": 4}}'):
        assert CODEC.error(Head(500, ()), body).http_status == 500


# ── embeddings ──────────────────────────────────────────────────────────────────────────────────


def embed(**members: Any) -> Call:
    made = Call(ID, "embeddings", 0)
    parse(json.dumps({"model": "m", "input": "a", **members}).encode(), made)
    return made


def test_embeddings_of_ai_studio() -> None:
    codec, to = CODECS["gemini"]["embeddings"], target("gemini", "gemini-embedding-001")
    call = embed(input=["a", "b"], dimensions=2, task_type="RETRIEVAL_QUERY")
    request = codec.encode(call, to)
    assert request.path == "/v1/models/gemini-embedding-001:batchEmbedContents"
    common = {
        "model": "models/gemini-embedding-001",
        "outputDimensionality": 2,
        "taskType": "RETRIEVAL_QUERY",
    }
    texts = [{**common, "content": {"parts": [{"text": text}]}} for text in ("a", "b")]
    assert json.loads(request.body) == {"requests": texts}
    given = {
        "embeddings": [{"values": [0.5, 1]}, {"values": [2, 3]}],
        "usageMetadata": {"promptTokenCount": 2},
    }
    out, usage = read(codec, call, to, [json.dumps(given).encode()])
    rows = [{"embedding": vector, "index": index} for index, vector in enumerate(([0.5, 1], [2, 3]))]
    assert json.loads(out) == {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", **row} for row in rows],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    assert usage == Usage(2, 0)
    packed, counted = read(
        codec, embed(encoding_format="base64"), to, [b'{"embeddings":[{"values":[0.5,1]}]}']
    )
    assert json.loads(packed)["data"][0]["embedding"] == "AAAAPwAAgD8="
    assert counted is None


def test_embeddings_of_vertex() -> None:
    codec, to = CODECS["vertex"]["embeddings"], vertex(None, "gemini-embedding-001")
    call = embed(dimensions=2)
    request = codec.encode(call, to)
    assert request.path.endswith("/publishers/google/models/gemini-embedding-001:predict")
    assert json.loads(request.body) == {
        "instances": [{"content": "a"}],
        "parameters": {"outputDimensionality": 2},
    }
    row = {"embeddings": {"values": [1, 2], "statistics": {"truncated": False, "token_count": 3}}}
    out, usage = read(codec, call, to, [json.dumps({"predictions": [row]}).encode()])
    assert (json.loads(out)["data"][0]["embedding"], usage) == ([1, 2], Usage(3, 0))


def test_embeddings_that_cannot_be() -> None:
    codec, to = CODECS["gemini"]["embeddings"], target("gemini", "gemini-embedding-001")
    with pytest.raises(CallerError) as caught:
        codec.encode(embed(input=[1, 2]), to)
    assert caught.value.param == "input"
    for body in (
        b"{}",
        b'{"embeddings":[]}',
        b'{"embeddings":[3]}',
        b"[]",
        b'{"embeddings":[{"values":"x"}]}',
    ):
        with pytest.raises(UpstreamError):
            read(codec, embed(), to, [body])


@pytest.mark.parametrize("kind", ["gemini", "vertex", "anthropic"])
def test_an_operation_that_a_wire_has_not_is_refused(kind: str) -> None:
    call = Call(ID, "completions", 0)
    with pytest.raises(NotFound, match="completions"):
        CODECS[kind]["completions"].encode(call, target(kind))
