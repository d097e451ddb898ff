"""JSON Schema's `format`s: what a fact looks like in one, and what stands in where there is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Mapping

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_YEAR = 2026  # of a date that does not say; fixed, so that an answer does not change with the day

_ISO = re.compile(
    r"(\d{4})[-/年](\d{1,2})[-/月](\d{1,2})日?(?:[T ](\d{1,2}:\d{2}(?::\d{2})?)(Z|[+-]\d{2}:\d{2})?)?"
)
_CHINESE_DAY = re.compile(r"(\d{1,2})月(\d{1,2})")
_ENGLISH_DAY = re.compile(r"([A-Za-z]{3})[a-z]*\.?\s+(\d{1,2})(?:st|nd|rd|th)?(?:,?\s+(\d{4}))?")
_DAY_FIRST = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?([A-Za-z]{3})[a-z]*(?:,?\s+(\d{4}))?")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?\s*([ap])?", re.IGNORECASE)
_CHECKS: Mapping[str, re.Pattern[str]] = {
    "email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    "uri": re.compile(r"[a-z][a-z0-9+.-]*:\S+"),
    "date": re.compile(r"\d{4}-\d{2}-\d{2}"),
    "time": re.compile(r"\d{2}:\d{2}:\d{2}(?:Z|[+-]\d{2}:\d{2})"),
    "date-time": re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:Z|[+-]\d{2}:\d{2})"),
    "duration": re.compile(r"P(?:\d+[YMWD])*(?:T(?:\d+[HMS])+)?"),
    "uuid": re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "ipv4": re.compile(r"\d{1,3}(?:\.\d{1,3}){3}"),
    "ipv6": re.compile(r"[0-9a-fA-F:]{2,39}"),
    "hostname": re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"),
}
_STANDINS: Mapping[str, str] = {
    "email": "user@example.com",
    "uri": "https://example.com/",
    "date": f"{_YEAR}-01-01",
    "time": "09:00:00Z",
    "date-time": f"{_YEAR}-01-01T09:00:00Z",
    "duration": "PT1H",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}
_SAME = {"uri-reference": "uri", "iri": "uri", "url": "uri", "idn-email": "email", "idn-hostname": "hostname"}
KINDS: Mapping[str, str] = {
    "email": "email",
    "uri": "url",
    "date": "date",
    "date-time": "date",
    "time": "time",
}


def plain_format(name: object) -> str:
    """Return the format that a schema's `format` is checked as; "" for one that is not known."""
    text = name if isinstance(name, str) else ""
    text = _SAME.get(text, text)
    return text if text in _CHECKS else ""


def in_format(name: str, fact: str) -> str | None:
    """Return a fact written in a format, or None when it cannot be."""
    if name == "date":
        fact = iso_date(fact) or fact
    elif name == "date-time":
        fact = _iso_moment(fact) or fact
    elif name == "time":
        fact = _iso_time(fact) or fact
    return fact if _CHECKS[name].fullmatch(fact) else None


def stand_in(name: str, key: str) -> str:
    """Return a valid value of a format."""
    if name == "uuid":
        seed = crc32(key.encode("utf-8", "replace"))
        return str(UUID(int=(seed * 0x9E3779B97F4A7C15F39CC0605CEDC834) % 2**128, version=4))
    return _STANDINS[name]


def iso_date(fact: str) -> str | None:
    """Return a date as `2026-03-05`, or None when it names no day."""
    if iso := _ISO.match(fact):
        return _date(iso[1], int(iso[2]), iso[3])
    if chinese := _CHINESE_DAY.match(fact):
        return _date(None, int(chinese[1]), chinese[2])
    if english := _ENGLISH_DAY.match(fact):
        return _date(english[3], _month(english[1]), english[2])
    if first := _DAY_FIRST.match(fact):
        return _date(first[3], _month(first[2]), first[1])
    return None


def _month(name: str) -> int:
    name = name.lower()
    return _MONTHS.index(name) + 1 if name in _MONTHS else 0


def _date(year: str | None, month: int, day: str) -> str | None:
    if not (1 <= month <= 12 and 1 <= int(day) <= _DAYS[month - 1]):
        return None
    return f"{int(year or _YEAR):04}-{month:02}-{int(day):02}"


def _iso_moment(fact: str) -> str | None:
    day = iso_date(fact)
    if day is None:
        return None
    iso = _ISO.match(fact)
    if iso is None or not iso[4]:
        return f"{day}T09:00:00Z"
    hour, _, rest = iso[4].partition(":")
    return f"{day}T{hour.zfill(2)}:{rest}{'' if ':' in rest else ':00'}{iso[5] or 'Z'}"


def _iso_time(fact: str) -> str | None:
    found = _CLOCK.match(fact)
    if not found:
        return None
    hour = int(found[1]) % 12 + 12 * (found[4].lower() == "p") if found[4] else int(found[1])
    return f"{hour:02}:{found[2] or '00'}:{found[3] or '00'}Z" if hour < 24 else None
