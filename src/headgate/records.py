"""What people manage, as values: accounts, projects, members, keys, budgets, the audit. Frozen, no I/O.

Public ids are `acct_…`, `proj_…`, `key_…`; internal integers never leave. Instants are wall microseconds
UTC, 0: never. Money is integer nano-USD.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import msgspec

from headgate.values import Book, Ceiling, NanoUSD, WallMicros

DAY_US = 86_400_000_000
OLD_DAYS, OVERDUE_DAYS = 90, 180  # a key should not have had its secret for longer


class AccountRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation: who pays."""

    id: str = ""  # public, `acct_…`; empty: not stored yet
    name: str
    status: str = "active"  # active, suspended, closed
    prepaid: bool = False  # spends credit and nothing else
    tier: str = ""  # empty: no tier limits
    tier_fixed: bool = False  # chosen by a person, never promoted automatically
    multiplier_ppm: int = 1_000_000  # of every price
    first_paid_at: WallMicros = 0
    metadata: dict[str, str] = {}
    created_at: WallMicros = 0


class ProjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an account with keys and limits of its own."""

    id: str = ""  # public, `proj_…`
    account: str  # the account's public id
    name: str
    environment: str = ""  # production, staging, ...; the simulator answers the keys of `test`
    archived_at: WallMicros = 0
    metadata: dict[str, str] = {}
    created_at: WallMicros = 0


class MemberRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A person in an account, or a service account of one project."""

    id: str = ""  # public, `user_…` or `svc_…`
    account: str  # the account's public id
    name: str
    email: str = ""  # in lower case; empty for service accounts
    role: str  # owner, admin, billing, developer, viewer, auditor; service
    project: str = ""  # a service account's only project
    removed_at: WallMicros = 0
    metadata: dict[str, str] = {}
    created_at: WallMicros = 0


class ProjectMemberRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A member in a project of its account."""

    id: str  # the member's public id
    account: str
    project: str
    role: str  # owner, member
    name: str = ""  # the member's, for people
    email: str = ""
    created_at: WallMicros = 0


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored key, as people see it. Instants are wall microseconds; 0: never."""

    id: str  # public, `key_…`
    name: str
    kind: Literal["live", "test", "admin"]
    shown: str  # its prefix and ends
    project: str  # the project's public id
    account: str = ""  # the public id of the project's account
    member: str = ""  # whose it is; empty: the gateway's
    models: tuple[str, ...] = ()  # patterns; (): all
    endpoints: tuple[str, ...] = ()  # operations; (): all
    networks: tuple[str, ...] = ()  # CIDRs; (): everywhere
    rights: tuple[str, ...] = ()  # of an admin key: permissions; (): those of its member
    rpm: int = 0  # limits; 0: none
    tpm: int = 0
    rpd: int = 0
    tpd: int = 0
    concurrency: int = 0
    queue_ms: int = 0  # how long its calls may wait for a limit; 0: 429 at once
    priority: str = "interactive"  # interactive, batch
    metadata: dict[str, str] = {}
    created_by: str = ""  # the actor's id
    created_at: WallMicros = 0
    rotated_at: WallMicros = 0  # when it got its present secret, if not at creation
    old_until: WallMicros = 0  # until when the secret before that is valid
    expires_at: WallMicros = 0
    revoked_at: WallMicros = 0
    used_at: WallMicros = 0  # its last call


class SecretRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's key, sealed (`vaults.envelope`)."""

    id: str  # its name
    row: int  # where it stands: it can be opened nowhere else
    host: str  # the origin that it is for
    version: int
    wrapped: bytes
    nonce: bytes
    sealed: bytes
    created_at: WallMicros = 0


class Below(NamedTuple):
    """In a search: a member is less than this."""

    bound: int


class Above(NamedTuple):
    """In a search: a member is more than this."""

    bound: int


class KeyRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A key as a server sees it: internal ids, and the standing of all that is behind it."""

    key: int
    project: int
    account: int
    member: int = 0  # 0: the gateway's
    kind: str = "live"
    name: str = ""
    revoked: bool = False
    rotated_at: WallMicros = 0
    old_until: WallMicros = 0  # of a secret that was replaced: until when it is valid; 0: the present one
    ceiling: Ceiling = Ceiling()
    makers: tuple[Ceiling, ...] = ()  # of the admin keys that it comes from
    queue_ms: int = 0
    priority: Literal["interactive", "batch"] = "interactive"
    account_id: str = ""  # public ids
    project_id: str = ""
    status: str = "active"  # of the account
    archived: bool = False  # the project
    tests: bool = False  # the project is one for tests
    prepaid: bool = False
    tier: str = ""
    multiplier_ppm: int = 1_000_000
    removed: bool = False  # the member
    role: str = ""  # of the member in the account
    role_in: int = 0  # a service account's project
    project_role: str = ""  # of the member in the key's project


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One deed: done, or refused. Without secrets."""

    id: str = ""  # `audit_…`, in order
    at: WallMicros
    account: str = ""  # whose thing it is; of a refused deed: the actor's; empty: the gateway's
    actor: str
    action: str  # key.created
    kind: str  # the thing's kind and public id
    ref: str = ""
    outcome: str = "done"  # done, refused
    detail: dict[str, object] = {}


class EventRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened by itself and that somebody may want to know: it is told once."""

    id: str = ""  # `event_…`, in order
    at: WallMicros
    account: str = ""  # empty: the gateway's
    kind: str  # budget.threshold, key.old, tier.promoted, grant.expired, ...
    ref: str  # the public id of what it is about
    detail: dict[str, object] = {}


class BudgetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored cap, as people see it."""

    id: str = ""  # public, `budget_…`
    scope: str  # account, project, key
    ref: str  # the public id of what it caps
    account: str = ""  # and where that is: public ids
    project: str = ""
    book: Book
    amount: NanoUSD
    unit: Literal["day", "week", "month", "total"]
    tz: str
    hard: bool = True  # False: tells, and refuses nothing
    thresholds: tuple[int, ...] = (50, 80, 100)  # per cent at which an event is written
    origin: str  # flag, config, or who made it
    created_at: WallMicros = 0


# ── credit ───────────────────────────────────────────────────────────────────────────────────────


class LimitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored limit, as people see it. 0: none."""

    id: str = ""  # public, `limit_…`
    scope: str  # account, project, key
    ref: str  # the public id of what it bounds
    account: str = ""  # and where that is: public ids
    project: str = ""
    model: str = ""  # a model, or a pattern of some, with meters of its own; empty: all models
    rpm: int = 0  # requests per minute
    tpm: int = 0  # tokens per minute
    rpd: int = 0  # requests per day
    tpd: int = 0  # tokens per day
    concurrency: int = 0  # calls at once
    origin: str = ""  # who made it
    created_at: WallMicros = 0


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


class Reply(msgspec.Struct, frozen=True):
    """The stored answer of a write that named an idempotency key; status 0 while it is being made."""

    request: bytes  # SHA-256 of what was asked
    status: int
    body: bytes


# ── what was used ────────────────────────────────────────────────────────────────────────────────

By: TypeAlias = Literal["day", "hour", "model", "key", "project", "account", "member", "provider", "book"]


class UsageOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls: opened at `since` or later and before `until` (0: no bound), of any of some things.

    Things are public ids, and models as callers named them; where there are none, any will do.
    """

    by: By = "day"
    since: WallMicros = 0
    until: WallMicros = 0
    book: Book | None = None  # None: real, unless only play money was ever spent; of the store: all
    tz: str = "UTC"  # where days begin
    accounts: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


Group: TypeAlias = Literal["project", "member", "key", "model"]


class BucketOrder(UsageOrder, frozen=True, kw_only=True):
    """The same in buckets of time, which begin at multiples of their width since 1970, in UTC."""

    width_us: int
    groups: tuple[Group, ...] = ()  # none: one line for each bucket
    operations: tuple[str, ...] = ()


class BucketLine(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of the calls of one group in one bucket. What it is not grouped by is empty."""

    at: WallMicros  # where the bucket begins
    project: str = ""
    member: str = ""
    key: str = ""
    model: str = ""
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nano_usd: NanoUSD = 0
    cache_write_tokens: int = 0  # and the following: 0 where the order has no operations
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0


class CallLine(msgspec.Struct, frozen=True, kw_only=True):
    """One settled call. Ids are public; empty where there is no such thing (any more)."""

    request_id: str
    opened_at: str  # RFC 3339, UTC
    book: str
    account: str
    project: str
    member: str
    key: str
    provider: str
    model: str  # as the caller named it
    operation: str
    status: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nano_usd: NanoUSD
    estimated: bool
    recovered: bool  # booked by a start after a crash
    duration_us: int
    units: dict[str, int] = {}  # used in other units than tokens: `second`, `image:1024x1024:hd`, …
    parent: str = ""  # the id of the call that it is a part of
    replay_of: str = ""  # the id of the call whose answer it was given again


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of some calls."""

    name: str
    calls: int = 0
    failed: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nano_usd: NanoUSD = 0
    units: dict[str, int] = {}  # used in other units than tokens: `second`, `image:1024x1024:hd`, …
