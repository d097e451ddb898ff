"""What books come to, in figures that must be the same wherever their rows lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection

# Each question gives names and figures: a name in words, then one figure for each that is listed.
_QUESTIONS: Final = (
    (
        "calls of book {}",
        ("charge", "absorbed", "cost", "input", "output"),
        (
            "SELECT book, sum(charge), sum(absorbed), sum(cost), sum(input), sum(output) FROM calls"
            " GROUP BY book"
        ),
    ),
    (
        "ledger account {} of book {}",
        ("debits", "credits"),
        (
            "SELECT a.code, a.book, b.debits, b.credits FROM ledger_accounts a"
            " JOIN balances b ON b.ledger_account = a.id"
        ),
    ),
    (
        "entries that debit {} of book {}",
        ("amount",),
        (
            "SELECT a.code, e.book, sum(e.amount) FROM entries e JOIN ledger_accounts a ON a.id = e.debit"
            " GROUP BY a.code, e.book"
        ),
    ),
    (
        "entries that credit {} of book {}",
        ("amount",),
        (
            "SELECT a.code, e.book, sum(e.amount) FROM entries e JOIN ledger_accounts a ON a.id = e.credit"
            " GROUP BY a.code, e.book"
        ),
    ),
    (
        "postings of book {}",
        ("amount", "tokens", "debt"),
        "SELECT book, sum(amount), sum(tokens), sum(debt) FROM postings GROUP BY book",
    ),
    (
        "pots of kind {}",
        ("amount", "spent", "over"),
        "SELECT kind, sum(amount), sum(spent), sum(over) FROM pots GROUP BY kind",
    ),
    (
        "usage of book {}",
        ("calls", "charge", "cost"),
        "SELECT book, sum(calls), sum(charge), sum(cost) FROM usage_hours GROUP BY book",
    ),
)


def totals(sql: Connection) -> dict[str, int]:
    """Return every total, by a name for people. In a transaction, so that they are of one moment."""
    found = {}
    for words, figures, question in _QUESTIONS:
        for row in sql.execute(question).fetchall():
            name = words.format(*row[: -len(figures)])
            for figure, value in zip(figures, row[-len(figures) :], strict=True):
                found[f"{name}: {figure}"] = int(value)
    return found
