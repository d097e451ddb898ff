"""Who is refused while a process has too much to do: look by look, and in a loop that is simulated."""

from __future__ import annotations

import pytest
from tests.admission.busy import CAPACITY, REFUSAL_S, Busy, Caller

from headgate.admission.shedding import Place, Shedder, level
from headgate.values import Principal


def principal(key: int, **more: object) -> Principal:
    return Principal(key=key, project=1, account=1, **more)  # type: ignore[arg-type]


def shedder(most: int = 10**9) -> Shedder:
    return Shedder(set(range(16)), (), most)  # a handful is no overload


@pytest.mark.parametrize(
    ("late_s", "busy", "wanted", "times"),
    [
        (0.015, 1.0, 1.0, 99),
        (5.0, 0.2, 1.0, 99),
        (0.05, 0.8, 0.8, 99),
        (0.03, 1.0, 1.0, 1),
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
    assert new.place(principal(1), 1)


def test_it_is_noticed_within_a_quarter_of_a_second() -> None:
    new, waited_s, pause_s = shedder(), 0.0, 0.05
    while not new.full:
        waited_s += pause_s + 0.04
        pause_s = new.tick(0.04, 1.0, 1.0, pause_s + 0.04)
    assert waited_s <= 0.25


@pytest.mark.parametrize(("load", "least"), [(1.2, 0.78), (2, 0.71), (5, 0.64), (10, 0.64)])
def test_what_can_be_served_is_served_soon_and_only_the_heaviest_lose(load: float, least: float) -> None:
    heavy = Caller("heavy", 0.99 * load * CAPACITY, connections=480)
    small = Caller("small", 0.01 * load * CAPACITY, connections=32)
    seen = Busy().play(5, heavy, small, unseen_s=1)
    assert seen.goodput / 4 >= least * CAPACITY
    refusals_s = REFUSAL_S * (seen.asked.total() - seen.goodput)
    assert seen.goodput >= 0.84 * (4 - refusals_s) * CAPACITY  # the rest is what turns cost
    assert seen.served["small"] >= 0.95 * seen.asked["small"]
    assert seen.p99_s("heavy") <= 0.0032  # of which a millisecond is the provider's
    assert seen.p99_s("small") <= 0.0032
    assert sorted(seen.turns_s)[int(0.99 * len(seen.turns_s))] <= 0.0008
    assert sorted(seen.refused_s)[int(0.99 * len(seen.refused_s))] <= 0.05


@pytest.mark.parametrize(
    ("name", "pause_s"), [("heavy", 0.15), ("heavy", 0.3), ("heavy", 0.8), ("other", 0.3)]
)
def test_who_asks_for_much_after_a_pause_does_not_go_in_front(name: str, pause_s: float) -> None:
    busy = Busy()
    busy.play(2, Caller("heavy", 2 * CAPACITY, connections=480))
    busy.play(pause_s, Caller("small", 10.0))
    assert busy.shedder.full
    seen = busy.play(0.1, Caller(name, 5 * CAPACITY, connections=480))
    assert seen.p99_s(name) <= 0.0045
    assert max(seen.turns_s) <= 0.0015


@pytest.mark.parametrize("load", [2, 5, 10])
def test_when_it_begins_calls_that_come_now_are_served_now(load: float) -> None:
    heavy = Caller("heavy", 0.99 * load * CAPACITY, connections=480)
    small = Caller("small", 0.01 * load * CAPACITY, connections=32)
    seen = Busy().play(1, heavy, small)
    assert seen.goodput >= 0.6 * CAPACITY
    assert seen.p99_s("heavy") <= 0.025
    assert seen.served["small"] >= 0.9 * seen.asked["small"]
    assert max(seen.late_s) <= 0.25  # of which most is the wait of those who are refused then
    assert max(seen.turns_s) <= 0.015  # so health is answered


def test_a_burst_is_served_whole() -> None:
    busy = Busy()
    seen = busy.play(1, Caller("burst", 100 * CAPACITY, connections=400, calls=400))
    assert seen.served["burst"] == seen.asked["burst"] == 400
    assert max(seen.turns_s) <= 0.015


@pytest.mark.parametrize("connections", [32, 64])
@pytest.mark.parametrize("stolen", [0.0, 0.1])
def test_a_few_who_ask_again_at_once_are_served_in_order(connections: int, stolen: float) -> None:
    seen = Busy(stolen=stolen).play(2, Caller("worker", 30 * CAPACITY, connections=connections))
    assert seen.served == seen.asked
    assert seen.goodput / 2 >= (0.87 - stolen) * CAPACITY
    assert seen.p99_s("worker") <= (connections + 12) / CAPACITY + 0.5 * stolen  # by 3 ms at a time


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("load", [1.05, 1.2, 2])
def test_who_is_refused_is_told_so_soon_from_the_first_one_on(load: float, seed: int) -> None:
    heavy = Caller("heavy", 0.99 * load * CAPACITY, connections=480)
    small = Caller("small", 0.01 * load * CAPACITY, connections=32)
    seen = Busy(seed=seed).play(2, heavy, small)
    assert max(seen.refused_s) <= 0.07
    assert max(seen.took_s["heavy"]) <= 0.035
    assert seen.served["small"] >= 0.95 * seen.asked["small"]


@pytest.mark.parametrize(("others", "longest_s"), [(0.0, 0.09), (0.5, 0.18)])
def test_a_burst_that_is_worked_off_is_no_overload(others: float, longest_s: float) -> None:
    burst = Caller("burst", 100 * CAPACITY, connections=400, calls=400)
    seen = Busy().play(1, burst, *([Caller("other", others * CAPACITY)] if others else []))
    assert seen.served == seen.asked
    assert max(seen.took_s["burst"]) <= longest_s


@pytest.mark.parametrize("connections", [1500, 4000])
def test_a_crowd_that_asks_again_at_once_takes_no_more_time_for_being_larger(connections: int) -> None:
    seen = Busy().play(5, Caller("heavy", 20 * CAPACITY, connections=connections), unseen_s=2)
    assert seen.goodput / 3 >= 0.59 * CAPACITY
    assert seen.p99_s("heavy") <= 0.0032


@pytest.mark.parametrize("stolen", [0.3, 0.5])
def test_it_holds_where_others_take_a_part_of_the_core(stolen: float) -> None:
    heavy = Caller("heavy", 3 * CAPACITY, connections=480)
    small = Caller("small", 0.02 * CAPACITY, connections=32)
    seen = Busy(stolen=stolen).play(5, heavy, small, unseen_s=1)
    assert seen.served["small"] >= 0.95 * seen.asked["small"]
    refusals_s = REFUSAL_S * (seen.asked.total() - seen.goodput)
    assert seen.goodput >= 0.68 * (4 / (1 + stolen) - refusals_s) * CAPACITY


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_batch_calls_are_refused_first(seed: int) -> None:
    people = Caller("people", 0.74 * CAPACITY)
    batch = Caller("batch", 1.3 * CAPACITY, batch=True)
    seen = Busy(seed=seed).play(5, people, batch, unseen_s=1)
    assert seen.served["people"] >= 0.99 * seen.asked["people"]
    assert seen.p99_s("people") <= 0.02
    assert 0.02 * CAPACITY * 4 <= seen.served["batch"] <= 0.25 * seen.asked["batch"]


def test_no_batch_call_goes_in_while_others_ask_for_more_than_there_is() -> None:
    people = Caller("people", 1.6 * CAPACITY)
    batch = Caller("batch", 0.5 * CAPACITY, batch=True)
    seen = Busy().play(4, people, batch, unseen_s=1)
    assert seen.served["people"] / 3 >= 0.66 * CAPACITY
    assert seen.served["batch"] <= 0.02 * seen.asked["batch"]


def test_batch_calls_may_have_nothing_where_others_want_all_there_is() -> None:
    new, people, batch = Shedder(set(range(99)), (), 1000), principal(1), principal(2, priority="batch")
    now, batched = 0, []
    for _ in range(60):
        new.tick(0.05, 1.0, 1.0, 0.01)
        for _ in range(40):
            now += 250_000
            new.place(people, now)
        for _ in range(20):
            new.begun()
        batched.append(new.place(batch, now))
    assert new.full
    assert set(batched[20:]) == {Place.OUT}


def test_who_asks_the_most_loses_the_most() -> None:
    asks = (("a", 4.0, 320), ("b", 1.0, 1000), ("c", 0.15, 256))  # and connections, which they wait on
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


@pytest.mark.parametrize("load", [0.7, 0.8, 0.85])
def test_it_ends_where_all_that_comes_can_be_served_though_now_and_then_somebody_waits(load: float) -> None:
    busy = Busy()
    busy.play(2, Caller("heavy", 10 * CAPACITY, connections=480))
    assert busy.shedder.full
    seen = busy.play(3, Caller("heavy", load * CAPACITY, connections=128))
    assert seen.goodput >= 0.95 * seen.asked.total()
    assert not busy.shedder.full
    seen = busy.play(2, Caller("heavy", load * CAPACITY, connections=128))
    assert seen.served == seen.asked
    assert seen.p99_s("heavy") <= 0.006


def test_a_call_that_a_key_may_not_have_is_refused_without_a_look() -> None:
    new, now = Shedder(set(range(99)), (), 1000), 0
    assert not new.refuses(1, now)  # nothing is known of it
    while not new.full:
        new.tick(0.05, 1.0, 1.0, 0.01)
    assert new.place(principal(1), now) is not Place.OUT
    assert not new.refuses(1, now)
    assert new.place(principal(1), now) is Place.OUT
    assert new.refuses(1, now)
    assert not new.refuses(2, now)
    while new.refuses(1, now):
        now += 100_000
    assert 0 < now <= 10_000_000
    assert new.share == 0
    new.tick(0.05, 1.0, 1.0, 0.01)
    assert new.share > 0.8  # all but the first


def test_the_fewer_are_lost_the_longer_one_may_wait() -> None:
    new, seen = shedder(), []
    while not new.full:
        new.tick(0.05, 1.0, 1.0, 0.01)
    for lost in (50, 10, 2, 0):
        for _ in range(10):
            for _ in range(100):
                assert new.place(principal(1), 1) is Place.FIRST  # so few are open
                new.begun()
            for _ in range(lost):
                new.refused()
            new.tick(0.05, 1.0, 1.0, 0.5)
            assert new.full
        seen.append(new.leeway_ns // 1_000_000)
        assert new.in_order is (lost < 15)
    assert seen == [0, 6, 17, 19]


def test_a_few_calls_are_never_refused_however_slow_the_machine() -> None:
    calls = set(range(17))
    new = Shedder(calls, (), 1000, few=16)
    for _ in range(10):
        new.tick(0.5, 1.0, 1.0, 0.55)
    assert new.full
    calls -= set(range(10, 17))
    assert new.few
    assert {new.place(principal(1), at) for at in range(50)} == {Place.FIRST}
    calls.update(range(16))
    assert new.few  # the last one that came is among them
    calls.update(range(100, 120))
    assert not new.few
    assert Place.OUT in {new.place(principal(1), at) for at in range(50)}


@pytest.mark.parametrize(("calls", "full"), [(8, False), (15, False), (16, True)])
def test_a_handful_of_callers_is_no_overload_whatever_makes_it_late(calls: int, full: bool) -> None:
    new = Shedder(set(range(calls)), (), 1000)
    for _ in range(20):
        new.tick(0.1, 1.0, 1.0, 0.11)
        for _ in range(500):
            new.begun()  # so it is no slow machine
    assert new.full is full
    assert (Place.OUT in {new.place(principal(1), at) for at in range(900)}) is full


@pytest.mark.parametrize(("before_per_s", "refused"), [(0, False), (5_000, True)])
def test_fifty_callers_are_few_on_a_machine_that_is_always_slow(before_per_s: int, refused: bool) -> None:
    """One that lately served thousands is overloaded by as many."""
    calls: set[int] = set(range(50))
    new = Shedder(calls, (), 1000)
    for per_s in [before_per_s] * 10 + [100] * 10:
        new.tick(0.5, 1.0, 1.0, 0.1)
        for _ in range(per_s // 10):
            new.begun()
    assert new.full
    seen = {new.place(principal(1), at) for at in range(10)}
    assert (Place.OUT in seen) is refused


def test_who_asks_for_less_than_its_share_waits_in_front() -> None:
    new, now, heavy, small = Shedder(set(range(50)), (), 1000), 0, principal(1), principal(2)
    last = Place.OUT
    for look in range(60):
        new.tick(0.05, 1.0, 1.0, 0.01)
        places = []
        for _ in range(40):
            now += 250_000
            places.append(new.place(heavy, now))
        last = new.place(small, now) if look % 5 == 0 else last
        for _ in range(20):
            new.begun()
    assert new.full
    assert Place.FIRST not in places
    assert Place.BEHIND in places
    assert last is Place.FIRST


def test_turns_are_longer_where_little_is_refused() -> None:
    new = shedder()
    calm_ns = new.turn_ns
    while not new.full:
        new.tick(0.05, 1.0, 1.0, 0.01)
    assert new.turn_ns == calm_ns  # nobody was refused yet
    for at in range(100):
        new.place(principal(1), at)
    for _ in range(10):
        new.tick(0.05, 1.0, 1.0, 0.05)
        new.refused()
    assert new.turn_ns <= calm_ns / 2


def test_no_more_calls_are_open_than_may_be() -> None:
    calls: set[int] = set(range(8))
    lobby: list[int] = [1]
    new = Shedder(calls, lobby, 10)
    new.tick(0.0, 1.0, 1.0, 0.05)
    assert new.active
    assert new.place(principal(1), 1) is Place.BEHIND
    lobby.append(2)
    assert new.place(principal(1), 2) is Place.OUT
    calls.clear()
    new.tick(0.0, 1.0, 1.0, 0.05)
    assert not new.active


def test_batch_calls_leave_the_last_places_to_others() -> None:
    calls = set(range(18))
    new = Shedder(calls, (), 20)
    new.tick(0.0, 0.5, 0.5, 0.05)
    assert new.place(principal(1, priority="batch"), 1) is Place.OUT
    assert new.place(principal(2), 1)
    calls |= {18, 19}
    assert new.place(principal(2), 1) is Place.OUT


@pytest.mark.parametrize(
    ("wants", "room", "each"),
    [([], 5.0, 5.0), ([10], 4.0, 4.0), ([1, 10, 10], 9.0, 4.0), ([1, 2, 3], 100.0, 97.0), ([5, 5], 0.0, 0.0)],
)
def test_a_level_fills_from_below(wants: list[float], room: float, each: float) -> None:
    assert level(wants, room) == each
