"""When those are answered who are refused."""

from __future__ import annotations

import pytest

from headgate.admission.refusals import Refusals

MS = 1_000_000


def given(refusals: Refusals[int], now: int) -> list[int]:
    """Those of one turn."""
    refusals.turn(now)
    found = []
    while (item := refusals.next()) is not None:
        found.append(item)
    return found


def crowd(many: int, now: int = 0) -> Refusals[int]:
    refusals = Refusals[int]()
    for number in range(many):
        refusals.enter(number, now, now)
    return refusals


def test_one_waits_for_some_forty_milliseconds() -> None:
    refusals = crowd(1)
    assert not given(refusals, 39 * MS)
    assert given(refusals, 40 * MS) == [0]
    assert not given(refusals, 99 * MS)
    refusals.enter(7, 200 * MS, 200 * MS)  # nothing is left of the time before
    assert not given(refusals, 230 * MS)
    assert given(refusals, 240 * MS) == [7]


def test_who_has_waited_already_waits_no_longer_for_being_refused() -> None:
    refusals = Refusals[int]()
    refusals.enter(1, 30 * MS, 0)
    refusals.enter(2, 60 * MS, 10 * MS)
    assert given(refusals, 60 * MS) == [1, 2]


@pytest.mark.parametrize(("many", "wait_ms"), [(100, 40), (440, 40), (480, 43), (4400, 400)])
def test_those_who_come_together_and_come_again_are_answered_evenly(many: int, wait_ms: int) -> None:
    refusals, seen, again = crowd(many), list[list[int]](), many
    for now in range(wait_ms * MS * 3 // 100, 3 * wait_ms * MS, wait_ms * MS * 3 // 100):
        seen.append(given(refusals, now))
        for _ in seen[-1]:
            refusals.enter(again, now, now)
            again += 1
    turns = [len(each) for each in seen]
    assert sum(turns[:33]) == pytest.approx(min(many, 33 * 12), rel=0.05)
    assert max(turns) <= min(turns) + 1
    assert [number for each in seen for number in each] == list(range(sum(turns)))


def test_nobody_waits_for_longer_because_others_left() -> None:
    refusals, left, now = crowd(480), 480, 0
    while now < 48 * MS:
        now += MS // 2
        left -= len(given(refusals, now))
    assert left == 0
    assert not refusals


def test_a_turn_gives_few_however_long_the_last_one_was_and_the_next_one_follows_at_once() -> None:
    refusals = crowd(100)
    assert refusals.pause_ns >= 2 * MS
    assert given(refusals, 1000 * MS) == list(range(12))
    assert refusals.pause_ns == 0
    assert given(refusals, 1000 * MS) == list(range(12, 24))
    assert len(refusals) == 76
