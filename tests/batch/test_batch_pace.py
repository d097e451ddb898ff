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


def test_where_answers_take_long_lines_double_in_each_second():
    pace = Pace(32)
    pace.follow(1_000, eager=True)
    assert [pace.room(n * SECOND) for n in range(10)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert pace.room(10 * SECOND) == 1_000
    pace.running = 400
    assert pace.room(60 * SECOND) == 600
    pace.follow(500, eager=True)
    assert pace.room(60 * SECOND) == 100


def test_a_refusal_begins_that_anew_once_it_is_over():
    pace = Pace(32)
    pace.follow(1_000, eager=True)
    assert pace.room(0) == 1
    assert pace.refused(60 * SECOND, 5.0) == 65 * SECOND
    assert [pace.room(n * SECOND) for n in (64, 65, 66, 68, 75)] == [0, 1, 2, 8, 1_000]


def test_a_refusal_ends_none_of_those_that_wait_there():
    pace = Pace(32)
    pace.follow(1_000, eager=True)
    assert pace.room(0) == 1
    pace.running = 900
    pace.refused(60 * SECOND, 1.0)
    pace.running = 899
    assert [pace.room(n * SECOND) for n in (60, 61, 62, 64)] == [0, 1, 2, 8]
    for _ in range(300):  # a storm of them
        pace.refused(64 * SECOND, 1.0)
        pace.running -= 1
    assert [pace.room(n * SECOND) for n in (64, 65, 68)] == [0, 1, 8]


def test_the_settings_of_now_hold():
    pace = Pace(32)
    pace.follow(4, eager=False)
    assert pace.room(0) == 4
    pace.follow(20, eager=False)
    for _ in range(500):
        pace.served()
    assert pace.room(0) == 20
