"""Money: budgets in memory, and the holds that keep their caps.

A call may open only when its upper bound fits every budget above it. `reserve` and `close` do not
await, so no other call can come between the question and the answer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.errors import QuotaExceeded
from headgate.money.amounts import format_usd
from headgate.money.periods import PeriodClock
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.money.amounts import Unit
    from headgate.ports import Source
    from headgate.values import NanoUSD, Principal, WallMicros

WAIT_S = 2.0  # how long a call waits for other calls' holds to be released


class Period:
    """What one budget has spent and holds in one period. A late settlement finds its own period."""

    __slots__ = ("held", "key", "spent")

    def __init__(self, key: str, spent: NanoUSD = 0) -> None:
        self.key = key
        self.spent = spent
        self.held = 0


class Budget:
    """A hard cap on an account, a project or a key, in one book, per period.

    Args:
        scope: `account`, `project` or `key`.
        amount: nano-USD per period.
        unit: day, week, month or total; in time zone `tz`.
    """

    __slots__ = ("_clock", "amount", "period", "scope", "tz", "unit")

    def __init__(self, scope: str, amount: NanoUSD, unit: Unit, tz: str = "UTC") -> None:
        self.scope = scope
        self.amount = amount
        self.unit = unit
        self.tz = tz
        self._clock = PeriodClock(unit, tz)
        self.period = Period("")

    def start(self, at: WallMicros, spent: NanoUSD) -> None:
        """Begin with what the books say was spent in the period that `at` falls in."""
        self.period = Period(self._clock.key(at), spent)

    def at(self, now: WallMicros) -> Period:
        """Return the period in force; a clock that steps back never reopens an old one."""
        key = self._clock.key(now)
        period = self.period
        if key > period.key:
            period = self.period = Period(key)
        return period


class Hold:
    """Money reserved for one open call. Closed exactly once.

    `sources` are the parts of a prepaid call's hold, the first to be charged first.
    """

    __slots__ = ("amount", "budgets", "open", "periods", "sources")

    def __init__(self, amount: NanoUSD, budgets: tuple[Budget, ...], periods: tuple[Period, ...]) -> None:
        self.amount = amount
        self.budgets = budgets
        self.periods = periods
        self.sources: tuple[Source, ...] = ()
        self.open = True


class Budgets:
    """Every budget of this process, by what it covers."""

    __slots__ = ("_by_key", "_rows", "_waiters")

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int, int], tuple[Budget, ...]] = {}
        self._by_key: dict[tuple[int, Book], tuple[Budget, ...]] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def replace(self, rows: Iterable[tuple[str, int, Book, Budget]]) -> None:
        """Take over a new set of budgets: (scope, id within the scope, book, budget)."""
        grouped: dict[tuple[str, int, int], list[Budget]] = {}
        for scope, ref, book, budget in rows:
            grouped.setdefault((scope, ref, int(book)), []).append(budget)
        self._rows = {place: tuple(budgets) for place, budgets in grouped.items()}
        self._by_key = {}
        self._wake()

    def known(self) -> dict[tuple[str, int, Book, str, str], Budget]:
        """Return the budgets by scope, id, book, unit and time zone."""
        return {
            (scope, ref, Book(book), budget.unit, budget.tz): budget
            for (scope, ref, book), budgets in self._rows.items()
            for budget in budgets
        }

    def covering(self, principal: Principal) -> tuple[Budget, ...]:
        """Return the budgets that a principal's calls spend from."""
        book = principal.book
        found = self._by_key.get((principal.key, book))
        if found is None:
            rows = self._rows
            found = self._by_key[principal.key, book] = (
                *rows.get(("key", principal.key, book), ()),
                *rows.get(("project", principal.project, book), ()),
                *rows.get(("account", principal.account, book), ()),
            )
        return found

    def left(self, budgets: tuple[Budget, ...], now: WallMicros) -> tuple[NanoUSD, NanoUSD]:
        """Return the money left in the tightest budget: with other calls' holds, and without them."""
        free, unspent = 2**62, 2**62
        for budget in budgets:
            period = budget.at(now)
            rest = budget.amount - period.spent
            unspent = min(unspent, rest)
            free = min(free, rest - period.held)
        return free, unspent

    def reserve(self, budgets: tuple[Budget, ...], amount: NanoUSD, now: WallMicros) -> Hold | None:
        """Hold `amount` in every budget, or in none when one has too little left."""
        periods = []
        for budget in budgets:
            period = budget.at(now)
            if period.spent + period.held + amount > budget.amount:
                return None
            periods.append(period)
        for period in periods:
            period.held += amount
        return Hold(amount, budgets, tuple(periods))

    def close(self, hold: Hold, charge: NanoUSD) -> None:
        """Spend `charge` of a hold and free the rest. The second call does nothing."""
        if not hold.open:
            return
        hold.open = False
        for period in hold.periods:
            period.held -= hold.amount
            period.spent += charge
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self) -> None:
        """Wait until a hold is released or the budgets change."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


def exceeded(budgets: tuple[Budget, ...], needed: NanoUSD, left: NanoUSD, fits: int) -> QuotaExceeded:
    """Return the refusal: OpenAI's sentence, then what the call may cost and what is left."""
    tightest = min(budgets, key=lambda budget: budget.amount - budget.period.spent)
    advice = f" With max_tokens up to {fits} it fits." if fits > 0 else ""
    return QuotaExceeded(
        "You exceeded your current quota, please check your plan and billing details. "
        f"This call may cost up to {format_usd(needed)} and {format_usd(max(left, 0))} is left of the "
        f"{tightest.scope}'s {format_usd(tightest.amount)} per {tightest.unit}.{advice}",
        code="project_spend_limit_exceeded" if tightest.scope == "project" else None,
    )
