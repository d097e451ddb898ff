"""Lines of waiting calls, in time that is moved by hand."""

from __future__ import annotations

import random
from collections import Counter
from heapq import heappop, heappush

import pytest

from headgate.admission.limits import LimitRow, LimitTable
from headgate.admission.queue import TURNS, Line, Waiter
from headgate.admission.rate import Rates
from headgate.values import Limits, Principal

SECOND = 1_000_000_000
QUEUE_MS = 2_000


class Hall:
    """One account's line, played event by event: calls arrive, wait, pass or go."""

    def __init__(self, **limits: int) -> None:
        self.rates = Rates(LimitTable([LimitRow("account", 1, "", Limits(**limits))]))
        self.line = Line()
        self.passed: list[tuple[str, int]] = []  # who, and after what wait
        self.lost: Counter[str] = Counter()
        self.now = self._due = 0
        self._events: list[tuple[int, int, object]] = []
        self._count = 0
        self._who: dict[Waiter, str] = {}
        self._keys: dict[str, Principal] = {}

    def at(self, when: int, event: object) -> None:
        self._count += 1
        heappush(self._events, (when, self._count, event))

    def key(self, name: str, **more: object) -> Principal:
        found = self._keys.get(name)
        if found is None:
            members = {"key": len(self._keys) + 1, "queue_ms": QUEUE_MS} | more
            found = self._keys[name] = Principal(project=1, account=1, name=name, **members)  # type: ignore[arg-type]
        return found

    def arrive(self, name: str, tokens: int = 0) -> None:
        gate = self.rates.gate(self.key(name), "m", self.now)
        if not self.line.is_before(gate) and gate.admit(tokens, self.now) is not None:
            self.passed.append((name, 0))
            return
        if not gate.queue_ms:
            self.lost[name] += 1
            return
        waiter = Waiter(gate, tokens, self.now)
        self._who[waiter] = name
        self.line.join(waiter)
        self.at(waiter.until, waiter)
        self.turn()

    def turn(self) -> None:
        admitted, next_ns = self.line.turn(self.now)
        for waiter in admitted:
            self.passed.append((self._who[waiter], self.now - waiter.since))
        if next_ns and not self.now < self._due <= next_ns:  # else it is looked at before that anyway
            self._due = next_ns
            self.at(next_ns, None)

    def play(self) -> None:
        while self._events:
            self.now, _, event = heappop(self._events)
            if isinstance(event, Waiter):
                if event.ticket is None:
                    self.line.leave(event)
                    self.lost[self._who[event]] += 1
                    self.turn()
            elif isinstance(event, tuple):
                self.arrive(*event)
            else:
                self.turn()
        assert self.line.count == 0


def test_calls_pass_in_order_when_their_limit_allows_them():
    hall = Hall(rpm=60)
    for _ in range(60):
        hall.at(0, ("a",))
    for index in range(3):
        hall.at(index + 1, ("a",))
    hall.play()
    assert [wait for _, wait in hall.passed[60:]] == [SECOND - 1, 2 * SECOND - 2]
    assert hall.lost == {"a": 1}  # it would have waited longer than it may


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("overload", [1.2, 2, 10])
def test_a_key_with_one_per_cent_of_the_load_loses_at_most_five_per_cent(seed, overload):
    chance, hall = random.Random(seed), Hall(rpm=6_000)
    length, rate = 60, 100 * overload
    for index in range(int(length * rate)):
        name = "small" if chance.random() < 0.01 else "large"
        hall.at(int((index + chance.random()) * SECOND / rate), (name,))
    hall.play()
    served = Counter(name for name, _ in hall.passed)
    total = served["small"] + hall.lost["small"]
    assert total > 20
    assert hall.lost["small"] <= total * 0.05, (served, hall.lost)
    assert served["large"] + served["small"] >= 100 * length  # and nothing is left unused


def test_many_large_keys_do_not_starve_a_small_one():
    chance, hall = random.Random(1), Hall(rpm=6_000)
    for index in range(60 * 300):
        name = "small" if index % 100 == 0 else f"large{chance.randrange(20)}"
        hall.at(index * SECOND // 300, (name,))
    hall.play()
    assert hall.lost["small"] <= 9


def test_tokens_are_shared_by_what_is_taken_not_by_the_number_of_calls():
    hall = Hall(tpm=60_000)
    hall.at(0, ("x", 60_000))
    for index in range(8_000):
        hall.at(index * SECOND // 100 + 1, ("thin", 50))
        if index % 10 == 0:
            hall.at(index * SECOND // 100 + 2, ("thick", 500))
    hall.play()
    served = Counter(name for name, _ in hall.passed)
    assert served["thick"] * 500 == pytest.approx(served["thin"] * 50, rel=0.1)


def test_a_large_call_is_not_starved_by_small_ones():
    hall = Hall(tpm=60_000)
    hall.key("large", queue_ms=60_000)
    hall.at(0, ("x", 60_000))
    hall.at(1, ("large", 20_000))
    for index in range(60_000):
        hall.at(index * SECOND // 1_000 + 2, ("small", 100))
    hall.play()
    waits = [wait for name, wait in hall.passed if name == "large"]
    assert len(waits) == 1
    assert waits[0] <= 41 * SECOND  # 20 s alone; the other key has as much meanwhile


def test_a_key_that_waits_for_its_own_limit_holds_up_nobody():
    hall = Hall(rpm=6_000)
    hall.key("slow", rpm=1)
    for index in range(5):
        hall.at(index, ("slow",))
    for index in range(100):
        hall.at(100 + index, ("fast",))
    hall.play()
    assert Counter(name for name, _ in hall.passed) == {"slow": 1, "fast": 100}


def test_interactive_calls_come_first_and_batch_ones_are_not_starved():
    hall = Hall(rpm=600)
    hall.key("batch", priority="batch", queue_ms=50_000)
    for index in range(3_000):
        hall.at(index * SECOND // 50, ("people",))
        if index % 5 == 0:
            hall.at(index * SECOND // 50, ("batch",))
    hall.play()
    late = [name for name, wait in hall.passed if wait]
    while late[-1] == "batch":  # when nobody else waits any more
        late.pop()
    assert Counter(late)["batch"] == pytest.approx(len(late) / TURNS, rel=0.1)


def test_calls_without_a_queue_do_not_pass_those_that_wait():
    hall = Hall(rpm=60)
    hall.key("hasty", queue_ms=0)
    for _ in range(61):
        hall.at(0, ("patient",))
    hall.at(SECOND, ("hasty",))
    hall.play()
    assert len(hall.passed) == 61
    assert hall.lost == {"hasty": 1}


def test_who_leaves_frees_what_stood_behind_them():
    hall = Hall(tpm=60_000)
    hall.arrive("x", 60_000)
    gate = hall.rates.gate(hall.key("large"), "m", 0)
    waiter = Waiter(gate, 50_000, 0)
    hall.line.join(waiter)
    hall.now = 5 * SECOND
    hall.turn()
    assert hall.line.is_before(hall.rates.gate(hall.key("small"), "m", hall.now))
    hall.line.leave(waiter)
    hall.line.leave(waiter)
    assert hall.line.count == 0
    assert not hall.line.is_before(gate)
    hall.arrive("small", 100)
    assert hall.passed[-1] == ("small", 0)


def test_the_longest_lane_is_known():
    hall = Hall(rpm=1)
    hall.arrive("a")
    for name in "bbcbc":
        hall.arrive(name)
    count, last = hall.line.longest()
    assert (count, last.gate.principal.name) == (3, "b")
    assert hall.line.waiting(hall.key("c").key) == 2
    hall.line.leave(last)
    assert hall.line.longest()[0] == 2
