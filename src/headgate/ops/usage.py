"""Say what was used and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec

from headgate.errors import CallerError
from headgate.money.periods import zone
from headgate.ops.actors import Place, authorise
from headgate.values import Book, NanoUSD, WallMicros

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.ops.actors import Actor

By: TypeAlias = Literal["day", "model", "key"]


class UsageOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls: opened at `since` or later and before `until` (0: no bound)."""

    by: By = "day"
    since: WallMicros = 0
    until: WallMicros = 0
    book: Book | None = None  # None: real, unless only play money was ever spent
    tz: str = "UTC"  # where days begin


class CallLine(msgspec.Struct, frozen=True, kw_only=True):
    """One settled call."""

    request_id: str
    opened_at: str  # RFC 3339, UTC
    book: str
    key: str
    provider: str
    model: str
    operation: str
    status: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nano_usd: NanoUSD
    estimated: bool
    recovered: bool  # booked by a start after a crash
    duration_us: int


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of some calls."""

    name: str
    calls: int = 0
    failed: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_nano_usd: NanoUSD = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What was used, by the groups that were asked for."""

    book: str
    by: str
    rows: list[UsageLine]
    total: UsageLine


class Reports(Protocol):
    """The books, for reading: SQL and the journals' tails."""

    def books(self) -> frozenset[Book]:
        """Return the books in which there are calls."""
        ...

    def calls(self, order: UsageOrder) -> Iterator[CallLine]:
        """Yield each settled call once, in order of time."""
        ...

    def sums(self, order: UsageOrder) -> list[UsageLine]:
        """Return the sums by group, in the order of their names."""
        ...


def usage(actor: Actor, reports: Reports, order: UsageOrder) -> Usage:
    """Return sums by day, model or key, and their total.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the window or the zone is none.
    """
    order = _resolved(actor, reports, order)
    assert order.book is not None
    rows = reports.sums(order)
    return Usage(book=order.book.label, by=order.by, rows=rows, total=_total(rows))


def calls(actor: Actor, reports: Reports, order: UsageOrder) -> Iterator[CallLine]:
    """Return each settled call, in order of time.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the window or the zone is none.
    """
    return reports.calls(_resolved(actor, reports, order))


def _resolved(actor: Actor, reports: Reports, order: UsageOrder) -> UsageOrder:
    """Check an order and choose its book."""
    authorise(actor, "usage.read", Place())
    try:
        zone(order.tz)
    except ValueError as fault:
        raise CallerError(str(fault), param="tz") from fault
    if order.until and order.since >= order.until:
        raise CallerError("`until` must be later than `since`.", param="until")
    if order.book is not None:
        return order
    only_play = reports.books() == {Book.SIM}
    return msgspec.structs.replace(order, book=Book.SIM if only_play else Book.REAL)


def _total(rows: list[UsageLine]) -> UsageLine:
    sums = {
        name: sum(getattr(row, name) for row in rows)
        for name in UsageLine.__struct_fields__
        if name != "name"
    }
    return UsageLine(name="total", **sums)
