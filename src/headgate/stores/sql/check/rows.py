"""A call as it stands in SQL, for everything that checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.stores.sql.check.arithmetic import Tokens

if TYPE_CHECKING:
    import sqlite3


class CallRow(NamedTuple):
    """A call as it stands in SQL."""

    call: bytes
    seq: int
    book: int
    account: int
    project: int
    key: int
    attempt: int
    model: int
    provider: int
    opened_at: int
    status: int
    flags: int
    tokens: Tokens
    prices: int
    costs: int
    hold: int
    charge: int
    absorbed: int
    cost: int


COLUMNS = (
    "call, seq, book, account, project, key, attempt, model, provider, opened_at, status, flags,"
    " input, output, cached, cache_write, reasoning, input_audio, output_audio,"
    " prices, costs, hold, charge, absorbed, cost"
)


def call_row(row: tuple[Any, ...]) -> CallRow:
    """Return a row of `COLUMNS` with its tokens together."""
    return CallRow._make((*row[:12], Tokens._make(row[12:19]), *row[19:]))


def find_call(sql: sqlite3.Connection, call: bytes) -> CallRow | None:
    """Return one call."""
    row = sql.execute(f"SELECT {COLUMNS} FROM calls WHERE call = ?", (call,)).fetchone()
    return None if row is None else call_row(row)
