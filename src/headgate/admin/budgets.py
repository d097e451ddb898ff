"""Budgets over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from headgate.admin.people import AccountPage
from headgate.admin.table import BookName, Deleted, Listed, Route, listed
from headgate.ops import budgets
from headgate.values import Book, NanoUSD, WallMicros

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked
    from headgate.records import BudgetRecord

Scope = Literal["account", "project", "key"]
Unit = Literal["day", "week", "month", "total"]


class BudgetPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which budgets."""

    project: str = ""


class Cap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cap that somebody wants. `amount` is in nano-USD."""

    scope: Scope
    ref: str  # the public id of what it caps
    amount: NanoUSD
    unit: Unit = "month"
    tz: str = "UTC"
    book: BookName = "real"
    hard: bool = True  # false: tells, and refuses nothing
    thresholds: tuple[int, ...] = (50, 80, 100)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A cap as it stands. `amount` is in nano-USD."""

    id: str
    scope: Scope
    ref: str
    account: str
    project: str
    book: BookName
    amount: NanoUSD
    unit: Unit
    tz: str
    hard: bool
    thresholds: tuple[int, ...]
    origin: str
    created_at: WallMicros


def shown(record: BudgetRecord) -> Budget:
    """Return a budget as it is sent."""
    members = msgspec.structs.asdict(record)
    return msgspec.convert({**members, "book": record.book.label}, Budget)


def _list(office: Office, asked: Asked) -> Listed[Budget]:
    query = asked.query
    page = budgets.list_budgets(asked.actor, office.desk, query, query.account, query.project)
    return listed(page, shown)


def _set(office: Office, asked: Asked) -> Budget:
    wanted = msgspec.structs.asdict(asked.body)
    book = Book[wanted.pop("book").upper()]
    return shown(budgets.set_budget(asked.actor, office.desk, budgets.BudgetOrder(**wanted, book=book)))


def _remove(office: Office, asked: Asked) -> Deleted:
    return Deleted(id=budgets.remove_budget(asked.actor, office.desk, asked.path["budget"]).id)


ROUTES: Final = (
    Route(
        method="GET", path="/admin/v1/budgets", permission="budgets.read", summary="List budgets",
        handle=_list, answer=Listed[Budget], query=BudgetPage,
    ),
    Route(
        method="POST", path="/admin/v1/budgets", permission="budgets.write",
        summary="Set a budget, in place of one's earlier one of the same scope, book and unit",
        handle=_set, answer=Budget, body=Cap,
    ),
    Route(
        method="DELETE", path="/admin/v1/budgets/{budget}", permission="budgets.write",
        summary="Remove a budget", handle=_remove, answer=Deleted,
    ),
)  # fmt: skip
