"""Errors as bytes: the body, the headers and the stream event that OpenAI's SDKs read.

Sources: OpenAI's recorded errors (all four members are always present) and what `openai-python` and
`openai-node` do with `retry-after`, `retry-after-ms` and `x-should-retry`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from headgate.errors import RateLimited

if TYPE_CHECKING:
    from headgate.errors import GatewayError

Headers = list[tuple[bytes, bytes]]
_JSON = (b"content-type", b"application/json")
VERSION = (b"openai-version", b"2020-10-01")
_encode = msgspec.json.encode


class _Detail(msgspec.Struct, gc=False):
    message: str
    type: str
    param: str | None
    code: str | None


class _Body(msgspec.Struct, gc=False):
    error: _Detail


def body(error: GatewayError) -> bytes:
    """Return the JSON of an error."""
    return _encode(_Body(_Detail(error.message, error.error_type, error.param, error.code)))


def render(error: GatewayError, request_id: str) -> tuple[int, Headers, bytes]:
    """Return status, headers (without content-length) and body of an error that is a whole answer."""
    headers: Headers = [_JSON, VERSION, (b"x-request-id", request_id.encode())]
    wait_s: float | None = getattr(error, "retry_after_s", None)
    if wait_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(wait_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(wait_s * 1000))))
    retry = error.retry
    if retry is None and wait_s is None and isinstance(error, RateLimited):
        retry = False  # it never fits: an SDK that tries again only wastes the caller's limit
    if retry is not None:
        headers.append((b"x-should-retry", b"true" if retry else b"false"))
    headers += [(name.encode("latin-1"), _value(value)) for name, value in error.headers.items()]
    return error.http_status, headers, body(error)


def stream_event(error: GatewayError) -> bytes:
    """Return the event that ends a stream which has begun; no `[DONE]` follows it."""
    return b"data: %b\n\n" % body(error)


def _value(text: str) -> bytes:
    return text.encode("latin-1", "replace")
