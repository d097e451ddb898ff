"""Cohere's errors in OpenAI's terms: `{"id", "message"}`, of which only the status and the words speak."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import UpstreamDenied
from headgate.ports import Head
from headgate.providers.refusals import detail_of, meaning
from headgate.wire.answers import ErrorDetail

if TYPE_CHECKING:
    from headgate.errors import UpstreamError

_BLOCKED = 498  # the request or the answer holds what is on Cohere's deny list


def mistake(head: Head, body: bytes) -> UpstreamError:
    """Return what a refusing answer means for the caller."""
    message = detail_of(body).message or ""
    words = message.lower()
    if head.status == 429 and "/ month" in words:
        return UpstreamDenied(
            "The gateway's trial key has no calls left this month. Whoever runs this gateway must give it a "
            "production key."
        )
    if head.status == _BLOCKED:
        head = Head(400, head.headers)
        return meaning(head, ErrorDetail(message, code="content_filter"))
    return meaning(head, ErrorDetail(message, *_terms(head.status, words)))


def _terms(status: int, words: str) -> tuple[str, str | None, str | None]:
    """Return OpenAI's type, param and code."""
    kind = "invalid_request_error"
    if status == 429:
        return ("tokens" if "token" in words else "requests"), None, None
    if status == 400 and words.startswith("too many tokens"):
        return kind, "messages", "context_length_exceeded"
    if status == 404 and "model" in words:
        return kind, None, "model_not_found"
    return kind, None, None
