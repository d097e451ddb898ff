"""Credit as people move it: gifts, top-ups, refunds, corrections, tiers."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.ops.fakes import HandClock, join, opened_desk

from headgate.errors import CallerError, Conflict, GatewayError, NotFound, PermissionRefused
from headgate.money.tiers import load_tiers
from headgate.ops.accounts import AccountChange, AccountOrder, change_account, create_account, show_account
from headgate.ops.actors import LOCAL
from headgate.ops.credit import (
    AdjustOrder,
    GiftOrder,
    RefundOrder,
    TopUpOrder,
    adjust,
    credit_standing,
    give,
    list_grants,
    list_postings,
    refund,
    top_up,
)
from headgate.ops.desk import Desk, PageOrder
from headgate.records import AuditRecord, BudgetRecord
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect
from headgate.values import Book

USD = 1_000_000_000
DAY = 86_400_000_000
ALL = PageOrder(limit=100)


@pytest.fixture
def account(desk: Desk) -> str:
    return create_account(LOCAL, desk, AccountOrder(name="Acme", prepaid=True)).id


@pytest.fixture(autouse=True)
def _books_are_clean(tmp_path: Path, clock: HandClock) -> Iterator[None]:
    yield
    assert check(tmp_path, clock.now).findings == []


@contextmanager
def held(folder: Path, amount: int) -> Iterator[None]:
    """Let a worker have so much of the account's balance."""
    with closing(connect(folder)) as sql:
        sql.execute(
            "INSERT INTO slices SELECT p.id, 'slot-0', ?, 0 FROM pots p JOIN grants g ON g.id = p.ref"
            " WHERE g.kind = 'balance'",
            (amount,),
        )
        yield
        sql.execute("DELETE FROM slices")


def postings(desk: Desk, account: str) -> list[tuple[str, int, int]]:
    rows = list_postings(LOCAL, desk, ALL, account).data
    return [(row.kind, row.amount, row.debt) for row in rows if not row.reference.startswith("signup:")]


# ── an account's credit ──────────────────────────────────────────────────────────────────────────


def test_a_prepaid_account_begins_with_five_dollars_for_three_months(
    desk: Desk, account: str, clock: HandClock
) -> None:
    grants = list_grants(LOCAL, desk, ALL, account).data
    assert [(each.kind, each.book, each.amount, each.spent) for each in grants] == [
        ("signup", Book.REAL, 5 * USD, 0),
        ("signup", Book.SIM, 5 * USD, 0),
    ]
    assert {each.expires_at for each in grants} == {clock.now + 90 * DAY}
    assert show_account(LOCAL, desk, account).tier == "free"
    standing = credit_standing(LOCAL, desk, account)
    assert (standing.left, standing.paid, standing.next_tier, standing.missing) == (
        5 * USD,
        0,
        "tier1",
        5 * USD,
    )


def test_an_account_that_becomes_prepaid_begins_then(desk: Desk) -> None:
    made = create_account(LOCAL, desk, AccountOrder(name="Acme"))
    assert (made.prepaid, made.tier) == (False, "")
    for prepaid in (True, False, True):
        changed = change_account(LOCAL, desk, made.id, AccountChange(prepaid=prepaid))
        assert changed.prepaid is prepaid
    assert len(list_grants(LOCAL, desk, ALL, made.id).data) == 2
    assert changed.tier == "free"


def test_gifts_are_money_or_tokens_with_their_own_expiry(desk: Desk, account: str, clock: HandClock) -> None:
    money = give(LOCAL, desk, GiftOrder(account=account, amount=3 * USD, valid_days=7, note=" hello "))
    assert (money.amount, money.expires_at, money.note) == (3 * USD, clock.now + 7 * DAY, "hello")
    tokens = give(LOCAL, desk, GiftOrder(account=account, tokens=1_000, model="gpt-4o*", book=Book.SIM))
    assert (tokens.amount, tokens.model, tokens.expires_at) == (1_000, "gpt-4o*", 0)
    assert credit_standing(LOCAL, desk, account).left == 8 * USD
    assert credit_standing(LOCAL, desk, account, Book.SIM).tokens == {"gpt-4o*": 1_000}
    clock.now += 7 * DAY
    assert credit_standing(LOCAL, desk, account).left == 5 * USD


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "amount"),
        ({"amount": 1, "tokens": 1, "model": "m"}, "amount"),
        ({"amount": -1}, "amount"),
        ({"amount": 10**16 + 1}, "amount"),
        ({"tokens": 5}, "model"),
        ({"amount": 5, "model": "m"}, "model"),
        ({"tokens": -5, "model": "m"}, "tokens"),
        ({"amount": 5, "valid_days": -1}, "valid_days"),
        ({"amount": 5, "reference": "a\nb"}, "reference"),
        ({"amount": 5, "note": "x" * 501}, "note"),
    ],
)
def test_a_gift_that_is_none_is_refused_by_name(desk: Desk, account: str, fields: dict, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        give(LOCAL, desk, GiftOrder(account=account, **fields))
    assert caught.value.param == param
    assert postings(desk, account) == []


# ── top-ups ──────────────────────────────────────────────────────────────────────────────────────


def test_a_top_up_is_booked_once_per_reference(desk: Desk, account: str) -> None:
    order = TopUpOrder(account=account, amount=20 * USD, reference="inv-1")
    first = top_up(LOCAL, desk, order)
    assert top_up(LOCAL, desk, order) == first
    with pytest.raises(Conflict) as caught:
        top_up(LOCAL, desk, TopUpOrder(account=account, amount=21 * USD, reference="inv-1"))
    assert (caught.value.http_status, caught.value.code) == (409, "reference_used")
    other = create_account(LOCAL, desk, AccountOrder(name="Other")).id
    with pytest.raises(Conflict):
        top_up(LOCAL, desk, TopUpOrder(account=other, amount=20 * USD, reference="inv-1"))
    assert postings(desk, account) == [("topup", 20 * USD, 0)]
    assert credit_standing(LOCAL, desk, account).left == 25 * USD


@pytest.mark.parametrize("amount", [5 * USD - 1, 0, -5 * USD, 10**16 + 1, 2**63])
def test_a_top_up_has_a_smallest_and_a_largest_amount(desk: Desk, account: str, amount: int) -> None:
    with pytest.raises(CallerError) as caught:
        top_up(LOCAL, desk, TopUpOrder(account=account, amount=amount, reference="a"))
    assert caught.value.param == "amount"


def test_two_hundred_top_ups_of_one_reference_are_one(tmp_path: Path, clock: HandClock) -> None:
    with opened_desk(tmp_path, clock) as one, opened_desk(tmp_path, clock) as other:
        account = create_account(LOCAL, one, AccountOrder(name="Acme", prepaid=True)).id
        order = TopUpOrder(account=account, amount=5 * USD, reference="same")
        results = race(200, lambda n: top_up(LOCAL, (one, other)[n % 2], order).id)
        assert len(set(results)) == 1
        assert postings(one, account) == [("topup", 5 * USD, 0)]


def race(count: int, run) -> list:
    """Run something in so many threads at once; return what each returned or raised."""
    results: list = [None] * count
    barrier = threading.Barrier(count)

    def one(number: int) -> None:
        barrier.wait()
        try:
            results[number] = run(number)
        except GatewayError as fault:
            results[number] = fault

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# ── tiers ────────────────────────────────────────────────────────────────────────────────────────


def test_paid_top_ups_promote_at_once_and_gifts_do_not(desk: Desk, account: str) -> None:
    give(LOCAL, desk, GiftOrder(account=account, amount=5_000 * USD))
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=5_000 * USD, reference="play", book=Book.SIM))
    assert show_account(LOCAL, desk, account).tier == "free"
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=5 * USD, reference="a"))
    assert show_account(LOCAL, desk, account).tier == "tier1"
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=95 * USD, reference="b"))
    assert show_account(LOCAL, desk, account).tier == "tier3"
    standing = credit_standing(LOCAL, desk, account)
    assert (standing.next_tier, standing.missing) == ("tier4", 150 * USD)
    with desk.reading() as register:
        caps = register.all(BudgetRecord, account=account)
        assert [(each.book, each.amount, each.unit, each.origin) for each in caps] == [
            (book, 1_000 * USD, "month", "tier") for book in Book
        ]
        told = register.all(AuditRecord, account=account, action="tier.promoted")
    assert [(row.detail["from"], row.detail["to"]) for row in told] == [("free", "tier1"), ("tier1", "tier3")]


def test_a_tier_that_a_person_chose_is_not_left_and_no_refund_demotes(desk: Desk, account: str) -> None:
    from headgate.ops.tiers import set_tier

    set_tier(LOCAL, desk, account, "tier2")
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=2_000 * USD, reference="a"))
    assert show_account(LOCAL, desk, account).tier == "tier2"
    assert credit_standing(LOCAL, desk, account).next_tier == ""
    set_tier(LOCAL, desk, account, "tier2", fixed=False)
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=5 * USD, reference="b"))
    assert show_account(LOCAL, desk, account).tier == "tier5"
    refund(LOCAL, desk, RefundOrder(account=account, amount=2_000 * USD, reference="c"))
    assert show_account(LOCAL, desk, account).tier == "tier5"
    assert credit_standing(LOCAL, desk, account).paid == 5 * USD


# ── refunds and corrections ──────────────────────────────────────────────────────────────────────


def test_a_refund_is_a_new_entry_and_never_takes_what_is_held(
    desk: Desk, account: str, tmp_path: Path
) -> None:
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=10 * USD, reference="a"))
    with held(tmp_path, 4 * USD):
        began = time.monotonic()
        with pytest.raises(Conflict) as caught:
            refund(LOCAL, desk, RefundOrder(account=account, amount=6 * USD + 1, reference="r"))
        assert time.monotonic() - began >= 1.9  # the workers had their time to give back
        assert caught.value.code == "balance_too_low"
        assert "$6.00" in caught.value.message
        order = RefundOrder(account=account, amount=6 * USD, reference="r")
        first = refund(LOCAL, desk, order)
        assert refund(LOCAL, desk, order) == first
    assert postings(desk, account) == [("topup", 10 * USD, 0), ("refund", -6 * USD, 0)]


def test_a_refund_asks_the_workers_and_takes_what_they_give_back(
    desk: Desk, account: str, tmp_path: Path
) -> None:
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=10 * USD, reference="a"))
    asked = []

    def give_back() -> None:
        with closing(connect(tmp_path)) as sql:
            while not asked:
                row = sql.execute("SELECT max(recall) FROM pots").fetchone()
                if row[0]:
                    asked.append(row[0])
                    sql.execute("UPDATE slices SET amount = 0")
                time.sleep(0.005)

    with held(tmp_path, 10 * USD):
        worker = threading.Thread(target=give_back)
        worker.start()
        refund(LOCAL, desk, RefundOrder(account=account, amount=10 * USD, reference="r"))
        worker.join()
    assert asked
    assert credit_standing(LOCAL, desk, account).left == 5 * USD  # the sign-up grant


def test_what_a_refund_cannot_take_may_be_owed_and_is_paid_back_first(desk: Desk, account: str) -> None:
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=10 * USD, reference="a"))
    refund(LOCAL, desk, RefundOrder(account=account, amount=12 * USD, reference="r", debt=True))
    assert credit_standing(LOCAL, desk, account).owed == 2 * USD
    top_up(LOCAL, desk, TopUpOrder(account=account, amount=5 * USD, reference="b"))
    assert postings(desk, account) == [
        ("topup", 10 * USD, 0),
        ("refund", -10 * USD, 2 * USD),
        ("topup", 3 * USD, -2 * USD),
    ]
    assert credit_standing(LOCAL, desk, account).owed == 0


def test_two_hundred_refunds_of_one_balance_take_no_more_than_there_is(
    tmp_path: Path, clock: HandClock
) -> None:
    with opened_desk(tmp_path, clock) as one, opened_desk(tmp_path, clock) as other:
        account = create_account(LOCAL, one, AccountOrder(name="Acme", prepaid=True)).id
        top_up(LOCAL, one, TopUpOrder(account=account, amount=7 * USD, reference="a"))

        def run(number: int):
            order = RefundOrder(account=account, amount=USD, reference=f"r{number}")
            return refund(LOCAL, (one, other)[number % 2], order)

        results = race(200, run)
        done = [each for each in results if not isinstance(each, Exception)]
        assert len(done) == 7
        assert all(isinstance(each, Conflict) for each in results if isinstance(each, Exception))
        assert credit_standing(LOCAL, one, account).left == 5 * USD


def test_a_correction_is_a_new_entry_with_a_reason(desk: Desk, account: str, clock: HandClock) -> None:
    money = give(LOCAL, desk, GiftOrder(account=account, amount=3 * USD, valid_days=1))
    tokens = give(LOCAL, desk, GiftOrder(account=account, tokens=100, model="m"))
    adjust(LOCAL, desk, AdjustOrder(grant=money.id, change=-USD, reference="x", note="too much"))
    adjust(LOCAL, desk, AdjustOrder(grant=money.id, change=-USD, reference="x", note="too much"))
    adjust(LOCAL, desk, AdjustOrder(grant=tokens.id, change=11, reference="y", note="too little"))
    left = {grant.id: grant.amount for grant in list_grants(LOCAL, desk, ALL, account).data}
    assert (left[money.id], left[tokens.id]) == (2 * USD, 111)
    with pytest.raises(Conflict, match="less than that"):
        adjust(LOCAL, desk, AdjustOrder(grant=money.id, change=-3 * USD, reference="z", note="all"))
    with pytest.raises(CallerError, match="says why"):
        adjust(LOCAL, desk, AdjustOrder(grant=money.id, change=1, reference="z", note=" "))
    with pytest.raises(NotFound):
        adjust(LOCAL, desk, AdjustOrder(grant="grant_none", change=1, reference="z", note="n"))
    clock.now += DAY
    with pytest.raises(Conflict, match="has expired"):
        adjust(LOCAL, desk, AdjustOrder(grant=money.id, change=1, reference="z", note="late"))


# ── who may ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("role", ["owner", "admin", "billing", "developer", "viewer", "auditor"])
def test_nobody_gives_credit_to_an_own_account(desk: Desk, account: str, role: str) -> None:
    member = join(LOCAL, desk, role, account)
    for deed in (
        lambda: give(member, desk, GiftOrder(amount=USD)),
        lambda: top_up(member, desk, TopUpOrder(amount=5 * USD, reference="a")),
        lambda: refund(member, desk, RefundOrder(amount=USD, reference="a")),
    ):
        with pytest.raises((PermissionRefused, NotFound)):
            deed()
    if role in {"owner", "admin", "billing", "auditor"}:
        assert credit_standing(member, desk).left == 5 * USD
    else:
        with pytest.raises((PermissionRefused, NotFound)):
            credit_standing(member, desk)


def test_an_account_that_is_anothers_does_not_exist(desk: Desk, account: str) -> None:
    other = create_account(LOCAL, desk, AccountOrder(name="Other", prepaid=True)).id
    member = join(LOCAL, desk, "owner", other)
    for wanted in (account, "acct_none"):
        with pytest.raises(NotFound) as caught:
            credit_standing(member, desk, wanted)
        assert caught.value.message == f"There is no account {wanted!r}."


@pytest.mark.parametrize("ppm", [0, -1, 1_000_000_001])
def test_a_multiplier_is_above_nothing(desk: Desk, account: str, ppm: int) -> None:
    with pytest.raises(CallerError) as caught:
        change_account(LOCAL, desk, account, AccountChange(multiplier_ppm=ppm))
    assert caught.value.param == "multiplier_ppm"


def test_tiers_of_the_desk_are_those_of_the_guide(desk: Desk) -> None:
    assert tuple(desk.tiers) == load_tiers()
