import msgspec
import pytest
from tests.ops.fakes import HandClock, actor, join

from headgate.errors import CallerError, Conflict, NotFound, PermissionRefused
from headgate.ops.accounts import AccountOrder, create_account
from headgate.ops.actors import LOCAL
from headgate.ops.budgets import (
    BudgetChange,
    BudgetOrder,
    change_budget,
    list_budgets,
    remove_budget,
    set_budget,
    show_budget,
)
from headgate.ops.desk import Desk, PageOrder
from headgate.ops.keyrules import Cap, KeyOrder
from headgate.ops.keys import create_key
from headgate.ops.projects import put_project_member
from headgate.ops.signin import actor_of_key
from headgate.records import AccountRecord, AuditRecord, BudgetRecord
from headgate.values import Book


def order(desk: Desk, **fields: object) -> BudgetOrder:
    with desk.reading() as register:
        (account,) = register.all(AccountRecord)
    return BudgetOrder(**{"scope": "account", "ref": account.id, "amount": 5, **fields})  # type: ignore[arg-type]


def caps(desk: Desk) -> list[BudgetRecord]:
    return list(list_budgets(LOCAL, desk, PageOrder()).data)


def test_a_budget_is_set_listed_and_removed(desk: Desk, clock: HandClock) -> None:
    made = set_budget(LOCAL, desk, order(desk, unit="day", tz="Asia/Shanghai", book=Book.SIM))
    assert (made.origin, made.unit, made.book, made.created_at) == ("local", "day", Book.SIM, clock.now)
    assert caps(desk) == [made]
    assert remove_budget(LOCAL, desk, made.id) == made
    assert caps(desk) == []


@pytest.mark.parametrize("scope", ["account", "project", "key"])
def test_a_budget_takes_the_place_of_the_actors_own(desk: Desk, scope: str) -> None:
    key = create_key(LOCAL, desk, KeyOrder(name="a")).record
    ref = {"account": key.account, "project": key.project, "key": key.id}[scope]
    made = set_budget(LOCAL, desk, order(desk, scope=scope, ref=ref))
    again = set_budget(LOCAL, desk, order(desk, scope=scope, ref=ref, amount=9))
    assert again == msgspec.structs.replace(made, amount=9)
    assert caps(desk) == [again]
    assert made.account == key.account


def test_a_soft_budget_never_takes_the_place_of_a_hard_one(desk: Desk) -> None:
    account = create_key(LOCAL, desk, KeyOrder(name="a")).record.account
    hard = set_budget(LOCAL, desk, order(desk, scope="account", ref=account))
    soft = set_budget(LOCAL, desk, order(desk, scope="account", ref=account, amount=9, hard=False))
    assert sorted(caps(desk), key=lambda cap: cap.hard) == [soft, hard]
    higher = set_budget(LOCAL, desk, order(desk, scope="account", ref=account, amount=10, hard=False))
    assert sorted(caps(desk), key=lambda cap: cap.hard) == [higher, hard]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scope": "world"}, "scope"),
        ({"amount": -1}, "amount"),
        ({"unit": "year"}, "unit"),
        ({"tz": "X"}, "tz"),
        ({"thresholds": (0,)}, "thresholds"),
    ],
)
def test_a_budget_that_makes_no_sense_names_its_member(
    desk: Desk, fields: dict[str, object], param: str
) -> None:
    with pytest.raises(CallerError) as caught:
        set_budget(LOCAL, desk, order(desk, **fields))
    assert caught.value.param == param
    assert caps(desk) == []


@pytest.mark.parametrize("scope", ["account", "project", "key"])
def test_a_budget_on_nothing_is_not_found(desk: Desk, scope: str) -> None:
    with pytest.raises(NotFound):
        set_budget(LOCAL, desk, order(desk, scope=scope, ref="none"))


def test_what_a_flag_owns_is_not_removed_here(desk: Desk) -> None:
    made = set_budget(LOCAL, desk, order(desk))
    with desk.writing(LOCAL, "budget.set") as deed:
        deed.put(made, msgspec.structs.replace(made, origin="flag"))
    with pytest.raises(Conflict) as caught:
        remove_budget(LOCAL, desk, made.id)
    assert caught.value.code == "managed_by_config"
    with pytest.raises(NotFound):
        remove_budget(LOCAL, desk, "budget_none")


def test_a_viewer_sees_budgets_and_sets_none(desk: Desk) -> None:
    viewer = join(LOCAL, desk, "viewer")
    made = set_budget(LOCAL, desk, order(desk))
    assert list_budgets(viewer, desk, PageOrder()).data == [made]
    with pytest.raises(PermissionRefused):
        set_budget(viewer, desk, order(desk))
    with pytest.raises(PermissionRefused):
        remove_budget(viewer, desk, made.id)


def test_a_key_keeps_below_the_cap_of_the_key_that_made_it(desk: Desk) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name="adm", kind="admin", budget=Cap(amount=100)))
    maker = actor_of_key(desk, made.text.encode(), "")
    child = create_key(maker, desk, KeyOrder(name="child", budget=Cap(amount=60))).record
    by_key = {"scope": "key", "ref": child.id}
    with pytest.raises(Conflict, match="has no more"):
        set_budget(LOCAL, desk, order(desk, amount=101, **by_key))
    with pytest.raises(PermissionRefused, match="own cap"):
        set_budget(maker, desk, order(desk, scope="key", ref=maker.id, amount=500))
    set_budget(LOCAL, desk, order(desk, scope="key", ref=maker.id, amount=40))  # sinks: the child's too
    set_budget(LOCAL, desk, order(desk, scope="key", ref=maker.id, unit="day", amount=3))  # a new one
    own = [cap for cap in caps(desk) if cap.ref == child.id]
    assert {(cap.unit, cap.book): cap.amount for cap in own} == {
        ("month", Book.REAL): 40,
        ("month", Book.SIM): 60,
        ("day", Book.REAL): 3,
    }
    month = own[0]
    with pytest.raises(Conflict, match="keeps its own"):
        remove_budget(LOCAL, desk, month.id)


def test_a_budget_is_changed_and_the_audit_says_how(desk: Desk) -> None:
    made = set_budget(LOCAL, desk, order(desk, amount=9))
    changed = change_budget(LOCAL, desk, made.id, BudgetChange(amount=4, hard=False))
    assert changed == msgspec.structs.replace(made, amount=4, hard=False)
    assert show_budget(LOCAL, desk, made.id) == changed
    with desk.reading() as register:
        row = register.all(AuditRecord)[-1]
    assert (row.action, row.ref, row.detail) == (
        "budget.changed",
        made.id,
        {"amount": [9, 4], "hard": [True, False]},
    )


@pytest.mark.parametrize(
    ("change", "param"),
    [
        (BudgetChange(amount=-1), "amount"),
        (BudgetChange(tz="X"), "tz"),
        (BudgetChange(thresholds=(0,)), "thresholds"),
    ],
)
def test_a_change_that_makes_no_sense_names_its_member(desk: Desk, change: BudgetChange, param: str) -> None:
    made = set_budget(LOCAL, desk, order(desk))
    with pytest.raises(CallerError) as caught:
        change_budget(LOCAL, desk, made.id, change)
    assert caught.value.param == param


@pytest.mark.parametrize("origin", ["flag", "config", "tier"])
def test_what_is_owned_elsewhere_is_neither_changed_nor_removed(desk: Desk, origin: str) -> None:
    made = set_budget(LOCAL, desk, order(desk))
    with desk.writing(LOCAL, "budget.set") as deed:
        deed.register.put(msgspec.structs.replace(made, origin=origin))
    with pytest.raises(Conflict) as caught:
        change_budget(LOCAL, desk, made.id, BudgetChange(amount=1))
    assert caught.value.code == ("managed_by_tier" if origin == "tier" else "managed_by_config")
    with pytest.raises(Conflict):
        remove_budget(LOCAL, desk, made.id)


def test_a_made_key_never_gets_more_than_its_maker_and_follows_it_down(desk: Desk) -> None:
    boss = create_key(LOCAL, desk, KeyOrder(name="boss", kind="admin", budget=Cap(amount=9)))
    actor = actor_of_key(desk, boss.text.encode(), "127.0.0.1")
    made = create_key(actor, desk, KeyOrder(name="made")).record
    cap, play = list_budgets(LOCAL, desk, PageOrder(), key=made.id).data
    assert [(one.book, one.amount) for one in (cap, play)] == [(Book.REAL, 9), (Book.SIM, 9)]
    for change in (BudgetChange(amount=10), BudgetChange(hard=False)):
        with pytest.raises(Conflict):
            change_budget(LOCAL, desk, cap.id, change)
    own, _ = list_budgets(LOCAL, desk, PageOrder(), key=boss.record.id).data
    with pytest.raises(PermissionRefused):
        change_budget(actor, desk, own.id, BudgetChange(amount=20))
    change_budget(LOCAL, desk, own.id, BudgetChange(amount=4))
    assert show_budget(LOCAL, desk, cap.id).amount == 4


def test_a_budget_of_another_account_is_absent(desk: Desk) -> None:
    made = set_budget(LOCAL, desk, order(desk))
    other = create_account(LOCAL, desk, AccountOrder(name="other"))
    stranger = join(LOCAL, desk, "owner", other.id)
    key = create_key(LOCAL, desk, KeyOrder(name="k")).record
    said = set()
    for ref in (made.id, "budget_none"):
        with pytest.raises(NotFound) as caught:
            show_budget(stranger, desk, ref)
        said.add(caught.value.message.replace(ref, "X"))
        with pytest.raises(NotFound) as caught:
            change_budget(stranger, desk, ref, BudgetChange(amount=1))
        said.add(caught.value.message.replace(ref, "X"))
    assert len(said) == 1
    for ref in (key.id, "key_none"):
        with pytest.raises(NotFound):
            list_budgets(stranger, desk, PageOrder(), key=ref)


def test_a_member_of_a_project_sees_its_caps(desk: Desk) -> None:
    key = create_key(LOCAL, desk, KeyOrder(name="k", budget=Cap(amount=9))).record
    developer = join(LOCAL, desk, "developer")
    put_project_member(LOCAL, desk, key.project, developer.id, "member")
    inside = actor(desk, developer.id)
    for page in (
        list_budgets(inside, desk, PageOrder(), project=key.project),
        list_budgets(inside, desk, PageOrder(), key=key.id),
    ):
        assert [(cap.ref, cap.book) for cap in page.data] == [(key.id, Book.REAL), (key.id, Book.SIM)]
    with pytest.raises(PermissionRefused):
        list_budgets(inside, desk, PageOrder())
