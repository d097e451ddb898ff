"""Prove the books: recompute everything from calls and prices, in code of its own.

Nothing here shares arithmetic or rules with what writes the books, so that a fault there cannot hide
here: this package never imports `money.cost`, `money.rules` or `sql.ledger`.
"""

from headgate.stores.sql.check.findings import Finding
from headgate.stores.sql.check.run import Result, check

__all__ = ["Finding", "Result", "check"]
