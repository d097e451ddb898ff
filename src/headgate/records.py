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
