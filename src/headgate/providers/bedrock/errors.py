"""Bedrock's errors in OpenAI's terms: of an answer by its status, in a stream by the name of an exception.

A refusal names its exception in `x-amzn-errortype` (`ThrottlingException:http://...`), or in `__type` of its
body (`com.amazon.coral#ThrottlingException`); its message is `message`, or `Message` where a gateway of AWS
refused before the service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamDenied, UpstreamFailed, UpstreamTimeout
from headgate.ports import Head
from headgate.providers.refusals import meaning, wrong_country
from headgate.wire.answers import NOT_JSON, ErrorDetail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError

_STATUSES: Mapping[str, int] = {
    "validation": 400,
    "accessdenied": 403,
    "resourcenotfound": 404,
    "modeltimeout": 408,
    "modelerror": 424,
    "modelstreamerror": 424,
    "throttling": 429,
    "servicequotaexceeded": 429,
    "modelnotready": 503,
    "serviceunavailable": 503,
    "internalserver": 500,
}
_TOO_LONG = (
    "input is too long",
    "prompt is too long",
    "too many input tokens",
    "maximum context",
    "context window",
)
_NO_MODEL = ("model identifier is invalid", "model id is not found", "could not resolve the foundation model")
_COUNTRY = "access to anthropic models is not allowed from unsupported countries"  # a 400
_SIGNED = frozenset({"invalidsignature", "requestexpired", "signaturedoesnotmatch"})


def mistake(head: Head, body: bytes) -> UpstreamError:
    """Return what a refusing answer means for the caller."""
    error = _decoded(body)
    kind = (head.get(b"x-amzn-errortype") or b"").decode("latin-1").partition(":")[0]
    kind = kind or str(error.get("__type") or error.get("code") or "").rpartition("#")[2]
    return _meaning(head, kind, error)


def reported(kind: str, body: bytes) -> UpstreamError:
    """Return what an exception inside a stream means, by its name."""
    error = _decoded(body)
    return _meaning(Head(_STATUSES.get(_plain(kind), 500), ()), kind, error)


def _meaning(head: Head, kind: str, error: Mapping[str, Any]) -> UpstreamError:
    name, message = _plain(kind), _message(error)
    words = message.lower()
    status = _STATUSES.get(name, head.status)
    if words.startswith(_COUNTRY):
        return wrong_country()
    if status == 400 and any(part in words for part in _NO_MODEL):
        status = 404
    if status == 408:
        return UpstreamTimeout(message or "The model did not answer in time.")
    if status == 424:
        said = error.get("originalMessage")
        return UpstreamFailed(message or (said if isinstance(said, str) else ""), upstream_status=502)
    if name in _SIGNED or (status == 403 and "signature" in words):
        return UpstreamDenied(
            "The provider refused the signature of the gateway. Whoever runs this gateway must check its "
            "clock, its secret key and its region; your key is fine."
        )
    if status == 403 and "access to the model" in words:
        return UpstreamDenied(
            "The gateway's account may not use this model. Whoever runs this gateway must ask for access to "
            "it in the provider's console; your key is fine."
        )
    return meaning(Head(status, head.headers), ErrorDetail(message, *_terms(status, words)))


def _terms(status: int, words: str) -> tuple[str, str | None, str | None]:
    """Return OpenAI's type, param and code."""
    kind = "invalid_request_error"
    if status == 429:
        return ("tokens" if "token" in words else "requests"), None, None
    if status == 400 and any(part in words for part in _TOO_LONG):
        return kind, "messages", "context_length_exceeded"
    return kind, None, "model_not_found" if status == 404 else None


def _plain(kind: str) -> str:
    """Return the name of an exception, in lower case and without what all their names end with."""
    return kind.lower().removesuffix("exception")


def _message(error: Mapping[str, Any]) -> str:
    found = next((error[name] for name in ("message", "Message", "errorMessage") if name in error), "")
    return found if isinstance(found, str) else ""


def _decoded(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = msgspec.json.decode(body)
    except NOT_JSON:
        return {}  # HTML or nothing: only the status speaks
    return parsed if isinstance(parsed, dict) else {}
