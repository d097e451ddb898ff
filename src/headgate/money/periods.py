"""The periods of budgets: keys such as `2026-11@UTC`, and where each begins and ends.

A period is named by its local date, so its key never depends on how long it lasts: a day of 23 or
25 hours is one day. Instants are integer microseconds UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Final

from headgate.money.amounts import UNITS, Unit

if TYPE_CHECKING:
    from headgate.values import WallMicros

FOREVER: Final[WallMicros] = 2**63 - 1  # the end of a `total` period

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


def zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name.

    Raises:
        ValueError: no such zone, or the machine has no time zone data.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # UTC, the default, does without it

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone {name!r}: use a name like Asia/Shanghai") from error


def period_key(at: WallMicros, unit: Unit, tz: str = "UTC") -> str:
    """Return the key of the period that an instant falls in; `total` has only one."""
    if unit == "total":
        return "total"
    return _key(_first_day(_local_date(at, zone(tz)), unit), unit, tz)


def period_start(at: WallMicros, unit: Unit, tz: str = "UTC") -> WallMicros:
    """Return the first microsecond of the period that an instant falls in."""
    if unit == "total":
        return 0
    where = zone(tz)
    return _midnight(_first_day(_local_date(at, where), unit), where)


def period_end(at: WallMicros, unit: Unit, tz: str = "UTC") -> WallMicros:
    """Return the first microsecond after the period that an instant falls in."""
    if unit == "total":
        return FOREVER
    where = zone(tz)
    return _midnight(_next_first_day(_first_day(_local_date(at, where), unit), unit), where)


class PeriodClock:
    """The current key of one unit and zone, worked out once per period.

    It never goes back: a wall clock that is stepped into an earlier period does not reopen it.
    Reading the key costs a comparison; a new period costs some tens of microseconds.
    """

    __slots__ = ("_end", "_key", "_start", "_tz", "_unit", "_zone")

    def __init__(self, unit: Unit, tz: str = "UTC") -> None:
        if unit not in UNITS:
            raise ValueError(f"unknown period {unit!r}: one of {', '.join(UNITS)}")
        self._unit: Unit = unit
        self._tz = tz
        self._zone = zone(tz)
        self._key = "total" if unit == "total" else ""
        self._start: WallMicros = 0
        self._end: WallMicros = FOREVER if unit == "total" else 0

    def key(self, at: WallMicros) -> str:
        """Return the key of the period in force at an instant."""
        if at < self._end:
            return self._key
        first = _first_day(_local_date(at, self._zone), self._unit)
        self._start = _midnight(first, self._zone)
        self._end = _midnight(_next_first_day(first, self._unit), self._zone)
        self._key = _key(first, self._unit, self._tz)
        return self._key

    @property
    def start(self) -> WallMicros:
        """Return where the period that was last asked for began."""
        return self._start

    @property
    def end(self) -> WallMicros:
        """Return where the period that was last asked for ends."""
        return self._end


def _local_date(at: WallMicros, where: tzinfo) -> date:
    return (_EPOCH + timedelta(microseconds=at)).astimezone(where).date()


def _first_day(day: date, unit: Unit) -> date:
    if unit == "month":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if unit == "week" else day


def _next_first_day(first: date, unit: Unit) -> date:
    if unit == "month":
        return (first + timedelta(days=32)).replace(day=1)
    return first + timedelta(days=7 if unit == "week" else 1)


def _key(first: date, unit: Unit, tz: str) -> str:
    if unit == "month":
        return f"{first:%Y-%m}@{tz}"
    if unit == "week":
        year, week, _ = first.isocalendar()
        return f"{year}-W{week:02d}@{tz}"
    return f"{first.isoformat()}@{tz}"


def _midnight(day: date, where: tzinfo) -> WallMicros:
    # Where the clocks skip midnight, the offset before the gap gives the instant of the skip.
    local = datetime(day.year, day.month, day.day, tzinfo=where)
    return (local - _EPOCH) // _MICRO
