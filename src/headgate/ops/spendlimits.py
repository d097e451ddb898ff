"""The hard cap of a calendar month in UTC, as OpenAI has one for an organisation and each project.

It is a budget in each book, in real and in play money alike: one put in place of all that people have set
of that kind. What a flag, the configuration or a tier caps stays beside it; the lowest one holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import Conflict
from headgate.money.amounts import MAX_NANO
from headgate.ops.actors import absent, authorise
from headgate.ops.budgets import OWNED, standings
from headgate.ops.projects import account_of
from headgate.ops.scopes import scope_place
from headgate.records import BudgetRecord
from headgate.values import Book, NanoUSD

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.budgets import BudgetStanding
    from headgate.ops.desk import Deed, Desk, Register
    from headgate.ops.usage import Reports

MOST_CENTS: Final = MAX_NANO // 10_000_000


class SpendLimit(msgspec.Struct, frozen=True):
    """The lowest cap of the month, and what is left of it."""

    amount: NanoUSD
    left: NanoUSD


def first_account(actor: Actor, desk: Desk) -> str:
    """Return the account that an actor means who names none."""
    with desk.reading() as register:
        return account_of(actor, register, "")


def show(actor: Actor, desk: Desk, reports: Reports, scope: str, ref: str) -> SpendLimit:
    """Return the cap of an account or a project.

    Raises:
        NotFound: it has none, there is no such thing, or not for this actor.
    """
    with desk.reading() as register:
        authorise(actor, "budgets.read", scope_place(register, scope, ref), scope, ref)
        found = [record for record in _monthly(register, scope, ref) if record.book is Book.REAL]
    if not found:
        raise absent("spend limit of", ref)
    now: BudgetStanding = standings([min(found, key=lambda one: one.amount)], reports, desk.clock.wall())[0]
    return SpendLimit(now.budget.amount, now.left)


def put(actor: Actor, desk: Desk, scope: str, ref: str, amount: NanoUSD) -> None:
    """Put a cap in place of all that people have set.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such thing, or not for this actor.
    """
    with desk.writing(actor, "budget.set", ref) as deed:
        place = scope_place(deed.register, scope, ref)
        deed.allow("budgets.write", place, scope, ref)
        for book in Book:
            draft = BudgetRecord(
                scope=scope, ref=ref, account=place.account, project=place.project, book=book, amount=amount,
                unit="month", tz="UTC", origin=actor.id, created_at=deed.at,
            )  # fmt: skip
            _replace(deed, [one for one in _own(deed.register, scope, ref) if one.book is book], draft)


def remove(actor: Actor, desk: Desk, scope: str, ref: str) -> None:
    """Remove the caps that people have set.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, no such thing, or not for this actor.
        Conflict: what caps it is owned by a flag, the configuration or a tier.
    """
    with desk.writing(actor, "budget.removed", ref) as deed:
        deed.allow("budgets.write", scope_place(deed.register, scope, ref), scope, ref)
        own = _own(deed.register, scope, ref)
        if not own and _monthly(deed.register, scope, ref):
            raise Conflict("A flag, the configuration or a tier owns this cap.", code="managed_by_config")
        if not own:
            raise absent("spend limit of", ref)
        for record in own:
            deed.remove(record)


def _replace(deed: Deed, same: list[BudgetRecord], draft: BudgetRecord) -> None:
    if not same:
        deed.add(draft)
        return
    kept, *others = same
    deed.put(kept, msgspec.structs.replace(draft, id=kept.id))
    for other in others:
        deed.remove(other)


def _monthly(register: Register, scope: str, ref: str) -> list[BudgetRecord]:
    found = register.all(BudgetRecord, scope=scope, ref=ref, unit="month")
    return [record for record in found if record.hard and record.tz == "UTC"]


def _own(register: Register, scope: str, ref: str) -> list[BudgetRecord]:
    return [record for record in _monthly(register, scope, ref) if record.origin not in OWNED]
