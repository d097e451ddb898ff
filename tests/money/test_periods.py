from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from headgate.money.periods import FOREVER, PeriodClock, period_end, period_key, period_start

DAY = 86_400_000_000
# Zones with midnights that are skipped or repeated, half-hour shifts, and a day left out.
ZONES = [
    "UTC",
    "Asia/Shanghai",
    "America/New_York",
    "America/Havana",
    "Asia/Beirut",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Sao_Paulo",
]
instants = st.integers(0, 4_000_000_000 * 1_000_000)
zones = st.sampled_from(ZONES)
units = st.sampled_from(["day", "week", "month"])


def micros(*when, tz="UTC"):
    return int(datetime(*when, tzinfo=ZoneInfo(tz)).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("when", "unit", "tz", "key"),
    [
        ((2026, 11, 23, 23, 59, 59), "day", "UTC", "2026-11-23@UTC"),
        ((2026, 11, 23, 16), "day", "Asia/Shanghai", "2026-11-24@Asia/Shanghai"),
        ((2026, 11, 23), "month", "UTC", "2026-11@UTC"),
        ((2026, 11, 30, 16), "month", "Asia/Shanghai", "2026-12@Asia/Shanghai"),
        ((2026, 11, 23), "week", "UTC", "2026-W48@UTC"),
        ((2026, 11, 22), "week", "UTC", "2026-W47@UTC"),
        ((2027, 1, 1), "week", "UTC", "2026-W53@UTC"),
        ((2026, 11, 23), "total", "UTC", "total"),
        ((2026, 11, 23), "total", "Asia/Shanghai", "total"),
    ],
)
def test_a_period_is_named_by_its_local_date(when, unit, tz, key):
    assert period_key(micros(*when), unit, tz) == key


@given(instants, units, zones)
def test_every_instant_lies_in_one_period_and_its_neighbours_have_other_keys(at, unit, tz):
    start, end = period_start(at, unit, tz), period_end(at, unit, tz)
    key = period_key(at, unit, tz)
    assert start <= at < end
    assert period_key(start, unit, tz) == period_key(end - 1, unit, tz) == key
    assert period_key(end, unit, tz) != key
    assert start == 0 or period_key(start - 1, unit, tz) != key


def test_a_day_with_a_clock_change_is_one_day_of_another_length():
    new_york = "America/New_York"
    at = micros(2026, 3, 8, 12, tz=new_york)
    assert period_end(at, "day", new_york) - period_start(at, "day", new_york) == DAY * 23 // 24
    at = micros(2026, 11, 1, 12, tz=new_york)
    assert period_end(at, "day", new_york) - period_start(at, "day", new_york) == DAY * 25 // 24


def test_the_only_period_of_a_total_has_no_end():
    assert (period_start(5, "total"), period_end(5, "total")) == (0, FOREVER)
    assert PeriodClock("total").key(FOREVER - 1) == "total"


@given(st.lists(instants, min_size=1), units, zones)
def test_a_period_clock_gives_the_same_keys_as_long_as_time_goes_on(times, unit, tz):
    clock = PeriodClock(unit, tz)
    for at in sorted(times):
        assert clock.key(at) == period_key(at, unit, tz)
        assert clock.start == period_start(at, unit, tz)
        assert clock.end == period_end(at, unit, tz)


def test_a_period_clock_never_reopens_a_period_when_the_clock_is_stepped_back():
    clock = PeriodClock("day")
    assert clock.key(micros(2026, 11, 23)) == "2026-11-23@UTC"
    assert clock.key(micros(2026, 11, 22, 23, 59)) == "2026-11-23@UTC"
    assert clock.key(micros(2026, 11, 24)) == "2026-11-24@UTC"


@pytest.mark.parametrize("tz", ["Mars/Olympus", "../etc/passwd", "", "utc+8"])
def test_an_unknown_zone_is_refused_by_name(tz):
    with pytest.raises(ValueError, match="time zone"):
        PeriodClock("day", tz)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="year"):
        PeriodClock("year")


def test_the_clock_of_a_test_is_utc():
    assert micros(1970, 1, 2) == int(datetime(1970, 1, 2, tzinfo=UTC).timestamp()) * 1_000_000
