"""What a recorded call has cost its caller, by the journals of a data folder and by the books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.money.rules import TOKENS
from headgate.shelf import made_by
from headgate.stores.journal.tails import read_tails

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD


class Charges:
    """What calls of one data folder have cost: exact, also of those that the books do not have yet.

    Args:
        folder: whose journals are read now; the books are asked after that, so nothing is missed between.
    """

    def __init__(self, folder: Path) -> None:
        self._tails = read_tails(folder)

    def of(self, sql: Connection, call: bytes) -> NanoUSD | None:
        """Return what a call and its parts have cost; None where that is open, or was paid in tokens."""
        rows = booked(sql, call)
        for item in self._tails.settled:
            if call in {item.settle.call, item.opens[-1].parent}:
                rows[item.settle.call] = None if item.settle.tokens else item.settle.charge
        opens = (opens[0] for opens in self._tails.open.values())
        going = {opened.call for opened in opens if call in {opened.call, opened.parent}}
        return None if going - rows.keys() else total(rows.values())


def total(charges: Iterable[NanoUSD | None]) -> NanoUSD | None:
    """Return what several have cost; None where one of them was paid in tokens."""
    known = list(charges)
    amounts = [charge for charge in known if charge is not None]
    return sum(amounts) if len(amounts) == len(known) else None


def booked(sql: Connection, call: bytes) -> dict[bytes, NanoUSD | None]:
    """Return the charges that the books have of a call and of its parts; None: tokens of a grant paid it.

    Parts are of the same instant: their ids begin as that of the call.
    """
    rows = sql.execute(
        f"SELECT call, charge, EXISTS (SELECT 1 FROM entries e WHERE e.call = c.call AND e.kind = {TOKENS})"
        " FROM calls c WHERE call >= ? AND call <= ? AND (call = ? OR parent = ?)",
        (call[:8], call[:8] + b"\xff" * 8, call, call),
    )
    return {bytes(name): None if tokens else int(charge) for name, charge, tokens in rows}


def has_left(sql: Connection, call: bytes) -> bool:
    """Say whether there is something that a call has made, beside its charge."""
    number = call.hex()
    left = (("videos", f"video_{number}"), ("files", made_by(call)), ("batches", f"batch_{number}"))
    return any(
        sql.execute(f"SELECT 1 FROM {table} WHERE id = ?", (name,)).fetchone() is not None
        for table, name in left
    )
