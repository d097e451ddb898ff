"""Events over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from headgate.admin.people import AccountPage
from headgate.admin.table import Listed, Route, listed
from headgate.ops import events
from headgate.records import EventRecord

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked


class EventPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events."""

    order: Literal["asc", "desc"] = "desc"
    kind: str = ""
    ref: str = ""


def _list(office: Office, asked: Asked) -> Listed[EventRecord]:
    query = asked.query
    given = {name: value for name in ("kind", "ref") if (value := getattr(query, name))}
    return listed(events.list_events(asked.actor, office.desk, query, query.account, **given))


ROUTES: Final = (
    Route(
        method="GET", path="/admin/v1/events", permission="usage.read",
        summary="Read what happened by itself: thresholds passed, promotions, expired grants, old keys",
        handle=_list, answer=Listed[EventRecord], query=EventPage,
    ),
)  # fmt: skip
