"""Budgets whose slices hold the whole cap already, as with a single worker after its first call."""

from __future__ import annotations

from collections.abc import Callable

from headgate.admission.budget import Budgets, Hold
from headgate.admission.purse import Purse, Slice
from headgate.money.pots import BudgetTerms, Lot, Want
from headgate.values import Book, Principal

WHO = Principal(key=1, project=2, account=3)


class NothingMore:
    """A teller that never has more than what was granted already."""

    trouble = ""

    async def take(self, want: Want, reserve: Callable[[], Hold | None]) -> Hold | None:
        return reserve()


class Funded:
    """Caps of `WHO`: (scope, nano-USD) each, in one unit; all of them are granted for the period of `now`."""

    def __init__(self, now: int, *caps: tuple[str, int], unit: str = "month") -> None:
        self.purse = Purse("slot-0")
        self.budgets = Budgets(self.purse)
        refs = {"key": WHO.key, "project": WHO.project, "account": WHO.account}
        self.rows = [
            BudgetTerms(number, scope, refs[scope], Book.REAL, amount, unit)  # type: ignore[arg-type]
            for number, (scope, amount) in enumerate(caps, 1)
        ]
        self.budgets.replace(self.rows)
        self.grant(now)

    def grant(self, now: int) -> None:
        """Grant everything for the period that an instant falls in."""
        self.budgets.reserve(self.budgets.covering(WHO), 2**62, now)
        for own, row in zip(self.slices, self.rows, strict=True):
            amount = row.amount - own.granted
            self.purse._take(Lot(own.name, row.id, amount, 0, 0, 0, 0, 0))

    @property
    def slices(self) -> tuple[Slice, ...]:
        self.purse.gather()  # what is held together for the next calls is put back
        return self.budgets.covering(WHO).slices

    @property
    def spent(self) -> int:
        return self.slices[0].drawn

    @property
    def held(self) -> int:
        return self.slices[0].held
