"""Payments: what a payment provider's signed webhooks do to credit.

`receive_stripe` takes the bytes and the headers as they came. An event is handled once, however often and
however many at a time it is delivered; so is a payment, whichever events report it. What a provider took
back is taken back here, and what the balance lacks is owed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import Conflict, NotFound
from headgate.identity.roles import PERMISSIONS
from headgate.money.credit import MOST_AT_ONCE
from headgate.ops.actors import Actor, Place, authorise
from headgate.ops.credit import book_refund, book_top_up, gather
from headgate.ops.stripe import NANO_PER_CENT, SHORTEST_SECRET, Event, Money, read_event, verify
from headgate.records import AccountRecord, PaymentRecord, PostingRecord
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.money.terms import PaymentSettings
    from headgate.ops.desk import Deed, Desk, Page, PageOrder

STRIPE: Final = Actor("stripe", permissions=PERMISSIONS & {"gateway.credit"})
SOURCE: Final = "stripe"
CURRENCY: Final = "usd"
_BOOKED: Final = "booked"


def receive_stripe(
    desk: Desk, settings: PaymentSettings, payload: bytes, headers: Mapping[str, str]
) -> PaymentRecord:
    """Handle one delivery of a Stripe event, and return what came of it.

    Args:
        desk: where.
        settings: the endpoint's secret, and whether it takes live or test events.
        payload: the body's bytes, as they came.
        headers: of the request; names in lower case.

    Raises:
        NotFound: the endpoint is off: it has no secret, or one that is too short.
        CallerError: Stripe has not signed this, or it is not what Stripe documents.
        Conflict: it concerns a payment that has not been reported yet: Stripe delivers it again.
    """
    if len(settings.stripe_secret.strip()) < SHORTEST_SECRET:
        raise NotFound("This endpoint is off: payments.stripe_secret is not set, or too short.")
    verify(settings.stripe_secret.strip(), payload, headers.get("stripe-signature", ""), desk.clock.wall())
    event = read_event(payload)
    book = Book.REAL if settings.live else Book.SIM
    account, why = _subject(desk, event, live=settings.live)
    money = event.money
    if money is not None and money.kind == "refund" and not why:
        gather(desk, account, book, _nano(money))
    with desk.writing(STRIPE, "payment.received", event.id) as deed:
        known = deed.register.credit.payment(event.id)
        if known is not None:
            deed.detail = {"repeated": True}
            return known
        if account:
            deed.allow("gateway.credit", Place(account), "account", account)
        draft = _draft(deed, event, account, book)
        if why:
            return _note(deed, event, msgspec.structs.replace(draft, kind="none"), why)
        return _book(deed, desk, event, draft)


def list_payments(actor: Actor, desk: Desk, page: PageOrder) -> Page:
    """Return a page of the events of payment providers, as `PaymentRecord`s."""
    with desk.reading() as register:
        authorise(actor, "gateway.credit", Place())
        return desk.page(register, PaymentRecord, page)


def _subject(desk: Desk, event: Event, *, live: bool) -> tuple[str, str]:
    """Return whose money an event is about, and why it is not booked, if so.

    Raises:
        Conflict: the payment that it is about is not known yet.
    """
    money = event.money
    if money is None:
        return "", "ignored: it moves no money"
    why = _unfit(event, money, live=live)
    if why:
        return "", why
    with desk.reading() as register:
        if money.account is not None:
            known = register.get(AccountRecord, id=money.account)
            return (known.id, "") if known is not None else ("", "refused: it names no account of ours")
        paid = register.credit.posted(f"{SOURCE}:{money.payment}")
    if paid is None:
        raise Conflict(f"The payment {money.payment} has not been reported yet: deliver this again later.")
    return paid.account, ""


def _unfit(event: Event, money: Money, *, live: bool) -> str:
    """Return why an event is refused for what it says itself, or nothing."""
    if event.live is not live:
        return f"refused: a {'live' if event.live else 'test'} event where the other kind is taken"
    if money.currency.lower() != CURRENCY:
        return f"refused: the currency {money.currency[:10]!r} is not {CURRENCY}"
    if not 0 < _nano(money) <= MOST_AT_ONCE:
        return "refused: the amount is not positive, or beyond all bounds"
    return "" if money.payment else "refused: it names no payment"


def _draft(deed: Deed, event: Event, account: str, book: Book) -> PostingRecord:
    money = event.money or Money("", "", "", 0, "")
    return PostingRecord(
        account=account,
        book=book,
        kind=money.kind,
        reference=f"{SOURCE}:{money.name}",
        amount=max(min(_nano(money), MOST_AT_ONCE), 0),
        actor=STRIPE.id,
        note=event.type,
        at=deed.at,
    )


def _book(deed: Deed, desk: Desk, event: Event, draft: PostingRecord) -> PaymentRecord:
    """Book a movement of money. Another event may have reported it before."""
    money, credit = event.money, deed.register.credit
    assert money is not None
    if money.whole:  # of a refund Stripe tells the sum
        rest = draft.amount - credit.refunded(draft.account, f"{SOURCE}:{money.payment}:refunded:")
        if rest <= 0:
            return _note(deed, event, draft, "ignored: booked already")
        draft = msgspec.structs.replace(draft, amount=rest)
    if credit.posted(draft.reference) is not None:
        return _note(deed, event, draft, "ignored: booked already")
    made = _note(deed, event, draft, _BOOKED)
    if money.kind == "refund":
        book_refund(deed, msgspec.structs.replace(draft, amount=-draft.amount), debt=True)
    else:
        book_top_up(deed, desk, draft)
    return made


def _note(deed: Deed, event: Event, draft: PostingRecord, outcome: str) -> PaymentRecord:
    record = PaymentRecord(
        event=event.id,
        source=SOURCE,
        reference=draft.reference,
        account=draft.account,
        kind=draft.kind,
        amount=draft.amount,
        currency=event.money.currency[:10] if event.money is not None else "",
        outcome=outcome,
        at=deed.at,
    )
    if not deed.register.credit.claim_event(record):  # another process was faster: nothing of this stays
        raise Conflict(f"The event {event.id} is being handled already.")
    deed.detail = {"type": event.type, "outcome": outcome}
    return record


def _nano(money: Money) -> int:
    return money.amount * NANO_PER_CENT
