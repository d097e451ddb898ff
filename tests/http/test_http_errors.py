from __future__ import annotations

import json

import pytest

from headgate.errors import (
    GatewayError,
    Internal,
    MethodRefused,
    NotFound,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    UpstreamOverloaded,
    UpstreamRefused,
)
from headgate.http.errors import render, stream_event
from headgate.http.heads import http_date

ID = "req_0123456789abcdef0123456789abcdef"


def rendered(error: GatewayError) -> tuple[int, dict[bytes, bytes], dict[str, object]]:
    status, headers, body = render(error, ID)
    found = dict(headers)
    assert len(found) == len(headers)
    assert found[b"content-type"] == b"application/json"
    assert found[b"x-request-id"] == ID.encode()
    return status, found, json.loads(body)["error"]


def test_a_body_has_all_four_members() -> None:
    status, _, error = rendered(NotFound("The model `x` does not exist.", code="model_not_found"))
    assert status == 404
    assert error == {
        "message": "The model `x` does not exist.",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }


@pytest.mark.parametrize(
    ("wait_s", "seconds", "millis"), [(0.0004, b"1", b"1"), (1.146, b"2", b"1146"), (20.0, b"20", b"20000")]
)
def test_a_rate_limit_says_when_to_come_back(wait_s: float, seconds: bytes, millis: bytes) -> None:
    status, headers, error = rendered(RateLimited("Rate limit reached.", kind="tokens", retry_after_s=wait_s))
    assert status == 429
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (seconds, millis)
    assert b"x-should-retry" not in headers
    assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")


@pytest.mark.parametrize(
    "error", [QuotaExceeded("No money."), RateLimited("Too large.", kind="tokens", retry_after_s=None)]
)
def test_what_no_retry_can_help_says_so(error: GatewayError) -> None:
    _, headers, _ = rendered(error)
    assert headers[b"x-should-retry"] == b"false"
    assert b"retry-after" not in headers
    assert b"retry-after-ms" not in headers


def test_an_overloaded_upstream_passes_its_wait_on() -> None:
    status, headers, error = rendered(UpstreamOverloaded("Busy.", retry_after_s=7))
    assert (status, headers[b"retry-after"], error["code"]) == (503, b"7", "server_is_overloaded")
    status, headers, error = rendered(UpstreamOverloaded("Busy.", limited_by="requests"))
    assert (status, error["type"]) == (429, "requests")
    assert b"retry-after" not in headers
    assert rendered(Unavailable("Draining."))[1][b"retry-after"] == b"1"


def test_an_upstream_refusal_keeps_its_status_type_and_param() -> None:
    status, _, error = rendered(
        UpstreamRefused("Bad.", upstream_status=422, upstream_type="odd", param="messages[0]", code="c")
    )
    assert (status, error["type"], error["param"], error["code"]) == (422, "odd", "messages[0]", "c")


def test_headers_of_an_error_are_sent() -> None:
    _, headers, _ = rendered(MethodRefused("Not allowed.", headers={"allow": "GET", "x-note": "钱"}))
    assert headers[b"allow"] == b"GET"
    assert headers[b"x-note"] == b"?"


def test_a_stream_event_is_one_frame() -> None:
    frame = stream_event(Internal("a\nb 价"))
    assert frame.startswith(b"data: {")
    assert frame.endswith(b"}\n\n")
    assert frame.count(b"\n") == 2
    assert json.loads(frame[6:])["error"] == {
        "message": "a\nb 价",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }


def test_a_date_is_written_as_http_wants_it() -> None:
    assert http_date(784111777) == b"Sun, 06 Nov 1994 08:49:37 GMT"
