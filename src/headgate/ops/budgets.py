"""Set, list and remove the caps of accounts, projects and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.errors import CallerError, Conflict, PermissionRefused
from headgate.money.amounts import MAX_NANO, UNITS, Unit
from headgate.money.periods import zone
from headgate.ops.actors import Place, absent, authorise
from headgate.records import AccountRecord, BudgetRecord, KeyRecord, ProjectRecord
from headgate.values import Book, NanoUSD

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder, Register
    from headgate.ops.keyrules import Cap

SCOPES = ("account", "project", "key")
_CONFIGURED = {"flag", "config"}


class BudgetOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cap that somebody wants."""

    scope: str
    ref: str  # the public id of what it caps
    amount: NanoUSD
    unit: Unit = "month"
    tz: str = "UTC"
    book: Book = Book.REAL
    hard: bool = True  # False: tells, and refuses nothing
    thresholds: tuple[int, ...] = (50, 80, 100)


def set_budget(actor: Actor, desk: Desk, order: BudgetOrder) -> BudgetRecord:
    """Put a cap in place of the actor's earlier one of the same scope, book and unit.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
        NotFound: what it caps does not exist, or not for this actor.
        Conflict: the key that made this one has a lower cap.
    """
    with desk.writing(actor, "budget.set") as deed:
        place = _place(deed.register, order.scope, order.ref)
        deed.allow("budgets.write", place, order.scope, order.ref)
        _not_its_own(actor, order.scope, order.ref)
        draft = _drafted(deed, order, place)
        if order.scope == "key":
            _keep_below_maker(deed.register, draft)
        same = [
            record
            for record in deed.register.all(BudgetRecord, scope=order.scope, ref=order.ref)
            if (record.book, record.unit, record.origin) == (draft.book, draft.unit, draft.origin)
        ]
        if not same:
            return _lower_made(deed, deed.add(draft))
        draft = msgspec.structs.replace(draft, id=same[0].id)
        return _lower_made(deed, deed.put(same[0], draft))


def list_budgets(actor: Actor, desk: Desk, page: PageOrder, account: str = "", project: str = "") -> Page:
    """Return a page of caps that the actor may see, as `BudgetRecord`s."""
    with desk.reading() as register:
        account = account or actor.account
        authorise(actor, "budgets.read", Place(account, project), "account", account)
        where = {name: value for name, value in (("account", account), ("project", project)) if value}
        return desk.page(register, BudgetRecord, page, **where)


def remove_budget(actor: Actor, desk: Desk, budget: str) -> BudgetRecord:
    """Remove a cap by its public id.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, or not for this actor.
        Conflict: a flag or the configuration owns it, or the key was made with it.
    """
    with desk.writing(actor, "budget.removed", budget) as deed:
        found = deed.find(BudgetRecord, "budget", budget)
        deed.allow("budgets.write", Place(found.account, found.project), "budget", budget)
        _not_its_own(actor, found.scope, found.ref)
        if found.origin in _CONFIGURED:
            raise Conflict(
                f"The {found.origin} owns the budget {budget}: change it there and start again.",
                code="managed_by_config",
            )
        if found.scope == "key" and _of_maker(deed.register, found):
            raise Conflict(f"The key {found.ref} was made by one with such a cap: it keeps its own.")
        return deed.remove(found)


def cap_new_key(deed: Deed, key: KeyRecord, cap: Cap | None) -> None:
    """Give a new key the cap that its order asks for, and those of the key that makes it.

    Raises:
        PermissionRefused: its maker has a lower one.
        CallerError: there is no such cap; `param` names the member.
    """
    wanted: dict[tuple[Unit, Book], tuple[NanoUSD, str]] = {}
    book = Book.SIM if key.kind == "test" else Book.REAL
    bounds = _hard(deed.register, key.created_by) if key.created_by.startswith("key_") else []
    for bound in bounds:
        wanted[bound.unit, bound.book] = (bound.amount, bound.tz)
    if cap is not None:
        bound_amount, _ = wanted.get((cap.unit, book), (MAX_NANO, ""))
        if cap.amount > bound_amount:
            raise PermissionRefused(
                f"budget goes beyond that of {key.created_by}: a key never has a right that its maker lacks.",
                param="budget",
                code="insufficient_permissions",
            )
        wanted[cap.unit, book] = (cap.amount, cap.tz)
    for (unit, which), (amount, tz) in wanted.items():
        order = BudgetOrder(scope="key", ref=key.id, amount=amount, unit=unit, tz=tz, book=which)
        deed.add(_drafted(deed, order, Place(key.account, key.project)))


def _hard(register: Register, key: str) -> list[BudgetRecord]:
    return [record for record in register.all(BudgetRecord, scope="key", ref=key) if record.hard]


def _of_maker(register: Register, record: BudgetRecord) -> BudgetRecord | None:
    """Return the lowest hard cap of the key that made the capped one, for the same unit and book."""
    key = register.get(KeyRecord, id=record.ref)
    if key is None or not key.created_by.startswith("key_"):
        return None
    same = [
        bound
        for bound in _hard(register, key.created_by)
        if (bound.unit, bound.book) == (record.unit, record.book)
    ]
    return min(same, key=lambda bound: bound.amount, default=None)


def _keep_below_maker(register: Register, draft: BudgetRecord) -> None:
    bound = _of_maker(register, draft)
    if bound is not None and (draft.amount > bound.amount or not draft.hard):
        raise Conflict(
            f"The key {draft.ref} was made by one with a cap of {bound.amount} nano-USD: it has no more.",
            param="amount",
        )


def _lower_made(deed: Deed, record: BudgetRecord) -> BudgetRecord:
    """Lower the caps of the keys that a key has made to its own new one."""
    if record.scope != "key" or not record.hard:
        return record
    for made in deed.register.all(KeyRecord, created_by=record.ref):
        same = [
            cap for cap in _hard(deed.register, made.id) if (cap.unit, cap.book) == (record.unit, record.book)
        ]
        for cap in same:
            if cap.amount > record.amount:
                _lower_made(deed, deed.put(cap, msgspec.structs.replace(cap, amount=record.amount)))
        if not same:
            _lower_made(
                deed, deed.add(msgspec.structs.replace(record, id="", ref=made.id, project=made.project))
            )
    return record


def _not_its_own(actor: Actor, scope: str, ref: str) -> None:
    if scope == "key" and ref == actor.id:
        raise PermissionRefused("A key does not change its own cap.", code="insufficient_permissions")


def _drafted(deed: Deed, order: BudgetOrder, place: Place) -> BudgetRecord:
    _check(order)
    return BudgetRecord(
        account=place.account,
        project=place.project,
        origin=deed.actor.id,
        created_at=deed.at,
        **msgspec.structs.asdict(order),
    )


def _place(register: Register, scope: str, ref: str) -> Place:
    """Return where a cap's scope is."""
    if scope == "account":
        if register.get(AccountRecord, id=ref) is not None:
            return Place(ref)
    elif scope == "project":
        project = register.get(ProjectRecord, id=ref)
        if project is not None:
            return Place(project.account, ref)
    elif scope == "key":
        key = register.get(KeyRecord, id=ref)
        if key is not None:
            return Place(key.account, key.project)
    else:
        raise CallerError(f"{scope!r} is no scope: {', '.join(SCOPES)}.", param="scope")
    raise absent(scope, ref)


def _check(order: BudgetOrder) -> None:
    if not 0 <= order.amount <= MAX_NANO:
        raise CallerError(f"amount must be between 0 and {MAX_NANO} nano-USD.", param="amount")
    if order.unit not in UNITS:
        raise CallerError(f"{order.unit!r} is no period: {', '.join(UNITS)}.", param="unit")
    if len(order.thresholds) > 10 or not all(0 < share <= 1000 for share in order.thresholds):
        raise CallerError("thresholds are at most ten percentages from 1 to 1000.", param="thresholds")
    try:
        zone(order.tz)
    except ValueError as fault:
        raise CallerError(str(fault), param="tz") from fault
