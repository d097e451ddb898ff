"""A canary's callers, and when it is rolled back."""

from __future__ import annotations

from random import Random

import pytest
from tests.routing.test_routes import BOTH, routes

from headgate.observe.metrics import Metrics
from headgate.routing.canary import TrialTerms, Tried, is_slower, point, verdict
from headgate.routing.settings import Canary, RouteTarget
from headgate.routing.trials import PAIRS, Trial, Trials
from headgate.settings.upstreams import ConfigError

TERMS = TrialTerms()
NAMES = [f"key_{number}" for number in range(20_000)]


def test_a_caller_stays_on_its_side_and_a_larger_share_takes_nobody_back() -> None:
    small = {name for name in NAMES if point(name, "t") < 0.05}
    large = {name for name in NAMES if point(name, "t") < 0.2}
    assert small < large
    assert abs(len(small) / len(NAMES) - 0.05) < 0.005
    assert abs(len(large) / len(NAMES) - 0.2) < 0.01
    assert [point(name, "t") for name in NAMES[:9]] == [point(name, "t") for name in NAMES[:9]]


def test_another_trial_takes_other_callers() -> None:
    both = sum(point(name, "t") < 0.1 and point(name, "u") < 0.1 for name in NAMES)
    assert abs(both / len(NAMES) - 0.01) < 0.003


class Callers:
    """Calls on both sides of a canary with a share of a tenth."""

    def __init__(self, seed: int, *, canary: float, main: float) -> None:
        self.random = Random(seed)
        self.rates = (main, canary)
        self.sides = [[0, 0], [0, 0]]

    def run(self, calls: int) -> int:
        """Ask after every call; return after how many it is rolled back, or 0."""
        for number in range(1, calls + 1):
            canary = self.random.random() < 0.1
            self.sides[canary][self.random.random() < self.rates[canary]] += 1
            main, tried = (Tried(*side) for side in self.sides)
            if verdict(tried, main, Tried(), TERMS):
                return number
        return 0


@pytest.mark.parametrize(("rate", "within"), [(1.0, 150), (0.3, 600), (0.1, 4000)])
def test_a_canary_that_fails_more_often_is_rolled_back(rate: float, within: int) -> None:
    after = [Callers(seed, canary=rate, main=0.01).run(within) for seed in range(20)]
    assert all(after), after


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.2, 1.0])
def test_one_that_fails_as_often_is_hardly_ever_rolled_back(rate: float) -> None:
    alarms = sum(Callers(seed, canary=rate, main=rate).run(1000) > 0 for seed in range(100))
    assert alarms <= 3  # of 100 trials 1 at most is expected


def test_one_that_fails_less_often_is_not() -> None:
    assert not any(Callers(seed, canary=0.01, main=0.1).run(2000) for seed in range(10))


def test_the_slower_one_is_rolled_back_and_the_equal_one_is_not() -> None:
    def pairs(seed: int, slower: float) -> int:
        random, seen = Random(seed), [0, 0]
        for number in range(1, 1001):
            seen[random.random() < slower] += 1
            if verdict(Tried(), Tried(), Tried(*seen), TERMS):
                return number
        return 0

    assert all(0 < pairs(seed, 0.85) <= 100 for seed in range(20))
    assert sum(pairs(seed, 0.5) > 0 for seed in range(100)) <= 3


def test_a_verdict_waits_for_its_least_and_says_why() -> None:
    few, many = Tried(0, 4), Tried(0, 5)
    assert verdict(few, Tried(1000, 0), Tried(), TERMS) == ""
    assert verdict(many, Tried(1000, 0), Tried(), TERMS) == (
        "it failed in 5 of 5 attempts, the main side in 0 of 1000"
    )
    assert verdict(many, Tried(), Tried(), TERMS) == "", "there is nothing to compare it with"
    assert "30 of 30 pairs" in verdict(Tried(30), Tried(300), Tried(0, 30), TERMS)
    assert is_slower(Tried(10, 10)) == 0


def test_terms_that_cannot_be_meant_are_named() -> None:
    assert "least" in TrialTerms(least=0).wrong()
    assert "false_alarm_percent" in TrialTerms(false_alarm_percent=0).wrong()
    assert "slower_percent" in TrialTerms(slower_percent=-1).wrong()
    assert TERMS.wrong() == ""


def test_an_answer_of_the_canary_is_paired_once_with_one_of_its_kind() -> None:
    metrics = Metrics()
    trials = Trials(metrics, alone=True)
    canary = Canary(target=RouteTarget("p", "m"), share_percent=10, slower_percent=20)
    trials.follow({"t": Trial("t", "smart", canary)})

    def took(pace: float, *, canary: bool, stream: bool = False) -> None:
        trials.took("t", pace, canary=canary, stream=stream)

    took(500, canary=True)  # there is nothing to compare it with
    took(100, canary=False)
    took(999, canary=True, stream=True)  # nothing of its kind
    took(120, canary=True)  # not slower by more than a fifth
    took(999, canary=True)  # the one of the main side was used
    took(50, canary=False)
    took(100, canary=False)
    took(121, canary=True)
    assert metrics.counts == {
        (PAIRS, ("smart", "t", "not_slower")): 1,
        (PAIRS, ("smart", "t", "slower")): 1,
    }
    for _ in range(20):
        took(100, canary=False)
        took(200, canary=True)
    assert trials.over == {"t"}
    assert "pairs of answers it was slower by more than 20 %" in trials.ended["t"].why
    trials.follow({})
    took(100, canary=False)  # a call that began under other settings counts for nothing
    assert trials.takes("t", "anyone") is None


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("share_percent = 0", "share_percent"),
        ("share_percent = 100", "share_percent"),
        ('share_percent = 5, sticky_by = "moon"', "sticky_by"),
        ("share_percent = 5, least = 0", "least"),
        ('share_percent = 5, target = {provider = "nobody", model = "x"}', "nobody"),
        ('share_percent = 5, target = {provider = "openai", model = "x", weight = 1}', "weight"),
    ],
)
def test_a_canary_that_cannot_be_meant_is_refused(tmp_path, said: str, wrong: str) -> None:
    target = "" if "target" in said else ', target = {provider = "openai", model = "x"}'
    toml = f"""
[[models]]
name = "m"
targets = [{{provider = "openai", model = "y"}}]
canary = {{ {said}{target} }}
"""
    with pytest.raises(ConfigError, match=wrong):
        routes(tmp_path, toml, BOTH)


def test_a_canary_that_is_asked_no_more_is_judged_by_what_the_main_side_does() -> None:
    trials = Trials(Metrics(), alone=True)
    trial = Trial("t", "m", Canary(target=RouteTarget("p", "m"), share_percent=5))
    trials.follow({"t": trial})
    for _ in range(6):  # then a breaker takes it out
        trials.tried("t", canary=True, failed=True)
    served = 0
    while not trials.over and served < 40:
        trials.tried("t", canary=False, failed=False)
        served += 1
    assert trials.over == {"t"}
    assert served < 30
    assert trials.ended["t"].why.startswith("it failed in 6 of 6 attempts")
