import asyncio

import pytest
from hypothesis import given, settings, strategies as st
from tests.leases.funded import WHO, Funded

from headgate.money.credit import Need
from headgate.money.pots import GrantTerms, Lot
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


@pytest.mark.anyio
async def test_a_waiter_wakes_when_tokens_cover_a_batch_that_held_a_budget():
    funds = Funded(NOW, ("account", 100))
    who = Principal(key=1, project=2, account=3, prepaid=True)
    budgets = funds.budgets
    budgets.replace(funds.rows, [GrantTerms(8, 3, Book.REAL, model="gpt-*")])
    found = budgets.in_force(who, NOW)
    funds.purse._take(Lot(found.offers[0].name, 8, 50, 0, 0, 0, 0, 0))
    hold = budgets.reserve(found, 100, NOW, Need("gpt-4o", 100, 50))
    waiter = asyncio.create_task(budgets.changed())
    await asyncio.sleep(0)
    budgets.carry_away(hold)
    await asyncio.wait_for(waiter, 1)
    assert [own.free for own in found.slices] == [100]
    assert [(own.free, own.granted) for own in found.offers] == [(0, 0)]


@pytest.mark.parametrize("model", ["gpt-4o", "claude"])
def test_a_grant_in_tokens_covers_the_calls_of_its_model_whole_and_money_the_rest(model):
    funds = Funded(NOW, ("account", 10_000))
    who = Principal(key=1, project=2, account=3, prepaid=True)
    grants = [GrantTerms(8, 3, Book.REAL, model="gpt-*"), GrantTerms(9, 3, Book.REAL)]
    funds.budgets.replace(funds.rows, grants)
    found = funds.budgets.in_force(who, NOW)
    for pot, own in zip((8, 9), found.offers, strict=True):
        funds.purse._take(Lot(own.name, pot, 1_000, 0, 0, 0, 0, 0))
    tokens, money = found.offers
    hold = funds.budgets.reserve(found, 700, NOW, Need(model, 700, 600))
    by_tokens = model == "gpt-4o"
    assert [source.pot for source in hold.sources] == ([8] if by_tokens else [9])
    assert (tokens.held, money.held) == ((600, 0) if by_tokens else (0, 700))
    assert funds.budgets.reserve(found, 700, NOW, Need("claude", 700, 1)) is None or by_tokens
    funds.budgets.close(hold, *((0, 150) if by_tokens else (250, 0)))
    assert (tokens.drawn, money.drawn) == ((150, 0) if by_tokens else (0, 250))
    assert (tokens.free, tokens.held) == ((850, 0) if by_tokens else (1_000, 0))


def test_a_grant_that_has_expired_pays_nothing_and_its_hold_stays_good():
    funds = Funded(NOW)
    who = Principal(key=1, project=2, account=3, prepaid=True)
    funds.budgets.replace([], [GrantTerms(8, 3, Book.REAL, expires_at=NOW + 10), GrantTerms(9, 3, Book.REAL)])
    found = funds.budgets.in_force(who, NOW)
    for pot, own in zip((8, 9), found.offers, strict=True):
        funds.purse._take(Lot(own.name, pot, 100, 0, 0, 0, 0, 0))
    first, balance = found.offers
    hold = funds.budgets.reserve(found, 120, NOW + 9, Need("m", 120, 1))
    assert [(source.pot, source.amount) for source in hold.sources] == [(8, 100), (9, 20)]
    later = funds.budgets.reserve(found, 80, NOW + 10, Need("m", 80, 1))
    assert [source.pot for source in later.sources] == [9]
    assert funds.budgets.reserve(found, 1, NOW + 10, Need("m", 1, 1)) is None
    funds.budgets.close(hold, 30)
    assert (first.drawn, balance.drawn, first.retired) == (30, 0, True)
    assert funds.budgets.reserve(found, 20, NOW, Need("m", 20, 1)) is not None  # of the balance
    assert funds.purse.collect([], NOW, 0).returns == {8: 70}


@pytest.mark.parametrize("prepaid", [False, True])
def test_every_hold_is_taken_however_much_there_is(prepaid):
    funds = Funded(NOW) if prepaid else capped(1_000)
    who = Principal(key=1, project=2, account=3, prepaid=prepaid)
    if prepaid:
        funds.budgets.replace([], [GrantTerms(9, 3, Book.REAL)])
        [balance] = funds.budgets.in_force(who, NOW).offers
        funds.purse._take(Lot(balance.name, 9, 1_000, 0, 0, 0, 0, 0))
    found = funds.budgets.in_force(who, NOW)
    holds = [funds.budgets.reserve(found, 1, NOW, Need("m", 1, 1)) for _ in range(1_001)]
    assert all(holds[:1_000])
    assert holds[1_000] is None
