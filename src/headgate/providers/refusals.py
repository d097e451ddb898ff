"""What a provider's error answer means for our caller. Bodies of all compatible hosts, one reading."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from headgate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamRefused,
)
from headgate.wire.answers import NOT_JSON, ErrorBody, ErrorDetail, decode_error

if TYPE_CHECKING:
    from headgate.ports import Head

_PASSED_ON = frozenset({400, 404, 405, 409, 413, 415, 422, 451})
_EMPTY_ACCOUNT = frozenset({"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"})
_MAX_WAIT_S = 3600.0


def refusal(head: Head, body: bytes) -> UpstreamError:
    """Return the error of a refusing answer."""
    return meaning(head, _detail(body))


def meaning(head: Head, detail: ErrorDetail) -> UpstreamError:
    """Return the error for a status and for what the provider says of it, in OpenAI's terms."""
    code = str(detail.code) if isinstance(detail.code, (str, int)) else None
    status = head.status
    denied = _denied(status, detail, code)
    if denied is not None:
        return denied
    message = (detail.message or "").strip()[:2000]
    if status in {429, 503, 529}:
        return _overloaded(head, detail, message)
    if status in _PASSED_ON:
        return UpstreamRefused(
            message or f"The provider refused the request ({status}).",
            upstream_status=status,
            upstream_type=detail.type or "invalid_request_error",
            param=detail.param if isinstance(detail.param, str) else None,
            code=code,
        )
    if 300 <= status < 400:
        return UpstreamInterrupted(f"The provider redirected the request ({status}); we never follow.")
    return UpstreamFailed(
        message or "The server had an error while processing your request. Try again in a moment.",
        upstream_status=status,
    )


def no_credential(trouble: str) -> UpstreamError:
    """Return the error of a host whose token or keys are not there: not yet, or, by a trouble, not at all."""
    if trouble:
        return UpstreamDenied(
            "The gateway has no valid credential for the provider: its log says why. Whoever runs this "
            "gateway must see to it; your key is fine."
        )
    return UpstreamOverloaded("The gateway is fetching its credential for the provider.", retry_after_s=1.0)


def _denied(status: int, detail: ErrorDetail, code: str | None) -> UpstreamDenied | None:
    if status in {401, 403}:
        return UpstreamDenied(
            f"The provider refused the gateway's own credential ({status}). Whoever runs this gateway "
            "must check the provider's key; your key is fine."
        )
    if status == 402 or code in _EMPTY_ACCOUNT or detail.type == "insufficient_quota":
        return UpstreamDenied(
            "The gateway's account at the provider has no credit left. Whoever runs this gateway "
            "must top it up."
        )
    return None


def _overloaded(head: Head, detail: ErrorDetail, message: str) -> UpstreamOverloaded:
    if head.status != 429:
        return UpstreamOverloaded(
            message or "The provider is overloaded. Try again in a moment.", retry_after_s=retry_after(head)
        )
    return UpstreamOverloaded(
        message or "The provider limits the rate of this gateway's calls. Try again later.",
        retry_after_s=retry_after(head),
        limited_by="tokens" if detail.type == "tokens" else "requests",
    )


def _detail(body: bytes) -> ErrorDetail:
    try:
        parsed = decode_error(body)
    except NOT_JSON:
        return ErrorDetail()  # HTML or nothing: only the status speaks
    return _flat(parsed)


def _flat(parsed: ErrorBody) -> ErrorDetail:
    if isinstance(parsed.error, ErrorDetail):
        return parsed.error
    text = parsed.error or parsed.message or (parsed.detail if isinstance(parsed.detail, str) else None)
    return ErrorDetail(message=text)


def retry_after(head: Head) -> float | None:
    """Return the provider's own wait in seconds, or None when it gave none that makes sense."""
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        raw = head.get(name)
        if raw is None:
            continue
        try:
            wait_s = float(raw) * unit
        except ValueError:
            wait_s = _until(raw, head.get(b"date"))
        if 0 <= wait_s <= _MAX_WAIT_S:
            return wait_s
    return None


def _until(raw: bytes, now: bytes | None) -> float:
    """Return the seconds from the answer's own Date to an HTTP date; -1 when either is unreadable."""
    try:
        then = parsedate_to_datetime(raw.decode("latin-1"))
        return (then - parsedate_to_datetime((now or b"").decode("latin-1"))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return -1.0
