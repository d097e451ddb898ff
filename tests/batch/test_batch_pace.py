"""More lines at once while a provider answers, fewer while it limits us."""

from __future__ import annotations

from headgate.batch.pace import Pace

SECOND = 1_000_000_000


def test_it_grows_while_it_is_served_up_to_the_most():
    pace = Pace(20)
    assert pace.room(0) == 8
    for _ in range(500):
        pace.served()
    assert pace.room(0) == 20
    pace.running = 15
    assert pace.room(0) == 5


def test_a_refusal_lowers_it_once_a_second_and_rests():
    pace = Pace(20)
    for _ in range(500):
        pace.served()
    for _ in range(10):  # one storm
        pace.refused(5 * SECOND, None)
    assert pace.room(5 * SECOND) == 0
    assert pace.room(6 * SECOND) == 14
    assert pace.refused(7 * SECOND, 30.0) == 37 * SECOND
    assert pace.room(36 * SECOND) == 0
    assert pace.room(37 * SECOND) == 9


def test_it_never_stops_for_good():
    pace = Pace(4)
    for turn in range(100):
        again = pace.refused(turn * 100 * SECOND, 1e9)
        assert again <= (turn * 100 + 60) * SECOND
    assert pace.room(again) == 1
