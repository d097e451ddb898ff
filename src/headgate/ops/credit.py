"""Give credit, take it back, put it right, and say how it stands.

Nothing is ever changed: each deed is a posting of its own, and a reference is posted once. What takes
credit away waits for running servers to give back what they do not hold, and is refused when it would
take what is spent or held, unless the rest may be owed.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import CallerError, Conflict
from headgate.money.amounts import format_usd
from headgate.money.credit import BALANCE, DAY_US, MOST_AT_ONCE
from headgate.money.promotion import Distance, distance
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.projects import account_of
from headgate.records import AccountRecord, GrantRecord, PostingRecord
from headgate.values import Book, NanoUSD, WallMicros

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder

GIVE_BACK_S: Final = 2.0  # how long running servers have to give back what they do not hold
MOST_TOKENS: Final = 10**15
MOST_DAYS: Final = 36_500
_LOOK_S: Final = 0.02


class GiftOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gift: money, or tokens of a model; one of the two."""

    account: str = ""  # public id; empty: the actor's own, or the only one
    amount: NanoUSD = 0
    tokens: int = 0
    model: str = ""  # of tokens: the model, or a pattern of models
    valid_days: int = 0  # 0: for ever
    book: Book = Book.REAL
    reference: str = ""  # makes it happen once; empty: each time
    note: str = ""


class TopUpOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment that has been received."""

    account: str = ""
    amount: NanoUSD
    reference: str  # of the payment: it is booked once
    book: Book = Book.REAL
    note: str = ""


class RefundOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money that goes back to who paid it."""

    account: str = ""
    amount: NanoUSD
    reference: str
    book: Book = Book.REAL
    debt: bool = False  # what is spent or held already is owed from then on
    note: str = ""


class AdjustOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A correction of one grant."""

    grant: str
    change: int  # nano-USD, or tokens of a grant in tokens; below zero: taken away
    reference: str
    note: str


class CreditStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How the credit of an account stands, as the books have it."""

    account: str
    book: Book
    left: NanoUSD  # of all grants in money that have not expired
    tokens: dict[str, int]  # left, by model
    owed: NanoUSD
    paid: NanoUSD  # real money, less what went back
    tier: str
    next_tier: str = ""
    missing: NanoUSD = 0  # to be paid until then
    not_before: WallMicros = 0


def give(actor: Actor, desk: Desk, order: GiftOrder) -> GrantRecord:
    """Make a grant that nobody paid for.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
        NotFound: there is no such account.
        Conflict: the reference was used for something else.
    """
    with desk.writing(actor, "grant.given") as deed:
        account = _account(deed, order.account)
        check_gift(order.amount, order.tokens, order.model)
        if not 0 <= order.valid_days <= MOST_DAYS:
            raise CallerError(f"valid_days must be between 0 and {MOST_DAYS}.", param="valid_days")
        reference = _reference("gift", order.reference or secrets.token_hex(12))
        draft = PostingRecord(
            account=account,
            book=order.book,
            kind="grant",
            amount=order.amount,
            tokens=order.tokens,
            reference=reference,
            actor=actor.id,
            note=_note(order.note),
            at=deed.at,
        )
        known = repeated(deed, draft)
        if known is not None:
            return deed.find(GrantRecord, "grant", known.grant)
        until = deed.at + order.valid_days * DAY_US if order.valid_days else 0
        made = deed.register.credit.give(
            GrantRecord(
                account=account,
                book=order.book,
                kind="gift",
                model=order.model,
                expires_at=until,
                note=draft.note,
            ),
            draft,
        )
        _tell(deed, made.id, amount_nano_usd=order.amount, tokens=order.tokens, expires_at=until)
        return made


def top_up(actor: Actor, desk: Desk, order: TopUpOrder) -> PostingRecord:
    """Book a payment that was received, and promote its account where that earns a tier.

    The same reference and amount give the same result, however often.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: it is less than the smallest top-up, or no amount; `param` names the member.
        NotFound: there is no such account.
        Conflict: the reference was used for another amount or account.
    """
    with desk.writing(actor, "credit.topped_up") as deed:
        account = _account(deed, order.account)
        least = desk.terms.minimum
        if not least <= order.amount <= MOST_AT_ONCE or order.amount <= 0:
            raise CallerError(
                f"A top-up is at least {format_usd(max(least, 1))} and at most {format_usd(MOST_AT_ONCE)}.",
                param="amount",
            )
        draft = PostingRecord(
            account=account,
            book=order.book,
            kind="topup",
            amount=order.amount,
            reference=_reference("manual", order.reference),
            actor=actor.id,
            note=_note(order.note),
            at=deed.at,
        )
        return book_top_up(deed, desk, draft)


def book_top_up(deed: Deed, desk: Desk, draft: PostingRecord) -> PostingRecord:
    """Book a payment once, whoever reports it; promote its account at the same time."""
    known = repeated(deed, draft)
    if known is not None:
        return known
    made = deed.register.credit.top_up(draft)
    tier = deed.register.credit.promote(draft.account, desk.tiers, deed.at) if not draft.book else ""
    _tell(deed, made.id, amount_nano_usd=draft.amount, reference=draft.reference, tier=tier)
    return made


def refund(actor: Actor, desk: Desk, order: RefundOrder) -> PostingRecord:
    """Take paid money out of a balance, to be given back outside.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: it is no amount.
        NotFound: there is no such account.
        Conflict: it is spent or held already, or the reference was used for something else.
    """
    with desk.reading() as register:
        account = account_of(actor, register, order.account)
        authorise(actor, "gateway.credit", Place(account), "account", account)
    gather(desk, account, order.book, order.amount)
    with desk.writing(actor, "credit.refunded") as deed:
        deed.allow("gateway.credit", Place(account), "account", account)
        if not 0 < order.amount <= MOST_AT_ONCE:
            raise CallerError(f"amount must be between 1 and {MOST_AT_ONCE} nano-USD.", param="amount")
        draft = PostingRecord(
            account=account,
            book=order.book,
            kind="refund",
            amount=-order.amount,
            reference=_reference("manual", order.reference),
            actor=actor.id,
            note=_note(order.note),
            at=deed.at,
        )
        return book_refund(deed, draft, debt=order.debt)


def book_refund(deed: Deed, draft: PostingRecord, *, debt: bool) -> PostingRecord:
    """Take what a posting says out of its account's balance, once.

    Args:
        deed: in whose transaction.
        draft: with an amount below zero.
        debt: what the balance lacks is owed; else it is refused.

    Raises:
        Conflict: the balance lacks some of it, or the reference was used for something else.
    """
    known = repeated(deed, draft)
    if known is not None:
        return known
    credit = deed.register.credit
    grant = credit.balance(draft.account, draft.book, deed.at)
    wanted, there = -draft.amount, credit.free(grant)
    if there < wanted and not debt:
        raise Conflict(
            f"{format_usd(wanted)} cannot be taken: {format_usd(there)} of the balance is neither spent nor "
            "held by open calls. Take less, try again when they have ended, or let the rest be owed.",
            code="balance_too_low",
            param="amount",
        )
    taken = min(wanted, there)
    made = credit.add(msgspec.structs.replace(draft, grant=grant, amount=-taken, debt=wanted - taken))
    _tell(deed, made.id, amount_nano_usd=-wanted, owed_nano_usd=wanted - taken, reference=draft.reference)
    return made


def adjust(actor: Actor, desk: Desk, order: AdjustOrder) -> PostingRecord:
    """Put a grant right, up or down.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: it is no change, or has no note.
        NotFound: there is no such grant, or not for this actor.
        Conflict: what is taken is spent or held, the grant has expired, or the reference was used.
    """
    with desk.reading() as register:
        grant = register.get(GrantRecord, id=order.grant)
        if grant is None:
            raise absent("grant", order.grant)
        authorise(actor, "gateway.credit", Place(grant.account), "grant", order.grant)
    _wait(desk, grant.id, -order.change)
    with desk.writing(actor, "grant.adjusted", grant.id) as deed:
        grant = deed.find(GrantRecord, "grant", grant.id)
        deed.allow("gateway.credit", Place(grant.account), "grant", grant.id)
        if not order.change or abs(order.change) > MOST_AT_ONCE or not order.note.strip():
            raise CallerError(
                "An adjustment has a change that is not 0, and a note that says why.", param="note"
            )
        draft = PostingRecord(
            account=grant.account,
            grant=grant.id,
            book=grant.book,
            kind="adjustment",
            amount=0 if grant.model else order.change,
            tokens=order.change if grant.model else 0,
            reference=_reference("adjustment", order.reference),
            actor=actor.id,
            note=_note(order.note),
            at=deed.at,
        )
        known = repeated(deed, draft)
        if known is not None:
            return known
        if grant.closed_at or (grant.expires_at and grant.expires_at <= deed.at):
            raise Conflict(f"The grant {grant.id} has expired: give another one.")
        if order.change < 0 and deed.register.credit.free(grant.id) < -order.change:
            raise Conflict(
                f"The grant {grant.id} has less than that: the rest is spent, or held by open calls."
            )
        made = deed.register.credit.add(draft)
        _tell(deed, grant.id, change=order.change, reference=draft.reference)
        return made


# ── how it stands ────────────────────────────────────────────────────────────────────────────────


def list_grants(actor: Actor, desk: Desk, page: PageOrder, account: str = "") -> Page:
    """Return a page of an account's grants, as `GrantRecord`s."""
    with desk.reading() as register:
        account = account_of(actor, register, account)
        authorise(actor, "credit.read", Place(account), "account", account)
        return desk.page(register, GrantRecord, page, account=account)


def list_postings(actor: Actor, desk: Desk, page: PageOrder, account: str = "") -> Page:
    """Return a page of what was put into an account's credit and taken out, as `PostingRecord`s."""
    with desk.reading() as register:
        account = account_of(actor, register, account)
        authorise(actor, "credit.read", Place(account), "account", account)
        return desk.page(register, PostingRecord, page, account=account)


def credit_standing(actor: Actor, desk: Desk, account: str = "", book: Book = Book.REAL) -> CreditStanding:
    """Return how an account's credit stands, and how far its next tier is.

    Raises:
        NotFound: there is no such account, or not for this actor.
    """
    with desk.reading() as register:
        account = account_of(actor, register, account)
        authorise(actor, "credit.read", Place(account), "account", account)
        record = register.get(AccountRecord, id=account)
        assert record is not None
        now, left, tokens = desk.clock.wall(), 0, dict[str, int]()
        for grant in register.all(GrantRecord, account=account, book=int(book), closed_at=0):
            rest = grant.amount - grant.spent
            if grant.expires_at and grant.expires_at <= now:
                continue
            if grant.model:
                tokens[grant.model] = tokens.get(grant.model, 0) + rest
            else:
                left += rest
        paid = register.credit.paid(account)
        ahead = None
        if not record.tier_fixed:
            ahead = distance(desk.tiers, record.tier, paid, record.first_paid_at)
        ahead = ahead or Distance("", 0, 0, 0)
        return CreditStanding(
            account=account,
            book=book,
            left=left,
            tokens=tokens,
            owed=register.credit.owed(account, book),
            paid=paid,
            tier=record.tier,
            next_tier=ahead.tier,
            missing=ahead.missing,
            not_before=ahead.not_before,
        )


# ── parts that codes, payments and sign-ups share ────────────────────────────────────────────────


def check_gift(amount: NanoUSD, tokens: int, model: str) -> None:
    """Check that a gift is money, or tokens of a model.

    Raises:
        CallerError: it is neither, or both; `param` names the member.
    """
    if bool(amount) == bool(tokens):
        raise CallerError("Give either an amount of money, or tokens of a model.", param="amount")
    if not 0 <= amount <= MOST_AT_ONCE:
        raise CallerError(f"amount must be between 1 and {MOST_AT_ONCE} nano-USD.", param="amount")
    if not 0 <= tokens <= MOST_TOKENS:
        raise CallerError(f"tokens must be between 1 and {MOST_TOKENS}.", param="tokens")
    if bool(model) != bool(tokens) or len(model) > 200 or not (model.isprintable() or not model):
        raise CallerError("Tokens are of a model; money is of none.", param="model")


def repeated(deed: Deed, draft: PostingRecord) -> PostingRecord | None:
    """Return the posting of a reference that was posted before with the same content.

    Raises:
        Conflict: it was posted with another one.
    """
    known = deed.register.credit.posted(draft.reference)
    if known is None:
        return None
    same = (known.account, known.book, known.kind, known.tokens, known.amount - known.debt)
    if same != (draft.account, draft.book, draft.kind, draft.tokens, draft.amount):
        raise Conflict(
            f"The reference {draft.reference.partition(':')[2]!r} was used for something else: "
            "another amount, account or purpose. Use one of its own.",
            code="reference_used",
            param="reference",
        )
    deed.ref, deed.detail = known.id, {"repeated": True}
    return known


def gather(desk: Desk, account: str, book: Book, amount: int) -> None:
    """Wait until so much of an account's balance is free, or until there is nothing to wait for."""
    with desk.reading() as register:
        grants = register.all(GrantRecord, account=account, book=int(book), kind=BALANCE)
    if grants:
        _wait(desk, grants[0].id, amount)


def _wait(desk: Desk, grant: str, amount: int) -> None:
    if amount <= 0:
        return
    deadline = time.monotonic() + GIVE_BACK_S
    with desk.asking() as register:
        if register.credit.free(grant) >= amount or not register.credit.out(grant):
            return
        register.credit.recall(grant)
    while time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        with desk.reading() as register:
            if register.credit.free(grant) >= amount or not register.credit.out(grant):
                return


def _account(deed: Deed, account: str) -> str:
    account = account_of(deed.actor, deed.register, account)
    deed.allow("gateway.credit", Place(account), "account", account)
    return account


def _reference(source: str, reference: str) -> str:
    """Return a reference as it is stored: with where it comes from."""
    reference = reference.strip()
    if not reference or len(reference) > 200 or not reference.isprintable():
        raise CallerError("A reference has 1 to 200 printable characters.", param="reference")
    return f"{source}:{reference}"


def _note(note: str) -> str:
    if len(note) > 500:
        raise CallerError("A note has at most 500 characters.", param="note")
    return note.strip()


def _tell(deed: Deed, ref: str, **detail: object) -> None:
    deed.ref = ref
    deed.detail = {name: value for name, value in detail.items() if value}
