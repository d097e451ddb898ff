"""Redeem codes, and the wish for higher limits."""

from contextlib import closing
from pathlib import Path

import pytest
from tests.ops.fakes import HandClock, join, opened_desk
from tests.ops.test_ops_credit import ALL, DAY, USD, race

from headgate.errors import CallerError, Conflict, NotFound, PermissionRefused
from headgate.ops.accounts import AccountOrder, create_account, show_account
from headgate.ops.actors import LOCAL
from headgate.ops.codes import CodeOrder, create_codes, list_codes, redeem, revoke_code, show_code
from headgate.ops.credit import credit_standing
from headgate.ops.desk import Desk
from headgate.ops.tiers import (
    LimitRequestOrder,
    decide_request,
    list_requests,
    request_limits,
    set_tier,
    show_request,
)
from headgate.records import GrantRecord
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect
from headgate.values import Book


@pytest.fixture
def account(desk: Desk) -> str:
    return create_account(LOCAL, desk, AccountOrder(name="Acme", prepaid=True)).id


def test_a_code_is_shown_once_and_stored_as_a_digest(desk: Desk, tmp_path: Path) -> None:
    [made] = create_codes(LOCAL, desk, CodeOrder(amount=USD))
    assert len(made.text) == len("HG-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX")
    plain = made.text.removeprefix("HG-").replace("-", "")
    for file in tmp_path.glob("headgate.sqlite*"):
        assert plain.encode() not in file.read_bytes()
        assert made.text.encode() not in file.read_bytes()
    assert made.text not in repr(list_codes(LOCAL, desk, ALL))
    assert show_code(LOCAL, desk, made.record.id) == made.record


def test_a_code_becomes_a_grant_once(desk: Desk, account: str, clock: HandClock, tmp_path: Path) -> None:
    [made] = create_codes(LOCAL, desk, CodeOrder(amount=2 * USD, valid_days=30))
    boss = join(LOCAL, desk, "billing", account)
    forgiving = (
        made.text.lower().replace("-", " ").replace("hg ", "hg-", 1).replace("0", "o").replace("1", "l")
    )
    grant = redeem(boss, desk, f" {forgiving} ")
    assert (grant.kind, grant.amount, grant.expires_at) == ("code", 2 * USD, clock.now + 30 * DAY)
    with pytest.raises(Conflict, match="redeemed already"):
        redeem(boss, desk, made.text)
    assert show_code(LOCAL, desk, made.record.id).redeemed_by == account
    assert credit_standing(boss, desk).left == 7 * USD
    assert check(tmp_path, clock.now).findings == []


def test_two_hundred_accounts_race_for_a_code_and_one_gets_it(tmp_path: Path, clock: HandClock) -> None:
    with opened_desk(tmp_path, clock) as one, opened_desk(tmp_path, clock) as other:
        names = [create_account(LOCAL, one, AccountOrder(name=f"a{n}")).id for n in range(20)]
        [made] = create_codes(LOCAL, one, CodeOrder(tokens=500, model="gpt-4o", book=Book.SIM))
        results = race(200, lambda n: redeem(LOCAL, (one, other)[n % 2], made.text, names[n % 20]))
        winners = [each for each in results if isinstance(each, GrantRecord)]
        assert len(winners) == 1
        assert sum(isinstance(each, Conflict) for each in results) == 199
        with one.reading() as register:
            assert [each.account for each in register.all(GrantRecord)] == [winners[0].account]
        assert check(tmp_path, clock.now).findings == []


def test_the_claim_is_one_conditional_statement(desk: Desk, account: str, tmp_path: Path) -> None:
    """So that it holds on a database whose transactions run side by side, too."""
    from headgate.stores.sql.credit import SqlCredit

    [made] = create_codes(LOCAL, desk, CodeOrder(amount=USD))
    with closing(connect(tmp_path)) as sql:
        said: list[str] = []
        sql.set_trace_callback(said.append)
        digest = sql.execute("SELECT digest FROM codes").fetchone()[0]
        said.clear()
        assert SqlCredit(sql).claim_code(digest, account, 5) is not None
        writes = [line for line in said if not line.startswith("SELECT")]
        assert [line.split(" WHERE ")[1].count("redeemed_at = 0") for line in writes] == [1]
        assert SqlCredit(sql).claim_code(digest, account, 5) is None
    assert made.record.redeemed_at == 0


def test_a_code_may_expire_and_be_revoked(desk: Desk, account: str, clock: HandClock) -> None:
    short, revoked = create_codes(LOCAL, desk, CodeOrder(amount=USD, expires_in_s=60, count=2))
    revoke_code(LOCAL, desk, revoked.record.id)
    with pytest.raises(Conflict, match="was revoked"):
        redeem(LOCAL, desk, revoked.text, account)
    with pytest.raises(Conflict, match="revoked already"):
        revoke_code(LOCAL, desk, revoked.record.id)
    clock.now += 60_000_000
    with pytest.raises(Conflict, match="has expired"):
        redeem(LOCAL, desk, short.text, account)
    with pytest.raises(NotFound):
        redeem(LOCAL, desk, "HG-AAAAA-AAAAA-AAAAA-AAAAA-AAAAA", account)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"amount": USD, "count": 0}, "count"),
        ({"amount": USD, "count": 1001}, "count"),
        ({"amount": USD, "expires_in_s": -1}, "expires_in_s"),
        ({"amount": USD, "valid_days": 40_000}, "valid_days"),
        ({}, "amount"),
    ],
)
def test_codes_that_cannot_be_are_refused_by_name(desk: Desk, fields: dict, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        create_codes(LOCAL, desk, CodeOrder(**fields))
    assert caught.value.param == param


def test_only_the_gateways_owner_makes_codes_and_only_billing_redeems(desk: Desk, account: str) -> None:
    [made] = create_codes(LOCAL, desk, CodeOrder(amount=USD))
    owner, developer = join(LOCAL, desk, "owner", account), join(LOCAL, desk, "developer", account)
    for deed in (
        lambda: create_codes(owner, desk, CodeOrder(amount=USD)),
        lambda: list_codes(owner, desk, ALL),
        lambda: revoke_code(owner, desk, made.record.id),
        lambda: redeem(developer, desk, made.text),
    ):
        with pytest.raises((PermissionRefused, NotFound)):
            deed()
    assert redeem(owner, desk, made.text).account == account


# ── higher limits ────────────────────────────────────────────────────────────────────────────────


def test_a_request_for_a_tier_is_given_when_an_owner_approves(desk: Desk, account: str) -> None:
    member = join(LOCAL, desk, "admin", account)
    asked = request_limits(member, desk, LimitRequestOrder(wanted={"tier": "tier4"}, reason="a launch"))
    assert (asked.status, asked.member, asked.account) == ("open", member.member, account)
    with pytest.raises((PermissionRefused, NotFound)):
        decide_request(member, desk, asked.id, approve=True)
    done = decide_request(LOCAL, desk, asked.id, approve=True)
    assert (done.status, done.decided_by) == ("approved", "local")
    found = show_account(LOCAL, desk, account)
    assert (found.tier, found.tier_fixed) == ("tier4", True)
    with pytest.raises(Conflict, match="approved already"):
        decide_request(LOCAL, desk, asked.id, approve=False)


def test_a_request_for_a_limit_becomes_a_limit(desk: Desk, account: str, tmp_path: Path) -> None:
    for rpm in (900, 1_000):
        wanted = {"rpm": rpm, "tpm": 5_000, "model": "gpt-4*"}
        asked = request_limits(LOCAL, desk, LimitRequestOrder(account=account, wanted=wanted, reason="more"))
        decide_request(LOCAL, desk, asked.id, approve=True)
    refused = request_limits(LOCAL, desk, LimitRequestOrder(account=account, wanted={"tpd": 9}, reason="x"))
    assert decide_request(LOCAL, desk, refused.id, approve=False).status == "refused"
    with closing(connect(tmp_path)) as sql:
        rows = sql.execute("SELECT scope, model, rpm, tpm, rpd, tpd, origin FROM limits").fetchall()
    assert rows == [("account", "gpt-4*", 1_000, 5_000, 0, 0, "local")]
    statuses = [row.status for row in list_requests(LOCAL, desk, ALL).data]
    assert statuses == ["approved", "approved", "refused"]
    assert list_requests(LOCAL, desk, ALL, status="open").data == []


@pytest.mark.parametrize(
    "wanted",
    [{}, {"tier": "gold"}, {"tier": "free", "rpm": 1}, {"rpm": 0}, {"rpm": "9"}, {"ipm": 5}, {"model": "m"}],
)
def test_a_wish_that_cannot_be_is_refused(desk: Desk, account: str, wanted: dict) -> None:
    with pytest.raises(CallerError) as caught:
        request_limits(LOCAL, desk, LimitRequestOrder(account=account, wanted=wanted, reason="r"))
    assert str(caught.value.param).startswith("wanted")


def test_requests_pile_up_only_so_far_and_have_a_reason(desk: Desk, account: str) -> None:
    with pytest.raises(CallerError) as caught:
        request_limits(LOCAL, desk, LimitRequestOrder(account=account, wanted={"rpm": 9}, reason=" "))
    assert caught.value.param == "reason"
    for _ in range(10):
        request_limits(LOCAL, desk, LimitRequestOrder(account=account, wanted={"rpm": 9}, reason="r"))
    with pytest.raises(Conflict, match="undecided"):
        request_limits(LOCAL, desk, LimitRequestOrder(account=account, wanted={"rpm": 9}, reason="r"))


def test_a_request_of_another_account_does_not_exist(desk: Desk, account: str) -> None:
    asked = request_limits(LOCAL, desk, LimitRequestOrder(account=account, wanted={"rpm": 9}, reason="r"))
    other = create_account(LOCAL, desk, AccountOrder(name="Other")).id
    member = join(LOCAL, desk, "owner", other)
    with pytest.raises(NotFound) as caught:
        show_request(member, desk, asked.id)
    assert caught.value.message == f"There is no request {asked.id!r}."
    assert list_requests(member, desk, ALL).data == []


def test_a_tier_is_chosen_from_the_table(desk: Desk, account: str, tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="'gold' is no tier: free, tier1"):
        set_tier(LOCAL, desk, account, "gold")
    set_tier(LOCAL, desk, account, "")
    with closing(connect(tmp_path)) as sql:
        assert sql.execute("SELECT count(*) FROM budgets WHERE origin = 'tier'").fetchone() == (0,)
    owner = join(LOCAL, desk, "owner", account)
    with pytest.raises(PermissionRefused):
        set_tier(owner, desk, account, "tier5")
