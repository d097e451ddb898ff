"""Operations of the OpenAI wire whose answers pass as they came: golden requests and answers."""

from typing import Any

import msgspec
import pytest
from tests.providers.asking import read, sent, target

from headgate.errors import CallerError, NotFound, UpstreamError, UpstreamInterrupted
from headgate.http.parse import parse
from headgate.providers.registry import CODECS
from headgate.values import BUILT_IN, Call, Prices, Target, Usage

CODEC = CODECS["openai"]["moderations"]
ANSWER = b'{"id":"modr-1","model":"omni-moderation-latest","results":[{"flagged":true,"categories":{}}]}'


def asked(**members: Any) -> Call:
    made = Call(bytes(16), "moderations", 0)
    parse(msgspec.json.encode(members), made)
    return made


def at(model: str, **changes: Any) -> Target:
    return msgspec.structs.replace(target("openai", model), **changes)


def test_the_members_are_sent_and_a_model_is_filled_in():
    call = asked(input=["a", "b"])
    assert call.model == "omni-moderation-latest"
    assert sent(CODEC, call, at("omni-moderation-2024-09-26")) == {
        "input": ["a", "b"],
        "model": "omni-moderation-2024-09-26",
    }
    assert CODEC.encode(call, at("m")).path == "/v1/moderations"


def test_an_answer_passes_under_the_name_that_the_caller_used():
    call = asked(input="x", model="mine")
    for pieces in ([ANSWER], [ANSWER[at : at + 1] for at in range(len(ANSWER))]):
        body, usage = read(CODEC, call, at("omni-moderation-latest"), pieces)
        assert body == ANSWER.replace(b"omni-moderation-latest", b"mine")
        assert usage == Usage(more=(("input", 1),))


def test_a_count_of_tokens_is_the_providers():
    body = ANSWER[:-1] + b',"usage":{"prompt_tokens":7,"total_tokens":7}}'
    priced = at("mistral-moderation", prices=Prices(input=5))
    assert read(CODEC, asked(input="x"), priced, [body])[1] == Usage(7)
    assert read(CODEC, asked(input="x"), priced, [ANSWER])[1] is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"results":null}', b"<html>"])
def test_what_is_no_answer_is_an_upstreams_fault(body: bytes):
    with pytest.raises(UpstreamInterrupted):
        read(CODEC, asked(input="x"), at("m"), [body])
    with pytest.raises(UpstreamError, match="no such model"):
        read(CODEC, asked(input="x"), at("m"), [b'{"error":{"message":"no such model"}}'])


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({}, "input"),
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [{"type": "video"}]}, "input[0].type"),
        ({"input": [{"type": "image_url"}]}, "input[0].image_url"),
        ({"input": [{"type": "text", "text": 1}]}, "input[0].text"),
        ({"input": "x", "model": 1}, "model"),
    ],
)
def test_a_wrong_request_is_refused_where_it_is_wrong(members: dict[str, Any], param: str):
    with pytest.raises(CallerError) as caught:
        asked(**members)
    assert caught.value.param == param


def test_the_built_in_model_has_no_other_operation():
    for operation, codec in CODECS[BUILT_IN].items():
        if operation != "moderations":
            with pytest.raises(NotFound, match=f"does not support {operation}"):
                codec.encode(Call(bytes(16), operation, 0), at("headgate-lexical"))
