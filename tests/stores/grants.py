"""Credit for the tests of the stores: an account with grants, and calls that spend them."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.stores.books import rows
from tests.stores.records import CLOCK, opened, settled

from headgate.money.credit import Need, cover, in_tokens, rank, tokens_taken
from headgate.money.periods import FOREVER
from headgate.ports import Open, Settle
from headgate.records import GrantRecord, PostingRecord
from headgate.stores.sql.bootstrap import writing
from headgate.stores.sql.connection import Connection
from headgate.stores.sql.credit import SqlCredit
from headgate.stores.sql.database import Place, connect
from headgate.values import Book

DAY = 86_400_000_000
USD = 1_000_000_000


class Offered(NamedTuple):
    """A grant as a process offers it: what the books say is left, less what is held."""

    pot: int
    grant: int
    model: str
    until: int
    free: int


class Credit:
    """The credit of account `acct_one`; commits after each step."""

    def __init__(self, data: Place, account: str = "acct_one") -> None:
        self.sql = connect(data)
        self.books = SqlCredit(self.sql)
        self.account = account

    def close(self) -> None:
        self.sql.close()

    def posting(self, kind: str, reference: str, amount: int, **more: Any) -> PostingRecord:
        fields = {"account": self.account, "book": Book.REAL, "at": CLOCK.wall(), **more}
        return PostingRecord(kind=kind, reference=reference, amount=amount, **fields)

    def give(self, amount: int, *, expires_at: int = 0, model: str = "", reference: str = "") -> str:
        with writing(self.sql):
            kind = "code" if reference.startswith("code:") else "gift"
            grant = GrantRecord(
                account=self.account, book=Book.REAL, kind=kind, model=model, expires_at=expires_at
            )
            posting = self.posting("grant", reference or f"gift:{self._count()}", 0 if model else amount)
            if model:
                posting = self.posting("grant", posting.reference, 0, tokens=amount)
            return self.books.give(grant, posting).id

    def top_up(self, amount: int, reference: str = "") -> PostingRecord:
        with writing(self.sql):
            return self.books.top_up(self.posting("topup", reference or f"manual:{self._count()}", amount))

    def take(self, amount: int, debt: int = 0) -> PostingRecord:
        with writing(self.sql):
            grant = self.books.balance(self.account, Book.REAL, CLOCK.wall())
            reference = f"manual:{self._count()}"
            return self.books.add(self.posting("refund", reference, -amount, debt=debt, grant=grant))

    def _count(self) -> int:
        return int(self.sql.execute("SELECT count(*) FROM postings").fetchone()[0])

    def offers(self) -> list[Offered]:
        found = self.sql.execute(
            "SELECT p.id, g.id, g.model, g.expires_at, g.kind, p.amount - p.spent FROM grants g"
            " JOIN pots p ON p.ref = g.id AND p.kind IN ('grant', 'tokens')"
            " WHERE g.account = 1 AND g.book = 0 AND g.closed_at = 0"
        ).fetchall()
        found.sort(key=lambda row: rank(row[4], row[2], row[3], row[1]))
        return [
            Offered(pot, grant, model, until or FOREVER, free) for pot, grant, model, until, _, free in found
        ]

    def call(
        self, hold: int, given: int = 300, made: int = 200, **changes: Any
    ) -> tuple[Open, Settle] | None:
        """Return a call that these grants cover, and its settlement; None where they do not."""
        sources = cover(self.offers(), Need("gpt-4o-mini", hold, 1_000), CLOCK.wall())
        if sources is None:
            return None
        record = opened(hold=hold, sources=sources, **changes)
        return record, ended(record, given, made)


def ended(record: Open, given: int = 300, made: int = 200) -> Settle:
    end = settled(record, given, made)
    if not in_tokens(record.sources):
        return end
    tokens = tokens_taken(record.sources, end.usage)
    return settled(record, given, made, charge=0, promoted=end.charge, tokens=tokens)


def balance_of(data: Place, code: str) -> int:
    """Return what an account of the ledger has been credited, less what it was debited."""
    found = rows(
        data,
        "SELECT b.credits - b.debits AS rest FROM balances b JOIN ledger_accounts a ON a.id = b.ledger_account"
        " WHERE a.code = ?",
        code,
    )
    return int(found[0]["rest"]) if found else 0


def spent_by_calls(sql: Connection, grant: int) -> int:
    row = sql.execute(
        "SELECT coalesce(sum(e.amount), 0) FROM entries e JOIN ledger_accounts a ON a.id = e.debit"
        " WHERE e.kind IN (1, 4) AND a.code IN (?, ?)",
        (f"grant:{grant}", f"tokens:{grant}"),
    ).fetchone()
    return int(row[0])
