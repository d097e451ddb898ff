"""Rate limits and spend limits: `client.admin.organization.projects.rate_limits` and `.spend_limit`.

A rate limit's id is `rl-` and its model, `rl-*` of all models; so each can be set that is not there yet.
OpenAI has no word for "no limit": it is the largest number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from headgate.admin.organization.projects import ROOT
from headgate.admin.table import Listed, Route, listed
from headgate.errors import CallerError
from headgate.ops import limits, projects, spendlimits
from headgate.ops.actors import absent
from headgate.ops.desk import Page, PageOrder, every
from headgate.ops.scopes import Within
from headgate.values import MAX_LIMIT

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked
    from headgate.records import LimitRecord, ProjectRecord

RATES: Final = ROOT + "/{project_id}/rate_limits"
_NONE: Final = MAX_LIMIT
_ALL: Final = "*"
_NANO_PER_CENT: Final = 10_000_000
Bound = Annotated[int, Meta(ge=1, le=_NONE)]


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of a project as OpenAI shows it."""

    id: str
    object: Literal["project.rate_limit"] = "project.rate_limit"
    model: str
    max_requests_per_1_minute: int
    max_tokens_per_1_minute: int
    max_requests_per_1_day: int


class RateLimitChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall become of a limit; null: what it is; the largest number: none."""

    max_requests_per_1_minute: Bound | None = None
    max_tokens_per_1_minute: Bound | None = None
    max_requests_per_1_day: Bound | None = None


class SpendLimitOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hard cap of a month that somebody wants, in cents."""

    threshold_amount: Annotated[int, Meta(ge=1, le=spendlimits.MOST_CENTS)]
    currency: Literal["USD"]
    interval: Literal["month"]


class Enforcement(msgspec.Struct, frozen=True, kw_only=True):
    """Whether calls are refused now because the month's cap is spent."""

    status: Literal["inactive", "enforcing"]


class SpendLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The hard cap of a month as OpenAI shows it, in cents, rounded up."""

    object: str
    threshold_amount: int
    currency: Literal["USD"] = "USD"
    interval: Literal["month"] = "month"
    enforcement: Enforcement


class SpendLimitGone(msgspec.Struct, frozen=True, kw_only=True):
    """That a cap has been removed."""

    object: str
    deleted: Literal[True] = True


def _rate(record: LimitRecord) -> RateLimit:
    return RateLimit(
        id=f"rl-{record.model or _ALL}",
        model=record.model or _ALL,
        max_requests_per_1_minute=record.rpm or _NONE,
        max_tokens_per_1_minute=record.tpm or _NONE,
        max_requests_per_1_day=record.rpd or _NONE,
    )


def _stored(office: Office, asked: Asked, project: ProjectRecord) -> list[LimitRecord]:
    """Return all limits of a project itself."""
    within = Within(project.account, project.id)

    def fetch(page: PageOrder) -> Page:
        return limits.list_limits(asked.actor, office.desk, page, within)

    return [record for record in every(fetch) if record.scope == "project"]


def _list_rates(office: Office, asked: Asked) -> Listed[RateLimit]:
    project = projects.show_project(asked.actor, office.desk, asked.path["project_id"])
    rows = [_rate(record) for record in _stored(office, asked, project)]
    return listed(_cut(rows, asked.query))


def _cut(rows: list[RateLimit], page: PageOrder) -> Page:
    """Return a page of rows that are all at hand: their cursors are not those of the store."""
    if page.order == "desc":
        rows.reverse()
    ids = [row.id for row in rows]
    first, last = 0, len(rows)
    for name in ("after", "before"):
        cursor = getattr(page, name)
        if cursor and cursor not in ids:
            raise CallerError(f"The cursor `{name}` is none of this list.", param=name)
    if page.after:
        first = ids.index(page.after) + 1
    elif page.before:
        last = ids.index(page.before)
        first = max(0, last - page.limit)
    more = first > 0 if page.before else last > first + page.limit
    return Page(rows[first : min(last, first + page.limit)], more)


def _change_rate(office: Office, asked: Asked) -> RateLimit:
    project = projects.show_project(asked.actor, office.desk, asked.path["project_id"])
    ref, body = asked.path["rate_limit_id"], asked.body
    if not ref.startswith("rl-") or len(ref) == 3:
        raise absent("rate limit", ref)
    model = "" if ref == f"rl-{_ALL}" else ref[3:]
    same = [record for record in _stored(office, asked, project) if record.model == model]
    known = {
        name: getattr(same[0], name) if same else 0 for name in ("rpm", "tpm", "rpd", "tpd", "concurrency")
    }
    given = {
        "rpm": body.max_requests_per_1_minute,
        "tpm": body.max_tokens_per_1_minute,
        "rpd": body.max_requests_per_1_day,
    }
    known |= {name: 0 if value == _NONE else value for name, value in given.items() if value is not None}
    if same and not any(known.values()):
        gone = limits.remove_limit(asked.actor, office.desk, same[0].id)
        return _rate(msgspec.structs.replace(gone, rpm=0, tpm=0, rpd=0))
    order = limits.LimitOrder(scope="project", ref=project.id, model=model, **known)
    return _rate(limits.set_limit(asked.actor, office.desk, order))


# ── spend limits ─────────────────────────────────────────────────────────────────────────────────


def _scope(office: Office, asked: Asked) -> tuple[str, str]:
    project = asked.path.get("project_id")
    if project is not None:
        return "project", project
    return "account", asked.organization or spendlimits.first_account(asked.actor, office.desk)


def _spend_limit(office: Office, asked: Asked) -> SpendLimit:
    scope, ref = _scope(office, asked)
    found = spendlimits.show(asked.actor, office.desk, office.reports, scope, ref)
    return SpendLimit(
        object=_object(scope),
        threshold_amount=-(-found.amount // _NANO_PER_CENT),
        enforcement=Enforcement(status="enforcing" if found.left <= 0 else "inactive"),
    )


def _set_spend_limit(office: Office, asked: Asked) -> SpendLimit:
    scope, ref = _scope(office, asked)
    amount = asked.body.threshold_amount * _NANO_PER_CENT
    spendlimits.put(asked.actor, office.desk, scope, ref, amount)
    return _spend_limit(office, asked)


def _remove_spend_limit(office: Office, asked: Asked) -> SpendLimitGone:
    scope, ref = _scope(office, asked)
    spendlimits.remove(asked.actor, office.desk, scope, ref)
    return SpendLimitGone(object=f"{_object(scope)}.deleted")


def _object(scope: str) -> str:
    return f"{'organization' if scope == 'account' else 'project'}.spend_limit"


def _spend_routes(path: str, whose: str) -> tuple[Route, ...]:
    return (
        Route(
            method="GET", path=path, permission="budgets.read", summary=f"Show the spend limit of {whose}",
            handle=_spend_limit, answer=SpendLimit,
        ),
        Route(
            method="POST", path=path, permission="budgets.write", summary=f"Set the spend limit of {whose}",
            handle=_set_spend_limit, answer=SpendLimit, body=SpendLimitOrder,
        ),
        Route(
            method="DELETE", path=path, permission="budgets.write",
            summary=f"Remove the spend limit of {whose}", handle=_remove_spend_limit, answer=SpendLimitGone,
        ),
    )  # fmt: skip


ROUTES: Final = (
    Route(
        method="GET", path=RATES, permission="limits.read", summary="List a project's rate limits",
        handle=_list_rates, answer=Listed[RateLimit], query=PageOrder,
    ),
    Route(
        method="POST", path=RATES + "/{rate_limit_id}", permission="limits.write",
        summary="Change a project's rate limit of a model", handle=_change_rate, answer=RateLimit,
        body=RateLimitChange,
    ),
    *_spend_routes("/v1/organization/spend_limit", "the organization"),
    *_spend_routes(ROOT + "/{project_id}/spend_limit", "a project"),
)  # fmt: skip
