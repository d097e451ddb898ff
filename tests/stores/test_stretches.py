"""What a window is read from: all of it once, in the largest sums that do not cross a group."""

from __future__ import annotations

import random

from headgate.stores.sql.stretches import DAYS, HOURS, Stretch, stretches

HOUR = 3_600_000_000
DAY = 24 * HOUR
MIDNIGHT = 20_000 * DAY


def one(_: int) -> str:
    return ""


def test_whole_days_are_days_with_hours_and_calls_at_their_edges() -> None:
    start, end = MIDNIGHT - 2 * HOUR - 5, MIDNIGHT + 3 * DAY + HOUR + 7
    assert stretches(start, end, one) == [
        Stretch(None, start, MIDNIGHT - 2 * HOUR),
        Stretch(HOURS, MIDNIGHT - 2 * HOUR, MIDNIGHT),
        Stretch(DAYS, MIDNIGHT, MIDNIGHT + 3 * DAY),
        Stretch(HOURS, MIDNIGHT + 3 * DAY, MIDNIGHT + 3 * DAY + HOUR),
        Stretch(None, MIDNIGHT + 3 * DAY + HOUR, end),
    ]
    assert stretches(start, end, one)[2].units == (20_000, 20_003)


def test_days_that_begin_elsewhere_are_read_by_the_hour_or_by_call() -> None:
    window = (MIDNIGHT, MIDNIGHT + 2 * DAY)
    berlin = stretches(*window, lambda at: (at + HOUR) // DAY)
    assert berlin == [Stretch(HOURS, *window)]
    delhi = stretches(*window, lambda at: (at + 11 * HOUR // 2) // DAY)
    cut = [stretch for stretch in delhi if stretch.rolls is None]
    assert [stretch.start for stretch in cut] == [MIDNIGHT + 18 * HOUR, MIDNIGHT + 42 * HOUR]
    assert all(stretch.end - stretch.start == HOUR for stretch in cut)
    assert stretches(*window, lambda at: at // (HOUR // 60)) == [Stretch(None, *window)]


def test_every_moment_is_read_once_and_no_sum_crosses_a_group() -> None:
    chance = random.Random(7)
    for _ in range(300):
        start = MIDNIGHT + chance.randrange(3 * DAY)
        end = start + chance.randrange(4 * DAY) * chance.randrange(2) + chance.randrange(2 * HOUR)
        width = chance.choice((HOUR // 60, HOUR, 6 * HOUR, DAY, 7 * DAY))
        found = stretches(start, end, lambda at, width=width: at // width)  # type: ignore[misc]
        edges = [start] + [stretch.end for stretch in found]
        assert [stretch.start for stretch in found] == edges[:-1]
        assert edges[-1] == end
        for stretch in found:
            if stretch.rolls is not None:
                step = stretch.rolls.width_us
                assert stretch.start % step == stretch.end % step == 0
                assert width % step == 0
