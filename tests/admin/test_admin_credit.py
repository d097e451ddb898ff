"""Credit, codes, tiers, sign-up and payments over HTTP."""

from __future__ import annotations

import email
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.admin.api import Api, Reply
from tests.admin.stripes import SECRET, session, signature, wrapped

from headgate.money.terms import PaymentSettings, Terms
from headgate.money.tiers import load_tiers
from headgate.process.admin import AdminSettings
from headgate.stores.sql.database import connect
from headgate.stores.sql.terms import put_terms

DOLLAR = 1_000_000_000


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API of a gateway that serves prepaid and takes Stripe's live events."""
    terms = Terms(prepaid=True, signup=5 * DOLLAR, signup_days=90, minimum=5 * DOLLAR, tier="free")
    api = Api(tmp_path, AdminSettings(PaymentSettings(stripe_secret=SECRET)), terms)
    with closing(connect(tmp_path)) as sql:
        put_terms(sql, 1, terms, load_tiers(), time.time_ns() // 1000)
    yield api
    assert api.faults == []


def account(api: Api, name: str = "acme") -> str:
    return str(api.call("POST", "/admin/v1/accounts", {"name": name, "prepaid": True}).json["id"])


def left(api: Api, ref: str) -> int:
    return int(api.call("GET", f"/admin/v1/credit?account={ref}").json["left"])


def test_credit_is_given_paid_refunded_and_put_right(api: Api) -> None:
    ref = account(api)
    stands = api.call("GET", f"/admin/v1/credit?account={ref}").json
    assert (stands["left"], stands["tier"], stands["next_tier"], stands["missing"]) == (
        5 * DOLLAR, "free", "tier1", 5 * DOLLAR,
    )  # fmt: skip
    gift = {"account": ref, "amount": 2 * DOLLAR, "valid_days": 7, "reference": "hello", "note": "welcome"}
    given = api.call("POST", "/admin/v1/credit/grants", gift)
    assert (given.status, given.json["kind"], given.json["book"]) == (201, "gift", "real")
    assert api.call("POST", "/admin/v1/credit/grants", gift).json["id"] == given.json["id"]
    paid = {"account": ref, "amount": 50 * DOLLAR, "reference": "wire-1"}
    first = api.call("POST", "/admin/v1/credit/topups", paid)
    assert (first.status, first.json["kind"], first.json["amount"]) == (201, "topup", 50 * DOLLAR)
    assert api.call("POST", "/admin/v1/credit/topups", paid).json == first.json
    other = api.call("POST", "/admin/v1/credit/topups", {**paid, "amount": 51 * DOLLAR})
    assert (other.status, other.error["code"]) == (409, "reference_used")
    stands = api.call("GET", f"/admin/v1/credit?account={ref}").json
    assert (stands["left"], stands["paid"], stands["tier"]) == (57 * DOLLAR, 50 * DOLLAR, "tier2")
    back = {"account": ref, "amount": 60 * DOLLAR, "reference": "back-1"}
    assert api.call("POST", "/admin/v1/credit/refunds", back).error["code"] == "balance_too_low"
    owed = api.call("POST", "/admin/v1/credit/refunds", {**back, "debt": True}).json
    assert (owed["amount"], owed["debt"]) == (-50 * DOLLAR, 10 * DOLLAR)
    change = {"grant": given.json["id"], "change": -DOLLAR, "reference": "fix-1", "note": "too much"}
    assert api.call("POST", "/admin/v1/credit/adjustments", change).json["amount"] == -DOLLAR
    assert left(api, ref) == 6 * DOLLAR
    kinds = [row["kind"] for row in api.call("GET", f"/admin/v1/credit/postings?account={ref}").json["data"]]
    assert kinds == ["grant", "grant", "grant", "topup", "refund", "adjustment"]
    grants = api.call("GET", f"/admin/v1/credit/grants?account={ref}").json["data"]
    assert [row["kind"] for row in grants] == ["signup", "signup", "gift", "balance"]


def test_a_refund_that_waits_for_workers_keeps_nobody_waiting(api: Api) -> None:
    ref = account(api)
    paid = {"account": ref, "amount": 50 * DOLLAR, "reference": "wire-1"}
    assert api.call("POST", "/admin/v1/credit/topups", paid).status == 201
    with closing(connect(api.folder)) as sql:  # a worker that holds all of it
        sql.execute(
            "INSERT INTO slices (pot, slot, amount) SELECT p.id, 'slot-0', p.amount FROM pots p"
            " JOIN grants g ON g.id = p.ref WHERE p.kind = 'grant' AND g.kind = 'balance' AND p.amount > 0"
        )
    back = {"account": ref, "amount": 50 * DOLLAR, "reference": "back-1"}
    answered = api.together(
        ("POST", "/admin/v1/credit/refunds", back),
        ("GET", "/admin/v1/tiers", None),
        ("POST", "/admin/v1/projects", {"name": "new", "account": ref}),
    )
    assert (sorted(answered), answered[-1]) == ([200, 201, 409], 409)


def test_codes_are_made_redeemed_once_and_revoked(api: Api) -> None:
    ref = account(api)
    once = {"idempotency-key": "codes-1"}
    wish = {"count": 2, "amount": 3 * DOLLAR, "valid_days": 30}
    made = api.call("POST", "/admin/v1/codes", wish, headers=once).json["data"]
    assert api.call("POST", "/admin/v1/codes", wish, headers=once).json["data"] is None
    used = api.call("POST", "/admin/v1/redemptions", {"code": made[0]["text"].lower(), "account": ref})
    assert (used.status, used.json["kind"], used.json["amount"]) == (201, "code", 3 * DOLLAR)
    again = api.call("POST", "/admin/v1/redemptions", {"code": made[0]["text"], "account": ref})
    assert (again.status, again.error["code"]) == (409, "code_not_valid")
    assert api.call("DELETE", f"/admin/v1/codes/{made[1]['record']['id']}").json["revoked_at"] > 0
    shown = api.call("GET", f"/admin/v1/codes/{made[0]['record']['id']}")
    assert shown.json["redeemed_by"] == ref
    assert made[0]["text"] not in shown.body.decode()
    assert len(api.call("GET", "/admin/v1/codes").json["data"]) == 2


def test_higher_limits_are_asked_for_and_decided(api: Api) -> None:
    ref = account(api)
    names = [tier["name"] for tier in api.call("GET", "/admin/v1/tiers").json["data"]]
    assert names[:2] == ["free", "tier1"]
    wish = {"account": ref, "wanted": {"tier": "tier3"}, "reason": "growth"}
    asked = api.call("POST", "/admin/v1/limit_requests", wish)
    assert (asked.status, asked.json["status"]) == (201, "open")
    place = f"/admin/v1/limit_requests/{asked.json['id']}"
    decided = api.call("POST", place + "/decision", {"approve": True})
    assert decided.json["status"] == "approved"
    assert api.call("GET", place).json == decided.json
    assert api.call("GET", f"/admin/v1/accounts/{ref}").json["tier"] == "tier3"
    chosen = api.call("PUT", f"/admin/v1/accounts/{ref}/tier", {"tier": "tier1", "fixed": False})
    assert (chosen.json["tier"], chosen.json["tier_fixed"]) == ("tier1", False)
    assert api.call("GET", f"/admin/v1/limit_requests?account={ref}&status=open").json["data"] == []


def test_who_signs_up_gets_a_mail_and_with_it_an_account_of_their_own(api: Api) -> None:
    asked = api.call("POST", "/admin/v1/signup", {"email": "Li@example.com", "name": "Li"}, key=None)
    assert (asked.status, asked.json["email"]) == (202, "li@example.com")
    (mail,) = (api.folder / "outbox").glob("*.eml")
    text = email.message_from_bytes(mail.read_bytes()).get_payload(decode=True).decode()
    token = re.search(r'{"token": "([\w-]+)"}', text)[1]
    opened = api.call("POST", "/admin/v1/signup/verify", {"token": token}, key=None)
    assert opened.status == 201
    ref, key = opened.json["account"]["id"], opened.json["admin_key"]["key"]
    stands = api.call("GET", "/admin/v1/credit", key=key).json
    assert (stands["account"], stands["left"]) == (ref, 5 * DOLLAR)
    assert [row["id"] for row in api.call("GET", "/admin/v1/accounts", key=key).json["data"]] == [ref]
    assert api.call("POST", "/admin/v1/accounts", {"name": "more"}, key=key).status == 403
    again = api.call("POST", "/admin/v1/signup/verify", {"token": token}, key=None)
    assert (again.status, again.error["code"]) == (404, "token_not_valid")
    assert [row["email"] for row in api.call("GET", "/admin/v1/signups").json["data"]] == ["li@example.com"]


def test_one_address_cannot_have_mail_sent_without_end(api: Api) -> None:
    said = [
        api.call("POST", "/admin/v1/signup", {"email": f"a{number}@example.com"}, key=None)
        for number in range(21)
    ]
    assert [reply.status for reply in said] == [202] * 20 + [429]
    assert int(said[-1].headers["retry-after"]) <= 3600


def deliver(api: Api, payload: bytes, header: str | None) -> Reply:
    headers = {} if header is None else {"stripe-signature": header}
    return api.call("POST", "/admin/v1/webhooks/stripe", payload, key=None, headers=headers)


def test_a_paid_checkout_is_credited_once_and_taken_back(api: Api) -> None:
    ref = account(api)
    payload, now = session(ref), time.time()
    for _ in range(3):
        assert deliver(api, payload, signature(payload, now)).json == {"received": True}
    assert left(api, ref) == 15 * DOLLAR
    charge = {"payment_intent": "pi_evt_1", "amount_refunded": 400, "currency": "usd"}
    refund = wrapped("charge.refunded", charge, "evt_2")
    assert deliver(api, refund, signature(refund, now)).status == 200
    assert left(api, ref) == 11 * DOLLAR
    rows = api.call("GET", "/admin/v1/payments").json["data"]
    assert [(row["event"], row["outcome"]) for row in rows] == [("evt_1", "booked"), ("evt_2", "booked")]


FORGED = {
    "no signature": lambda p, now: None,
    "empty": lambda p, now: "",
    "no time": lambda p, now: signature(p, now).partition(",")[2],
    "no digest": lambda p, now: signature(p, now).partition(",")[0],
    "two times": lambda p, now: f"t=1,{signature(p, now)}",
    "another secret": lambda p, now: signature(p, now, "whsec_" + "x" * 36),
    "the empty secret": lambda p, now: signature(p, now, ""),
    "another scheme": lambda p, now: signature(p, now).replace("v1=", "v0="),
    "too old": lambda p, now: signature(p, now - 301),
    "of a time to come": lambda p, now: signature(p, now + 302),
    "a time that is none": lambda p, now: "t=now," + signature(p, now).partition(",")[2],
    "of other bytes": lambda p, now: signature(p + b" ", now),
    "of the same JSON": lambda p, now: signature(p.replace(b"\n", b""), now),
    "cut": lambda p, now: signature(p, now)[:-1],
    "not ASCII": lambda p, now: signature(p, now)[:-1] + "é",
    "upper case": lambda p, now: signature(p, now).upper(),
}


@pytest.mark.parametrize("how", FORGED)
def test_what_stripe_has_not_signed_moves_nothing(api: Api, how: str) -> None:
    ref = account(api)
    payload = session(ref)
    reply = deliver(api, payload, FORGED[how](payload, time.time()))
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
    assert left(api, ref) == 5 * DOLLAR
    assert api.call("GET", "/admin/v1/payments").json["data"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_total": -1000}, {"amount_total": 0}, {"amount_total": 2**62}, {"currency": "eur"},
        {"payment_status": "unpaid"}, {"client_reference_id": "acct_none"}, {"client_reference_id": ""},
    ],
)  # fmt: skip
def test_what_a_signed_event_cannot_mean_is_noted_and_moves_nothing(
    api: Api, changes: dict[str, object]
) -> None:
    ref = account(api)
    payload = session(ref, **changes)
    assert deliver(api, payload, signature(payload, time.time())).status == 200
    assert left(api, ref) == 5 * DOLLAR
    (row,) = api.call("GET", "/admin/v1/payments").json["data"]
    assert row["outcome"] != "booked"


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b'{"id": "evt_1"}', session("x").replace(b"1000", b"1e3"), session("x").replace(b"1000", b"NaN"),
     session("x").replace(b"1000", b'"1000"')],
)  # fmt: skip
def test_a_signed_payload_that_is_no_event_is_refused(api: Api, payload: bytes) -> None:
    assert deliver(api, payload, signature(payload, time.time())).status == 400


def test_a_test_event_is_not_taken_for_money(api: Api) -> None:
    ref = account(api)
    payload = session(ref).replace(b'"livemode": true', b'"livemode": false')
    assert deliver(api, payload, signature(payload, time.time())).status == 200
    assert left(api, ref) == 5 * DOLLAR


@pytest.mark.parametrize("secret", ["", " ", "whsec_short"])
def test_without_a_secret_the_endpoint_is_off(tmp_path: Path, secret: str) -> None:
    api = Api(tmp_path, AdminSettings(PaymentSettings(stripe_secret=secret)))
    payload = session(account(api))
    reply = deliver(api, payload, signature(payload, time.time(), secret))
    assert reply.status == 404
    assert api.faults == []
