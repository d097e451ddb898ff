"""Payments by Stripe's signed webhooks: what is believed, how often, and what it does to credit."""

import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ops.fakes import HandClock, opened_desk
from tests.ops.test_ops_credit import ALL, USD, postings, race

from headgate.errors import CallerError, Conflict, NotFound
from headgate.money.terms import PaymentSettings
from headgate.ops.accounts import AccountOrder, create_account, show_account
from headgate.ops.actors import LOCAL
from headgate.ops.credit import RefundOrder, credit_standing, list_postings, refund
from headgate.ops.desk import Desk
from headgate.ops.payments import list_payments, receive_stripe
from headgate.records import PaymentRecord
from headgate.stores.sql.check import check
from headgate.values import Book

SECRET = "whsec_" + "s" * 32
SETTINGS = PaymentSettings(stripe_secret=SECRET)
TEST = PaymentSettings(stripe_secret=SECRET, live=False)


@pytest.fixture
def account(desk: Desk) -> str:
    return create_account(LOCAL, desk, AccountOrder(name="Acme", prepaid=True)).id


@pytest.fixture(autouse=True)
def _books_are_clean(tmp_path: Path, clock: HandClock) -> Iterator[None]:
    yield
    assert check(tmp_path, clock.now).findings == []


def event(kind: str, thing: dict, number: object = 1, live: bool = True) -> bytes:
    return json.dumps(
        {"id": f"evt_{number}", "object": "event", "type": kind, "livemode": live, "data": {"object": thing}}
    ).encode()


def session(account: str, cents: object = 2_000, **changes: object) -> dict:
    fields = {
        "id": "cs_1", "object": "checkout.session", "payment_intent": "pi_1", "payment_status": "paid",
        "amount_total": cents, "currency": "usd", "client_reference_id": account,
    }  # fmt: skip
    return {**fields, **changes}


def paid(
    account: str, cents: object = 2_000, number: object = 1, live: bool = True, **changes: object
) -> bytes:
    return event("checkout.session.completed", session(account, cents, **changes), number, live)


def sign(payload: bytes, at: int, secret: str = SECRET) -> str:
    return f"t={at},v1={mac(payload, at, secret)}"


def mac(payload: bytes, at: object, secret: str = SECRET) -> str:
    return hmac.digest(secret.encode(), f"{at}.".encode() + payload, "sha256").hex()


def deliver(desk: Desk, payload: bytes, settings: PaymentSettings = SETTINGS) -> PaymentRecord:
    header = sign(payload, desk.clock.wall() // 1_000_000)
    return receive_stripe(desk, settings, payload, {"stripe-signature": header})


# ── what is booked ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cents", [2_000, 803])  # the other one is no whole number of nano-USD as a float
def test_a_payment_is_booked_from_the_providers_own_object(desk: Desk, account: str, cents: int) -> None:
    done = deliver(desk, paid(account, cents, metadata={"amount": "999999"}))
    amount = cents * USD // 100
    assert (done.outcome, done.amount, done.account, done.kind) == ("booked", amount, account, "topup")
    assert postings(desk, account) == [("topup", amount, 0)]
    assert show_account(LOCAL, desk, account).tier == "tier1"


def test_a_payment_without_a_checkout_names_its_account_in_the_metadata(desk: Desk, account: str) -> None:
    intent = {
        "id": "pi_9",
        "amount_received": 700,
        "currency": "usd",
        "metadata": {"headgate_account": account},
    }
    assert deliver(desk, event("payment_intent.succeeded", intent)).outcome == "booked"
    assert deliver(desk, event("payment_intent.succeeded", {**intent, "metadata": {}}, 2)).outcome.startswith(
        "ignored"
    )
    assert postings(desk, account) == [("topup", 7 * USD, 0)]


def test_two_events_of_one_payment_are_one_top_up(desk: Desk, account: str) -> None:
    deliver(desk, paid(account))
    intent = {
        "id": "pi_1",
        "amount_received": 2_000,
        "currency": "usd",
        "metadata": {"headgate_account": account},
    }
    again = deliver(desk, event("payment_intent.succeeded", intent, 2))
    late = deliver(desk, event("checkout.session.async_payment_succeeded", session(account), 3))
    assert [again.outcome, late.outcome] == ["ignored: booked already"] * 2
    assert postings(desk, account) == [("topup", 20 * USD, 0)]


def test_a_payment_below_the_smallest_top_up_was_paid_and_is_booked(desk: Desk, account: str) -> None:
    assert deliver(desk, paid(account, 1)).outcome == "booked"
    assert postings(desk, account) == [("topup", 10_000_000, 0)]


def test_an_event_is_handled_once_however_many_deliver_it(tmp_path: Path, clock: HandClock) -> None:
    with opened_desk(tmp_path, clock) as one, opened_desk(tmp_path, clock) as other:
        account = create_account(LOCAL, one, AccountOrder(name="Acme", prepaid=True)).id
        payload = paid(account)
        results = race(200, lambda n: deliver((one, other)[n % 2], payload))
        assert {each.outcome for each in results} == {"booked"}
        assert postings(one, account) == [("topup", 20 * USD, 0)]
        assert len(list_payments(LOCAL, one, ALL).data) == 1


def test_the_books_take_an_event_once(desk: Desk) -> None:
    note = PaymentRecord(
        event="evt_1",
        source="stripe",
        reference="",
        account="",
        kind="none",
        amount=0,
        currency="",
        outcome="no",
    )
    with desk.writing(LOCAL, "payment.received") as deed:
        claims = [deed.register.credit.claim_event(note) for _ in range(2)]
    assert claims == [True, False]


def test_two_hundred_events_of_one_payment_are_one_top_up(tmp_path: Path, clock: HandClock) -> None:
    with opened_desk(tmp_path, clock) as one, opened_desk(tmp_path, clock) as other:
        account = create_account(LOCAL, one, AccountOrder(name="Acme", prepaid=True)).id
        results = race(200, lambda n: deliver((one, other)[n % 2], paid(account, number=n)))
        assert sum(each.outcome == "booked" for each in results) == 1
        assert postings(one, account) == [("topup", 20 * USD, 0)]


def test_test_events_fill_play_money_where_they_are_taken(desk: Desk, account: str) -> None:
    assert deliver(desk, paid(account, live=False), TEST).outcome == "booked"
    assert deliver(desk, paid(account, live=True, number=2), TEST).outcome.startswith("refused")
    [posting] = [row for row in list_postings(LOCAL, desk, ALL, account).data if row.kind == "topup"]
    assert posting.book is Book.SIM
    assert show_account(LOCAL, desk, account).tier == "free"


# ── what goes back ───────────────────────────────────────────────────────────────────────────────


def refunded(cents: int, number: object) -> bytes:
    charge = {"id": "ch_1", "payment_intent": "pi_1", "amount_refunded": cents, "currency": "usd"}
    return event("charge.refunded", charge, number)


def disputed(kind: str, cents: int, number: object) -> bytes:
    dispute = {"id": "dp_1", "payment_intent": "pi_1", "amount": cents, "currency": "usd"}
    return event(f"charge.dispute.{kind}", dispute, number)


def test_refunds_are_told_as_sums_and_booked_as_differences(desk: Desk, account: str) -> None:
    deliver(desk, paid(account))
    for number, cents in enumerate([500, 1_200, 700, 1_200, 2_000]):  # one comes late, one twice
        deliver(desk, refunded(cents, f"r{number}"))
    assert [row[1] for row in postings(desk, account)] == [20 * USD, -5 * USD, -7 * USD, -8 * USD]
    assert credit_standing(LOCAL, desk, account).paid == 0


def test_a_dispute_takes_what_is_there_and_the_rest_is_owed(desk: Desk, account: str) -> None:
    deliver(desk, paid(account))
    refund(LOCAL, desk, RefundOrder(account=account, amount=15 * USD, reference="spent elsewhere"))
    assert deliver(desk, disputed("funds_withdrawn", 2_000, "d1")).outcome == "booked"
    assert credit_standing(LOCAL, desk, account).owed == 15 * USD
    assert deliver(desk, disputed("funds_withdrawn", 2_000, "d2")).outcome == "ignored: booked already"
    assert deliver(desk, disputed("funds_reinstated", 2_000, "d3")).outcome == "booked"
    standing = credit_standing(LOCAL, desk, account)
    assert (standing.owed, standing.paid, standing.left) == (0, 5 * USD, 10 * USD)


def test_a_refund_of_a_payment_that_is_not_known_yet_comes_again(desk: Desk, account: str) -> None:
    payload = refunded(500, "r")
    with pytest.raises(Conflict, match="deliver this again"):
        deliver(desk, payload)
    deliver(desk, paid(account))
    assert deliver(desk, payload).outcome == "booked"


# ── what is refused ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("secret", ["", " ", "whsec_", "short", "x" * 23, " " * 40])
def test_without_a_real_secret_the_endpoint_is_off(desk: Desk, account: str, secret: str) -> None:
    payload = paid(account)
    header = sign(payload, desk.clock.wall() // 1_000_000, secret)
    with pytest.raises(NotFound, match="off"):
        receive_stripe(desk, PaymentSettings(stripe_secret=secret), payload, {"stripe-signature": header})
    assert postings(desk, account) == []


def forgeries(payload: bytes, now: int) -> dict[str, tuple[bytes, str]]:
    """Return deliveries that Stripe never signed, by what is wrong with them."""
    good = mac(payload, now)
    headers = {
        "no header": "",
        "only a time": f"t={now}",
        "only a signature": f"v1={good}",
        "an empty signature": f"t={now},v1=",
        "an empty time": f"t=,v1={good}",
        "nonsense": "nonsense",
        "commas": ",,,,",
        "an old scheme": f"t={now},v0={good}",
        "a future scheme": f"t={now},v2={good}",
        "upper case": f"t={now},v1={good.upper()}",
        "one digit less": f"t={now},v1={good[:-1]}",
        "one digit more": f"t={now},v1={good}0",
        "a changed digit": f"t={now},v1={'1' if good[0] == '0' else '0'}{good[1:]}",
        "the last digit changed": f"t={now},v1={good[:-1]}{'1' if good[-1] == '0' else '0'}",
        "reversed": f"t={now},v1={good[::-1]}",
        "base64": f"t={now},v1=" + "A" * 44,
        "zeros": f"t={now},v1={'0' * 64}",
        "another time": f"t={now + 1},v1={good}",
        "a time before": f"t={now - 1},v1={good}",
        "two times": f"t={now},t={now - 1},v1={good}",
        "two times, the right one last": f"t={now - 1},t={now},v1={good}",
        "a time with a sign": f"t=+{now},v1={mac(payload, f'+{now}')}",
        "a negative time": f"t=-{now},v1={mac(payload, f'-{now}')}",
        "a time with a point": f"t={now}.0,v1={mac(payload, f'{now}.0')}",
        "a time with a space": f"t={now} ,v1={good}x",
        "a time in hex": f"t={now:#x},v1={mac(payload, hex(now))}",
        "a time in other digits": "t=" + "".join(chr(0x660 + int(d)) for d in str(now)) + f",v1={good}",
        "a time too long": f"t={'0' * 10}{now},v1={mac(payload, '0' * 10 + str(now))}",
        "milliseconds": f"t={now}000,v1={mac(payload, f'{now}000')}",
        "301 s ago": f"t={now - 301},v1={mac(payload, now - 301)}",
        "301 s to come": f"t={now + 301},v1={mac(payload, now + 301)}",
        "a day ago": f"t={now - 86_400},v1={mac(payload, now - 86_400)}",
        "a day to come": f"t={now + 86_400},v1={mac(payload, now + 86_400)}",
        "the epoch": f"t=0,v1={mac(payload, 0)}",
        "not ASCII": f"t={now},v1={'é' * 64}",
        "a surrogate": f"t={now},v1={chr(0xDC80) * 64}",
        "NUL": f"t={now},v1={good}\0",
        "semicolons": f"t={now};v1={good}",
        "quotes": f't={now},v1="{good}"',
        "sha1": f"t={now},v1={hmac.digest(SECRET.encode(), f'{now}.'.encode() + payload, 'sha1').hex()}",
        "sha512": f"t={now},v1={hmac.digest(SECRET.encode(), f'{now}.'.encode() + payload, 'sha512').hex()}",
        "sha256 without a key": f"t={now},v1={mac(payload, now, '')}",
        "no time in what is signed": f"t={now},v1={hmac.digest(SECRET.encode(), payload, 'sha256').hex()}",
        "the body alone, dotted": f"t={now},v1={hmac.digest(SECRET.encode(), b'.' + payload, 'sha256').hex()}",
        "the wrong order": f"t={now},v1={hmac.digest(SECRET.encode(), payload + f'.{now}'.encode(), 'sha256').hex()}",
        "many wrong ones": f"t={now}," + ",".join(f"v1={n:064x}" for n in range(50)),
        "the Webhook standard's": f"v1,{good}",
    }
    found = {name: (payload, header) for name, header in headers.items()}
    for secret in (
        "whsec_",
        "s" * 32,
        SECRET[:-1],
        SECRET + "s",
        SECRET.upper(),
        SECRET + "\n",
        "sk_test_" + "s" * 32,
    ):
        found[f"the secret {secret!r}"] = (payload, f"t={now},v1={mac(payload, now, secret)}")
    signed = f"t={now},v1={good}"
    bodies = {
        "another amount": payload.replace(b"2000", b"9000"),
        "another account": payload.replace(b"acct_", b"acct-"),
        "a space more": payload + b" ",
        "a line more": payload + b"\n",
        "cut": payload[:-1],
        "empty": b"",
        "the same JSON, in other bytes": json.dumps(json.loads(payload), separators=(",", ":")).encode(),
        "a byte order mark": b"\xef\xbb\xbf" + payload,
        "twice": payload + payload,
    }
    return found | {f"a body: {name}": (body, signed) for name, body in bodies.items()}


def test_no_forgery_is_believed(desk: Desk, account: str) -> None:
    now = desk.clock.wall() // 1_000_000
    tried = forgeries(paid(account), now)
    assert len(tried) >= 60
    for name, (payload, header) in tried.items():
        with pytest.raises(CallerError) as caught:
            receive_stripe(desk, SETTINGS, payload, {"stripe-signature": header})
        assert caught.value.http_status == 400, name
        assert caught.value.code in {"signature_invalid", "signature_expired"}, name
        assert SECRET not in caught.value.message
    assert postings(desk, account) == []
    assert list_payments(LOCAL, desk, ALL).data == []


def test_one_of_several_signatures_is_enough_and_five_minutes_are_allowed(desk: Desk, account: str) -> None:
    now = desk.clock.wall() // 1_000_000
    for number, at in enumerate([now - 300, now + 300]):
        payload = paid(account, number=number, payment_intent=f"pi_{number}")
        header = f"t={at},v1={'0' * 64},v0=x,v1={mac(payload, at)}"
        assert receive_stripe(desk, SETTINGS, payload, {"stripe-signature": header}).outcome == "booked"


REFUSED = {
    "a negative amount": {"cents": -2_000},
    "nothing": {"cents": 0},
    "more than can be": {"cents": 10**9 + 1},
    "beyond 64 bits": {"cents": 2**63 - 1},
    "beyond 128 bits": {"cents": int("9" * 40)},
    "another currency": {"currency": "eur"},
    "a currency of the same letters": {"currency": "usdc"},
    "no currency": {"currency": ""},
    "a test event": {"live": False},
    "no account": {"account": ""},
    "an account that is none": {"account": "acct_none"},
    "an account by its number": {"account": "1"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_signed_event_that_cannot_be_is_refused_and_said(desk: Desk, account: str, name: str) -> None:
    fields = {"account": account, **REFUSED[name]}
    payload = paid(**fields)
    done = deliver(desk, payload)
    assert done.outcome.startswith("refused: ")
    assert deliver(desk, payload) == done
    assert postings(desk, account) == []
    assert [row.outcome for row in list_payments(LOCAL, desk, ALL).data] == [done.outcome]


@pytest.mark.parametrize(
    "payload",
    [
        b"null",
        b"[]",
        b"{}",
        b"NaN",
        b'{"id": 1, "type": "x", "livemode": true, "data": {"object": {}}}',
        event("checkout.session.completed", {}),
        event("checkout.session.completed", session("a", "2000")),
        event("checkout.session.completed", session("a", 20.5)),
        event("checkout.session.completed", session("a", None)),
        event("checkout.session.completed", session("a")).replace(b"2000", b"NaN"),
        event("checkout.session.completed", session("a")).replace(b"2000", b"1e400"),
        event("checkout.session.completed", session("a")).replace(b"2000", b"9" * 5_000),
        event("checkout.session.completed", session("a")).replace(b"evt_1", b"cs_1"),
        event("charge.refunded", {"payment_intent": "pi_1", "amount_refunded": "all", "currency": "usd"}),
    ],
)
def test_a_signed_event_that_stripe_does_not_document_is_an_error(
    desk: Desk, account: str, payload: bytes
) -> None:
    with pytest.raises(CallerError) as caught:
        deliver(desk, payload)
    assert caught.value.http_status == 400
    assert postings(desk, account) == []


@pytest.mark.parametrize(
    "payload",
    [
        event("customer.created", {"anything": 1}),
        event("checkout.session.completed", session("acct_a", payment_status="unpaid")),
        event("checkout.session.expired", session("acct_a")),
    ],
)
def test_an_event_that_moves_no_money_is_noted_and_ignored(desk: Desk, account: str, payload: bytes) -> None:
    assert deliver(desk, payload).outcome == "ignored: it moves no money"
    assert postings(desk, account) == []
