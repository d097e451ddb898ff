"""What people manage, as values: keys, budgets and what stands around them. Frozen, no I/O.

Public ids are `acct_…`, `proj_…`, `key_…`; internal integers never leave. Instants are wall microseconds
UTC, 0: never. Money is integer nano-USD.
"""

from __future__ import annotations

import msgspec

from headgate.values import Book, NanoUSD, WallMicros


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored key, as people see it. Instants are wall microseconds; 0: never."""

    id: str  # public, `key_…`
    name: str
    kind: str  # live, test, admin
    shown: str  # its prefix and ends
    project: str  # the project's public id
    rpm: int = 0
    tpm: int = 0
    concurrency: int = 0
    created_at: WallMicros = 0
    expires_at: WallMicros = 0
    revoked_at: WallMicros = 0


class BudgetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored cap, as people see it."""

    id: str  # public, `budget_…`
    scope: str  # account, project, key
    ref: str  # the public id of what it caps
    book: Book
    amount: NanoUSD
    unit: str  # day, week, month, total
    tz: str
    origin: str  # flag, config, or who made it
    created_at: WallMicros = 0


# ── credit ───────────────────────────────────────────────────────────────────────────────────────


class GrantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Credit of one kind: a gift, what a code gave, or the balance that top-ups fill."""

    id: str = ""  # public, `grant_…`
    account: str  # the account's public id
    book: Book
    kind: str  # balance, signup, gift, code
    model: str = ""  # of a grant in tokens: the model, or pattern of models, that it is for
    amount: int = 0  # all that was put there, less what was taken out: nano-USD, or tokens
    spent: int = 0  # by calls that the books have
    expires_at: WallMicros = 0
    closed_at: WallMicros = 0  # when its rest was booked as expired
    note: str = ""
    created_at: WallMicros = 0


class PostingRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One movement of credit that is no call: made once, never changed."""

    id: str = ""  # `post_…`
    account: str
    grant: str = ""  # empty: all of it is owed
    book: Book
    kind: str  # topup, grant, expiry, refund, adjustment
    amount: NanoUSD = 0  # added to the grant; below zero: taken from it
    tokens: int = 0  # the same of a grant in tokens
    debt: NanoUSD = 0  # added to what the account owes; below zero: paid back
    reference: str  # source:name
    actor: str = ""
    note: str = ""
    at: WallMicros = 0


class CodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A redeem code, as people see it."""

    id: str = ""  # public, `code_…`
    shown: str  # its beginning and end
    book: Book
    amount: NanoUSD = 0
    tokens: int = 0
    model: str = ""
    valid_days: int = 0  # of the grant that it gives; 0: for ever
    expires_at: WallMicros = 0  # of the code itself
    revoked_at: WallMicros = 0
    redeemed_at: WallMicros = 0
    redeemed_by: str = ""  # an account's public id
    created_by: str = ""
    created_at: WallMicros = 0


class PaymentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a payment provider, and what came of it."""

    event: str  # the provider's own id
    source: str  # stripe
    reference: str  # of its posting
    account: str
    kind: str  # topup, refund
    amount: NanoUSD
    currency: str
    outcome: str  # booked, or why not
    at: WallMicros = 0


class SignupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who wants an account."""

    id: str = ""  # public, `signup_…`
    email: str  # in lower case
    name: str
    expires_at: WallMicros  # of the token in the last mail
    mails: int = 1  # how many were sent
    verified_at: WallMicros = 0
    account: str = ""  # made when the address was verified
    created_at: WallMicros = 0


class LimitRequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A wish for higher limits, which an owner of the gateway decides."""

    id: str = ""  # public, `limreq_…`
    account: str
    member: str = ""
    wanted: dict[str, int | str]  # {"tier": "tier3"}, or a limit's members
    reason: str
    status: str = "open"  # open, approved, refused
    decided_by: str = ""
    decided_at: WallMicros = 0
    created_at: WallMicros = 0
