"""Take people and service accounts into an account, change what they may do, let them go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from headgate.errors import CallerError, Conflict
from headgate.identity.roles import PROJECT_ROLES, ROLES, SERVICE
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.projects import account_of, open_project
from headgate.ops.words import check_email, check_metadata, check_name, given
from headgate.records import MemberRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder


class MemberOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The member that somebody wants."""

    email: str
    role: str
    name: str = ""  # empty: the address
    account: str = ""  # public id; empty: the actor's own, or the only one
    metadata: dict[str, str] = {}


class MemberChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall become of a member; what is not given stays."""

    name: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


def add_member(actor: Actor, desk: Desk, order: MemberOrder) -> MemberRecord:
    """Take a person into an account.

    Raises:
        PermissionRefused: the actor may not, or has not the rights that the role gives.
        NotFound: there is no such account, or not for this actor.
        CallerError: the order cannot be filled; `param` names the member.
        Conflict: the account has a member with that address.
    """
    with desk.writing(actor, "member.added") as deed:
        account = account_of(actor, deed.register, order.account)
        deed.allow("members.write", Place(account), "account", account)
        _grant(deed, order.role, Place(account))
        email = check_email(order.email)
        if deed.register.all(MemberRecord, account=account, email=email, removed_at=0):
            raise Conflict(f"The account has a member {email} already.", param="email")
        draft = MemberRecord(
            account=account,
            name=order.name or email,
            email=email,
            role=order.role,
            metadata=order.metadata,
            created_at=deed.at,
        )
        return deed.add(_checked(draft))


def add_service_account(deed: Deed, project: str, name: str) -> MemberRecord:
    """Make a service account of a project; its first key is made in the same transaction (`keys`).

    Raises:
        PermissionRefused: the actor may not, or has not the rights that it gets.
        NotFound: there is no such project, or not for this actor.
    """
    found = open_project(deed, "members.write", project)
    deed.grant(PROJECT_ROLES["member"], Place(found.account, project))
    draft = MemberRecord(account=found.account, name=name, role=SERVICE, project=project, created_at=deed.at)
    return deed.add(_checked(draft))


def list_members(
    actor: Actor,
    desk: Desk,
    page: PageOrder,
    account: str = "",
    project: str = "",
    *,
    emails: Sequence[str] = (),
) -> Page:
    """Return a page of an account's people, or of a project's service accounts, as `MemberRecord`s.

    Args:
        actor: who.
        desk: where.
        page: which part.
        account: its public id; empty: the actor's own.
        project: whose service accounts; empty: people.
        emails: only those with one of these addresses; none: all.
    """
    with desk.reading() as register:
        place = Place(account or account_of(actor, register, ""), project)
        authorise(actor, "members.read", place, "account", place.account)
        named = {"email": [email.strip().lower() for email in emails]} if emails else {}
        return desk.page(
            register, MemberRecord, page, account=place.account, project=project, removed_at=0, **named
        )


def show_member(actor: Actor, desk: Desk, ref: str) -> MemberRecord:
    """Return a member.

    Raises:
        NotFound: there is none, or not for this actor.
    """
    with desk.reading() as register:
        found = register.get(MemberRecord, id=ref)
        if found is None:
            raise absent("member", ref)
        if found.id != actor.member:
            authorise(actor, "members.read", Place(found.account, found.project), "member", ref)
        return found


def change_member(actor: Actor, desk: Desk, ref: str, change: MemberChange) -> MemberRecord:
    """Change a member; what its keys may do follows within a second.

    Raises:
        PermissionRefused: the actor may not, or has less rights than the old or the new role.
        NotFound: there is none, or not for this actor.
        CallerError: the change cannot be made; `param` names the member.
        Conflict: it is the last owner, or a service account, which has no other role.
    """
    with desk.writing(actor, "member.changed", ref) as deed:
        before = _open(deed, ref)
        place = Place(before.account, before.project)
        after = _checked(msgspec.structs.replace(before, **given(change)))
        if after.role != before.role:
            if before.project:
                raise Conflict(f"{ref} is a service account, which has no other role.", param="role")
            _grant(deed, after.role, place)
            _keep_an_owner(deed, before)
        return deed.put(before, after)


def remove_member(actor: Actor, desk: Desk, ref: str) -> MemberRecord:
    """Let a member go: its keys are refused within a second.

    Raises:
        PermissionRefused: the actor may not, or has less rights than the member.
        NotFound: there is none, or not for this actor.
        Conflict: it is the last owner.
    """
    with desk.writing(actor, "member.removed", ref) as deed:
        before = _open(deed, ref)
        _keep_an_owner(deed, before)
        return deed.put(before, msgspec.structs.replace(before, removed_at=deed.at))


def _open(deed: Deed, ref: str) -> MemberRecord:
    """Return a member that is about to be changed, by somebody with no less rights."""
    found = deed.find(MemberRecord, "member", ref)
    place = Place(found.account, found.project)
    deed.allow("members.write", place, "member", ref)
    if found.removed_at:
        raise absent("member", ref)
    deed.grant(PROJECT_ROLES["member"] if found.role == SERVICE else ROLES[found.role], place)
    return found


def _grant(deed: Deed, role: str, place: Place) -> None:
    if role not in ROLES:
        raise CallerError(f"{role!r} is no role: {', '.join(ROLES)}.", param="role")
    deed.grant(ROLES[role], place)


def _keep_an_owner(deed: Deed, leaving: MemberRecord) -> None:
    """Refuse to take an account's last owner away."""
    if leaving.role != "owner":
        return
    owners = deed.register.all(MemberRecord, account=leaving.account, role="owner", removed_at=0)
    if len(owners) < 2:
        raise Conflict("The last owner of an account stays: make another member an owner first.")


def _checked(record: MemberRecord) -> MemberRecord:
    check_metadata(record.metadata)
    return msgspec.structs.replace(record, name=check_name(record.name))
