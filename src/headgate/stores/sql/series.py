"""Calls that differ in their ids, times, tokens and money alone: nearly all that a key sends to a target.

What they have in common is looked up once, and they are added up once in a batch. Which accounts their
entries move is what `money.rules.entries` says of the first of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from headgate.money.rules import PROVIDER_COST, SETTLEMENT
from headgate.stores.sql.connection import Form

if TYPE_CHECKING:
    from headgate.ports import Open, Settle
    from headgate.stores.sql.batch import Batch
    from headgate.values import NanoUSD, WallMicros

HOUR_US: Final = 3_600_000_000
# Of what `take` gives: 29 and 10 cells.
CALLS: Final = Form(29, (None, 0, ""), ((*range(7), 29, 30, *range(7, 26), 30, *range(26, 29), 31),))
ENTRIES: Final = Form(
    10, (SETTLEMENT, PROVIDER_COST, 0), ((0, 10, 12, 12, 1, 2, 3, 4), (5, 11, 12, 12, 6, 7, 8, 9))
)

Sides: TypeAlias = tuple[int, int]  # ids of the accounts that are debited and credited


class Common(NamedTuple):
    """What the calls of a series have in common, as the books have it."""

    words: tuple[int, ...]  # ids of the operation, the model, the provider, and its name for the model
    prices: int  # ids of price rows: the customer's, the provider's
    costs: int
    flags: tuple[int, int]  # of a call whose usage is known, and of one where it is estimated
    settlement: Sides
    provider_cost: Sides


def name(opened: Open) -> tuple[Any, ...]:
    """Return the name of the series that a call with one attempt may be one of."""
    sources = opened.sources
    source = sources[0] if sources else None
    return (
        opened.key, opened.model, opened.upstream_model, opened.provider, opened.operation, opened.streamed,
        opened.pots, source and source.grant, source and source.pot,
        opened.book, opened.account, opened.project, opened.member, opened.purse,
    )  # fmt: skip


class Series:
    """Such calls that opened in one span of time, with one row of prices, and what a batch has of them.

    Args:
        opened: one of them.
        common: what it shares with all others.
        span: since when and until when they open, in which one hour and the same budgets are in force.
    """

    __slots__ = (
        "_account", "_book", "_costs_row", "_credit", "_debit", "_estimated", "_flags", "_key", "_member",
        "_model", "_operation", "_payable", "_prices_row", "_project", "_provider", "_spent", "_upstream",
        "at", "cached", "calls", "charge", "cost", "costs", "estimated", "failed", "input", "opened",
        "output", "prices", "provider_cost", "settlement", "since", "until", "used",
    )  # fmt: skip

    def __init__(self, opened: Open, common: Common, span: tuple[WallMicros, WallMicros]) -> None:
        self.opened = opened
        self.prices, self.costs = opened.prices, opened.costs
        self.since, self.until = span
        self._book, self._account, self._project = int(opened.book), opened.account, opened.project
        self._key, self._member = opened.key, opened.member
        self._operation, self._model, self._provider, self._upstream = common.words
        self._prices_row, self._costs_row = common.prices, common.costs
        self._flags, self._estimated = common.flags
        self._debit, self._credit = self.settlement = common.settlement
        self._spent, self._payable = self.provider_cost = common.provider_cost
        self.clear()

    def clear(self) -> None:
        """Begin another batch."""
        self.calls = self.failed = self.estimated = self.input = self.output = self.cached = 0
        self.charge: NanoUSD = 0
        self.cost: NanoUSD = 0
        self.used: WallMicros = 0  # when the last of them opened,
        self.at: WallMicros = 0  # and was settled

    @property
    def hour(self) -> tuple[int, ...]:
        """Return the hour and the line of it that they are added up in."""
        payer = (self._book, self._account, self._project, self._key)
        return (self.opened.at // HOUR_US, *payer, self._model, self._provider)

    @property
    def sums(self) -> tuple[int, ...]:
        """Return what is added up of them."""
        return (
            self.calls, self.failed, self.estimated, self.input, self.output, self.cached,
            self.charge, self.cost,
        )  # fmt: skip

    def take(self, opened: Open, settle: Settle, batch: Batch) -> None:
        """Add a call: what its row and its entries are made of goes into the batch."""
        usage, charge, (cost,), at = settle.usage, settle.charge, settle.costs, opened.at
        made, got, cached = usage.output_tokens, usage.input_tokens, usage.cached_tokens
        status, flags = settle.status, self._flags
        self.calls += 1
        self.input += got
        self.output += made
        self.charge += charge
        self.cost += cost
        self.at = settle.at
        self.used = max(self.used, at)
        if cached:
            self.cached += cached
        if status >= 400:
            self.failed += 1
        if settle.estimated:
            self.estimated += 1
            flags = self._estimated
        book = self._book
        batch.seq[book] = seq = batch.seq[book] + 1
        call = bytearray(settle.call)  # of bytes sqlite3 asks each time, at length, what they adapt to
        batch.plain_entries.append(
            (call, book, self._debit, self._credit, charge, call, book, self._spent, self._payable, cost)
        )
        batch.plain_calls.append((
            call, seq, book, self._account, self._project, self._key, self._member,
            self._operation, self._model, self._provider, self._upstream, at, settle.at, status, flags,
            got, made, cached, usage.cache_write_tokens, usage.reasoning_tokens,
            usage.input_audio_tokens, usage.output_audio_tokens, self._prices_row, self._costs_row,
            opened.hold, charge, cost, settle.first_byte_us, settle.duration_us,
        ))  # fmt: skip
