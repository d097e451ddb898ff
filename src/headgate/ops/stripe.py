"""Stripe's webhooks: is it Stripe who speaks, and what happened to the money. Pure.

The signature is HMAC-SHA-256 over `t.payload`, the bytes as they came (docs.stripe.com/webhooks). Amounts
and currency come from the provider's own objects, in its smallest unit; nothing of the caller's is believed.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec

from headgate.errors import CallerError
from headgate.wire.answers import NOT_JSON

if TYPE_CHECKING:
    from headgate.values import WallMicros

TOLERANCE_S: Final = 300
SHORTEST_SECRET: Final = 24  # characters; Stripe's have 38
NANO_PER_CENT: Final = 10_000_000
ACCOUNT: Final = "headgate_account"  # the member of the metadata that names the account
_LARGEST: Final = 1 << 20  # bytes of a payload
T = TypeVar("T")


class Money(NamedTuple):
    """What an event says about money. `amount` is in the currency's smallest unit, as the provider has it."""

    kind: str  # topup, refund
    payment: str  # the provider's id of the payment
    name: str  # of this movement: its reference, the source apart
    amount: int
    currency: str
    account: str | None = None  # public id, maybe empty; None: that of the payment
    whole: bool = False  # `amount` is all that was ever refunded of the payment


class Event(NamedTuple):
    """An event that Stripe has signed."""

    id: str
    type: str
    live: bool
    money: Money | None  # None: it moves none


class _Envelope(msgspec.Struct):
    object: msgspec.Raw


class _Event(msgspec.Struct):
    id: str
    type: str
    livemode: bool
    data: _Envelope


class _Session(msgspec.Struct):
    id: str
    payment_status: str
    amount_total: int
    currency: str
    payment_intent: str | None = None
    client_reference_id: str | None = None
    metadata: dict[str, str] | None = None


class _Intent(msgspec.Struct):
    id: str
    amount_received: int
    currency: str
    metadata: dict[str, str] | None = None


class _Charge(msgspec.Struct):
    payment_intent: str | None
    amount_refunded: int
    currency: str


class _Dispute(msgspec.Struct):
    id: str
    payment_intent: str | None
    amount: int
    currency: str


def verify(secret: str, payload: bytes, signature: str, now: WallMicros) -> None:
    """Check that a payload was signed with the secret, lately.

    Raises:
        CallerError: it was not; says nothing about why, but for an old time.
    """
    stamps, given = [], []
    for part in signature.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            stamps.append(value)
        elif name == "v1":
            given.append(value)
    if len(stamps) != 1 or not (stamps[0].isascii() and stamps[0].isdecimal()) or len(stamps[0]) > 12:
        raise _forged()
    if abs(now // 1_000_000 - int(stamps[0])) > TOLERANCE_S:
        raise CallerError(
            "The signature of this event is too old or of a time to come.", code="signature_expired"
        )
    due = hmac.digest(secret.encode(), stamps[0].encode() + b"." + payload, "sha256").hex()
    # Each is compared, so that the time says nothing about which.
    fits = [hmac.compare_digest(due.encode(), value.encode("utf-8", "replace")) for value in given]
    if len(payload) > _LARGEST or not any(fits):
        raise _forged()


def read_event(payload: bytes) -> Event:
    """Return what a signed payload says.

    Raises:
        CallerError: it is no event, or one of its own objects is not what Stripe documents.
    """
    event = _decode(payload, _Event)
    if not event.id.startswith("evt_") or len(event.id) > 255:
        raise CallerError("The event has no id of Stripe's.", param="id")
    read = _READERS.get(event.type)
    return Event(event.id, event.type, event.livemode, read(bytes(event.data.object)) if read else None)


def _session(data: bytes) -> Money | None:
    session = _decode(data, _Session)
    if session.payment_status != "paid":
        return None
    payment = session.payment_intent or session.id
    account = session.client_reference_id or (session.metadata or {}).get(ACCOUNT, "")
    return Money("topup", payment, payment, session.amount_total, session.currency, account)


def _intent(data: bytes) -> Money | None:
    """A payment without a checkout says whose it is; that of a checkout is booked by its session."""
    intent = _decode(data, _Intent)
    account = (intent.metadata or {}).get(ACCOUNT, "")
    if not account:
        return None
    return Money("topup", intent.id, intent.id, intent.amount_received, intent.currency, account)


def _refunded(data: bytes) -> Money | None:
    charge = _decode(data, _Charge)
    payment, amount = charge.payment_intent or "", charge.amount_refunded
    return Money("refund", payment, f"{payment}:refunded:{amount}", amount, charge.currency, whole=True)


def _withdrawn(data: bytes) -> Money | None:
    dispute = _decode(data, _Dispute)
    return Money("refund", dispute.payment_intent or "", dispute.id, dispute.amount, dispute.currency)


def _reinstated(data: bytes) -> Money | None:
    dispute = _decode(data, _Dispute)
    name = f"{dispute.id}:reinstated"
    return Money("topup", dispute.payment_intent or "", name, dispute.amount, dispute.currency)


_READERS: Final = {
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "payment_intent.succeeded": _intent,
    "charge.refunded": _refunded,
    "charge.dispute.funds_withdrawn": _withdrawn,
    "charge.dispute.funds_reinstated": _reinstated,
}


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except NOT_JSON as fault:
        raise CallerError(f"The event is not what Stripe documents: {fault}.") from fault


def _forged() -> CallerError:
    return CallerError("The signature of this event is not Stripe's.", code="signature_invalid")
