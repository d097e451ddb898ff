"""Credit for what people and payments do: grants, postings, codes, payments, tiers, by public ids.

One object works inside one transaction of the admin store, on the connection below SQLAlchemy, since
postings are entries of the ledger, whose writer uses that directly. What must happen once is a
conditional statement, never a question and then an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.money.rules import Posting
from headgate.records import CodeRecord, GrantRecord, PaymentRecord, PostingRecord
from headgate.stores.sql import postings
from headgate.stores.sql.bootstrap import public_id
from headgate.stores.sql.terms import kept_terms, open_prepaid
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headgate.money.terms import Terms
    from headgate.money.tiers import Tier
    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD, WallMicros

_POSTING = (
    "SELECT a.public_id, coalesce(g.public_id, ''), p.* FROM postings p JOIN accounts a ON a.id = p.account"
    " LEFT JOIN grants g ON g.id = p.grant_id WHERE "
)


class SqlCredit:
    """Credit inside one transaction that writes. Implements `ops.creditbooks.CreditBooks`.

    Raises:
        LookupError: from a method that is given a public id that does not exist.
    """

    __slots__ = ("_sql",)

    def __init__(self, sql: Connection) -> None:
        self._sql = sql

    # ── grants and postings ──────────────────────────────────────────────────────────────────────

    def posted(self, reference: str) -> PostingRecord | None:
        """Return the posting of a reference."""
        row = self._row(_POSTING + "p.reference = ?", reference)
        return None if row is None else _posting(row)

    def give(self, grant: GrantRecord, posting: PostingRecord) -> GrantRecord:
        """Make a grant and put into it what the posting says."""
        account = self._account(grant.account)
        number, name = postings.add_grant(
            self._sql,
            postings.Grant(
                account, int(grant.book), grant.kind, posting.at, grant.model, posting.tokens,
                grant.expires_at, grant.note,
            ),
        )  # fmt: skip
        self._post(posting, account, number)
        return msgspec.structs.replace(
            grant, id=name, amount=posting.amount + posting.tokens, created_at=posting.at
        )

    def top_up(self, posting: PostingRecord) -> PostingRecord:
        """Put a payment into the balance, after what the account owes."""
        account, book = self._account(posting.account), int(posting.book)
        back = min(posting.amount, postings.owed(self._sql, account, book))
        grant = postings.balance_grant(self._sql, account, book, posting.at)
        posting = msgspec.structs.replace(posting, amount=posting.amount - back, debt=-back)
        if book == Book.REAL:
            self._sql.execute(
                "UPDATE accounts SET first_paid_at = ? WHERE id = ? AND first_paid_at = 0",
                (posting.at, account),
            )
        return self._post(posting, account, grant)

    def add(self, posting: PostingRecord) -> PostingRecord:
        """Book a posting to the grant that it names; the caller has made sure that it fits."""
        return self._post(posting, self._account(posting.account), self._grant(posting.grant))

    def _post(self, posting: PostingRecord, account: int, grant: int) -> PostingRecord:
        key = postings.new_id(posting.at)
        postings.post(
            self._sql,
            Posting(
                key, int(posting.book), account, grant, posting.kind, posting.reference, posting.amount,
                posting.tokens, posting.debt, posting.actor, posting.note, posting.at,
            ),
        )  # fmt: skip
        postings.note_credit(self._sql, account, posting.at)
        (name,) = self._row("SELECT public_id FROM grants WHERE id = ?", grant) or ("",)
        return msgspec.structs.replace(posting, id=f"post_{key.hex()}", grant=name)

    def balance(self, account: str, book: Book, at: WallMicros) -> str:
        """Return the grant that top-ups of an account fill; made where there is none."""
        grant = postings.balance_grant(self._sql, self._account(account), int(book), at)
        (name,) = self._row("SELECT public_id FROM grants WHERE id = ?", grant) or ("",)
        return str(name)

    def out(self, grant: str) -> int:
        """Return what of a grant is in the hands of workers."""
        row = self._row(
            "SELECT coalesce(sum(s.amount), 0) FROM slices s JOIN pots p ON p.id = s.pot"
            " WHERE p.ref = ? AND p.kind IN ('grant', 'tokens')",
            self._grant(grant),
        )
        return int(row[0]) if row else 0

    def free(self, grant: str) -> int:
        """Return what of a grant is neither spent nor in the hands of a worker."""
        return postings.free(self._sql, self._grant(grant))

    def recall(self, grant: str) -> None:
        """Ask the workers for what they have of a grant and do not hold."""
        postings.recall(self._sql, self._grant(grant))

    def owed(self, account: str, book: Book) -> NanoUSD:
        """Return what an account owes."""
        return postings.owed(self._sql, self._account(account), int(book))

    def paid(self, account: str) -> NanoUSD:
        """Return what an account has paid in real money, less what went back."""
        return postings.paid(self._sql, self._account(account))

    def refunded(self, account: str, prefix: str) -> NanoUSD:
        """Return what was given back of one payment: by postings whose references begin like this."""
        row = self._row(
            "SELECT coalesce(sum(debt - amount), 0) FROM postings WHERE account = ? AND kind = 'refund'"
            " AND substr(reference, 1, ?) = ?",
            self._account(account),
            len(prefix),
            prefix,
        )
        return int(row[0]) if row else 0

    # ── codes ────────────────────────────────────────────────────────────────────────────────────

    def claim_code(self, digest: bytes, account: str, at: WallMicros) -> CodeRecord | None:
        """Redeem a code for an account; None where it is unknown, used, revoked or expired."""
        done = self._sql.execute(
            "UPDATE codes SET redeemed_at = ?, redeemed_by = ? WHERE digest = ? AND redeemed_at = 0"
            " AND revoked_at = 0 AND (expires_at = 0 OR expires_at > ?)",
            (at, self._account(account), digest, at),
        )
        return self.code(digest) if done.rowcount == 1 else None

    def code(self, digest: bytes) -> CodeRecord | None:
        """Return a code by what is stored of its text."""
        row = self._row(
            "SELECT c.public_id, c.shown, c.book, c.amount, c.tokens, c.model, c.valid_days, c.expires_at,"
            " c.revoked_at, c.redeemed_at, coalesce(a.public_id, ''), c.created_by, c.created_at"
            " FROM codes c LEFT JOIN accounts a ON a.id = c.redeemed_by WHERE c.digest = ?",
            digest,
        )
        if row is None:
            return None
        names = CodeRecord.__struct_fields__
        return CodeRecord(**{**dict(zip(names, row, strict=True)), "book": Book(row[2])})

    # ── payments ─────────────────────────────────────────────────────────────────────────────────

    def claim_event(self, payment: PaymentRecord) -> bool:
        """Note an event of a payment provider; False when it was noted before."""
        row = msgspec.structs.asdict(payment)
        row["account"] = self._account(payment.account) if payment.account else 0
        done = self._sql.execute(
            "INSERT INTO payments (event, source, reference, account, kind, amount, currency, outcome, at)"
            " VALUES (:event, :source, :reference, :account, :kind, :amount, :currency, :outcome, :at)"
            " ON CONFLICT DO NOTHING",
            row,
        )
        return done.rowcount == 1

    def payment(self, event: str) -> PaymentRecord | None:
        """Return what came of an event."""
        row = self._row(
            "SELECT p.event, p.source, p.reference, coalesce(a.public_id, ''), p.kind, p.amount, p.currency,"
            " p.outcome, p.at FROM payments p LEFT JOIN accounts a ON a.id = p.account WHERE p.event = ?",
            event,
        )
        return (
            None
            if row is None
            else PaymentRecord(**dict(zip(PaymentRecord.__struct_fields__, row, strict=True)))
        )

    # ── accounts ─────────────────────────────────────────────────────────────────────────────────

    @property
    def prepaid(self) -> bool:
        """Say whether new accounts are prepaid: the mode of the last server."""
        return kept_terms(self._sql)[0].prepaid

    def open_prepaid(self, account: str, terms: Terms, tiers: Sequence[Tier], at: WallMicros) -> None:
        """Make an account prepaid: with the sign-up grant in each book, once, and the first tier."""
        open_prepaid(self._sql, self._account(account), terms, tiers, at)

    def promote(self, account: str, tiers: Sequence[Tier], at: WallMicros) -> str:
        """Give an account the tier that it has earned; return its name, or nothing when it stays."""
        return postings.promote(self._sql, self._account(account), tiers, at)

    def put_tier_budget(self, account: str, cap: NanoUSD, at: WallMicros) -> None:
        """Make the budgets that come with a tier what the tier says: so much per month; 0: none."""
        postings.put_tier_budget(self._sql, self._account(account), cap, at)

    def put_limit(self, account: str, limit: Mapping[str, int | str], origin: str, at: WallMicros) -> None:
        """Put a limit of an account in place of the one of the same model."""
        row = {name: limit.get(name, 0) for name in ("rpm", "tpm", "rpd", "tpd", "concurrency")}
        name = public_id("limit")
        row |= {"name": name, "ref": self._account(account), "model": limit.get("model", "")}
        self._sql.execute(
            "INSERT INTO limits (public_id, scope, ref, model, rpm, tpm, rpd, tpd, concurrency, origin,"
            " created_at) VALUES (:name, 'account', :ref, :model, :rpm, :tpm, :rpd, :tpd, :concurrency,"
            " :origin, :at) ON CONFLICT (scope, ref, model) DO UPDATE SET rpm = excluded.rpm,"
            " tpm = excluded.tpm, rpd = excluded.rpd, tpd = excluded.tpd,"
            " concurrency = excluded.concurrency, origin = excluded.origin",
            {**row, "origin": origin, "at": at},
        )
        postings.note_change(self._sql, "limit", name, at)

    # ── ids ──────────────────────────────────────────────────────────────────────────────────────

    def _row(self, question: str, *values: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._sql.execute(question, values).fetchone()
        return row

    def _account(self, public: str) -> int:
        return self._internal("accounts", public)

    def _grant(self, public: str) -> int:
        return self._internal("grants", public)

    def _internal(self, table: str, public: str) -> int:
        row = self._row(f"SELECT id FROM {table} WHERE public_id = ?", public)
        if row is None:
            raise LookupError(f"no row {public} in {table}")
        return int(row[0])


def _posting(row: Sequence[Any]) -> PostingRecord:
    account, grant, key, _, book, _, _, kind, amount, tokens, debt, reference, actor, note, at = row
    return PostingRecord(
        id=f"post_{key.hex()}",
        account=account,
        grant=grant,
        book=Book(book),
        kind=kind,
        amount=amount,
        tokens=tokens,
        debt=debt,
        reference=reference,
        actor=actor,
        note=note,
        at=at,
    )
