"""Set, list and remove the caps of accounts, projects and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
from msgspec import UNSET, UnsetType

from headgate.errors import CallerError, Conflict, PermissionRefused
from headgate.money.amounts import MAX_NANO, UNITS, Unit
from headgate.money.periods import FOREVER, period_end, period_key, period_start, zone
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.scopes import Within, scope_place, scoped_page
from headgate.ops.words import given
from headgate.records import BudgetRecord, KeyRecord, UsageOrder
from headgate.values import Book, NanoUSD, WallMicros

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder, Register
    from headgate.ops.keyrules import Cap
    from headgate.ops.usage import Reports
    from headgate.records import By

_CONFIGURED = {"flag", "config"}
_OF_TIER = "tier"
OWNED = frozenset({*_CONFIGURED, _OF_TIER})  # origins of caps that nobody changes here


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


class BudgetChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall become of a cap; what is not given stays. Its period and book do: that is another cap."""

    amount: NanoUSD | UnsetType = UNSET
    tz: str | UnsetType = UNSET
    hard: bool | UnsetType = UNSET
    thresholds: tuple[int, ...] | UnsetType = UNSET


class BudgetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A cap, and what was spent of it in the period in force, by calls that the books have."""

    budget: BudgetRecord
    period: str  # 2026-11@UTC
    since: WallMicros
    until: WallMicros  # 0: it has no end
    spent: NanoUSD
    left: NanoUSD  # of the amount; below zero where a soft cap was passed
    passed: tuple[int, ...]  # thresholds


def set_budget(actor: Actor, desk: Desk, order: BudgetOrder) -> BudgetRecord:
    """Put a cap in place of the actor's earlier one of the same scope, book and unit, as hard as this one.

    A soft cap, which only tells, so never takes a hard one away.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
        NotFound: what it caps does not exist, or not for this actor.
        Conflict: the key that made this one has a lower cap.
    """
    with desk.writing(actor, "budget.set") as deed:
        place = scope_place(deed.register, order.scope, order.ref)
        deed.allow("budgets.write", place, order.scope, order.ref)
        _not_its_own(actor, order.scope, order.ref)
        draft = _drafted(deed, order, place)
        if order.scope == "key":
            _keep_below_maker(deed.register, draft)
        same = [
            record
            for record in deed.register.all(BudgetRecord, scope=order.scope, ref=order.ref)
            if _kind(record) == _kind(draft)
        ]
        if not same:
            return _lower_made(deed, deed.add(draft))
        draft = msgspec.structs.replace(draft, id=same[0].id)
        return _lower_made(deed, deed.put(same[0], draft))


def _kind(record: BudgetRecord) -> tuple[Book, Unit, str, bool]:
    return record.book, record.unit, record.origin, record.hard


def list_budgets(
    actor: Actor, desk: Desk, page: PageOrder, account: str = "", project: str = "", *, key: str = ""
) -> Page:
    """Return a page of caps that the actor may see, as `BudgetRecord`s.

    Args:
        actor: who.
        desk: where.
        page: which part.
        account: only what is capped in it: itself, its projects, their keys.
        project: only what is capped in it: itself and its keys.
        key: only of this key.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such thing, or not for this actor.
    """
    within = Within(account, project, key)
    return scoped_page(actor, desk, BudgetRecord, "budgets.read", page, within)


def show_budget(actor: Actor, desk: Desk, budget: str) -> BudgetRecord:
    """Return a cap.

    Raises:
        NotFound: there is none, or not for this actor.
    """
    with desk.reading() as register:
        found = register.get(BudgetRecord, id=budget)
        if found is None:
            raise absent("budget", budget)
        authorise(actor, "budgets.read", Place(found.account, found.project), "budget", budget)
        return found


def change_budget(actor: Actor, desk: Desk, budget: str, change: BudgetChange) -> BudgetRecord:
    """Change a cap; running servers follow within a second, also where it is below what was spent.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, or not for this actor.
        CallerError: the change cannot be made; `param` names the member.
        Conflict: a flag, the configuration or a tier owns it, or its key's maker has a lower one.
    """
    with desk.writing(actor, "budget.changed", budget) as deed:
        before = _open(deed, budget)
        after = msgspec.structs.replace(before, **given(change))
        _check(after)
        if after.scope == "key":
            _keep_below_maker(deed.register, after)
        return _lower_made(deed, deed.put(before, after))


def standings(records: Iterable[BudgetRecord], reports: Reports, now: WallMicros) -> list[BudgetStanding]:
    """Return how caps stand, whose records the actor was allowed to see.

    Args:
        records: the caps.
        reports: the books.
        now: the instant whose periods are meant.
    """
    known: dict[tuple[object, ...], dict[str, NanoUSD]] = {}
    found = []
    for record in records:
        which = (now, record.unit, record.tz)
        since, until = period_start(*which), period_end(*which)
        until = 0 if until == FOREVER else until
        group = (record.scope, record.book, since, until)
        if group not in known:
            by = cast("By", record.scope)
            order = UsageOrder(by=by, since=since, until=until, book=record.book)
            known[group] = {line.name: line.cost_nano_usd for line in reports.sums(order)}
        spent = known[group].get(record.ref, 0)
        found.append(
            BudgetStanding(
                budget=record,
                period=period_key(*which),
                since=since,
                until=until,
                spent=spent,
                left=record.amount - spent,
                passed=tuple(share for share in record.thresholds if spent * 100 >= record.amount * share),
            )
        )
    return found


def remove_budget(actor: Actor, desk: Desk, budget: str) -> BudgetRecord:
    """Remove a cap by its public id.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, or not for this actor.
        Conflict: a flag, the configuration or a tier owns it, or the key was made with it.
    """
    with desk.writing(actor, "budget.removed", budget) as deed:
        found = _open(deed, budget)
        if found.scope == "key" and _of_maker(deed.register, found):
            raise Conflict(f"The key {found.ref} was made by one with such a cap: it keeps its own.")
        return deed.remove(found)


def _open(deed: Deed, budget: str) -> BudgetRecord:
    """Return a cap that is about to be changed, authorised."""
    found = deed.find(BudgetRecord, "budget", budget)
    deed.allow("budgets.write", Place(found.account, found.project), "budget", budget)
    _not_its_own(deed.actor, found.scope, found.ref)
    if found.origin in _CONFIGURED:
        raise Conflict(
            f"The {found.origin} owns the budget {budget}: change it there and start again.",
            code="managed_by_config",
        )
    if found.origin == _OF_TIER:
        raise Conflict(
            f"The budget {budget} comes with the tier of {found.account}: choose another tier, or set a "
            "lower budget beside it.",
            code="managed_by_tier",
        )
    return found


def cap_new_key(deed: Deed, key: KeyRecord, cap: Cap | None) -> None:
    """Give a new key the cap that its order asks for, and those of the key that makes it.

    Raises:
        PermissionRefused: its maker has a lower one.
        CallerError: there is no such cap; `param` names the member.
    """
    wanted: dict[tuple[Unit, Book], tuple[NanoUSD, str]] = {}
    books = (Book.SIM,) if key.kind == "test" else tuple(Book)  # play money has a cap of its own
    bounds = _hard(deed.register, key.created_by) if key.created_by.startswith("key_") else []
    for bound in bounds:
        wanted[bound.unit, bound.book] = (bound.amount, bound.tz)
    if cap is not None:
        for book in books:
            if cap.amount > wanted.get((cap.unit, book), (MAX_NANO, ""))[0]:
                raise PermissionRefused(
                    f"budget goes beyond that of {key.created_by}: a key never has a right that its maker "
                    "lacks.",
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


def _check(order: BudgetOrder | BudgetRecord) -> None:
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
