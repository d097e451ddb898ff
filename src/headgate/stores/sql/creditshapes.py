"""How records of credit lie in their tables, as `shapes` has it for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import String, cast, func, literal, select

from headgate.records import (
    CodeRecord,
    GrantRecord,
    LimitRequestRecord,
    PaymentRecord,
    PostingRecord,
    SignupRecord,
)
from headgate.stores.sql.shapes import Shape
from headgate.stores.sql.tables import (
    accounts,
    codes,
    grants,
    limit_requests,
    members,
    payments,
    postings,
    pots,
    signups,
)

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table

_account = accounts.c.public_id.label("account")


def _columns(table: Table, names: str) -> list[ColumnElement[Any]]:
    return [table.c[name] for name in names.split()]


def _public(table: Table) -> ColumnElement[Any]:
    return table.c.public_id.label("id")


def _or_empty(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(column, "")


_grants = Shape(
    grants,
    select(
        _public(grants),
        _account,
        *_columns(grants, "book kind model expires_at closed_at note created_at"),
        func.coalesce(pots.c.amount, 0).label("amount"),
        func.coalesce(pots.c.spent, 0).label("spent"),
    )
    .join(accounts, accounts.c.id == grants.c.account)
    .outerjoin(pots, (pots.c.ref == grants.c.id) & pots.c.kind.in_(("grant", "tokens"))),
    {
        "id": grants.c.public_id,
        "account": accounts.c.public_id,
        "book": grants.c.book,
        "kind": grants.c.kind,
        "closed_at": grants.c.closed_at,
    },
    grants.c.id,
)
_posting_id = literal("post_") + func.lower(cast(func.hex(postings.c.id), String))
_postings = Shape(
    postings,
    select(
        _posting_id.label("id"),
        _account,
        _or_empty(grants.c.public_id).label("grant"),
        *_columns(postings, "book kind amount tokens debt reference actor note at"),
    )
    .join(accounts, accounts.c.id == postings.c.account)
    .outerjoin(grants, grants.c.id == postings.c.grant_id),
    {
        "id": _posting_id,
        "account": accounts.c.public_id,
        "grant": _or_empty(grants.c.public_id),
        "book": postings.c.book,
        "kind": postings.c.kind,
        "reference": postings.c.reference,
    },
    postings.c.seq,
)
_codes = Shape(
    codes,
    select(
        _public(codes),
        *_columns(codes, "shown book amount tokens model valid_days expires_at revoked_at redeemed_at"),
        _or_empty(accounts.c.public_id).label("redeemed_by"),
        *_columns(codes, "created_by created_at"),
    ).outerjoin(accounts, accounts.c.id == codes.c.redeemed_by),
    {
        "id": codes.c.public_id,
        "digest": codes.c.digest,
        "redeemed_at": codes.c.redeemed_at,
        "revoked_at": codes.c.revoked_at,
    },
    codes.c.id,
    "code",
    {"redeemed_by": accounts},
)
_payments = Shape(
    payments,
    select(
        payments.c.event.label("event"),
        _or_empty(accounts.c.public_id).label("account"),
        *_columns(payments, "source reference kind amount currency outcome at"),
    ).outerjoin(accounts, accounts.c.id == payments.c.account),
    {
        "id": payments.c.event,
        "event": payments.c.event,
        "account": _or_empty(accounts.c.public_id),
        "outcome": payments.c.outcome,
    },
    payments.c.id,
)
_signups = Shape(
    signups,
    select(
        _public(signups),
        _or_empty(accounts.c.public_id).label("account"),
        *_columns(signups, "email name expires_at mails verified_at created_at"),
    ).outerjoin(accounts, accounts.c.id == signups.c.account),
    {"id": signups.c.public_id, "email": signups.c.email, "digest": signups.c.digest},
    signups.c.id,
    "signup",
    {"account": accounts},
)
_limit_requests = Shape(
    limit_requests,
    select(
        _public(limit_requests),
        _account,
        _or_empty(members.c.public_id).label("member"),
        *_columns(limit_requests, "wanted reason status decided_by decided_at created_at"),
    )
    .join(accounts, accounts.c.id == limit_requests.c.account)
    .outerjoin(members, members.c.id == limit_requests.c.member),
    {
        "id": limit_requests.c.public_id,
        "account": accounts.c.public_id,
        "status": limit_requests.c.status,
    },
    limit_requests.c.id,
    "limreq",
    {"account": accounts, "member": members},
    ("wanted",),
)

CREDIT: dict[type, Shape] = {
    GrantRecord: _grants,
    PostingRecord: _postings,
    CodeRecord: _codes,
    PaymentRecord: _payments,
    SignupRecord: _signups,
    LimitRequestRecord: _limit_requests,
}
