"""Check what was put into grants and taken out of them by people: each posting against its entries."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headgate.stores.sql.check.findings import Findings
    from headgate.stores.sql.connection import Connection

POSTED, POSTED_TOKENS = 5, 6

Line: TypeAlias = tuple[int, int, str, str, int]  # kind, number, debit, credit, amount


class PostingRow(NamedTuple):
    """A posting as it stands in SQL."""

    id: bytes
    seq: int
    book: int
    account: int
    grant: int
    kind: str
    amount: int
    tokens: int
    debt: int
    reference: str
    at: int


class PostingsCheck:
    """Every posting, its entries, and what made it happen once: a reference, a code, a payment.

    Args:
        sql: in a transaction.
        findings: where what is wrong goes.
        accounts: the ledger's accounts, code and book by id.
    """

    def __init__(self, sql: Connection, findings: Findings, accounts: Mapping[int, tuple[str, int]]) -> None:
        self._sql = sql
        self._say = findings.add
        self._accounts = accounts
        self._waiting = {
            row[0]: PostingRow._make(row)
            for row in sql.execute(
                "SELECT id, seq, book, account, grant_id, kind, amount, tokens, debt, reference, at"
                " FROM postings"
            )
        }
        self._all = list(self._waiting.values())
        self.given: dict[int, int] = defaultdict(int)  # by grant: all that was put there, less what was taken
        self.expired: dict[int, int] = {}  # by grant: when its rest was booked

    def take(self, posting: bytes, own: Sequence[tuple[Any, ...]]) -> bool:
        """Compare the entries of a posting with it; False when there is no such posting."""
        row = self._waiting.pop(posting, None)
        if row is None:
            return False
        found = sorted(
            (kind, number, self._code(debit, row.book), self._code(credit, row.book), amount)
            for _, kind, attempt, number, book, debit, credit, amount in own
            if attempt == 0 and book == row.book
        )
        due = sorted(_due(row))
        if found != due or len(found) != len(own):
            self._say("posting", f"{row.reference}: due {due}, the books have {found} of {len(own)} entries")
        return True

    def _code(self, account: int, book: int) -> str:
        code, own = self._accounts.get(account, (f"account {account}", book))
        return code if own == book else f"{code} of book {own}"

    def finish(self) -> None:
        """Check the postings as a whole."""
        for row in self._waiting.values():
            if _due(row):
                self._say("posting", f"{row.reference}: a {row.kind} of {row.amount} without its entries")
        numbers = sorted(row.seq for row in self._all)
        if numbers != list(range(1, len(numbers) + 1)):
            self._say("sequence", f"{len(numbers)} postings have the numbers up to {max(numbers, default=0)}")
        for row in self._all:
            self.given[row.grant] += row.amount + row.tokens
            if row.kind == "expiry":
                self.expired[row.grant] = row.at
        self._check_grants()
        self._check_codes()
        self._check_payments()
        self._check_debts()

    def _check_grants(self) -> None:
        """A gift is given once, and only the balance is filled more often."""
        kinds = {
            key: (kind, model, tokens, account, book)
            for key, kind, model, tokens, account, book in self._sql.execute(
                "SELECT id, kind, model, tokens, account, book FROM grants"
            )
        }
        gifts = Counter(row.grant for row in self._all if row.kind == "grant")
        for row in self._all:
            kind, model, tokens, account, book = kinds.get(row.grant, ("", "", 0, -1, -1))
            if not row.grant and row.kind in {"refund", "topup"} and not row.amount:
                continue  # all of it is owed
            if (row.account, row.book) != (account, book) or bool(row.tokens and not model):
                self._say("posting", f"{row.reference}: grant {row.grant} is not one of its account")
            elif (row.kind == "topup") > (kind == "balance"):
                self._say("posting", f"{row.reference}: a top-up of a grant that is no balance")
            elif row.kind == "grant" and row.tokens != tokens:
                self._say("posting", f"{row.reference}: {row.tokens} tokens given, its grant says {tokens}")
        for key, (kind, *_) in kinds.items():
            if gifts[key] != (kind != "balance"):
                self._say("posting", f"grant {key}, a {kind}, was given {gifts[key]} times")

    def _check_codes(self) -> None:
        """A code that was redeemed is one posting of what it promised; any other is none."""
        posted = {row.reference: row for row in self._all if row.reference.startswith("code:")}
        codes = self._sql.execute(
            "SELECT public_id, amount, tokens, redeemed_by FROM codes WHERE redeemed_at > 0"
        )
        for name, amount, tokens, account in codes:
            row = posted.pop(f"code:{name}", None)
            if row is None or (row.amount, row.tokens, row.account) != (amount, tokens, account):
                self._say("code", f"{name}: it was redeemed and its grant is not in the books")
        for reference in posted:
            self._say("code", f"{reference}: granted, and no code was redeemed for it")

    def _check_payments(self) -> None:
        """A payment that was booked is one posting of its amount."""
        posted = {row.reference: row for row in self._all}
        payments = self._sql.execute(
            "SELECT event, reference, account, kind, amount FROM payments WHERE outcome = 'booked'"
        )
        for event, reference, account, kind, amount in payments:
            row = posted.get(reference)
            whole = None if row is None else abs(row.amount - row.debt)
            if row is None or (whole, row.account, row.kind) != (amount, account, kind):
                self._say("payment", f"{event}: {kind} of {amount} as {reference} is not in the books")

    def _check_debts(self) -> None:
        owed: dict[tuple[int, int], int] = defaultdict(int)
        for row in sorted(self._all, key=lambda each: each.seq):
            owed[row.account, row.book] += row.debt
            if owed[row.account, row.book] < 0:
                self._say("posting", f"{row.reference}: pays back more than its account owed")


def _due(row: PostingRow) -> list[Line]:
    """Return the entries that a posting must have."""
    grant, tokens = f"grant:{row.grant}", f"tokens:{row.grant}"
    cash, debt = f"cash:{row.reference.partition(':')[0]}", f"debt:{row.account}"
    other: dict[str, tuple[str, str]] = {
        "topup": (cash, ""),
        "refund": (cash, ""),
        "grant": ("promotion", "tokens:issued"),
        "expiry": ("expired", "tokens:expired"),
        "adjustment": ("adjustments", "tokens:adjusted"),
    }
    money, issued = other.get(row.kind, (f"unknown kind {row.kind}", ""))
    lines = [
        _line(POSTED, 0, money, grant, row.amount),
        _line(POSTED, 1, debt, cash, row.debt),
        _line(POSTED_TOKENS, 0, issued, tokens, row.tokens),
    ]
    signs: dict[str, Callable[[PostingRow], bool]] = {
        "topup": lambda each: each.amount >= 0 >= each.debt and each.tokens == 0,
        "refund": lambda each: each.amount <= 0 <= each.debt and each.tokens == 0,
        "grant": lambda each: min(each.amount, each.tokens) >= 0 == each.debt,
        "expiry": lambda each: max(each.amount, each.tokens) <= 0 == each.debt,
        "adjustment": lambda each: each.debt == 0,
    }
    if row.kind not in signs or not signs[row.kind](row):
        return [(0, 0, f"a {row.kind} of {row.amount}", f"{row.tokens} tokens", row.debt)]
    return [line for line in lines if line[4]]


def _line(kind: int, number: int, giver: str, taker: str, amount: int) -> Line:
    """Return an entry from one account to the other; below zero it goes the other way."""
    return (kind, number, giver, taker, amount) if amount >= 0 else (kind, number, taker, giver, -amount)
