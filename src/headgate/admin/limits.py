"""Limits of accounts, projects and keys over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from headgate.admin.amounts import Count
from headgate.admin.people import AccountPage
from headgate.admin.table import Deleted, Listed, Route, listed
from headgate.ops import limits
from headgate.ops.scopes import Within
from headgate.records import LimitRecord

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked

ROOT: Final = "/admin/v1/limits"


class LimitPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which limits."""

    project: str = ""
    key: str = ""


class LimitWish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limit that somebody wants; at least one of the numbers is not 0, which means none."""

    scope: Literal["account", "project", "key"]
    ref: str  # the public id of what it bounds
    model: Annotated[str, Meta(max_length=200)] = ""  # a model, or a pattern of some; empty: all models
    rpm: Count = 0  # requests per minute
    tpm: Count = 0  # tokens per minute
    rpd: Count = 0  # the same per day
    tpd: Count = 0
    concurrency: Count = 0  # calls at once


def _list(office: Office, asked: Asked) -> Listed[LimitRecord]:
    query = asked.query
    within = Within(query.account, query.project, query.key)
    return listed(limits.list_limits(asked.actor, office.desk, query, within))


def _set(office: Office, asked: Asked) -> LimitRecord:
    order = limits.LimitOrder(**msgspec.structs.asdict(asked.body))
    return limits.set_limit(asked.actor, office.desk, order)


def _show(office: Office, asked: Asked) -> LimitRecord:
    return limits.show_limit(asked.actor, office.desk, asked.path["limit_id"])


def _remove(office: Office, asked: Asked) -> Deleted:
    return Deleted(id=limits.remove_limit(asked.actor, office.desk, asked.path["limit_id"]).id)


ROUTES: Final = (
    Route(
        method="GET", path=ROOT, permission="limits.read", summary="List limits", handle=_list,
        answer=Listed[LimitRecord], query=LimitPage,
    ),
    Route(
        method="POST", path=ROOT, permission="limits.write",
        summary="Set a limit, in place of the one of the same scope and models", handle=_set,
        answer=LimitRecord, body=LimitWish,
    ),
    Route(
        method="GET", path=ROOT + "/{limit_id}", permission="limits.read", summary="Show a limit",
        handle=_show, answer=LimitRecord,
    ),
    Route(
        method="DELETE", path=ROOT + "/{limit_id}", permission="limits.write", summary="Remove a limit",
        handle=_remove, answer=Deleted,
    ),
)  # fmt: skip
