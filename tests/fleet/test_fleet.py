"""The short form of `make simulate`: what holds for a fleet of any size."""

from __future__ import annotations

import pytest
from tests.fleet import limits, money

from headgate.money import pots, shares


@pytest.mark.parametrize("replicas", [1, 3, 16])
def test_a_budget_is_spent_to_its_end_and_never_beyond(replicas: int) -> None:
    came = money.simulate(money.Terms(replicas, 150, 4.0))

    assert came.overshoot <= 0
    assert came.served > 250
    assert came.refused > 50
    assert came.left_first < 4 + 0.25 * replicas  # holds that were free when the first call was refused
    assert came.left_last < 4 + 0.25 * replicas


def test_while_there_is_plenty_few_calls_ask_and_none_waits_long() -> None:
    came = money.simulate(money.Terms(4, 150, 4.0, lasts=100.0))

    assert came.refused == 0
    assert came.asked < 0.2 * came.total
    assert came.wait_ms(0.99) < 20
    assert came.exchanges / 4.0 / 4 < 25  # of each replica, a second


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second, other = (money.simulate(money.Terms(4, 100, 2.0, seed)) for seed in (7, 7, 8))
    assert first == second
    assert first != other


@pytest.mark.parametrize("replicas", [1, 5, 40])
def test_a_limit_lets_through_what_one_bucket_would(replicas: int) -> None:
    came = limits.simulate(replicas, 1_200, 10.0)

    assert came.overshoot <= 0
    assert came.used(10.0) > 0.95


def test_a_rule_that_gives_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    give = pots.Pot.give

    def generous(pot: pots.Pot, slot: str, amount: int) -> None:
        give(pot, slot, amount)
        had, answered = pot.slices[slot]
        pot.slices[slot] = (had - amount // 2, answered)

    monkeypatch.setattr(pots.Pot, "give", generous)
    assert money.simulate(money.Terms(4, 150, 4.0)).overshoot > 0


def test_a_meter_that_forgets_hands_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = shares.exchange
    monkeypatch.setattr(
        "headgate.stores.live.exchange",
        lambda pool, ask, others, now, workers: exchange(pool, ask, 0, now, workers),
    )
    assert limits.simulate(5, 1_200, 10.0).overshoot > 0
