"""A call as it stands in SQL, for everything that checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.stores.sql.check.arithmetic import Tokens, read_more, tokens

if TYPE_CHECKING:
    from headgate.stores.sql.connection import Connection


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
    " input, output, cached, cache_write, reasoning, input_audio, output_audio, more,"
    " prices, costs, hold, charge, absorbed, cost"
)


class LostRow(NamedTuple):
    """What a failed attempt used, as it stands in SQL."""

    attempt: int
    provider: int
    tokens: Tokens
    costs: int


LOST_COLUMNS = (
    "call, attempt, provider, costs,"
    " input, output, cached, cache_write, reasoning, input_audio, output_audio, more"
)


class LostRows:
    """The failed attempts of each call, asked for in the order of the calls' ids."""

    def __init__(self, sql: Connection) -> None:
        self._rows = sql.scan(f"SELECT {LOST_COLUMNS} FROM lost ORDER BY call, attempt")
        self._next = next(self._rows, None)
        self._strays: list[bytes] = []  # calls that were not asked for

    def of(self, call: bytes) -> list[LostRow]:
        """Return the failed attempts of a call."""
        found = []
        while self._next is not None and self._next[0] <= call:
            if self._next[0] == call:
                found.append(lost_row(self._next))
            else:
                self._strays.append(self._next[0])
            self._next = next(self._rows, None)
        return found

    def finish(self) -> list[bytes]:
        """Return the calls of the rows that belong to no call."""
        return self._strays + [row[0] for row in (self._next, *self._rows) if row is not None]


def lost_row(row: tuple[Any, ...]) -> LostRow:
    """Return a row of `LOST_COLUMNS` with its tokens together."""
    return LostRow(row[1], row[2], _tokens(row[4:]), row[3])


def _tokens(columns: tuple[Any, ...]) -> Tokens:
    return tokens(columns[:7], read_more(columns[7]))


def find_lost(sql: Connection, call: bytes) -> list[LostRow]:
    """Return the failed attempts of one call."""
    rows = sql.execute(f"SELECT {LOST_COLUMNS} FROM lost WHERE call = ? ORDER BY attempt", (call,))
    return [lost_row(row) for row in rows]


def call_row(row: tuple[Any, ...]) -> CallRow:
    """Return a row of `COLUMNS` with its tokens together."""
    return CallRow._make((*row[:12], _tokens(row[12:20]), *row[20:]))


def find_call(sql: Connection, call: bytes) -> CallRow | None:
    """Return one call."""
    row = sql.execute(f"SELECT {COLUMNS} FROM calls WHERE call = ?", (call,)).fetchone()
    return None if row is None else call_row(row)
