import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from headgate.admission.budget import Budget, Budgets
from headgate.values import Book, Principal

NOW = 1_790_000_000_000_000
MONTH = 31 * 86_400_000_000
WHO = Principal(key=1, project=2, account=3)


def capped(amount: int, unit: str = "month") -> tuple[Budgets, Budget]:
    budgets = Budgets()
    budget = Budget("account", amount, unit)  # type: ignore[arg-type]
    budget.start(NOW, 0)
    budgets.replace([("account", 3, Book.REAL, budget)])
    return budgets, budget


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=60))
def test_no_order_of_holds_and_settlements_overspends(steps):
    budgets, budget = capped(100)
    held = []
    for amount, charge, close_first in steps:
        if close_first and held:
            hold = held.pop(0)
            budgets.close(hold, min(charge, hold.amount))
            budgets.close(hold, hold.amount)  # the second close does nothing
        hold = budgets.reserve(budgets.covering(WHO), amount, NOW)
        if hold is not None:
            held.append(hold)
        assert budget.period.spent + budget.period.held <= 100
        assert budget.period.held == sum(hold.amount for hold in held)


def test_the_boundary_is_exact():
    budgets, _ = capped(100)
    assert budgets.reserve(budgets.covering(WHO), 100, NOW) is not None
    assert budgets.reserve(budgets.covering(WHO), 1, NOW) is None


def test_a_new_period_begins_empty_and_a_late_settlement_stays_in_its_own():
    budgets, budget = capped(100)
    hold = budgets.reserve(budgets.covering(WHO), 80, NOW)
    assert budgets.reserve(budgets.covering(WHO), 100, NOW + MONTH) is not None
    budgets.close(hold, 80)
    assert (budget.period.spent, budget.period.held) == (0, 100)


def test_a_clock_that_steps_back_reopens_nothing():
    budgets, _ = capped(100)
    budgets.close(budgets.reserve(budgets.covering(WHO), 100, NOW + MONTH), 100)
    assert budgets.reserve(budgets.covering(WHO), 1, NOW) is None


def test_every_budget_above_a_key_must_hold():
    budgets = Budgets()
    rows = []
    for scope, ref, amount in (("key", 1, 10), ("project", 2, 50), ("account", 3, 100)):
        budget = Budget(scope, amount, "day")
        budget.start(NOW, 0)
        rows.append((scope, ref, Book.REAL, budget))
    budgets.replace(rows)
    assert budgets.reserve(budgets.covering(WHO), 11, NOW) is None
    assert all(row[3].period.held == 0 for row in rows)
    other = Principal(key=9, project=2, account=3)
    assert budgets.reserve(budgets.covering(other), 50, NOW) is not None
    assert budgets.reserve(budgets.covering(WHO), 1, NOW) is None


def test_play_money_is_another_budget():
    budgets, _ = capped(0)
    assert budgets.covering(Principal(key=1, project=2, account=3, book=Book.SIM)) == ()


@pytest.mark.anyio
async def test_a_waiter_wakes_when_a_hold_is_released():
    budgets, _ = capped(100)
    hold = budgets.reserve(budgets.covering(WHO), 100, NOW)
    waiter = asyncio.create_task(budgets.changed())
    await asyncio.sleep(0)
    assert not waiter.done()
    budgets.close(hold, 1)
    await asyncio.wait_for(waiter, 1)
