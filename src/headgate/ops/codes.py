"""Redeem codes: made by who owns the gateway, redeemed once by an account.

A code is `HG-` and five groups of five letters and digits (Crockford's base 32, 125 bits). It is shown
once; only its HMAC under the pepper is stored. Reading forgives case, dashes, and O, I, L for 0, 1, 1.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import CallerError, Conflict, NotFound
from headgate.money.credit import DAY_US
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.credit import MOST_DAYS, check_gift
from headgate.ops.projects import account_of
from headgate.records import CodeRecord, GrantRecord, PostingRecord
from headgate.values import Book, NanoUSD

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk, Page, PageOrder

MOST_CODES: Final = 1_000  # made at once
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_GROUPS: Final = 5
_FORGIVEN: Final = str.maketrans("OIL", "011", "- ")


class CodeOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The codes that somebody wants: each for money, or for tokens of a model."""

    count: int = 1
    amount: NanoUSD = 0
    tokens: int = 0
    model: str = ""
    valid_days: int = 0  # of the grant that it gives; 0: for ever
    expires_in_s: int = 0  # of the code itself; 0: never
    book: Book = Book.REAL


class CreatedCode(msgspec.Struct, frozen=True):
    """A new code. `text` is the code itself: shown once, stored nowhere."""

    text: str
    record: CodeRecord


def create_codes(actor: Actor, desk: Desk, order: CodeOrder) -> list[CreatedCode]:
    """Make codes.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
    """
    with desk.writing(actor, "code.created") as deed:
        deed.allow("gateway.credit", Place())
        _check(order)
        made = []
        for _ in range(order.count):
            text = _mint()
            draft = CodeRecord(
                shown=f"{text[:5]}…{text[-2:]}",
                book=order.book,
                amount=order.amount,
                tokens=order.tokens,
                model=order.model,
                valid_days=order.valid_days,
                expires_at=deed.at + order.expires_in_s * 1_000_000 if order.expires_in_s else 0,
                created_by=actor.id,
                created_at=deed.at,
            )
            made.append(CreatedCode(text, deed.add(draft, digest=_digest(desk.pepper, text))))
        return made


def redeem(actor: Actor, desk: Desk, text: str, account: str = "") -> GrantRecord:
    """Turn a code into a grant of an account. However many try at once, one of them gets it.

    Raises:
        PermissionRefused: the actor may not put credit into the account.
        NotFound: there is no such code, or no such account.
        Conflict: it was redeemed or revoked, or has expired.
    """
    with desk.writing(actor, "code.redeemed") as deed:
        account = account_of(actor, deed.register, account)
        deed.allow("credit.write", Place(account), "account", account)
        digest = _digest(desk.pepper, text)
        credit = deed.register.credit
        code = credit.claim_code(digest, account, deed.at)
        if code is None:
            raise _refusal(credit.code(digest), deed.at)
        until = deed.at + code.valid_days * DAY_US if code.valid_days else 0
        grant = GrantRecord(
            account=account, book=code.book, kind="code", model=code.model, expires_at=until, note=code.id
        )
        posting = PostingRecord(
            account=account,
            book=code.book,
            kind="grant",
            amount=code.amount,
            tokens=code.tokens,
            reference=f"code:{code.id}",
            actor=actor.id,
            at=deed.at,
        )
        made = credit.give(grant, posting)
        deed.ref, deed.detail = code.id, {"grant": made.id, "amount": made.amount}
        return made


def revoke_code(actor: Actor, desk: Desk, ref: str) -> CodeRecord:
    """Make a code worthless.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none.
        Conflict: it was redeemed or revoked already.
    """
    with desk.writing(actor, "code.revoked", ref) as deed:
        deed.allow("gateway.credit", Place())
        code = deed.find(CodeRecord, "code", ref)
        if code.redeemed_at or code.revoked_at:
            raise Conflict(f"The code {ref} was {'redeemed' if code.redeemed_at else 'revoked'} already.")
        return deed.put(code, msgspec.structs.replace(code, revoked_at=deed.at))


def list_codes(actor: Actor, desk: Desk, page: PageOrder) -> Page:
    """Return a page of the codes, as `CodeRecord`s."""
    with desk.reading() as register:
        authorise(actor, "gateway.credit", Place())
        return desk.page(register, CodeRecord, page)


def show_code(actor: Actor, desk: Desk, ref: str) -> CodeRecord:
    """Return a code, without its text.

    Raises:
        NotFound: there is none.
    """
    with desk.reading() as register:
        authorise(actor, "gateway.credit", Place())
        found = register.get(CodeRecord, id=ref)
        if found is None:
            raise absent("code", ref)
        return found


def _check(order: CodeOrder) -> None:
    check_gift(order.amount, order.tokens, order.model)
    if not 1 <= order.count <= MOST_CODES:
        raise CallerError(f"count must be between 1 and {MOST_CODES}.", param="count")
    if not 0 <= order.valid_days <= MOST_DAYS:
        raise CallerError(f"valid_days must be between 0 and {MOST_DAYS}.", param="valid_days")
    if not 0 <= order.expires_in_s <= MOST_DAYS * 86_400:
        raise CallerError("expires_in_s must be 0 (never) or a time to come.", param="expires_in_s")


def _mint() -> str:
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(_GROUPS))
    return "HG-" + "-".join(groups)


def _digest(pepper: bytes, text: str) -> bytes:
    """Return what is stored of a code. A key of ours can never have the same digest."""
    plain = text.strip().upper().translate(_FORGIVEN)
    if len(plain) > _GROUPS * 5:  # a code may itself begin with these letters
        plain = plain.removeprefix("HG")
    return hmac.digest(pepper, b"code\0" + plain.encode(), "sha256")


def _refusal(code: CodeRecord | None, now: int) -> NotFound | Conflict:
    if code is None:
        return NotFound("There is no such code. Check it letter by letter.", param="code")
    if code.redeemed_at:
        why = "was redeemed already"
    elif code.revoked_at:
        why = "was revoked"
    else:
        assert code.expires_at <= now
        why = "has expired"
    return Conflict(f"This code {why}.", code="code_not_valid", param="code")
