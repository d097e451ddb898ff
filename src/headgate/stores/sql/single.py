"""What one call cost, for whoever made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from headgate.values import Book

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD

_ESTIMATED = 1


class Charge(NamedTuple):
    """What a settled call cost its caller."""

    amount: NanoUSD
    book: Book
    estimated: bool


def charge_of(sql: Connection, request_id: str) -> Charge | None:
    """Return the charge of a call by its `x-request-id`; None while the books do not have it."""
    try:
        call = bytes.fromhex(request_id.removeprefix("req_"))
    except ValueError:
        return None
    row = sql.execute("SELECT charge, book, flags FROM calls WHERE call = ?", (call,)).fetchone()
    return None if row is None else Charge(row[0], Book(row[1]), bool(row[2] & _ESTIMATED))
