"""Open, show, change, suspend and close accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.errors import CallerError, Conflict
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.words import check_metadata, check_name, given
from headgate.records import AccountRecord, ProjectRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder

Status = Literal["active", "suspended", "closed"]
MOST_MULTIPLIER_PPM: Final = 1_000_000_000  # a thousand times the price
Multiplier = Annotated[int, Meta(ge=1, le=MOST_MULTIPLIER_PPM)]
_GATEWAYS: Final = ("status", "prepaid", "multiplier_ppm")  # what an account does not decide about itself


class AccountOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The account that somebody wants."""

    name: str
    prepaid: bool | None = None  # spends credit and nothing else; None: as the gateway's mode says
    multiplier_ppm: Multiplier = 1_000_000
    metadata: dict[str, str] = {}


class AccountChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall become of an account; what is not given stays."""

    name: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    prepaid: bool | UnsetType = UNSET
    multiplier_ppm: Multiplier | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


def create_account(actor: Actor, desk: Desk, order: AccountOrder) -> AccountRecord:
    """Open an account with a project `default`.

    Raises:
        PermissionRefused: the actor may not.
        CallerError: the order cannot be filled; `param` names the member.
    """
    with desk.writing(actor, "account.created") as deed:
        deed.allow("gateway.accounts", Place())
        made = deed.add(_checked(_drafted(deed, order)))
        deed.account = made.id
        deed.add(ProjectRecord(account=made.id, name="default", created_at=deed.at))
        return open_credit(deed, desk, made)


def open_credit(deed: Deed, desk: Desk, made: AccountRecord) -> AccountRecord:
    """Give a prepaid account what it begins with: the sign-up grant, once, and the first tier."""
    if not made.prepaid:
        return made
    deed.register.credit.open_prepaid(made.id, desk.terms, desk.tiers, deed.at)
    return deed.find(AccountRecord, "account", made.id)


def list_accounts(actor: Actor, desk: Desk, page: PageOrder) -> Page:
    """Return a page of the accounts that the actor may see, as `AccountRecord`s."""
    with desk.reading() as register:
        if actor.account:
            authorise(actor, "account.read", Place(actor.account))
            return desk.page(register, AccountRecord, page, id=actor.account)
        authorise(actor, "gateway.accounts", Place())
        return desk.page(register, AccountRecord, page)


def show_account(actor: Actor, desk: Desk, ref: str) -> AccountRecord:
    """Return an account.

    Raises:
        NotFound: there is none, or not for this actor.
    """
    with desk.reading() as register:
        found = register.get(AccountRecord, id=ref)
        if found is None:
            raise absent("account", ref)
        authorise(actor, "account.read", Place(ref), "account", ref)
        return found


def change_account(actor: Actor, desk: Desk, ref: str, change: AccountChange) -> AccountRecord:
    """Change an account; running servers follow within a second.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such account, or not for this actor.
        CallerError: the change cannot be made; `param` names the member.
        Conflict: the account is closed.
    """
    with desk.writing(actor, "account.changed", ref) as deed:
        before = deed.find(AccountRecord, "account", ref)
        members = given(change)
        foreign = any(name in members for name in _GATEWAYS)
        deed.allow("gateway.accounts" if foreign else "account.write", Place(ref), "account", ref)
        if before.status == "closed":
            raise Conflict(f"The account {ref} is closed.")
        after = deed.put(before, _checked(msgspec.structs.replace(before, **members)))
        return after if before.prepaid else open_credit(deed, desk, after)


def _drafted(deed: Deed, order: AccountOrder) -> AccountRecord:
    prepaid = deed.register.credit.prepaid if order.prepaid is None else order.prepaid
    members = msgspec.structs.asdict(order) | {"prepaid": prepaid}
    return AccountRecord(created_at=deed.at, **members)


def _checked(record: AccountRecord) -> AccountRecord:
    if record.status not in get_args(Status):
        raise CallerError(f"{record.status!r} is no status: {', '.join(get_args(Status))}.", param="status")
    if not 1 <= record.multiplier_ppm <= MOST_MULTIPLIER_PPM:
        raise CallerError(
            f"multiplier_ppm must be between 1 and {MOST_MULTIPLIER_PPM}.", param="multiplier_ppm"
        )
    check_metadata(record.metadata)
    return msgspec.structs.replace(record, name=check_name(record.name))
