"""The breaker by itself: figures, time by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from headgate.routing.breaker import Breaker, BreakerTerms

S = 1_000_000_000


def broken(now: int = S, draw: float = 0.0) -> Breaker:
    breaker = Breaker(BreakerTerms())
    assert [breaker.failed(now, draw) for _ in range(5)] == [False] * 4 + [True]
    return breaker


def test_five_failures_in_a_row_take_it_out_for_thirty_seconds() -> None:
    breaker = broken()
    assert not breaker.admits(S)
    assert not breaker.admits(31 * S - 1)
    assert breaker.wait_ns(S) == 30 * S
    assert breaker.admits(31 * S)


def test_a_success_between_begins_the_row_anew() -> None:
    breaker = Breaker(BreakerTerms())
    for _ in range(10):
        assert not any(breaker.failed(S, 0) for _ in range(4))
        for _ in range(20):
            breaker.served(S)
    assert breaker.admits(S)


def test_half_of_twenty_within_ten_seconds_take_it_out() -> None:
    breaker = Breaker(BreakerTerms(row=1000))
    for each in range(9):
        assert not breaker.failed(S + each, 0)
        breaker.served(S + each)
    assert not breaker.failed(S + 9, 0)  # ten of nineteen
    breaker.served(S + 9)
    assert breaker.failed(S + 10, 0)


def test_half_of_twenty_over_more_than_ten_seconds_does_not() -> None:
    breaker = Breaker(BreakerTerms())
    for each in range(30):
        assert not breaker.failed((each + 1) * 2 * S, 0)
        breaker.served((each + 1) * 2 * S)


def test_one_call_probes_it_and_what_it_meets_decides() -> None:
    breaker = broken()
    assert breaker.admits(31 * S)
    assert breaker.admits(31 * S)  # whoever looks has not asked
    breaker.asked(31 * S)
    assert not breaker.admits(31 * S)  # one at a time
    breaker.served(32 * S)
    assert not breaker.out
    assert all(breaker.admits(32 * S) for _ in range(3))
    worse = broken()
    worse.asked(31 * S)
    assert not worse.failed(32 * S, 0)  # it was out before
    assert worse.wait_ns(32 * S) == 30 * S
    assert worse.times == 1


def test_a_probe_is_alone_for_as_long_as_its_answer_takes() -> None:
    breaker = broken()
    breaker.asked(31 * S)
    assert not breaker.admits(331 * S - 1)
    assert breaker.state(330 * S) == "probing"
    assert breaker.admits(331 * S)


def test_a_probe_whose_caller_left_makes_room_for_the_next_one() -> None:
    breaker = broken()
    breaker.asked(31 * S)
    breaker.left()
    assert breaker.admits(31 * S)
    breaker.asked(31 * S)
    assert not breaker.admits(31 * S)


def test_one_that_fails_anew_stays_out_ever_longer_and_never_above_the_bound() -> None:
    breaker, now, spans = Breaker(BreakerTerms()), S, []
    for _ in range(14):
        for _ in range(5):
            breaker.failed(now, 0)
        spans.append(breaker.wait_ns(now) // S)
        now += breaker.wait_ns(now)
        breaker.asked(now)
        breaker.served(now)
    assert spans == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300, 300]


def test_however_long_it_was_out_it_is_tried_each_thirty_seconds() -> None:
    breaker, now = broken(), S
    for _ in range(40):
        assert breaker.state(now) == "out"
        now += breaker.wait_ns(now)
        assert now % (30 * S) == S
        breaker.asked(now)
        breaker.failed(now, 0)


def test_jitter_is_up_to_a_tenth() -> None:
    assert broken(draw=0.999).wait_ns(S) == pytest.approx(33 * S, rel=1e-3)


def test_health_makes_the_next_time_out_short_again() -> None:
    breaker = broken()
    breaker.asked(31 * S)
    breaker.served(31 * S)
    for _ in range(5):
        breaker.failed(32 * S, 0)
    assert (breaker.times, breaker.wait_ns(32 * S)) == (2, 60 * S)
    breaker.asked(92 * S)
    breaker.served(92 * S)
    for _ in range(5):
        breaker.failed(92 * S + 61 * S, 0)
    assert breaker.wait_ns(153 * S) == 30 * S


def test_failures_of_calls_that_were_under_way_count_once() -> None:
    breaker = broken()
    assert not any(breaker.failed(2 * S, 0) for _ in range(50))
    assert breaker.wait_ns(2 * S) == 29 * S


def test_a_target_that_asks_to_be_left_alone_is_left_alone_and_not_out() -> None:
    breaker = Breaker(BreakerTerms())
    breaker.busy(5 * S)
    breaker.busy(3 * S)
    assert not breaker.admits(5 * S - 1)
    assert not breaker.out
    assert breaker.admits(5 * S)


def test_nothing_is_kept_of_one_that_is_long_well() -> None:
    breaker = Breaker(BreakerTerms())
    breaker.failed(S, 0)
    breaker.served(2 * S)
    assert not breaker.forgettable(200 * S)
    assert breaker.forgettable(302 * S)
    assert not broken().forgettable(10_000 * S)


@pytest.mark.parametrize(
    "terms", [{"row": -1}, {"least": 0}, {"share_percent": 0}, {"out_s": 400}, {"window_s": 0}]
)
def test_wrong_numbers_are_named(terms) -> None:
    assert next(iter(terms)) in BreakerTerms(**terms).wrong()
    assert not BreakerTerms().wrong()


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from(["look", "ask", "ask well", "ask badly"])), max_size=300
    )
)
def test_whatever_happens_it_is_asked_again_within_the_longest_time(events) -> None:
    breaker, now = Breaker(BreakerTerms()), S
    for seconds, what in events:
        now += seconds * S
        if breaker.admits(now):
            if what != "look":
                breaker.asked(now)
            if what == "ask well":
                breaker.served(now)
                assert not breaker.out
            elif what == "ask badly":
                breaker.failed(now, 0.5)
        assert breaker.wait_ns(now) <= 330 * S
    assert breaker.admits(now + 700 * S)
