"""Check the pots against the calls, and the slices against what is open in the journals."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.ports import Open
    from headgate.stores.sql.check.dropped import DroppedHour
    from headgate.stores.sql.check.findings import Findings
    from headgate.stores.sql.check.journals import Slot
    from headgate.stores.sql.check.rows import CallRow
    from headgate.stores.sql.connection import Connection

_HOUR_US: Final = 3_600_000_000


class PotRow(NamedTuple):
    """A pot as it stands in SQL."""

    id: int
    kind: str
    ref: int
    period: str
    book: int
    since: int
    until: int
    amount: int
    spent: int
    over: int


class PotsCheck:
    """One pass over the calls adds up what each budget's pot must have spent.

    Args:
        sql: in a transaction, so that everything is of one moment.
        findings: where what is wrong goes.
    """

    def __init__(self, sql: Connection, findings: Findings) -> None:
        self._sql = sql
        self._say = findings.add
        self._budgets: dict[int, tuple[str, int, int, int]] = {
            row[0]: row[1:] for row in sql.execute("SELECT id, scope, ref, book, amount FROM budgets")
        }
        self._pots = {
            row[0]: PotRow._make(row)
            for row in sql.execute(
                "SELECT id, kind, ref, period, book, since, until, amount, spent, over FROM pots"
            )
        }
        self._due: dict[int, int] = defaultdict(int)  # by pot of a budget
        self._covering: dict[tuple[str, int, int], list[PotRow]] = defaultdict(list)
        for pot in self._pots.values():
            if pot.kind == "budget" and pot.ref in self._budgets:
                scope, ref, book, _ = self._budgets[pot.ref]
                self._covering[scope, ref, book].append(pot)

    def add(self, call: CallRow) -> None:
        """Take a call."""
        for place in (
            ("key", call.key, call.book),
            ("project", call.project, call.book),
            ("account", call.account, call.book),
        ):
            for pot in self._covering.get(place, ()):
                if pot.since <= call.opened_at < pot.until:
                    self._due[pot.id] += call.charge

    def add_dropped(self, hour: DroppedHour) -> None:
        """Take the dropped calls of an hour: none is of a period that is not over."""
        at = hour.hour * _HOUR_US
        for place in (("key", hour.key), ("project", hour.project), ("account", hour.account)):
            for pot in self._covering.get((*place, hour.book), ()):
                if pot.since <= at < pot.until:
                    self._due[pot.id] += hour.charge

    def finish(self) -> None:
        """Compare, now that every call was taken."""
        slices: dict[int, int] = defaultdict(int)
        for number, slot, amount in self._sql.execute("SELECT pot, slot, amount FROM slices"):
            slices[number] += amount
            if number not in self._pots:
                self._say("slice", f"{slot} has a slice of pot {number}, which is not there")
            if amount < 0:
                self._say("slice", f"{slot} has {amount} of pot {number}")
        for pot in self._pots.values():
            out = pot.spent + slices[pot.id]
            if pot.over != max(0, out - pot.amount):
                self._wrong(
                    pot, f"{pot.spent} spent and {slices[pot.id]} lent of {pot.amount} and {pot.over} over it"
                )
            if pot.kind == "budget":
                self._check_budget(pot)

    def _check_budget(self, pot: PotRow) -> None:
        budget = self._budgets.get(pot.ref)
        if budget is None:
            self._wrong(pot, "there is no such budget")
            return
        if (pot.book, pot.amount) != budget[2:]:
            self._wrong(pot, f"{pot.amount} of book {pot.book}, its budget is {budget[3]} of {budget[2]}")
        if pot.spent != self._due[pot.id]:
            self._wrong(pot, f"{pot.spent} spent, its calls were charged {self._due[pot.id]}")

    def _wrong(self, pot: PotRow, said: str) -> None:
        self._say("pot", f"{pot.kind} {pot.ref} {pot.period}".rstrip() + f": {said}")

    def check_open(self, slots: Iterable[Slot]) -> None:
        """Compare the slices with what the journals of dead workers hold, or have spent and not drained."""
        slices = {
            (number, slot): amount
            for number, slot, amount in self._sql.execute("SELECT pot, slot, amount FROM slices")
        }
        for slot in slots:
            held: dict[tuple[int, str], int] = defaultdict(int)
            for opens in slot.open.values():
                _add(held, opens[-1], opens[-1].hold, slot.name)
            for item in slot.behind:
                _add(held, item.opens[-1], item.settle.charge, slot.name)
            for (number, name), amount in held.items():
                has = slices.get((number, name), 0)
                if number in self._pots and has < amount:
                    self._say(
                        "slice",
                        f"{name} has {has} of pot {number}, the journal of {slot.name} holds {amount} of it",
                    )


def _add(held: dict[tuple[int, str], int], opened: Open, amount: int, slot: str) -> None:
    slot = opened.purse or slot
    for number in opened.pots:
        held[number, slot] += amount
    for source in opened.sources:
        if not source.tokens:
            part = min(amount, source.amount)
            held[source.pot, slot] += part
            amount -= part
