"""JSON under the status 200 where a stream, or sound, was asked for: an error is read, and nothing of it passes.

A whole answer is: as the stream that was asked for.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from tests.providers.asking import chat, target

from headgate.errors import UpstreamError, UpstreamFailed, UpstreamInterrupted, UpstreamOverloaded
from headgate.http.parse import parse
from headgate.ports import Reader
from headgate.providers.registry import CODECS
from headgate.values import Call, Operation

LIMITED = {"error": {"message": "slow down", "code": "rate_limit_exceeded", "type": "requests"}}
ERRORS: dict[str, tuple[Any, type[UpstreamError]]] = {
    "openai": (LIMITED, UpstreamOverloaded),
    "azure": (LIMITED, UpstreamOverloaded),
    "anthropic": (
        {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
        UpstreamOverloaded,
    ),
    "gemini": (
        {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}},
        UpstreamOverloaded,
    ),
    "cohere": ({"id": "x", "message": "slow down"}, UpstreamFailed),
}


def made(operation: Operation, answer_type: bytes | None = None, **members: Any) -> Call:
    call = Call(bytes(16), operation, 0)
    parse(msgspec.json.encode({"model": "m", **members}), call)
    call.answer_type = answer_type
    return call


def fed(reader: Reader, body: bytes, size: int) -> None:
    for at in range(0, len(body), size):
        assert reader.feed(body[at : at + size]) == b"", "nothing of it may be passed on"
    reader.finish()


def answered(kind: str, call: Call, body: bytes) -> UpstreamError:
    """What comes of a body that is cut anywhere."""
    found: set[tuple[type, str]] = set()
    for size in (1, 7, len(body)):
        reader = CODECS[kind][call.operation].reader(call, target(kind))
        with pytest.raises(UpstreamError) as caught:
            fed(reader, body, size)
        assert not reader.produced()
        assert reader.usage() is None
        found.add((type(caught.value), caught.value.message))
    assert len(found) == 1
    return caught.value


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_an_error_in_place_of_a_stream_is_what_it_says(kind: str, indent: int | None) -> None:
    body, expected = ERRORS[kind]
    error = answered(kind, chat(stream=True), json.dumps(body, indent=indent).encode())
    assert (type(error), error.message) == (expected, "slow down")


def test_other_json_in_place_of_a_stream_is_an_interruption() -> None:
    for body in (
        b'{"id": "x"}',
        b'{"id": "x", "choi',
        b'{"choices": 5}',
        b'{"choices": [5]}',
        b"<html></html>",
    ):
        assert isinstance(answered("openai", chat(stream=True), body), UpstreamInterrupted)


def test_an_error_in_place_of_a_stream_of_images_is_what_it_says() -> None:
    error = answered("openai", made("images", prompt="x", stream=True), json.dumps(LIMITED).encode())
    assert type(error) is UpstreamOverloaded


@pytest.mark.parametrize("kind", [b"application/json; charset=utf-8", b"Application/JSON", b"text/html"])
def test_what_says_that_it_is_no_sound_is_none(kind: bytes) -> None:
    call = made("speech", kind, input="Hello", voice="alloy")
    error = answered("openai", call, json.dumps(LIMITED).encode())
    assert type(error) is UpstreamOverloaded
    for body in (b'{"id": "x"}', b"<html></html>", b""):
        assert type(answered("openai", call, body or b" ")) is UpstreamInterrupted


@pytest.mark.parametrize("kind", [b"", b"audio/mpeg", b"application/octet-stream"])
def test_sound_passes_whatever_it_begins_with(kind: bytes) -> None:
    reader = CODECS["openai"]["speech"].reader(
        made("speech", kind, input="x", voice="alloy"), target("openai")
    )
    assert reader.feed(b"{\x00") == b"{\x00"
    assert reader.finish() == b""
