"""Which target comes first where the cheapest or the fastest is wanted."""

from __future__ import annotations

from collections import Counter

from tests.path.fakes import target

from headgate.routing.cheapest import cheapest_first
from headgate.routing.latency import PASSED, STALE_NS, Latencies
from headgate.values import Target

A, B, C = (target(name) for name in "abc")
MS = 1_000_000


def names(targets: tuple[Target, ...]) -> str:
    return "".join(each.host.name for each in targets)


def test_the_cheapest_comes_first_and_what_has_no_price_last() -> None:
    assert names(cheapest_first([A, B, C], [30, None, 10], 0.5)) == "cab"
    assert names(cheapest_first([A, B], [None, 0], 0.5)) == "ba"


def test_of_equals_any_comes_first() -> None:
    firsts = Counter(names(cheapest_first([A, B, C], [20, 10, 10], n / 100)) for n in range(100))
    assert firsts == {"bca": 50, "cba": 50}
    assert names(cheapest_first([A, B], [None, None], 1 - 2**-53)) == "ba"


def ask(paces: Latencies, took: dict[str, int], now: int, *, stream: bool = True) -> str:
    """Make a call: the first target answers in so many ms."""
    order = paces.fastest_first([A, B, C], now, stream=stream)
    if (ms := took.get(names(order[:1]))) is not None:
        paces.took(order[0], ms * MS, now, stream=stream)
    return names(order)


def test_each_is_measured_once_and_then_the_fastest_comes_first() -> None:
    paces, took = Latencies(), {"a": 300, "b": 100, "c": 200}
    assert [ask(paces, took, n)[0] for n in range(4)] == ["a", "b", "c", "b"]
    assert ask(paces, took, 5) == "bca"


def test_calls_at_once_do_not_all_wait_for_who_was_never_measured() -> None:
    paces = Latencies()
    assert [ask(paces, {}, 0)[0] for _ in range(5)] == ["a", "b", "c", "a", "a"]


def test_streams_and_whole_answers_are_measured_apart() -> None:
    paces = Latencies()
    for n in range(3):
        ask(paces, {"a": 1, "b": 2, "c": 3}, n)
        ask(paces, {"a": 3, "b": 2, "c": 1}, n, stream=False)
    assert ask(paces, {}, 9) == "abc"
    assert ask(paces, {}, 9, stream=False) == "cba"


def test_a_target_that_was_slow_has_its_chance_again_and_takes_no_more_than_a_tenth() -> None:
    paces, took = Latencies(), {"a": 100, "b": 200, "c": 300}
    seen = Counter(ask(paces, took, n * STALE_NS // 100)[0] for n in range(1000))
    assert 1000 // 100 - 1 <= seen["b"] <= 100
    assert 1000 // 100 - 1 <= seen["c"] <= 100
    rare = Latencies()
    order = "".join(ask(rare, took, n * 2 * STALE_NS)[0] for n in range(100))
    assert Counter(order).most_common(1)[0] == ("a", order.count("a"))
    assert order.count("a") >= 100 * (PASSED - 2) // (PASSED + 1)


def test_one_that_has_become_fast_takes_over_and_one_that_has_become_slow_loses() -> None:
    paces, took = Latencies(), {"a": 100, "b": 200, "c": 300}
    for n in range(3):
        ask(paces, took, n)
    assert ask(paces, took, 10)[0] == "a"
    took = {"a": 1000, "b": 200, "c": 300}
    calls = [ask(paces, took, 20 + n)[0] for n in range(10)]
    assert calls[-1] == "b"
    took["c"] = 10
    later = [ask(paces, took, 2 * STALE_NS + n)[0] for n in range(40)]
    assert later[-1] == "c"


def test_a_target_that_never_answers_is_not_asked_by_every_call() -> None:
    paces = Latencies()
    seen = Counter(ask(paces, {"b": 100, "c": 100}, n * MS)[0] for n in range(100))
    assert seen["a"] == 1
