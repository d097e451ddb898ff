"""Tiers of accounts: chosen by a person or earned, and the wish for higher limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import CallerError, Conflict
from headgate.money.tiers import find_tier
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.projects import account_of
from headgate.records import AccountRecord, LimitRequestRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder

_DIMENSIONS: Final = ("rpm", "tpm", "rpd", "tpd", "concurrency")
_MOST: Final = 2**31 - 1
_MOST_OPEN: Final = 10  # requests of one account at a time


class LimitRequestOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an account would like: a tier, or a limit (`rpm`, `tpm`, `rpd`, `tpd`, `concurrency`, `model`)."""

    wanted: dict[str, int | str]
    reason: str
    account: str = ""


def set_tier(actor: Actor, desk: Desk, account: str, tier: str, *, fixed: bool = True) -> AccountRecord:
    """Choose an account's tier; empty: no tier limits.

    Args:
        actor: who.
        desk: where.
        account: its public id.
        tier: a name of the tier table.
        fixed: it stays whatever the account pays; else it is promoted from there.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such account, or not for this actor.
        CallerError: there is no such tier.
    """
    with desk.writing(actor, "account.tier", account) as deed:
        before = deed.find(AccountRecord, "account", account)
        deed.allow("gateway.tiers", Place(account), "account", account)
        return _set(deed, desk, before, tier, fixed=fixed)


def request_limits(actor: Actor, desk: Desk, order: LimitRequestOrder) -> LimitRequestRecord:
    """Ask an owner of the gateway for higher limits.

    Raises:
        PermissionRefused: the actor may not ask for this account.
        CallerError: nothing that can be had is wanted, or no reason is given; `param` names the member.
        Conflict: too many requests of this account are undecided.
    """
    with desk.writing(actor, "limit_request.made") as deed:
        account = account_of(actor, deed.register, order.account)
        deed.allow("limits.read", Place(account), "account", account)
        _check_wanted(desk, order.wanted)
        reason = order.reason.strip()
        if not 1 <= len(reason) <= 2_000:
            raise CallerError("A reason has 1 to 2000 characters.", param="reason")
        undecided = deed.register.all(LimitRequestRecord, account=account, status="open")
        if len(undecided) >= _MOST_OPEN:
            raise Conflict(f"{len(undecided)} requests of this account are undecided. Wait for an answer.")
        draft = LimitRequestRecord(
            account=account, member=actor.member, wanted=order.wanted, reason=reason, created_at=deed.at
        )
        return deed.add(draft)


def decide_request(actor: Actor, desk: Desk, ref: str, *, approve: bool) -> LimitRequestRecord:
    """Approve a request, which gives what it wants at once, or refuse it.

    Raises:
        PermissionRefused: the actor does not own the gateway.
        NotFound: there is none.
        Conflict: it was decided already.
    """
    with desk.writing(actor, f"limit_request.{'approved' if approve else 'refused'}", ref) as deed:
        request = deed.find(LimitRequestRecord, "request", ref)
        deed.allow("gateway.tiers", Place(request.account), "request", ref)
        if request.status != "open":
            raise Conflict(f"The request {ref} was {request.status} already.")
        if approve:
            _give(deed, desk, request)
        status = "approved" if approve else "refused"
        return deed.put(
            request, msgspec.structs.replace(request, status=status, decided_by=actor.id, decided_at=deed.at)
        )


def list_requests(actor: Actor, desk: Desk, page: PageOrder, account: str = "", status: str = "") -> Page:
    """Return a page of requests, as `LimitRequestRecord`s: of one account, or of all."""
    with desk.reading() as register:
        where = {"status": status} if status else {}
        if account or actor.account:
            account = account_of(actor, register, account)
            authorise(actor, "limits.read", Place(account), "account", account)
            where["account"] = account
        else:
            authorise(actor, "gateway.tiers", Place())
        return desk.page(register, LimitRequestRecord, page, **where)


def show_request(actor: Actor, desk: Desk, ref: str) -> LimitRequestRecord:
    """Return a request.

    Raises:
        NotFound: there is none, or not for this actor.
    """
    with desk.reading() as register:
        found = register.get(LimitRequestRecord, id=ref)
        if found is None:
            raise absent("request", ref)
        authorise(actor, "limits.read", Place(found.account), "request", ref)
        return found


def _set(deed: Deed, desk: Desk, before: AccountRecord, tier: str, *, fixed: bool) -> AccountRecord:
    found = find_tier(desk.tiers, tier)
    if tier and found is None:
        names = ", ".join(each.name for each in desk.tiers)
        raise CallerError(f"{tier!r} is no tier: {names}, or empty for none.", param="tier")
    deed.register.credit.put_tier_budget(before.id, found.cap if found is not None else 0, deed.at)
    return deed.put(before, msgspec.structs.replace(before, tier=tier, tier_fixed=fixed))


def _give(deed: Deed, desk: Desk, request: LimitRequestRecord) -> None:
    tier = request.wanted.get("tier")
    if tier is not None:
        account = deed.find(AccountRecord, "account", request.account)
        _set(deed, desk, account, str(tier), fixed=True)
    else:
        deed.register.credit.put_limit(request.account, request.wanted, deed.actor.id, deed.at)


def _check_wanted(desk: Desk, wanted: dict[str, int | str]) -> None:
    if "tier" in wanted:
        if len(wanted) > 1 or find_tier(desk.tiers, str(wanted["tier"])) is None:
            names = ", ".join(each.name for each in desk.tiers)
            raise CallerError(f"wanted.tier is one of {names}, and stands alone.", param="wanted.tier")
        return
    model = wanted.get("model", "")
    if not isinstance(model, str) or len(model) > 200 or not (model.isprintable() or not model):
        raise CallerError("wanted.model is a model or a pattern of models.", param="wanted.model")
    limits = {name: value for name, value in wanted.items() if name != "model"}
    if not limits:
        raise CallerError(f"Want a tier, or some of {', '.join(_DIMENSIONS)}.", param="wanted")
    for name, value in limits.items():
        if name not in _DIMENSIONS or not isinstance(value, int) or not 1 <= value <= _MOST:
            raise CallerError(f"wanted.{name} is no limit between 1 and {_MOST}.", param=f"wanted.{name}")
