import msgspec
import pytest
from tests.ops.fakes import HandClock, join

from headgate.errors import CallerError, NotFound, PermissionRefused
from headgate.ops.accounts import AccountOrder, create_account
from headgate.ops.actors import LOCAL
from headgate.ops.desk import Desk, PageOrder
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key
from headgate.ops.limits import LimitOrder, list_limits, remove_limit, set_limit, show_limit
from headgate.ops.scopes import Within
from headgate.ops.signin import actor_of_key
from headgate.ops.tiers import set_tier
from headgate.records import AccountRecord, AuditRecord, LimitRecord


def account(desk: Desk) -> str:
    with desk.reading() as register:
        return register.all(AccountRecord)[0].id


def order(desk: Desk, **fields: object) -> LimitOrder:
    return LimitOrder(**{"scope": "account", "ref": account(desk), "rpm": 5, **fields})  # type: ignore[arg-type]


def limits(desk: Desk, key: str = "") -> list[LimitRecord]:
    return list(list_limits(LOCAL, desk, PageOrder(), Within(key=key)).data)


def test_a_limit_is_set_shown_listed_and_removed(desk: Desk, clock: HandClock) -> None:
    made = set_limit(LOCAL, desk, order(desk, model="gpt-4*", tpd=7, concurrency=2))
    assert (made.rpm, made.tpd, made.concurrency, made.tpm) == (5, 7, 2, 0)
    assert (made.model, made.origin, made.created_at) == ("gpt-4*", "local", clock.now)
    assert limits(desk) == [made]
    assert show_limit(LOCAL, desk, made.id) == made
    assert remove_limit(LOCAL, desk, made.id) == made
    assert limits(desk) == []
    with pytest.raises(NotFound):
        show_limit(LOCAL, desk, made.id)
    with desk.reading() as register:
        deeds = [(row.action, row.ref) for row in register.all(AuditRecord)]
    assert deeds == [("limit.set", made.id), ("limit.removed", made.id)]


@pytest.mark.parametrize("scope", ["account", "project", "key"])
def test_a_limit_takes_the_place_of_that_of_the_same_models(desk: Desk, scope: str) -> None:
    key = create_key(LOCAL, desk, KeyOrder(name="a")).record
    ref = {"account": key.account, "project": key.project, "key": key.id}[scope]
    made = set_limit(LOCAL, desk, order(desk, scope=scope, ref=ref))
    again = set_limit(LOCAL, desk, order(desk, scope=scope, ref=ref, rpm=9))
    other = set_limit(LOCAL, desk, order(desk, scope=scope, ref=ref, model="m"))
    assert again == msgspec.structs.replace(made, rpm=9)
    assert limits(desk) == [again, other]
    assert made.account == key.account
    within = limits(desk, key.id)
    assert within == ([again, other] if scope == "key" else [])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"scope": "world"}, "scope"),
        ({"rpm": -1}, "rpm"),
        ({"tpd": 2**31}, "tpd"),
        ({"rpm": 0}, "rpm"),
        ({"model": "m" * 201}, "model"),
        ({"model": "a\nb"}, "model"),
    ],
)
def test_an_order_that_cannot_be_filled_names_its_member(desk: Desk, fields: dict, param: str) -> None:
    with pytest.raises(CallerError) as refused:
        set_limit(LOCAL, desk, order(desk, **fields))
    assert refused.value.param == param
    with pytest.raises(NotFound):
        set_limit(LOCAL, desk, order(desk, ref="acct_none"))
    assert limits(desk) == []


def test_an_account_with_a_tier_does_not_raise_its_own_limits(desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner", account(desk))
    mine = set_limit(owner, desk, order(desk))
    set_tier(LOCAL, desk, account(desk), "tier1")
    for deed in (
        lambda: set_limit(owner, desk, order(desk, rpm=900)),
        lambda: remove_limit(owner, desk, mine.id),
    ):
        with pytest.raises(PermissionRefused, match=r"gateway\.tiers"):
            deed()
    assert set_limit(LOCAL, desk, order(desk, rpm=900)).rpm == 900


def test_another_account_and_its_limits_are_absent(desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner", account(desk))
    other = create_account(LOCAL, desk, AccountOrder(name="other")).id
    theirs = set_limit(LOCAL, desk, order(desk, ref=other))
    for deed in (
        lambda: set_limit(owner, desk, order(desk, ref=other)),
        lambda: show_limit(owner, desk, theirs.id),
        lambda: remove_limit(owner, desk, theirs.id),
        lambda: list_limits(owner, desk, PageOrder(), Within(account=other)),
    ):
        with pytest.raises(NotFound):
            deed()
    assert list(list_limits(owner, desk, PageOrder()).data) == []


def test_who_may_only_read_sets_nothing_and_a_key_not_its_own(desk: Desk) -> None:
    viewer = join(LOCAL, desk, "viewer", account(desk))
    with pytest.raises(PermissionRefused):
        set_limit(viewer, desk, order(desk))
    made = create_key(LOCAL, desk, KeyOrder(name="a", kind="admin"))
    key = actor_of_key(desk, made.text.encode(), "")
    with pytest.raises(PermissionRefused, match="its own"):
        set_limit(key, desk, order(desk, scope="key", ref=made.record.id))
