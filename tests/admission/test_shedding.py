"""Who is refused while a process has too much to do: look by look, and in a loop that is simulated."""

from __future__ import annotations

import pytest
from tests.admission.busy import CAPACITY, REFUSAL_S, Busy, Caller

from headgate.admission.shedding import Shedder, level
from headgate.values import Principal


def principal(key: int, **more: object) -> Principal:
    return Principal(key=key, project=1, account=1, **more)  # type: ignore[arg-type]


def shedder(most: int = 10**9) -> Shedder:
    return Shedder(set(), most)


@pytest.mark.parametrize(
    ("late_s", "busy", "wanted", "times"),
    [
        (0.015, 1.0, 1.0, 99),
        (5.0, 0.2, 1.0, 99),
        (0.05, 0.8, 0.8, 99),
        (0.03, 1.0, 1.0, 2),
        (9.0, 1.0, 1.0, 1),
    ],
)
def test_nothing_is_refused_in_time_or_by_the_fault_of_others_or_in_a_burst(
    late_s: float, busy: float, wanted: float, times: int
) -> None:
    new = shedder()
    for _ in range(times):
        new.tick(late_s, busy, wanted, 0.04 + late_s)
    assert not new.full
    for _ in range(20):
        new.tick(0.0, busy, wanted, 0.01)
    assert not new.full
    assert new.admits(principal(1), 1, 10**9)


def test_it_is_noticed_within_a_quarter_of_a_second() -> None:
    new, waited_s, pause_s = shedder(), 0.0, 0.05
    while not new.full:
        waited_s += pause_s + 0.04
        pause_s = new.tick(0.04, 1.0, 1.0, pause_s + 0.04)
    assert waited_s <= 0.25


@pytest.mark.parametrize(("load", "least"), [(1.2, 0.9), (2, 0.8), (5, 0.7), (10, 0.7)])
def test_what_can_be_served_is_served_soon_and_only_the_heaviest_lose(load: float, least: float) -> None:
    heavy = Caller("heavy", 0.99 * load * CAPACITY, connections=480)
    small = Caller("small", 0.01 * load * CAPACITY, connections=32)
    seen = Busy().play(5, heavy, small, unseen_s=1)
    assert seen.goodput / 4 >= least * CAPACITY
    refusals_s = REFUSAL_S * (seen.asked.total() - seen.goodput)
    assert seen.goodput >= 0.9 * (4 - refusals_s) * CAPACITY  # no time is wasted
    assert seen.served["small"] >= 0.95 * seen.asked["small"]
    assert seen.p99_s("heavy") <= 0.025
    assert seen.p99_s("small") <= 0.025
    assert sorted(seen.refused_s)[int(0.99 * len(seen.refused_s))] <= 0.05


@pytest.mark.parametrize("connections", [1500, 4000])
def test_a_crowd_that_asks_again_at_once_takes_no_more_time_for_being_larger(connections: int) -> None:
    seen = Busy().play(5, Caller("heavy", 20 * CAPACITY, connections=connections), unseen_s=2)
    assert seen.goodput / 3 >= 0.65 * CAPACITY
    assert seen.p99_s("heavy") <= 0.025


@pytest.mark.parametrize("stolen", [0.3, 0.5])
def test_it_holds_where_others_take_a_part_of_the_core(stolen: float) -> None:
    heavy = Caller("heavy", 3 * CAPACITY, connections=480)
    small = Caller("small", 0.02 * CAPACITY, connections=32)
    seen = Busy(stolen=stolen).play(5, heavy, small, unseen_s=1)
    assert seen.served["small"] >= 0.95 * seen.asked["small"]
    refusals_s = REFUSAL_S * (seen.asked.total() - seen.goodput)
    assert seen.goodput >= 0.75 * (4 / (1 + stolen) - refusals_s) * CAPACITY


def test_batch_calls_are_refused_first() -> None:
    people = Caller("people", 0.7 * CAPACITY)
    batch = Caller("batch", 1.3 * CAPACITY, batch=True)
    seen = Busy().play(5, people, batch, unseen_s=1)
    assert seen.served["people"] >= 0.95 * seen.asked["people"]
    assert 0.05 * CAPACITY * 4 <= seen.served["batch"] <= 0.25 * seen.asked["batch"]


def test_no_batch_call_goes_in_while_others_ask_for_more_than_there_is() -> None:
    people = Caller("people", 1.6 * CAPACITY)
    batch = Caller("batch", 0.5 * CAPACITY, batch=True)
    seen = Busy().play(4, people, batch, unseen_s=1)
    assert seen.served["people"] / 3 >= 0.75 * CAPACITY
    assert seen.served["batch"] <= 0.02 * seen.asked["batch"]


def test_who_asks_the_most_loses_the_most() -> None:
    asks = (("a", 4.0, 320), ("b", 1.0, 1000), ("c", 0.2, 256))  # and connections, which they wait on
    callers = [Caller(name, many * CAPACITY, connections=on) for name, many, on in asks]
    seen = Busy(upstream_s=0.05).play(5, *callers, unseen_s=1)
    kept = [seen.served[name] / seen.asked[name] for name in "abc"]
    assert kept[0] < kept[1] < kept[2]
    assert kept[2] >= 0.95
    assert 0.5 <= seen.served["b"] / seen.served["a"] <= 2  # each about as many as the other


def test_a_crowd_of_strangers_is_refused_too() -> None:
    callers = [Caller(f"key{number}", 30.0, connections=8) for number in range(300)]
    seen = Busy().play(3, *callers, unseen_s=1)
    assert 0.7 * CAPACITY <= seen.goodput / 2 <= 1.05 * CAPACITY
    assert max(seen.p99_s(caller.name) for caller in callers) <= 0.05
    kept = sorted(seen.served[caller.name] for caller in callers)
    assert kept[-1] <= 3 * kept[0]


def test_it_takes_everybody_again_within_two_seconds() -> None:
    busy = Busy()
    busy.play(3, Caller("heavy", 10 * CAPACITY, connections=480))
    assert busy.shedder.full
    busy.play(2, Caller("heavy", 0.5 * CAPACITY))
    assert not busy.shedder.active
    assert busy.shedder.share == 0
    seen = busy.play(2, Caller("heavy", 0.8 * CAPACITY))
    assert seen.served == seen.asked


def test_a_few_calls_are_never_refused_however_slow_the_machine() -> None:
    calls: set[int] = set()
    new = Shedder(calls, 1000, few=16)
    for _ in range(10):
        new.tick(0.5, 1.0, 1.0, 0.55)
        calls.add(len(calls))
    assert new.full
    assert all(new.admits(principal(1), at, 10**9) for at in range(50))
    calls.update(range(100, 120))
    assert not all(new.admits(principal(1), at, 10**9) for at in range(50))


def test_no_more_calls_are_open_than_may_be() -> None:
    calls: set[int] = set(range(9))
    new = Shedder(calls, 10)
    new.tick(0.0, 1.0, 1.0, 0.05)
    assert new.active
    assert new.admits(principal(1), 1, 0)
    calls.add(9)
    assert not new.admits(principal(1), 2, 0)
    calls.clear()
    new.tick(0.0, 1.0, 1.0, 0.05)
    assert not new.active


@pytest.mark.parametrize(
    ("wants", "room", "each"),
    [([], 5.0, 5.0), ([10], 4.0, 4.0), ([1, 10, 10], 9.0, 4.0), ([1, 2, 3], 100.0, 97.0), ([5, 5], 0.0, 0.0)],
)
def test_a_level_fills_from_below(wants: list[float], room: float, each: float) -> None:
    assert level(wants, room) == each
