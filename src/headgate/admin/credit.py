"""Credit over HTTP: how it stands, gifts, top-ups, refunds, adjustments and codes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from headgate.admin.amounts import (
    Amount,
    BookName,
    Days,
    Note,
    Paid,
    Reference,
    Tokens,
    book_of,
    ordered,
    shown,
)
from headgate.admin.people import AccountPage
from headgate.admin.table import Listed, Route, listed
from headgate.money.credit import MOST_AT_ONCE
from headgate.ops import codes, credit
from headgate.ops.credit import MOST_DAYS
from headgate.ops.desk import PageOrder
from headgate.values import Book, NanoUSD, WallMicros

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked

ROOT: Final = "/admin/v1/credit"
CODES: Final = "/admin/v1/codes"


class StandingQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose credit; empty: the asker's own."""

    account: str = ""
    book: BookName = "real"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the credit of an account stands, as the books have it. Money is nano-USD."""

    account: str
    book: BookName
    left: NanoUSD  # of all grants in money that have not expired
    tokens: dict[str, int]  # left, by model
    owed: NanoUSD
    paid: NanoUSD  # real money, less what went back
    tier: str
    next_tier: str
    missing: NanoUSD  # to be paid until then
    not_before: WallMicros


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Credit of one kind: a gift, what a code gave, or the balance that top-ups fill."""

    id: str
    account: str
    book: BookName
    kind: str  # balance, signup, gift, code
    model: str  # of a grant in tokens
    amount: int  # all that was put there, less what was taken out: nano-USD, or tokens
    spent: int  # by calls that the books have
    expires_at: WallMicros
    closed_at: WallMicros  # when its rest was booked as expired
    note: str
    created_at: WallMicros


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """One movement of credit that is no call: made once, never changed."""

    id: str
    account: str
    grant: str  # empty: all of it is owed
    book: BookName
    kind: str  # topup, grant, expiry, refund, adjustment
    amount: NanoUSD
    tokens: int
    debt: NanoUSD
    reference: str
    actor: str
    note: str
    at: WallMicros


class Gift(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gift: money, or tokens of a model; one of the two."""

    account: str = ""
    amount: Amount = 0
    tokens: Tokens = 0
    model: Annotated[str, Meta(max_length=200)] = ""
    valid_days: Days = 0  # 0: for ever
    book: BookName = "real"
    reference: Annotated[str, Meta(max_length=200)] = ""  # makes it happen once; empty: each time
    note: Note = ""


class TopUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment that has been received."""

    account: str = ""
    amount: Paid
    reference: Reference
    book: BookName = "real"
    note: Note = ""


class Refund(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Money that goes back to who paid it."""

    account: str = ""
    amount: Paid
    reference: Reference
    book: BookName = "real"
    debt: bool = False  # what is spent or held already is owed from then on
    note: Note = ""


class Adjustment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A correction of one grant: nano-USD, or tokens of a grant in tokens; below zero: taken away."""

    grant: Annotated[str, Meta(min_length=1)]
    change: Annotated[int, Meta(ge=-MOST_AT_ONCE, le=MOST_AT_ONCE)]
    reference: Reference
    note: Annotated[str, Meta(min_length=1, max_length=500)]


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """A redeem code; its text was shown once."""

    id: str
    shown: str  # its beginning and end
    book: BookName
    amount: NanoUSD
    tokens: int
    model: str
    valid_days: int
    expires_at: WallMicros
    revoked_at: WallMicros
    redeemed_at: WallMicros
    redeemed_by: str
    created_by: str
    created_at: WallMicros


class CodeWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The codes that somebody wants: each for money, or for tokens of a model."""

    count: Annotated[int, Meta(ge=1, le=codes.MOST_CODES)] = 1
    amount: Amount = 0
    tokens: Tokens = 0
    model: Annotated[str, Meta(max_length=200)] = ""
    valid_days: Days = 0  # of the grant that it gives; 0: for ever
    expires_in_s: Annotated[int, Meta(ge=0, le=MOST_DAYS * 86_400)] = 0  # of the code itself; 0: never
    book: BookName = "real"


class NewCode(msgspec.Struct, frozen=True, kw_only=True):
    """A new code: `text` is the code itself, shown once."""

    text: str
    record: Code


class NewCodes(msgspec.Struct, frozen=True, kw_only=True):
    """New codes. A repeated request is answered without them: they are stored nowhere."""

    object: Literal["list"] = "list"
    data: list[NewCode] | None


class Redemption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A code and the account that gets what it is worth."""

    code: Annotated[str, Meta(min_length=1, max_length=100)]
    account: str = ""


_grant = partial(shown, kind=Grant)
_posting = partial(shown, kind=Posting)
_code = partial(shown, kind=Code)


def _stand(office: Office, asked: Asked) -> Standing:
    query = asked.query
    book = book_of(query.book) or Book.REAL
    return shown(credit.credit_standing(asked.actor, office.desk, query.account, book), Standing)


def _list_grants(office: Office, asked: Asked) -> Listed[Grant]:
    return listed(credit.list_grants(asked.actor, office.desk, asked.query, asked.query.account), _grant)


def _give(office: Office, asked: Asked) -> Grant:
    return _grant(credit.give(asked.actor, office.desk, ordered(asked.body, credit.GiftOrder)))


def _list_postings(office: Office, asked: Asked) -> Listed[Posting]:
    return listed(credit.list_postings(asked.actor, office.desk, asked.query, asked.query.account), _posting)


def _top_up(office: Office, asked: Asked) -> Posting:
    return _posting(credit.top_up(asked.actor, office.desk, ordered(asked.body, credit.TopUpOrder)))


def _refund(office: Office, asked: Asked) -> Posting:
    return _posting(credit.refund(asked.actor, office.desk, ordered(asked.body, credit.RefundOrder)))


def _adjust(office: Office, asked: Asked) -> Posting:
    return _posting(credit.adjust(asked.actor, office.desk, ordered(asked.body, credit.AdjustOrder)))


def _list_codes(office: Office, asked: Asked) -> Listed[Code]:
    return listed(codes.list_codes(asked.actor, office.desk, asked.query), _code)


def _create_codes(office: Office, asked: Asked) -> NewCodes:
    made = codes.create_codes(asked.actor, office.desk, ordered(asked.body, codes.CodeOrder))
    return NewCodes(data=[NewCode(text=each.text, record=_code(each.record)) for each in made])


def _show_code(office: Office, asked: Asked) -> Code:
    return _code(codes.show_code(asked.actor, office.desk, asked.path["code_id"]))


def _revoke_code(office: Office, asked: Asked) -> Code:
    return _code(codes.revoke_code(asked.actor, office.desk, asked.path["code_id"]))


def _redeem(office: Office, asked: Asked) -> Grant:
    return _grant(codes.redeem(asked.actor, office.desk, asked.body.code, asked.body.account))


ROUTES: Final = (
    Route(
        method="GET", path=ROOT, permission="credit.read",
        summary="Show how credit stands, and how far the next tier is", handle=_stand, answer=Standing,
        query=StandingQuery,
    ),
    Route(
        method="GET", path=ROOT + "/grants", permission="credit.read", summary="List grants",
        handle=_list_grants, answer=Listed[Grant], query=AccountPage,
    ),
    Route(
        method="POST", path=ROOT + "/grants", permission="gateway.credit", summary="Give credit",
        handle=_give, answer=Grant, body=Gift, status=201,
    ),
    Route(
        method="GET", path=ROOT + "/postings", permission="credit.read",
        summary="List what was put into credit and taken out", handle=_list_postings,
        answer=Listed[Posting], query=AccountPage,
    ),
    Route(
        method="POST", path=ROOT + "/topups", permission="gateway.credit",
        summary="Book a payment that was received, once for each reference", handle=_top_up, answer=Posting,
        body=TopUp, status=201,
    ),
    Route(
        method="POST", path=ROOT + "/refunds", permission="gateway.credit",
        summary="Take paid money out, to be given back outside", handle=_refund, answer=Posting, body=Refund,
        status=201,
    ),
    Route(
        method="POST", path=ROOT + "/adjustments", permission="gateway.credit",
        summary="Put a grant right, up or down", handle=_adjust, answer=Posting, body=Adjustment, status=201,
    ),
    Route(
        method="GET", path=CODES, permission="gateway.credit", summary="List redeem codes",
        handle=_list_codes, answer=Listed[Code], query=PageOrder,
    ),
    Route(
        method="POST", path=CODES, permission="gateway.credit", summary="Make redeem codes",
        handle=_create_codes, answer=NewCodes, body=CodeWish, status=201, shown_once="data",
    ),
    Route(
        method="GET", path=CODES + "/{code_id}", permission="gateway.credit", summary="Show a redeem code",
        handle=_show_code, answer=Code,
    ),
    Route(
        method="DELETE", path=CODES + "/{code_id}", permission="gateway.credit",
        summary="Make a redeem code worthless", handle=_revoke_code, answer=Code,
    ),
    Route(
        method="POST", path="/admin/v1/redemptions", permission="credit.write",
        summary="Turn a code into credit: one of all who try gets it", handle=_redeem, answer=Grant,
        body=Redemption, status=201,
    ),
)  # fmt: skip
