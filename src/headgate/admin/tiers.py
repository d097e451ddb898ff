"""Tiers, and the wish for higher limits, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from headgate.admin.people import AccountPage
from headgate.admin.table import OWN, Listed, Route, listed
from headgate.ops import tiers
from headgate.records import AccountRecord, LimitRequestRecord
from headgate.values import Limits, NanoUSD

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked

REQUESTS: Final = "/admin/v1/limit_requests"


class TierLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits; 0: none."""

    rpm: int
    tpm: int
    rpd: int
    tpd: int
    concurrency: int


class TierShown(msgspec.Struct, frozen=True, kw_only=True):
    """What an account may use by what it has paid. Money is nano-USD."""

    name: str
    title: str
    paid: NanoUSD  # top-ups that earn it
    days: int  # and days since the first of them
    cap: NanoUSD  # per month; 0: none
    queue_ms: int
    limits: TierLimits
    models: dict[str, TierLimits]  # that hold for these instead


class TierList(msgspec.Struct, frozen=True, kw_only=True):
    """Every tier, the cheapest first."""

    object: Literal["list"] = "list"
    data: list[TierShown]


class TierChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tier that an account shall have; empty: no tier limits."""

    tier: Annotated[str, Meta(max_length=100)]
    fixed: bool = True  # it stays whatever the account pays; else it is promoted from there


class RequestPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests."""

    status: Literal["open", "approved", "refused", ""] = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a request gets what it wants."""

    approve: bool


def _limits(limits: Limits) -> TierLimits:
    return msgspec.convert(limits, TierLimits, from_attributes=True)


def _list(office: Office, _asked: Asked) -> TierList:
    return TierList(
        data=[
            TierShown(
                name=tier.name,
                title=tier.title,
                paid=tier.paid,
                days=tier.days,
                cap=tier.cap,
                queue_ms=tier.queue_ms,
                limits=_limits(tier.limits),
                models={pattern: _limits(limits) for pattern, limits in tier.models},
            )
            for tier in office.desk.tiers
        ]
    )


def _choose(office: Office, asked: Asked) -> AccountRecord:
    body = asked.body
    return tiers.set_tier(asked.actor, office.desk, asked.path["account_id"], body.tier, fixed=body.fixed)


def _list_requests(office: Office, asked: Asked) -> Listed[LimitRequestRecord]:
    query = asked.query
    return listed(tiers.list_requests(asked.actor, office.desk, query, query.account, query.status))


def _request(office: Office, asked: Asked) -> LimitRequestRecord:
    return tiers.request_limits(asked.actor, office.desk, asked.body)


def _show_request(office: Office, asked: Asked) -> LimitRequestRecord:
    return tiers.show_request(asked.actor, office.desk, asked.path["request_id"])


def _decide(office: Office, asked: Asked) -> LimitRequestRecord:
    ref, approve = asked.path["request_id"], asked.body.approve
    return tiers.decide_request(asked.actor, office.desk, ref, approve=approve)


ROUTES: Final = (
    Route(
        method="GET", path="/admin/v1/tiers", permission=OWN, summary="List tiers", handle=_list,
        answer=TierList,
    ),
    Route(
        method="PUT", path="/admin/v1/accounts/{account_id}/tier", permission="gateway.tiers",
        summary="Choose an account's tier", handle=_choose, answer=AccountRecord, body=TierChoice,
    ),
    Route(
        method="GET", path=REQUESTS, permission="limits.read", summary="List requests for higher limits",
        handle=_list_requests, answer=Listed[LimitRequestRecord], query=RequestPage,
    ),
    Route(
        method="POST", path=REQUESTS, permission="limits.read", summary="Ask for higher limits",
        handle=_request, answer=LimitRequestRecord, body=tiers.LimitRequestOrder, status=201,
    ),
    Route(
        method="GET", path=REQUESTS + "/{request_id}", permission="limits.read",
        summary="Show a request for higher limits", handle=_show_request, answer=LimitRequestRecord,
    ),
    Route(
        method="POST", path=REQUESTS + "/{request_id}/decision", permission="gateway.tiers",
        summary="Approve or refuse a request for higher limits", handle=_decide, answer=LimitRequestRecord,
        body=Decision,
    ),
)  # fmt: skip
