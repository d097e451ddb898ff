"""Google's errors in OpenAI's terms.

`{"error": {"code", "message", "status", "details": [...]}}`, in an array where a stream was asked for. The
details are typed: `RetryInfo` says when to come back, `QuotaFailure` what ran out, `ErrorInfo` why. A bad key
is a 400.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from headgate.errors import UpstreamDenied
from headgate.ports import Head
from headgate.providers.refusals import meaning, wrong_country
from headgate.wire.answers import NOT_JSON, ErrorDetail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.errors import UpstreamError

_KEYS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "BILLING_DISABLED"})
_DENIED = ("api key not valid", "api key expired", "enable billing")
_COUNTRY = "user location is not supported"  # a 400
_SPENT = ("credits are depleted", "spending cap", "spend limit")
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def mistake(head: Head, body: bytes) -> UpstreamError:
    """Return what a refusing answer means for the caller."""
    try:
        parsed = msgspec.json.decode(body)
    except NOT_JSON:
        parsed = None  # HTML or nothing: only the status speaks
    if isinstance(parsed, list):
        parsed = parsed[0] if parsed else None
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return reported(error, head)


def reported(error: Any, head: Head | None = None) -> UpstreamError:
    """Return what an error means; without a head it stands in an answer, and has its own code."""
    error = error if isinstance(error, dict) else {}
    if head is None:
        code = error.get("code")
        head = Head(code if type(code) is int and 400 <= code < 600 else 500, ())
    message = error.get("message")
    message = message if isinstance(message, str) else ""
    words = message.lower()
    reasons = {detail.get("reason") for detail in _details(error, "ErrorInfo")}
    if head.status == 400 and words.startswith(_COUNTRY):
        return wrong_country()
    if head.status == 400 and (reasons & _KEYS or any(part in words for part in _DENIED)):
        head = Head(403, head.headers)
    if head.status == 429 and any(part in words for part in _SPENT):
        return UpstreamDenied(
            "The gateway's account at the provider may not spend more. Whoever runs this gateway must raise "
            "its limit or its credit there."
        )
    return meaning(_with_wait(head, error), ErrorDetail(message, *_terms(head.status, words, error)))


def _details(error: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type")).endswith(f".{kind}"):
            yield detail


def _with_wait(head: Head, error: dict[str, Any]) -> Head:
    """Return a head that says how long to wait, where only the body does."""
    if head.get(b"retry-after") is not None:
        return head
    for detail in _details(error, "RetryInfo"):
        found = _SECONDS.fullmatch(str(detail.get("retryDelay")))
        if found is not None:
            return Head(head.status, (*head.headers, (b"retry-after", found[1].encode())))
    return head


def _terms(status: int, words: str, error: dict[str, Any]) -> tuple[str, str | None, str | None]:
    """Return OpenAI's type, param and code."""
    kind = "invalid_request_error"
    if status == 429:
        failures = [failure.get("violations") for failure in _details(error, "QuotaFailure")]
        return ("tokens" if "token" in str(failures).lower() else "requests"), None, None
    if status == 400 and "token count" in words and "exceeds the maximum" in words:
        return kind, "messages", "context_length_exceeded"
    if status == 404:
        return kind, None, "model_not_found"
    return kind, None, None
