"""Say what was used and what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from headgate.errors import CallerError
from headgate.money.periods import zone
from headgate.ops.actors import Place, absent, authorise
from headgate.records import UsageLine, UsageOrder
from headgate.values import Book

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.ops.actors import Actor
    from headgate.records import BucketLine, BucketOrder, CallLine

Order = TypeVar("Order", bound=UsageOrder)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What was used, by the groups that were asked for."""

    book: str
    by: str
    rows: list[UsageLine]
    total: UsageLine


class Reports(Protocol):
    """The books, for reading: SQL and the journals' tails."""

    def books(self, order: UsageOrder) -> frozenset[Book]:
        """Return the books in which there are calls of the order's things, whenever they were."""
        ...

    def calls(self, order: UsageOrder) -> Iterator[CallLine]:
        """Yield each settled call once, in order of time."""
        ...

    def sums(self, order: UsageOrder) -> list[UsageLine]:
        """Return the sums by group, in the order of their names."""
        ...

    def buckets(self, order: BucketOrder) -> list[BucketLine]:
        """Return the sums by bucket and group, in the order of these."""
        ...

    def place(self, kind: str, ref: str) -> tuple[str, str] | None:
        """Return where a project, a member or a key is: the public ids of its account and its project."""
        ...


def usage(actor: Actor, reports: Reports, order: UsageOrder) -> Usage:
    """Return sums by group, and their total.

    Whoever sees the usage of an account sees all of it; a member of some projects sees that of these.

    Raises:
        PermissionRefused: the actor sees no usage.
        NotFound: the order names a thing that is not there, or not for this actor.
        CallerError: the window or the zone is none.
    """
    order = _resolved(actor, reports, order)
    assert order.book is not None
    rows = reports.sums(order)
    return Usage(book=order.book.label, by=order.by, rows=rows, total=_total(rows))


def calls(actor: Actor, reports: Reports, order: UsageOrder) -> Iterator[CallLine]:
    """Return each settled call, in order of time.

    Raises:
        as `usage`.
    """
    return reports.calls(_resolved(actor, reports, order))


def buckets(actor: Actor, reports: Reports, order: BucketOrder) -> list[BucketLine]:
    """Return sums by bucket and group, in the order of these.

    Raises:
        as `usage`.
    """
    return reports.buckets(_resolved(actor, reports, order))


def _resolved(actor: Actor, reports: Reports, order: Order) -> Order:
    """Check an order, narrow it to what the actor sees, and choose its book."""
    order = _seen(actor, reports, order)
    try:
        zone(order.tz)
    except ValueError as fault:
        raise CallerError(str(fault), param="tz") from fault
    if order.until and order.since >= order.until:
        raise CallerError("`until` must be later than `since`.", param="until")
    if order.book is not None:
        return order
    only_play = reports.books(order) == {Book.SIM}
    return msgspec.structs.replace(order, book=Book.SIM if only_play else Book.REAL)


def _seen(actor: Actor, reports: Reports, order: Order) -> Order:
    if not actor.account:
        authorise(actor, "usage.read", Place())
        return order
    for account in order.accounts:
        if account != actor.account:
            raise absent("account", account)
    mine = tuple(ref for ref, may in actor.projects.items() if "usage.read" in may)
    if not mine:
        authorise(actor, "usage.read", Place(actor.account))
    for kind, refs in (("project", order.projects), ("key", order.keys), ("member", order.members)):
        for ref in refs:
            _check_seen(actor, kind, ref, reports.place(kind, ref))
    order = msgspec.structs.replace(order, accounts=(actor.account,))
    if actor.may("usage.read", Place(actor.account)):
        return order
    return msgspec.structs.replace(order, projects=order.projects or mine)


def _check_seen(actor: Actor, kind: str, ref: str, where: tuple[str, str] | None) -> None:
    """Refuse what is not there, or not for this actor, in the same words."""
    if where is not None:
        place = Place(*where)
        permission = "members.read" if kind == "member" else "usage.read"
        if actor.may(permission, place) or (kind == "member" and ref == actor.member):
            return
    raise absent(kind, ref)


def _total(rows: list[UsageLine]) -> UsageLine:
    sums = {
        name: sum(getattr(row, name) for row in rows)
        for name in UsageLine.__struct_fields__
        if name not in {"name", "units"}
    }
    units: dict[str, int] = {}
    for row in rows:
        for name, count in row.units.items():
            units[name] = units.get(name, 0) + count
    return UsageLine(name="total", units=units, **sums)
