"""What a provider's error answer means for our caller. Bodies of all compatible hosts, one reading."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from headgate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamLacks,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamRegion,
)
from headgate.ports import Head
from headgate.wire.answers import NOT_JSON, ErrorBody, ErrorDetail, decode_error

if TYPE_CHECKING:
    from collections.abc import Mapping

_PASSED_ON = frozenset({400, 404, 405, 409, 413, 415, 422, 451})
_EMPTY_ACCOUNT = frozenset({"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"})
_ELSEWHERE = frozenset({"unsupported_country_region_territory", "unsupported_country", "unsupported_region"})
_MAX_WAIT_S = 3600.0
_STATUSES: Mapping[str, int] = {
    "content_filter": 400,
    "context_length_exceeded": 400,
    "rate_limit_exceeded": 429,
}
_SAID_WAIT = re.compile(r"(?:retry after|try again in) (\d{1,9}(?:\.\d{1,9})?) ?(ms|s)(?:\b|econd)", re.ASCII)


def refusal(head: Head, body: bytes) -> UpstreamError:
    """Return the error of a refusing answer."""
    return meaning(head, detail_of(body))


def reported(body: bytes, otherwise: int) -> UpstreamError:
    """Return the error that an answer holds although its status was 200.

    Args:
        body: of the answer, or of an event in it.
        otherwise: the status where the error does not tell its own.
    """
    detail = detail_of(body)
    return meaning(Head(status_of(detail, otherwise), ()), detail)


def status_of(detail: ErrorDetail, otherwise: int) -> int:
    """Return the status that an error would have had by what it says."""
    for value in (detail.status, detail.code):
        if isinstance(value, (int, str)) and _is_status(value):
            return int(value)
    return _STATUSES.get(str(detail.code), otherwise)


def _is_status(value: int | str) -> bool:
    text = str(value)
    return len(text) == 3 and text.isdecimal() and text.isascii() and "400" <= text < "600"


def meaning(head: Head, detail: ErrorDetail) -> UpstreamError:
    """Return the error for a status and for what the provider says of it, in OpenAI's terms.

    `x-should-retry: false` is OpenAI's word, and that of another Headgate which has tried as often as it may.
    """
    error = _meaning(head, detail)
    if head.get(b"x-should-retry") == b"false":
        error.same_target = error.retry = False
    return error


def _meaning(head: Head, detail: ErrorDetail) -> UpstreamError:
    named = isinstance(detail.code, (str, int)) and not _is_status(detail.code)
    code = str(detail.code) if named else None
    status = head.status
    denied = _denied(status, detail, code)
    if denied is not None:
        return denied
    message = (detail.message or "").strip()[:2000]
    if status in {429, 503, 529}:
        return _overloaded(head, detail, message)
    if status in _PASSED_ON:
        return (UpstreamLacks if status == 404 else UpstreamRefused)(
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


def wrong_country() -> UpstreamRegion:
    """Return the error of a provider that does not serve the country that we ask from."""
    return UpstreamRegion(
        "The provider does not serve the country or region that this gateway asks from. Whoever runs it "
        "may give the provider a `proxy`, or the model a target at another provider."
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
    if status == 403 and code in _ELSEWHERE:
        return wrong_country()
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
    wait_s = retry_after(head)
    if wait_s is None:
        wait_s = _said_wait(message)
    if head.status != 429:
        return UpstreamOverloaded(
            message or "The provider is overloaded. Try again in a moment.", retry_after_s=wait_s
        )
    return UpstreamOverloaded(
        message or "The provider limits the rate of this gateway's calls. Try again later.",
        retry_after_s=wait_s,
        limited_by="tokens" if detail.type == "tokens" or "token rate limit" in message else "requests",
    )


def detail_of(body: bytes) -> ErrorDetail:
    """Return what a body says of its error; nothing where it cannot be read."""
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


def _said_wait(message: str) -> float | None:
    """Return the wait that only the message tells: in an event, and of some hosts also in an answer."""
    found = _SAID_WAIT.search(message.lower())
    if found is None:
        return None
    wait_s = float(found[1]) * (0.001 if found[2] == "ms" else 1.0)
    return wait_s if wait_s <= _MAX_WAIT_S else None


def _until(raw: bytes, now: bytes | None) -> float:
    """Return the seconds from the answer's own Date to an HTTP date; -1 when either is unreadable."""
    try:
        then = parsedate_to_datetime(raw.decode("latin-1"))
        return (then - parsedate_to_datetime((now or b"").decode("latin-1"))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return -1.0
