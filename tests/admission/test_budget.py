import asyncio

import pytest
from hypothesis import given, settings, strategies as st
from tests.leases.funded import WHO, Funded

from headgate.values import Book, Principal

NOW = 1_790_000_000_000_000
MONTH = 31 * 86_400_000_000


def capped(amount: int) -> Funded:
    return Funded(NOW, ("account", amount))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=60))
def test_no_order_of_holds_and_settlements_overspends(steps):
    funds = capped(100)
    budgets, found = funds.budgets, funds.budgets.covering(WHO)
    held = []
    for amount, charge, close_first in steps:
        if close_first and held:
            hold = held.pop(0)
            budgets.close(hold, min(charge, hold.amount))
            budgets.close(hold, hold.amount)  # the second close does nothing
        hold = budgets.reserve(found, amount, NOW)
        if hold is not None:
            held.append(hold)
        assert funds.spent + funds.held <= 100
        assert funds.held == sum(hold.amount for hold in held)


def test_the_boundary_is_exact():
    budgets = capped(100).budgets
    assert budgets.reserve(budgets.covering(WHO), 100, NOW) is not None
    assert budgets.reserve(budgets.covering(WHO), 1, NOW) is None


def test_a_new_period_begins_empty_and_a_late_settlement_stays_in_its_own():
    funds = capped(100)
    budgets, found = funds.budgets, funds.budgets.covering(WHO)
    hold = budgets.reserve(found, 80, NOW)
    before = funds.slices[0]
    assert budgets.reserve(found, 1, NOW + MONTH) is None  # nothing is granted of it yet
    funds.grant(NOW + MONTH)
    assert budgets.reserve(found, 100, NOW + MONTH) is not None
    budgets.close(hold, 80)
    assert (funds.spent, funds.held) == (0, 100)
    assert (before.drawn, before.held, before.retired) == (80, 0, True)
    assert hold.at == NOW


def test_a_clock_that_steps_back_reopens_nothing():
    funds = capped(100)
    budgets, found = funds.budgets, funds.budgets.covering(WHO)
    funds.grant(NOW + MONTH)
    hold = budgets.reserve(found, 100, NOW)
    assert hold.at == funds.slices[0].name.since > NOW
    budgets.close(hold, 100)
    assert budgets.reserve(found, 1, NOW) is None


def test_every_budget_above_a_key_must_hold():
    funds = Funded(NOW, ("key", 10), ("project", 50), ("account", 100), unit="day")
    budgets = funds.budgets
    assert budgets.reserve(budgets.covering(WHO), 11, NOW) is None
    assert all(own.held == 0 for own in funds.slices)
    other = Principal(key=9, project=2, account=3)
    assert budgets.reserve(budgets.covering(other), 50, NOW) is not None
    assert budgets.reserve(budgets.covering(WHO), 1, NOW) is None


def test_two_budgets_of_one_scope_and_unit_both_hold():
    funds = Funded(NOW, ("account", 100), ("account", 30))
    budgets = funds.budgets
    assert budgets.reserve(budgets.covering(WHO), 31, NOW) is None
    hold = budgets.reserve(budgets.covering(WHO), 30, NOW)
    assert hold.pots == (1, 2)
    budgets.replace(funds.rows)  # a reload keeps what each holds
    assert [own.held for own in (budgets.reserve(budgets.covering(WHO), 0, NOW)).slices] == [30, 30]


def test_play_money_is_another_budget():
    budgets = capped(0).budgets
    assert not budgets.covering(Principal(key=1, project=2, account=3, book=Book.SIM)).capped


@pytest.mark.anyio
async def test_a_waiter_wakes_when_a_hold_is_released():
    budgets = capped(100).budgets
    hold = budgets.reserve(budgets.covering(WHO), 100, NOW)
    waiter = asyncio.create_task(budgets.changed())
    await asyncio.sleep(0)
    assert not waiter.done()
    budgets.close(hold, 1)
    await asyncio.wait_for(waiter, 1)
