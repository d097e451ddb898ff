"""Budgets over HTTP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.admin.amounts import BookName, Cap, ordered, shown
from headgate.admin.people import AccountPage
from headgate.admin.table import Deleted, Listed, Route, listed
from headgate.ops import budgets
from headgate.values import NanoUSD, WallMicros

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked

Scope = Literal["account", "project", "key"]
Unit = Literal["day", "week", "month", "total"]


Hundredths = Annotated[tuple[Annotated[int, Meta(ge=1, le=1000)], ...], Meta(max_length=10)]


class BudgetPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which budgets."""

    project: str = ""
    key: str = ""


class CapOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cap that somebody wants. `amount` is in nano-USD."""

    scope: Scope
    ref: str  # the public id of what it caps
    amount: Cap
    unit: Unit = "month"
    tz: str = "UTC"
    book: BookName = "real"
    hard: bool = True  # false: tells, and refuses nothing
    thresholds: Hundredths = (50, 80, 100)


class CapChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall become of a cap; what is not given stays. Its period and book do."""

    amount: Cap | UnsetType = UNSET
    tz: str | UnsetType = UNSET
    hard: bool | UnsetType = UNSET
    thresholds: Hundredths | UnsetType = UNSET


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A cap. `amount` is in nano-USD."""

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


class BudgetNow(msgspec.Struct, frozen=True, kw_only=True):
    """A cap, and what was spent of it in the period in force, by calls that the books have."""

    budget: Budget
    period: str  # 2026-11@UTC
    since: WallMicros
    until: WallMicros  # 0: it has no end
    spent: NanoUSD
    left: NanoUSD  # below zero where a soft cap was passed
    passed: tuple[int, ...]  # thresholds


_budget = partial(shown, kind=Budget)


def _list(office: Office, asked: Asked) -> Listed[Budget]:
    query = asked.query
    page = budgets.list_budgets(asked.actor, office.desk, query, query.account, query.project, key=query.key)
    return listed(page, _budget)


def _set(office: Office, asked: Asked) -> Budget:
    order = ordered(asked.body, budgets.BudgetOrder)
    return _budget(budgets.set_budget(asked.actor, office.desk, order))


def _show(office: Office, asked: Asked) -> BudgetNow:
    record = budgets.show_budget(asked.actor, office.desk, asked.path["budget_id"])
    (now,) = budgets.standings([record], office.reports, office.desk.clock.wall())
    members = {name: getattr(now, name) for name in BudgetNow.__struct_fields__ if name != "budget"}
    return BudgetNow(budget=_budget(record), **members)


def _change(office: Office, asked: Asked) -> Budget:
    change = ordered(asked.body, budgets.BudgetChange)
    return _budget(budgets.change_budget(asked.actor, office.desk, asked.path["budget_id"], change))


def _remove(office: Office, asked: Asked) -> Deleted:
    return Deleted(id=budgets.remove_budget(asked.actor, office.desk, asked.path["budget_id"]).id)


ROUTES: Final = (
    Route(
        method="GET", path="/admin/v1/budgets", permission="budgets.read", summary="List budgets",
        handle=_list, answer=Listed[Budget], query=BudgetPage,
    ),
    Route(
        method="POST", path="/admin/v1/budgets", permission="budgets.write",
        summary="Set a budget, in place of one's earlier one of the same scope, book, unit and hardness",
        handle=_set, answer=Budget, body=CapOrder,
    ),
    Route(
        method="GET", path="/admin/v1/budgets/{budget_id}", permission="budgets.read",
        summary="Show a budget and what was spent of it", handle=_show, answer=BudgetNow,
    ),
    Route(
        method="PATCH", path="/admin/v1/budgets/{budget_id}", permission="budgets.write",
        summary="Change a budget", handle=_change, answer=Budget, body=CapChange,
    ),
    Route(
        method="DELETE", path="/admin/v1/budgets/{budget_id}", permission="budgets.write",
        summary="Remove a budget", handle=_remove, answer=Deleted,
    ),
)  # fmt: skip
