import pytest
from tests.ops.fakes import FakeAdminStore, HandClock

from headgate.errors import CallerError, Conflict, NotFound, PermissionRefused
from headgate.ops.actors import LOCAL, Actor
from headgate.ops.budgets import BudgetOrder, list_budgets, remove_budget, set_budget
from headgate.records import BudgetRecord
from headgate.values import Book


def order(**fields: object) -> BudgetOrder:
    return BudgetOrder(**{"scope": "account", "ref": "acct_1", "amount": 5, **fields})  # type: ignore[arg-type]


def test_a_budget_is_set_listed_and_removed() -> None:
    store, clock = FakeAdminStore(), HandClock()
    made = set_budget(LOCAL, store, order(unit="day", tz="Asia/Shanghai", book=Book.SIM), clock)
    assert (made.origin, made.unit, made.book, made.created_at) == ("local", "day", Book.SIM, clock.now)
    assert list_budgets(LOCAL, store) == [made]
    assert remove_budget(LOCAL, store, made.id, clock) == made
    assert store.caps == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scope": "world"}, "scope"),
        ({"amount": -1}, "amount"),
        ({"unit": "year"}, "unit"),
        ({"tz": "X"}, "tz"),
    ],
)
def test_a_budget_that_makes_no_sense_names_its_member(fields: dict[str, object], param: str) -> None:
    store = FakeAdminStore()
    with pytest.raises(CallerError) as caught:
        set_budget(LOCAL, store, order(**fields), HandClock())
    assert caught.value.param == param
    assert store.caps == []


def test_a_budget_on_nothing_is_not_found() -> None:
    with pytest.raises(NotFound):
        set_budget(LOCAL, FakeAdminStore(), order(ref="acct_none"), HandClock())


def test_what_a_flag_owns_is_not_removed_here() -> None:
    store, clock = FakeAdminStore(), HandClock()
    flag = BudgetRecord(
        id="", scope="account", ref="a", book=Book.REAL, amount=1, unit="day", tz="UTC", origin="flag"
    )
    flag = store.put_budget(flag)
    with pytest.raises(Conflict) as caught:
        remove_budget(LOCAL, store, flag.id, clock)
    assert caught.value.code == "managed_by_config"
    with pytest.raises(NotFound):
        remove_budget(LOCAL, store, "budget_none", clock)


def test_only_an_owner_sets_budgets() -> None:
    with pytest.raises(PermissionRefused):
        set_budget(Actor("guest"), FakeAdminStore(), order(), HandClock())
