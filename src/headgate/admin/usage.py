"""What was used and what it cost, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.admin.amounts import BookName, book_of
from headgate.admin.table import Route
from headgate.ops import usage
from headgate.records import By, UsageOrder
from headgate.values import WallMicros

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls: opened at `since` or later and before `until` (0: no bound), of any of some things."""

    by: By = "day"
    since: WallMicros = 0
    until: WallMicros = 0
    tz: str = "UTC"  # where days begin
    book: BookName | None = None  # null: real, unless only play money was ever spent
    accounts: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def _show(office: Office, asked: Asked) -> usage.Usage:
    members = msgspec.structs.asdict(asked.query)
    book = members.pop("book")
    order = UsageOrder(**members, book=book_of(book))
    return usage.usage(asked.actor, office.reports, order)


ROUTES: Final = (
    Route(
        method="GET", path="/admin/v1/usage", permission="usage.read",
        summary="Read calls, tokens and cost by day, hour, model, key, project, account, member or provider",
        handle=_show, answer=usage.Usage, query=UsageQuery,
    ),
)  # fmt: skip
