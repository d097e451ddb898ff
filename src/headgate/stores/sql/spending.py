"""What settled calls take from pots, in the transaction that books them.

`pots.spent` grows for every budget that covers a call, by scope and by when it opened, and for the grants
that it was held in; the slices of the worker that served it shrink for what it was held in. So `spent` is
always what the books say, and a slice what is left of what its worker was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.money.credit import taken
from headgate.money.periods import FOREVER, period_end, period_key, period_start
from headgate.money.pots import PotName
from headgate.stores.sql import pots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.money.amounts import Unit
    from headgate.ports import Open, Settle
    from headgate.stores.sql.connection import Connection
    from headgate.values import NanoUSD, WallMicros

_BUDGETS = (
    "SELECT id, public_id, amount, unit, tz, thresholds FROM budgets WHERE scope = ? AND ref = ? AND book = ?"
)
_PERIODS = "SELECT period, since, until FROM pots WHERE kind = 'budget' AND ref = ? AND period NOT LIKE ?"
_GRANTED = "UPDATE pots SET spent = spent + ? WHERE id = ?"
_SPEND = (
    "UPDATE pots SET spent = spent + ? WHERE kind = 'budget' AND ref = ? AND period = ?"
    " RETURNING ref, period, id, spent"
)
_EVENT = (
    "INSERT INTO events (at, account, kind, ref, name, detail) VALUES (?, ?, 'budget.threshold', ?, ?, ?)"
    " ON CONFLICT DO NOTHING"
)


_MOST_KNOWN: Final = 50_000  # payers


class Payer(NamedTuple):
    """Whose money a call spends."""

    book: int
    account: int
    project: int
    key: int


class BudgetSpan:
    """A budget, hard or soft, and the period of it that was looked at last.

    `elsewhere` are its pots of time zones that it had before: it may be given one of them again.
    """

    __slots__ = ("amount", "elsewhere", "name", "number", "public_id", "thresholds", "told", "tz", "unit")

    def __init__(self, row: tuple[int, str, NanoUSD, Unit, str, str]) -> None:
        self.number, self.public_id, self.amount, self.unit, self.tz, thresholds = row
        self.thresholds: list[int] = msgspec.json.decode(thresholds)
        self.name = PotName("budget", self.number, "", 0, 0)
        self.told: set[tuple[str, int]] = set()  # period and threshold
        self.elsewhere: tuple[PotName, ...] = ()

    def at(self, opened: WallMicros) -> PotName:
        """Return the pot of the period in which a call opened."""
        name = self.name
        if not name.since <= opened < name.until:
            which = (opened, self.unit, self.tz)
            name = PotName(
                "budget", self.number, period_key(*which), period_start(*which), period_end(*which)
            )
            self.name = name
        return name


class Tally:
    """What calls of one payer took that opened in `since` to `until`, where the same pots are in force."""

    __slots__ = ("account", "charge", "pots", "since", "until")

    def __init__(self, payer: Payer, budgets: Sequence[BudgetSpan], opened: WallMicros) -> None:
        self.account = payer.account
        self.charge: NanoUSD = 0
        self.since, self.until = 0, FOREVER
        self.pots: list[tuple[BudgetSpan, PotName]] = []
        for budget in budgets:
            for name in (budget.at(opened), *budget.elsewhere):
                if name.since <= opened < name.until:
                    self.pots.append((budget, name))
                    self.since, self.until = max(self.since, name.since), min(self.until, name.until)
                elif name.since > opened:
                    self.until = min(self.until, name.since)
                else:
                    self.since = max(self.since, name.until)


class Spending:
    """What the calls of one worker's journal take from pots, batch by batch.

    Args:
        sql: the connection of the drain.
    """

    def __init__(self, sql: Connection) -> None:
        self._sql = sql
        self._seen = -1  # the last change of the budgets that are known
        self._budgets: dict[Payer, list[BudgetSpan]] = {}
        self._by_scope: dict[tuple[str, int, int], list[BudgetSpan]] = {}
        self._start()

    def begin(self, seen: int) -> bool:
        """Begin a batch, in its transaction: whatever was taken before is dropped.

        Args:
            seen: the last change that people have made.

        Returns:
            Whether the spans that it has told still hold.
        """
        known = seen == self._seen and len(self._budgets) <= _MOST_KNOWN
        if not known:
            self.forget()
            self._seen = seen
        self._start()
        return known

    def forget(self) -> None:
        """Drop what was learnt: the budgets may have changed, or a transaction is no more."""
        self._budgets.clear()
        self._by_scope.clear()

    def _start(self) -> None:
        self._slices: dict[tuple[int, str], int] = {}  # by pot and whose slice; empty: the worker's
        self._grants: dict[int, int] = {}  # by pot
        self._held: dict[tuple[tuple[int, ...], str], int] = {}  # charges by the pots, and whose slices
        self._last: dict[tuple[int, int, int, int], Tally] = {}  # by payer
        self._tallies: list[Tally] = []
        self._at: WallMicros = 0

    def add(self, opens: Sequence[Open], settle: Settle) -> None:
        """Take a settled call."""
        first, last, charge = opens[0], opens[-1], settle.charge
        if last.sources:
            for part in taken(last.sources, charge, settle.tokens):
                self._take(part.source.pot, last.purse, part.amount)
        if charge:
            self._hold(last, charge)
            self._tally(first).charge += charge
            self._at = max(self._at, settle.at)

    def add_series(self, opened: Open, charge: NanoUSD, at: WallMicros) -> None:
        """Take plain calls that opened in one `span`, held in the same pots and the same grant.

        Args:
            opened: one of them.
            charge: of all of them.
            at: when the last of them was settled.
        """
        for source in opened.sources:
            self._take(source.pot, opened.purse, charge)
        self._hold(opened, charge)
        self._tally(opened).charge += charge
        self._at = max(self._at, at)

    def span(self, opened: Open) -> tuple[WallMicros, WallMicros]:
        """Return since when and until when calls of its payer open that spend from the same pots."""
        tally = self._tally(opened)
        return tally.since, tally.until

    def _take(self, pot: int, purse: str, amount: int) -> None:
        self._grants[pot] = self._grants.get(pot, 0) + amount
        own = (pot, purse)
        self._slices[own] = self._slices.get(own, 0) + amount

    def _hold(self, opened: Open, charge: NanoUSD) -> None:
        place = (opened.pots, opened.purse)
        self._held[place] = self._held.get(place, 0) + charge

    def _tally(self, opened: Open) -> Tally:
        payer = (opened.book, opened.account, opened.project, opened.key)
        tally = self._last.get(payer)
        if tally is None or not tally.since <= opened.at < tally.until:
            named = Payer(int(opened.book), *payer[1:])
            tally = self._last[payer] = Tally(named, self._covering(named), opened.at)
            self._tallies.append(tally)
        return tally

    def _spans(self) -> dict[PotName, tuple[BudgetSpan, int, NanoUSD]]:
        """Return the pots of budgets, whose account each is of, and how much was taken from it."""
        spans: dict[PotName, tuple[BudgetSpan, int, NanoUSD]] = {}
        for tally in self._tallies:
            for budget, name in tally.pots:
                _, _, before = spans.get(name, (None, 0, 0))
                spans[name] = (budget, tally.account, before + tally.charge)
        return spans

    def write(self, slot: str) -> None:
        """Move the pots and the slot's slices; the calls themselves are in the books already."""
        sql = self._sql
        for (pots_held, purse), amount in self._held.items():
            for pot in pots_held:
                self._slices[pot, purse] = self._slices.get((pot, purse), 0) + amount
        sql.executemany(_GRANTED, ((amount, pot) for pot, amount in self._grants.items()))
        less = ((amount, pot, purse or slot) for (pot, purse), amount in self._slices.items())
        sql.executemany(pots.LESS, less)
        lent: dict[int, int] = {}
        for (pot, _), amount in self._slices.items():
            lent[pot] = lent.get(pot, 0) + amount
        spans = self._spans()
        charges = [(charge, name.ref, name.period) for name, (_, _, charge) in spans.items()]
        found = {(ref, period): (pot, spent) for ref, period, pot, spent in sql.fetch_each(_SPEND, charges)}
        for name, (budget, account, charge) in spans.items():
            pot, spent = found.get((name.ref, name.period)) or self._make(name)
            if charge > lent.get(pot, 0):
                pots.excuse(sql, pot)
            if budget.thresholds and name not in budget.elsewhere:
                self._tell(budget, name, account, spent)

    def _make(self, name: PotName) -> tuple[int, NanoUSD]:
        """Make a pot from the books, where this batch is already; return its id and what is spent of it."""
        made = pots.find(self._sql, name)
        return (made.number, made.spent) if made is not None else (0, 0)

    def _tell(self, budget: BudgetSpan, name: PotName, account: int, spent: NanoUSD) -> None:
        """Write an event for each threshold that a period has passed, once."""
        for per_cent in budget.thresholds:
            if (name.period, per_cent) in budget.told or spent * 100 < budget.amount * per_cent:
                continue
            budget.told.add((name.period, per_cent))
            detail = {"period": name.period, "per_cent": per_cent, "spent_nano_usd": spent}
            text = msgspec.json.encode({**detail, "amount_nano_usd": budget.amount}).decode()
            once = f"budget.threshold:{budget.public_id}:{name.period}:{per_cent}"
            self._sql.execute(_EVENT, (self._at, account, budget.public_id, once, text))

    def _covering(self, payer: Payer) -> list[BudgetSpan]:
        found = self._budgets.get(payer)
        if found is None:
            places = (("key", payer.key), ("project", payer.project), ("account", payer.account))
            found = self._budgets[payer] = [
                budget for scope, ref in places for budget in self._of(scope, ref, payer.book)
            ]
        return found

    def _of(self, scope: str, ref: int, book: int) -> list[BudgetSpan]:
        place = (scope, ref, book)
        found = self._by_scope.get(place)
        if found is None:
            rows = self._sql.execute(_BUDGETS, place).fetchall()
            found = self._by_scope[place] = [BudgetSpan(row) for row in rows]
            for budget in found:
                if budget.unit != "total":
                    budget.elsewhere = self._elsewhere(budget)
        return found

    def _elsewhere(self, budget: BudgetSpan) -> tuple[PotName, ...]:
        rows = self._sql.execute(_PERIODS, (budget.number, f"%@{budget.tz}"))
        return tuple(PotName("budget", budget.number, *row) for row in rows)
