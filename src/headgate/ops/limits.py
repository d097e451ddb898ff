"""Set, list and remove limits of accounts, projects and keys, for all models or some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from headgate.errors import CallerError, PermissionRefused
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.scopes import Within, scope_place, scoped_page
from headgate.records import AccountRecord, LimitRecord
from headgate.values import Limits

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder

EVERYWHERE: Final = Within()
_LONGEST_PATTERN: Final = 200


class LimitOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limit that somebody wants; 0: none."""

    scope: str
    ref: str  # the public id of what it bounds
    model: str = ""  # a model, or a pattern of some; empty: all models
    rpm: int = 0
    tpm: int = 0
    rpd: int = 0
    tpd: int = 0
    concurrency: int = 0


def set_limit(actor: Actor, desk: Desk, order: LimitOrder) -> LimitRecord:
    """Put a limit in place of the one of the same scope and models; servers follow within a second.

    What was used stays used. A limit of an account with a tier goes before the tier's, so only who may
    choose the tier sets one.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
        NotFound: what it bounds does not exist, or not for this actor.
    """
    with desk.writing(actor, "limit.set") as deed:
        place = scope_place(deed.register, order.scope, order.ref)
        _allow(deed, place, order.scope, order.ref)
        _check(order)
        draft = LimitRecord(
            account=place.account,
            project=place.project,
            origin=actor.id,
            created_at=deed.at,
            **msgspec.structs.asdict(order),
        )
        same = deed.register.get(LimitRecord, scope=order.scope, ref=order.ref, model=order.model)
        if same is None:
            return deed.add(draft)
        return deed.put(same, msgspec.structs.replace(draft, id=same.id))


def list_limits(actor: Actor, desk: Desk, page: PageOrder, within: Within = EVERYWHERE) -> Page:
    """Return a page of limits that the actor may see, as `LimitRecord`s.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such thing, or not for this actor.
    """
    return scoped_page(actor, desk, LimitRecord, "limits.read", page, within)


def show_limit(actor: Actor, desk: Desk, limit: str) -> LimitRecord:
    """Return a limit by its public id.

    Raises:
        NotFound: there is none, or not for this actor.
    """
    with desk.reading() as register:
        found = register.get(LimitRecord, id=limit)
        if found is None:
            raise absent("limit", limit)
        authorise(actor, "limits.read", Place(found.account, found.project), "limit", limit)
        return found


def remove_limit(actor: Actor, desk: Desk, limit: str) -> LimitRecord:
    """Remove a limit by its public id.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, or not for this actor.
    """
    with desk.writing(actor, "limit.removed", limit) as deed:
        found = deed.find(LimitRecord, "limit", limit)
        _allow(deed, Place(found.account, found.project), found.scope, found.ref, limit)
        return deed.remove(found)


def _allow(deed: Deed, place: Place, scope: str, ref: str, limit: str = "") -> None:
    thing = ("limit", limit) if limit else (scope, ref)
    deed.allow("limits.write", place, *thing)
    if scope == "key" and ref == deed.actor.id:
        raise PermissionRefused("A key does not change its own limits.", code="insufficient_permissions")
    if scope == "account":
        account = deed.find(AccountRecord, "account", ref)
        if account.tier or account.prepaid:
            deed.allow("gateway.tiers", place, *thing)


def _check(order: LimitOrder) -> None:
    limits = Limits(order.rpm, order.tpm, order.rpd, order.tpd, order.concurrency)
    wrong = limits.wrong()
    if wrong:
        raise CallerError(f"{wrong}.", param=wrong.partition(" ")[0])
    if limits == Limits():
        raise CallerError("Give at least one of rpm, tpm, rpd, tpd and concurrency.", param="rpm")
    model = order.model
    if len(model) > _LONGEST_PATTERN or (model and not model.isprintable()):
        raise CallerError(
            f"model is a model or a pattern of some, of at most {_LONGEST_PATTERN} printable characters.",
            param="model",
        )
