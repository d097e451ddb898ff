"""Who is refused while a process has too much to do, tick by tick."""

from __future__ import annotations

from collections import Counter

import pytest

from headgate.admission.shedding import Shedder, level
from headgate.values import Principal

CAPACITY = 100  # calls between two ticks that the process can serve


def principal(key: int, **more: object) -> Principal:
    return Principal(key=key, project=1, account=1, **more)  # type: ignore[arg-type]


class Busy:
    """A process that is late while it lets in more than it can serve."""

    def __init__(self, most: int = 10**9) -> None:
        self.calls: set[int] = set()
        self.shedder = Shedder(self.calls, most)
        self.asked: Counter[str] = Counter()
        self.served: Counter[str] = Counter()

    def tick(self, wants: dict[str, int]) -> None:
        entered = 0
        for name, count in wants.items():
            who = principal(sum(name.encode()), priority="batch" if name == "batch" else "interactive")
            for _ in range(count):
                if not self.shedder.active or self.shedder.admits(who):
                    self.served[name] += 1
                    entered += 1
        self.asked.update(wants)
        self.shedder.tick(0.1 if entered > CAPACITY else 0.0, 1.0)

    def play(self, wants: dict[str, int], ticks: int = 200) -> None:
        for _ in range(40):  # until it has settled
            self.tick(wants)
        self.asked.clear()
        self.served.clear()
        for _ in range(ticks):
            self.tick(wants)


@pytest.mark.parametrize(
    ("late_s", "busy", "times"), [(0.02, 1.0, 99), (5.0, 0.2, 99), (5.0, 1.0, 2), (0.03, 1.0, 20)]
)
def test_nothing_is_refused_in_time_or_by_the_fault_of_others_or_in_a_burst(
    late_s: float, busy: float, times: int
) -> None:
    process = Busy()
    for _ in range(times):
        process.shedder.tick(late_s, busy)
    assert not process.shedder.active
    process.shedder.tick(0.0, busy)
    process.shedder.tick(late_s, busy)
    assert not process.shedder.active


def test_a_few_calls_are_never_refused() -> None:
    busy = Busy()
    for _ in range(50):
        busy.shedder.tick(1.0, 1.0)
    assert busy.shedder.share > 0.9
    assert all(busy.shedder.admits(principal(1)) for _ in range(50))


@pytest.mark.parametrize("load", [2, 5, 10])
def test_what_can_be_served_is_served_and_only_the_heaviest_lose(load: int) -> None:
    busy = Busy()
    busy.play({"heavy": CAPACITY * load, "other": 30, "small": load})
    assert busy.served["small"] >= 0.95 * busy.asked["small"]
    assert busy.served["other"] >= 0.9 * busy.asked["other"]
    assert 0.6 * CAPACITY <= sum(busy.served.values()) / 200 <= 1.6 * CAPACITY


def test_batch_calls_are_refused_first() -> None:
    busy = Busy()
    busy.play({"batch": 5 * CAPACITY, "people": 8 * CAPACITY // 10})
    assert busy.served["people"] >= 0.9 * busy.asked["people"]
    assert busy.served["batch"] < 0.2 * busy.asked["batch"]


def test_it_takes_everybody_again_within_two_seconds() -> None:
    busy = Busy()
    busy.play({"heavy": 10 * CAPACITY})
    for _ in range(40):  # of 50 ms
        busy.tick({"heavy": CAPACITY // 2})
    assert not busy.shedder.active
    assert busy.shedder._credit == {}


def test_no_more_calls_are_open_than_may_be() -> None:
    busy = Busy(most=10)
    busy.calls.update(range(9))
    busy.shedder.tick(0.0, 1.0)
    assert busy.shedder.active
    assert busy.shedder.admits(principal(1))
    busy.calls.add(9)
    assert not busy.shedder.admits(principal(1))
    busy.calls.clear()
    busy.shedder.tick(0.0, 1.0)
    assert not busy.shedder.active


@pytest.mark.parametrize(
    ("wants", "room", "each"),
    [([], 5.0, 5.0), ([10], 4.0, 4.0), ([1, 10, 10], 9.0, 4.0), ([1, 2, 3], 100.0, 97.0), ([5, 5], 0.0, 0.0)],
)
def test_a_level_fills_from_below(wants: list[int], room: float, each: float) -> None:
    assert level(wants, room) == each
