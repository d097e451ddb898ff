"""What a provider's answer says is left of its limits.

Sources: "Rate limits" of OpenAI (`x-ratelimit-remaining-requests`, with resets as `6m0s` or `12ms`; others
send seconds) and of Anthropic (`anthropic-ratelimit-requests-remaining`, with resets as RFC 3339). Of a limit
that is absurd (Azure sends -1 where it has none) or not whole, nothing is believed.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from headgate.wire.limits import Left, Told

if TYPE_CHECKING:
    from headgate.ports import Head

_NS: Final = 1_000_000_000
_LONGEST_NS: Final = 25 * 3600 * _NS  # a day's limit comes back within a day
_MOST: Final = 10**12
_UNITS: Final = {b"ms": 1_000_000, b"s": _NS, b"m": 60 * _NS, b"h": 3600 * _NS, b"d": 86_400 * _NS}
_DURATION: Final = re.compile(rb"(?:\d{1,7}(?:\.\d{1,9})?(?:ms|s|m|h|d))+")
_PART: Final = re.compile(rb"(\d{1,7}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_SECONDS: Final = re.compile(rb"\d{1,7}(?:\.\d{1,9})?")
_COUNT: Final = re.compile(rb"\d{1,12}")


def told(head: Head) -> Told:
    """Return what the head of an answer says; of what it does not say, None."""
    fields = dict(head.headers)
    date = fields.get(b"date", b"")
    return Told(_left(fields, b"requests", date), _left(fields, b"tokens", date))


def _left(fields: dict[bytes, bytes], what: bytes, date: bytes) -> Left | None:
    remaining = fields.get(b"x-ratelimit-remaining-" + what)
    if remaining is not None:
        limit = fields.get(b"x-ratelimit-limit-" + what)
        reset = fields.get(b"x-ratelimit-reset-" + what)
    else:
        start = b"anthropic-ratelimit-" + what
        remaining = fields.get(start + b"-remaining")
        limit, reset = fields.get(start + b"-limit"), fields.get(start + b"-reset")
    if remaining is None or limit is None or reset is None:
        return None
    left, most, reset_ns = _count(remaining), _count(limit), _span(reset, date)
    if left is None or not most or reset_ns is None or left > most:
        return None
    return Left(most, left, reset_ns)


def _count(raw: bytes) -> int | None:
    return int(raw) if _COUNT.fullmatch(raw) and int(raw) < _MOST else None


def _span(raw: bytes, date: bytes) -> int | None:
    """Return nanoseconds from the answer to a reset; None where that is no sensible time."""
    if _SECONDS.fullmatch(raw):
        span = int(float(raw) * _NS)
    elif _DURATION.fullmatch(raw):
        span = sum(int(float(part[1]) * _UNITS[part[2]]) for part in _PART.finditer(raw))
    else:
        span = _until(raw, date)
    return span if 0 <= span <= _LONGEST_NS else None


def _until(raw: bytes, date: bytes) -> int:
    """Return nanoseconds from the answer's own Date to an instant of RFC 3339; -1 where one is unreadable."""
    try:
        then = datetime.fromisoformat(raw.decode("ascii"))
        return int((then - parsedate_to_datetime(date.decode("ascii"))).total_seconds() * _NS)
    except (ValueError, TypeError, OverflowError):
        return -1
