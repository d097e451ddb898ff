"""Anthropic's errors in OpenAI's terms.

`{"type":"error","error":{"type","message"},"request_id"}`; the type goes with the status, so that of an error
in a stream says which status it would have had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamDenied
from headgate.providers.refusals import meaning, wrong_country
from headgate.wire.answers import NOT_JSON, ErrorDetail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.errors import UpstreamError
    from headgate.ports import Head

STATUSES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_SPENT = ("credit balance is too low", "reached your specified api usage limits", "spend limit")
_COUNTRY = ("forbidden", "request not allowed")  # the type and the message of a 403
_TOO_LONG = ("prompt is too long", "exceed context limit", "exceeds the context window")


class _Error(msgspec.Struct, frozen=True, gc=False):
    type: str | None = None
    message: str | None = None
    details: Any = None


class _Body(msgspec.Struct, gc=False):
    error: _Error = _Error()


_decode = msgspec.json.Decoder(_Body).decode


def mistake(head: Head, body: bytes) -> UpstreamError:
    """Return what a refusing answer, or an error event, means for the caller."""
    try:
        error = _decode(body).error
    except NOT_JSON:
        error = _Error()  # HTML or nothing: only the status speaks
    message = error.message or ""
    if head.status in {400, 429} and _is_spent(error, message.lower()):
        return UpstreamDenied(
            "The gateway's account at the provider may not spend more. Whoever runs this gateway must raise "
            "its limit or its credit there."
        )
    if head.status == 403 and (error.type, message.lower()) == _COUNTRY:
        return wrong_country()
    return meaning(head, ErrorDetail(message, *_terms(head.status, message.lower())))


def _is_spent(error: _Error, message: str) -> bool:
    details = error.details
    if isinstance(details, dict) and details.get("error_code") == "enforced_spend_limit_reached":
        return True
    return any(words in message for words in _SPENT)


def _terms(status: int, message: str) -> tuple[str, str | None, str | None]:
    """Return OpenAI's type, param and code."""
    if status == 429:
        return ("tokens" if "tokens" in message else "requests"), None, None
    if status == 400 and any(words in message for words in _TOO_LONG):
        return "invalid_request_error", "messages", "context_length_exceeded"
    if status == 404 and message.startswith("model:"):
        return "invalid_request_error", None, "model_not_found"
    return "invalid_request_error", None, None
