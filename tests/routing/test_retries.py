"""What is tried after a failure, by the class of the error."""

from __future__ import annotations

import pytest
from tests.path.fakes import target

from headgate.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamLacks,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimeout,
)
from headgate.routing.retries import Active, RetryBudget, RetryTerms, Step, Tries
from headgate.transport.faults import Redirected

S = 1_000_000_000
FAILED = UpstreamFailed("x", upstream_status=500)
LATER = [
    FAILED,
    UpstreamOverloaded("x"),
    UpstreamOverloaded("x", limited_by="requests"),
    UpstreamInterrupted("x"),
]
ELSEWHERE = [
    UpstreamTimeout("x"),
    UpstreamDenied("x"),
    UpstreamLacks("x", upstream_status=404),
    Redirected("x", "http://there/"),
]


def tries(*names: str, terms: RetryTerms | None = None, until: int = 1000 * S, panic: bool = False) -> Tries:
    return Tries(terms or RetryTerms(), tuple(map(target, names)), until, panic=panic)


def steps(made: Tries, error: UpstreamError, draw: float = 0.5) -> list[Step]:
    """Fail until nothing more is tried."""
    found, index = [], 0
    while (step := made.after(index, error, 0, draw)) is not None:
        found.append(step)
        index = step.target
    return found


@pytest.mark.parametrize("error", LATER, ids=lambda each: type(each).__name__)
def test_one_target_is_asked_three_times_with_longer_pauses(error) -> None:
    assert steps(tries("a"), error) == [Step(0, S // 2, again=True), Step(0, S, again=True)]


@pytest.mark.parametrize("error", ELSEWHERE, ids=lambda each: type(each).__name__)
def test_what_the_same_target_cannot_mend_is_only_tried_elsewhere(error) -> None:
    assert steps(tries("a"), error) == []
    assert steps(tries("a", "b"), error) == [Step(1)]


def test_a_callers_fault_is_tried_nowhere() -> None:
    assert steps(tries("a", "b"), UpstreamRefused("x", upstream_status=400)) == []


def test_each_target_has_its_turn_at_once_before_one_has_a_second() -> None:
    assert steps(tries("a", "b"), FAILED) == [Step(1), Step(0, S // 2, again=True)]


def test_another_model_at_the_same_provider_needs_room_in_its_budget() -> None:
    assert steps(tries("a", "a", "b"), FAILED)[:2] == [Step(1, 0, again=True), Step(2)]


def test_a_long_chain_is_asked_up_to_five_times() -> None:
    made = steps(tries(*"abcdefgh"), FAILED)
    assert [step.target for step in made] == [1, 2, 3, 4]


def test_in_panic_each_is_asked_once() -> None:
    assert steps(tries("a", panic=True), FAILED) == []
    assert steps(tries("a", "b", panic=True), FAILED) == [Step(1)]


def test_the_providers_own_wait_is_obeyed_and_a_long_one_is_the_callers() -> None:
    busy = UpstreamOverloaded("x", retry_after_s=3.0, limited_by="requests")
    pauses = [steps(tries("a"), busy, draw)[0].pause_ns for draw in (0.0, 0.5)]
    assert pauses == [3 * S, 3 * S + S // 2]  # so that they do not all come back at once
    assert steps(tries("a"), UpstreamOverloaded("x", retry_after_s=60.0)) == []


def test_nothing_is_tried_beyond_the_callers_deadline() -> None:
    assert steps(tries("a", until=S // 4), FAILED) == []
    assert len(steps(tries("a", until=S * 3 // 4), FAILED)) == 1
    assert steps(tries("a", "b", until=0), FAILED) == []


def test_jitter_is_full_and_the_pause_bounded() -> None:
    terms = RetryTerms(attempts=5, longest_s=2.0)
    assert [step.pause_ns for step in steps(tries("a", terms=terms), FAILED, draw=0.0)] == [0, 0, 0, 0]
    most = [step.pause_ns for step in steps(tries("a", terms=terms), FAILED, draw=0.999_999_999)]
    assert most == pytest.approx([S, 2 * S, 2 * S, 2 * S], rel=1e-6)


def test_retries_are_a_fifth_of_the_open_calls_at_most_and_three_always() -> None:
    budget = RetryBudget(RetryTerms())
    assert [budget.take("a", Active(2, 2)) for _ in range(4)] == [True, True, True, False]
    assert not budget.take("b", Active(2, 2))  # three in all
    assert budget.take("b", Active(2, 100))
    for _ in range(3):
        budget.give("a")
    budget.give("b")
    assert budget.in_all == 0
    assert sum(budget.take("a", Active(100, 400)) for _ in range(100)) == 20
    assert sum(budget.take(f"p{each}", Active(100, 400)) for each in range(100)) == 60


@pytest.mark.parametrize(
    "terms", [{"attempts": 6}, {"attempts": 0}, {"base_s": 9.0}, {"share_percent": 101}, {"floor": -1}]
)
def test_wrong_numbers_are_named(terms) -> None:
    assert next(iter(terms)) in RetryTerms(**terms).wrong()
    assert not RetryTerms().wrong()
