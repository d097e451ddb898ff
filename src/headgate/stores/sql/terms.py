"""The terms on which accounts use this gateway: kept as a server starts, so that commands know them.

Standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.money.rules import Posting
from headgate.money.terms import DEFAULT_TERMS, Terms
from headgate.money.tiers import Tier, find_tier, load_tiers
from headgate.stores.sql.bootstrap import put_meta, writing
from headgate.stores.sql.postings import (
    Grant,
    add_grant,
    new_id,
    note_change,
    note_credit,
    post,
    put_tier_budget,
)
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.stores.sql.connection import Connection
    from headgate.values import WallMicros

_TERMS: Final = "terms"
_TIERS: Final = "tiers"


def kept_terms(sql: Connection) -> tuple[Terms, tuple[Tier, ...]]:
    """Return the terms and the tiers of the last server; the shipped ones before the first."""
    kept = dict(sql.execute("SELECT name, value FROM meta WHERE name IN (?, ?)", (_TERMS, _TIERS)).fetchall())
    try:
        return (
            msgspec.json.decode(kept[_TERMS], type=Terms),
            msgspec.json.decode(kept[_TIERS], type=tuple[Tier, ...]),
        )
    except (KeyError, msgspec.DecodeError):  # none yet, or of another version
        return DEFAULT_TERMS, load_tiers()


def open_prepaid(sql: Connection, account: int, terms: Terms, tiers: Sequence[Tier], now: WallMicros) -> None:
    """Make an account prepaid: with the sign-up grant in each book, once, and the tier of new accounts."""
    (name, tier) = sql.execute("SELECT public_id, tier FROM accounts WHERE id = ?", (account,)).fetchone()
    sql.execute("UPDATE accounts SET prepaid = 1 WHERE id = ?", (account,))
    for book in (Book.REAL, Book.SIM):
        reference = f"signup:{name}:{book.label}"
        known = sql.execute("SELECT 1 FROM postings WHERE reference = ?", (reference,)).fetchone()
        if known is None and terms.signup:
            grant, _ = add_grant(sql, Grant(account, book, "signup", now, expires_at=terms.signup_until(now)))
            post(
                sql,
                Posting(new_id(now), book, account, grant, "grant", reference, terms.signup,
                        actor="gateway", note="sign-up", at=now),
            )  # fmt: skip
    first = find_tier(tiers, terms.tier)
    if not tier and first is not None:
        sql.execute("UPDATE accounts SET tier = ? WHERE id = ? AND tier_fixed = 0", (first.name, account))
        put_tier_budget(sql, account, first.cap, now)
    note_change(sql, "account", name, now)
    note_credit(sql, account, now)


def put_terms(sql: Connection, account: int, terms: Terms, tiers: Sequence[Tier], now: WallMicros) -> None:
    """Make an account's mode what the settings say, as a server starts, and keep them for commands.

    An account that leaves prepaid keeps its grants and its tier.
    """
    with writing(sql):
        row = sql.execute("SELECT prepaid, public_id FROM accounts WHERE id = ?", (account,)).fetchone()
        for name, value in ((_TERMS, terms), (_TIERS, tuple(tiers))):
            text = msgspec.json.encode(value).decode()
            put_meta(sql, name, text)
        if bool(row[0]) == terms.prepaid:
            return
        if terms.prepaid:
            open_prepaid(sql, account, terms, tiers, now)
        else:
            sql.execute("UPDATE accounts SET prepaid = 0 WHERE id = ?", (account,))
            note_change(sql, "account", row[1], now)
