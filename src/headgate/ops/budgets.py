"""Set, list and remove the caps of accounts, projects and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.errors import CallerError, Conflict, NotFound
from headgate.money.amounts import MAX_NANO, UNITS, Unit
from headgate.money.periods import zone
from headgate.ops.actors import authorise
from headgate.records import BudgetRecord
from headgate.values import Book, NanoUSD

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ports import AdminStore, Clock

SCOPES = ("account", "project", "key")
_CONFIGURED = {"flag", "config"}


class BudgetOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The cap that somebody wants."""

    scope: str
    ref: str  # the public id of what it caps
    amount: NanoUSD
    unit: Unit = "month"
    tz: str = "UTC"
    book: Book = Book.REAL


def set_budget(actor: Actor, store: AdminStore, order: BudgetOrder, clock: Clock) -> BudgetRecord:
    """Put a cap in place of the actor's earlier one of the same scope, book and unit.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
        NotFound: what it caps does not exist.
    """
    authorise(actor, "set budgets")
    _check(order)
    draft = BudgetRecord(
        id="",
        scope=order.scope,
        ref=order.ref,
        book=order.book,
        amount=order.amount,
        unit=order.unit,
        tz=order.tz,
        origin=actor.id,
        created_at=clock.wall(),
    )
    try:
        return store.put_budget(draft)
    except LookupError as fault:
        raise NotFound(f"There is no {order.scope} {order.ref!r}.", param="ref") from fault


def list_budgets(actor: Actor, store: AdminStore) -> list[BudgetRecord]:
    """Return every cap, the oldest first."""
    authorise(actor, "list budgets")
    return store.list_budgets()


def remove_budget(actor: Actor, store: AdminStore, budget: str, clock: Clock) -> BudgetRecord:
    """Remove a cap by its public id.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none.
        Conflict: a flag or the configuration owns it.
    """
    authorise(actor, "remove budgets")
    found = next((record for record in store.list_budgets() if record.id == budget), None)
    if found is None:
        raise NotFound(f"There is no budget {budget!r}.")
    if found.origin in _CONFIGURED:
        raise Conflict(
            f"The {found.origin} owns the budget {budget}: change it there and start again.",
            code="managed_by_config",
        )
    store.remove_budget(budget, clock.wall())
    return found


def _check(order: BudgetOrder) -> None:
    if order.scope not in SCOPES:
        raise CallerError(f"{order.scope!r} is no scope: {', '.join(SCOPES)}.", param="scope")
    if not 0 <= order.amount <= MAX_NANO:
        raise CallerError(f"amount must be between 0 and {MAX_NANO} nano-USD.", param="amount")
    if order.unit not in UNITS:
        raise CallerError(f"{order.unit!r} is no period: {', '.join(UNITS)}.", param="unit")
    try:
        zone(order.tz)
    except ValueError as fault:
        raise CallerError(str(fault), param="tz") from fault
