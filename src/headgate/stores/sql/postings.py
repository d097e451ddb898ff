"""Postings into the books: credit that people put into grants and take out, and what expires.

Standard library only, since a server books expiry too. Every function runs inside a transaction of its
caller, takes its write lock for granted, and moves the posting, its entries, the balances and the pot
together.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from headgate.failpoints import NoFailpoints
from headgate.money.credit import BALANCE
from headgate.money.periods import FOREVER
from headgate.money.promotion import earned
from headgate.money.rules import Posting, posting_entries
from headgate.money.tiers import find_tier
from headgate.stores.sql.bootstrap import public_id, writing
from headgate.stores.sql.pots import LOST, next_recall, remove, resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.money.tiers import Tier
    from headgate.ports import Failpoints
    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD, WallMicros

TIER: Final = "tier"  # origin of the budgets that come with a tier
_REAL: Final = 0
_AT_ONCE: Final = 100  # grants in one transaction
_EXPIRED = (
    " FROM grants g JOIN pots p ON p.ref = g.id AND p.kind IN ('grant', 'tokens')"
    " WHERE g.closed_at = 0 AND g.expires_at > 0 AND g.expires_at <= ?"
    f" AND NOT EXISTS (SELECT 1 FROM slices s WHERE s.pot = p.id AND s.amount > 0 AND s.slot <> '{LOST}')"
    " ORDER BY g.expires_at LIMIT ?"
)
_ENTRY = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_BALANCE = (
    "INSERT INTO balances VALUES (?, ?, ?) ON CONFLICT (ledger_account) DO UPDATE SET "
    "debits = balances.debits + excluded.debits, credits = balances.credits + excluded.credits"
)


class Grant(NamedTuple):
    """A new grant. Amounts are nano-USD, or tokens where it has a model."""

    account: int
    book: int
    kind: str
    at: WallMicros
    model: str = ""
    tokens: int = 0
    expires_at: WallMicros = 0
    note: str = ""


class Event(NamedTuple):
    """Something that people may want to be told of, once per kind and name."""

    account: int
    kind: str
    ref: str
    name: str
    at: WallMicros
    detail: dict[str, Any]


def new_id(at: WallMicros) -> bytes:
    """Return the id of a posting: a UUIDv7, whose random part alone tells two of one instant apart."""
    head = at // 1000 << 16 | 0x7000 | secrets.randbits(12)
    return (head << 64 | 1 << 63 | secrets.randbits(62)).to_bytes(16)


def add_grant(sql: Connection, grant: Grant) -> tuple[int, str]:
    """Make a grant with nothing in it, and its pot; return its id and its public id."""
    name = public_id("grant")
    row = sql.execute(
        "INSERT INTO grants (public_id, account, book, kind, model, tokens, expires_at, note, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            name, grant.account, grant.book, grant.kind, grant.model, grant.tokens, grant.expires_at,
            grant.note, grant.at,
        ),
    ).fetchone()  # fmt: skip
    sql.execute(
        "INSERT INTO pots (kind, ref, period, book, since, until, amount, spent)"
        " VALUES (?, ?, '', ?, 0, ?, 0, 0)",
        ("tokens" if grant.model else "grant", row[0], grant.book, grant.expires_at or FOREVER),
    )
    return int(row[0]), name


def balance_grant(sql: Connection, account: int, book: int, at: WallMicros) -> int:
    """Return the grant that an account's top-ups fill; made at the first one."""
    row = sql.execute(
        "SELECT id FROM grants WHERE account = ? AND book = ? AND kind = ?", (account, book, BALANCE)
    ).fetchone()
    return int(row[0]) if row else add_grant(sql, Grant(account, book, BALANCE, at))[0]


def post(sql: Connection, posting: Posting) -> None:
    """Book a posting.

    Raises:
        sqlite3.IntegrityError: there is one of this reference.
    """
    sql.execute(
        "INSERT INTO postings (id, seq, book, account, grant_id, kind, amount, tokens, debt, reference,"
        " actor, note, at) VALUES (?, (SELECT coalesce(max(seq), 0) + 1 FROM postings),"
        " ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            posting.id, posting.book, posting.account, posting.grant, posting.kind, posting.amount,
            posting.tokens, posting.debt, posting.reference, posting.actor, posting.note, posting.at,
        ),
    )  # fmt: skip
    for kind, attempt, n, debit_code, credit_code, amount in posting_entries(posting):
        debit, credit = (ledger_account(sql, code, posting.book) for code in (debit_code, credit_code))
        sql.execute(_ENTRY, (posting.id, kind, attempt, n, posting.book, debit, credit, amount))
        sql.executemany(_BALANCE, ((debit, amount, 0), (credit, 0, amount)))
    sql.execute(
        "UPDATE pots SET amount = amount + ? WHERE ref = ? AND kind IN ('grant', 'tokens')",
        (posting.amount + posting.tokens, posting.grant),
    )


def ledger_account(sql: Connection, code: str, book: int) -> int:
    """Return the ledger's account of a code; made at its first entry."""
    which = (code, book)
    sql.execute("INSERT INTO ledger_accounts (code, book) VALUES (?, ?) ON CONFLICT DO NOTHING", which)
    (found,) = sql.execute("SELECT id FROM ledger_accounts WHERE code = ? AND book = ?", which).fetchone()
    return int(found)


def free(sql: Connection, grant: int) -> int:
    """Return what of a grant is neither spent nor in the hands of a worker."""
    row = sql.execute(
        "SELECT p.amount - p.spent - coalesce((SELECT sum(amount) FROM slices WHERE pot = p.id), 0)"
        " FROM pots p WHERE p.ref = ? AND p.kind IN ('grant', 'tokens')",
        (grant,),
    ).fetchone()
    return max(0, int(row[0])) if row else 0


def recall(sql: Connection, grant: int) -> None:
    """Ask the workers for what they have of a grant and do not hold."""
    sql.execute(
        "UPDATE pots SET recall = ? WHERE ref = ? AND kind IN ('grant', 'tokens')",
        (next_recall(sql), grant),
    )


def owed(sql: Connection, account: int, book: int) -> NanoUSD:
    """Return what an account owes."""
    (debt,) = sql.execute(
        "SELECT coalesce(sum(debt), 0) FROM postings WHERE account = ? AND book = ?", (account, book)
    ).fetchone()
    return int(debt)


def paid(sql: Connection, account: int) -> NanoUSD:
    """Return what an account has paid in real money, less what went back. Gifts do not count."""
    (amount,) = sql.execute(
        "SELECT coalesce(sum(amount - debt), 0) FROM postings"
        " WHERE account = ? AND book = ? AND kind IN ('topup', 'refund')",
        (account, _REAL),
    ).fetchone()
    return int(amount)


# ── what happens by itself ───────────────────────────────────────────────────────────────────────


def promote(sql: Connection, account: int, tiers: Sequence[Tier], now: WallMicros) -> str:
    """Give an account the tier that it has earned; return its name, or nothing when it stays.

    Never down, and never where a person has chosen the tier.
    """
    row = sql.execute(
        "SELECT public_id, tier, tier_fixed, first_paid_at FROM accounts WHERE id = ?", (account,)
    ).fetchone()
    name, current, fixed, first_paid_at = row
    if fixed:
        return ""
    amount = paid(sql, account)
    tier = earned(tiers, current, amount, (first_paid_at, now))
    found = find_tier(tiers, tier)
    if tier == current or found is None:
        return ""
    sql.execute("UPDATE accounts SET tier = ? WHERE id = ?", (tier, account))
    put_tier_budget(sql, account, found.cap, now)
    note_change(sql, "account", name, now)
    detail = {"from": current, "to": tier, "paid_nano_usd": amount}
    event = Event(account, "tier.promoted", name, f"{name}:{tier}:{now}", now, detail)
    add_event(sql, event)
    sql.execute(
        "INSERT INTO audit (at, account, actor, action, kind, ref, outcome, detail)"
        " VALUES (?, ?, 'gateway', 'tier.promoted', 'account', ?, 'done', ?)",
        (now, account, name, msgspec.json.encode(detail).decode()),
    )
    return tier


def put_tier_budget(sql: Connection, account: int, cap: NanoUSD, now: WallMicros) -> None:
    """Make the budgets that come with a tier what the tier says: so much per month; 0: none."""
    for book in (0, 1):
        which = ("account", account, book, TIER)
        old = sql.execute(
            "SELECT id, public_id, amount FROM budgets"
            " WHERE scope = ? AND ref = ? AND book = ? AND origin = ?",
            which,
        ).fetchone()
        if (old[2] if old else 0) == cap:
            continue
        name = old[1] if old else public_id("budget")
        if not old:
            sql.execute(
                "INSERT INTO budgets (scope, ref, book, origin, public_id, amount, unit, tz, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, 'month', 'UTC', ?)",
                (*which, name, cap, now),
            )
        elif cap:
            sql.execute("UPDATE budgets SET amount = ? WHERE id = ?", (cap, old[0]))
            resize(sql, "budget", old[0], cap)
        else:
            remove(sql, old[0])
            sql.execute("DELETE FROM budgets WHERE id = ?", (old[0],))
        note_change(sql, "budget", name, now)


def expire(sql: Connection, now: WallMicros, failpoints: Failpoints | None = None) -> int:
    """Book what is left of grants that have expired, each once; return of how many. One transaction.

    A grant waits until no worker has any of it any more: then every call that was held in it before
    it expired has been settled and booked. What went with a lost journal expires with the rest.
    """
    failpoints = failpoints or NoFailpoints()
    with writing(sql):
        rows = sql.execute(
            "SELECT p.id, g.id, g.public_id, g.account, g.book, g.model, p.amount - p.spent" + _EXPIRED,
            (now, _AT_ONCE),
        ).fetchall()
        for pot, grant, name, account, book, model, rest in rows:
            sql.execute("DELETE FROM slices WHERE pot = ? AND slot = ?", (pot, LOST))
            taken: dict[str, Any] = {"tokens" if model else "amount": -rest}
            if rest:
                reference = f"expiry:{name}"
                post(
                    sql,
                    Posting(
                        new_id(now),
                        book,
                        account,
                        grant,
                        "expiry",
                        reference,
                        actor="gateway",
                        at=now,
                        **taken,
                    ),
                )
            sql.execute("UPDATE grants SET closed_at = ? WHERE id = ?", (now, grant))
            note_credit(sql, account, now)
            add_event(sql, Event(account, "grant.expired", name, name, now, {"rest": rest}))
        failpoints.hit("expiry-before-commit")
    failpoints.hit("expiry-after-commit")
    return len(rows)


def expirable(sql: Connection, now: WallMicros) -> bool:
    """Say whether a grant could be booked as expired: cheap, and takes no lock."""
    return sql.execute("SELECT 1" + _EXPIRED, (now, 1)).fetchone() is not None


def promote_due(sql: Connection, tiers: Sequence[Tier], now: WallMicros) -> int:
    """Promote the accounts that have waited for as many days as a tier asks; return how many."""
    if not any(tier.days for tier in tiers):
        return 0
    with writing(sql):
        rows = sql.execute(
            "SELECT id FROM accounts WHERE prepaid = 1 AND tier_fixed = 0 AND first_paid_at > 0"
        ).fetchall()
        return sum(bool(promote(sql, account, tiers, now)) for (account,) in rows)


# ── telling ──────────────────────────────────────────────────────────────────────────────────────


def note_credit(sql: Connection, account: int, now: WallMicros) -> None:
    """Tell running servers that the grants of an account have changed."""
    (name,) = sql.execute("SELECT public_id FROM accounts WHERE id = ?", (account,)).fetchone()
    note_change(sql, "credit", name, now)


def note_change(sql: Connection, kind: str, ref: str, now: WallMicros) -> None:
    """Tell running servers that a thing has changed."""
    sql.execute("INSERT INTO changes (kind, ref, at) VALUES (?, ?, ?)", (kind, ref, now))


def add_event(sql: Connection, event: Event) -> None:
    """Write an event; the second one of a kind and name is none."""
    sql.execute(
        "INSERT INTO events (at, account, kind, ref, name, detail) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (
            event.at, event.account, event.kind, event.ref, f"{event.kind}:{event.name}",
            msgspec.json.encode(event.detail).decode(),
        ),
    )  # fmt: skip
