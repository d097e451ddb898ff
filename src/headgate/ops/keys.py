"""Make, show, change, rotate and revoke keys. Running servers follow within a second."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headgate.errors import CallerError, Conflict, NotFound
from headgate.identity.keys import mint_key
from headgate.identity.rights import ceiling_of
from headgate.identity.roles import PROJECT_ROLES, ROLES, SERVICE
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.budgets import cap_new_key
from headgate.ops.desk import every
from headgate.ops.keyrules import (
    KeyChange,
    KeyOrder,
    check_rights,
    checked,
    drafted,
    keep_change_within,
    keep_within,
    manages_own,
    may_make_own,
)
from headgate.ops.members import add_service_account
from headgate.ops.projects import account_of
from headgate.ops.words import given
from headgate.records import KeyRecord, MemberRecord, ProjectMemberRecord, ProjectRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder, Register, Value

MOST_GRACE_S: Final = 30 * 86_400
_is_id: Final = re.compile(r"key_[0-9A-Za-z]{24}").fullmatch


class CreatedKey(msgspec.Struct, frozen=True):
    """A key with a new secret. `text` is the key itself: shown once, stored nowhere."""

    text: str
    record: KeyRecord


class CreatedAccount(msgspec.Struct, frozen=True):
    """A new service account with its first key."""

    member: MemberRecord
    key: CreatedKey


def create_key(actor: Actor, desk: Desk, order: KeyOrder) -> CreatedKey:
    """Make a key.

    Raises:
        PermissionRefused: the actor may not, or lacks a right that the key would have.
        NotFound: there is no such project or member, or not for this actor.
        CallerError: the order cannot be filled; `param` names the member.
        Conflict: the project is archived, or the member may not have keys there.
    """
    with desk.writing(actor, "key.created") as deed:
        project = _project(deed, order.project, order.kind)
        member = order.member or actor.member
        return add_key(deed, desk, order, _holder(deed, project, member, order.kind))


def create_service_account(actor: Actor, desk: Desk, project: str, order: KeyOrder) -> CreatedAccount:
    """Make a service account in a project, with a first key; both have the order's name.

    Raises:
        as `create_key`.
    """
    with desk.writing(actor, "member.added") as deed:
        member = add_service_account(deed, project, order.name)
        return CreatedAccount(member, add_key(deed, desk, order, Place(member.account, project, member.id)))


def list_keys(actor: Actor, desk: Desk, page: PageOrder, **where: Value) -> Page:
    """Return a page of keys, revoked ones too, as `KeyRecord`s.

    Args:
        actor: who sees all keys of the account, of the projects where it may, or its own.
        desk: where.
        page: which part.
        where: `project`, `account`, `member`, `kind`, `name`, `revoked_at` or `orphaned` that they have.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such project or account, or not for this actor.
    """
    with desk.reading() as register:
        return desk.page(register, KeyRecord, page, **_visible(actor, register, where))


def every_key(actor: Actor, desk: Desk, **where: str) -> Iterator[KeyRecord]:
    """Return every key that `list_keys` would list, the oldest first."""
    return every(lambda page: list_keys(actor, desk, page, **where))


def show_key(actor: Actor, desk: Desk, reference: str) -> KeyRecord:
    """Return the key with this id, name, or what is shown of it.

    Raises:
        NotFound: there is none, or not for this actor.
        Conflict: the reference means several keys.
    """
    with desk.reading() as register:
        found = _find(actor, register, reference)
        _authorise(actor, found, "read")
        return found


def change_key(actor: Actor, desk: Desk, ref: str, change: KeyChange) -> KeyRecord:
    """Change a key.

    Raises:
        PermissionRefused: the actor may not, or lacks a right that the key would get.
        NotFound: there is none, or not for this actor.
        CallerError: the change cannot be made; `param` names the member.
        Conflict: it is revoked, or would be more than the key allows that made it.
    """
    with desk.writing(actor, "key.changed", ref) as deed:
        before = _open(deed, _find(actor, deed.register, ref), mighty=True)
        members = checked(given(change), deed.at)
        after = msgspec.structs.replace(before, **members)
        keep_change_within(actor, deed.register, after, members)
        if after.kind == "admin":
            check_rights(actor, after.rights, after.member)
        elif after.rights:
            raise CallerError("Only an admin key has rights.", param="rights")
        return deed.put(before, after)


def rotate_key(actor: Actor, desk: Desk, ref: str, grace_s: int = 0) -> CreatedKey:
    """Give a key a new secret; its present one stays valid for a while, one before that does not.

    Raises:
        PermissionRefused: the actor may not, or has less rights than the key.
        NotFound: there is none, or not for this actor.
        CallerError: there is no such grace.
        Conflict: it is revoked or expired.
    """
    with desk.writing(actor, "key.rotated", ref) as deed:
        before = _open(deed, _find(actor, deed.register, ref), mighty=True)
        if not 0 <= grace_s <= MOST_GRACE_S:
            raise CallerError(f"grace_s must be between 0 and {MOST_GRACE_S}.", param="grace_s")
        if before.expires_at and before.expires_at <= deed.at:
            raise Conflict(f"The key {before.id} ({before.name}) has expired: change its expiry first.")
        keep_within(actor, ceiling_of(before))  # who gets its secret can do all that it can
        minted = mint_key(desk.pepper, before.kind)
        after = msgspec.structs.replace(
            before,
            shown=minted.shown,
            rotated_at=deed.at,
            old_until=deed.at + grace_s * 1_000_000 if grace_s else 0,
        )
        deed.register.rotate(before, minted.digest, keep_old=grace_s > 0)
        return CreatedKey(minted.text, deed.put(before, after))


def revoke_key(actor: Actor, desk: Desk, reference: str, *, made_too: bool = False) -> KeyRecord:
    """Revoke the key with this id, name, or what is shown of it.

    Args:
        actor: who.
        desk: where.
        reference: the key.
        made_too: also those that it has made, and those that they have.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, or not for this actor.
        Conflict: it is revoked already, or the reference means several keys.
    """
    with desk.writing(actor, "key.revoked", reference) as deed:
        before = _open(deed, _find(actor, deed.register, reference))
        after = deed.put(before, msgspec.structs.replace(before, revoked_at=deed.at))
        if made_too:
            _revoke_made(deed, before.id)
        return after


def _revoke_made(deed: Deed, maker: str) -> None:
    for made in deed.register.all(KeyRecord, created_by=maker):
        if not made.revoked_at:
            deed.put(made, msgspec.structs.replace(made, revoked_at=deed.at))
        if made.kind == "admin":
            _revoke_made(deed, made.id)


def add_key(deed: Deed, desk: Desk, order: KeyOrder, place: Place) -> CreatedKey:
    """Store a new key of an order, within all rights of the actor."""
    actor = deed.actor
    members = drafted(actor, order, deed.at)
    if order.kind == "admin":
        check_rights(actor, members["rights"], place.member)
    elif members["rights"]:
        raise CallerError("Only an admin key has rights.", param="rights")
    minted = mint_key(desk.pepper, order.kind)
    draft = KeyRecord(
        id="",
        shown=minted.shown,
        project=place.project,
        account=place.account,
        member=place.member,
        created_by=actor.id,
        created_at=deed.at,
        **members,
    )
    made = deed.add(draft, digest=minted.digest)
    cap_new_key(deed, made, order.budget)
    return CreatedKey(minted.text, made)


def _project(deed: Deed, ref: str, kind: str) -> ProjectRecord:
    """Return the project of a new key: the named one, or the first that is open and where the actor may.

    An admin key is only at home there, so any project will do.
    """
    if ref:
        found = deed.find(ProjectRecord, "project", ref)
        if not deed.actor.may("projects.read", Place(found.account, ref)):
            raise absent("project", ref)
        return found
    account = account_of(deed.actor, deed.register, "")
    there = deed.register.all(ProjectRecord, account=account, archived_at=0)
    fit = [one for one in there if deed.actor.may("keys.write", Place(account, one.id, deed.actor.member))]
    if fit or (there and kind == "admin"):
        return (fit or there)[0]
    raise CallerError("Say in which project: you may make keys in none that is open.", param="project")


def _holder(deed: Deed, project: ProjectRecord, member: str, kind: str) -> Place:
    """Return where a new key will be, whose holder may have it there; authorised."""
    place = Place(project.account, project.id, member)
    if kind == "admin":
        if not may_make_own(deed.actor, member):
            whose = ("admin_keys.write", place) if member else ("gateway.accounts", Place())
            deed.allow(*whose)
        deed.account = project.account
    else:
        deed.allow("keys.write", place)
    if project.archived_at:
        raise Conflict(f"The project {project.id} is archived.")
    if member:
        _check_holder(deed.register, place, kind)
    return place


def _check_holder(register: Register, place: Place, kind: str) -> None:
    person = register.get(MemberRecord, id=place.member)
    if person is None or person.account != place.account or person.removed_at:
        raise absent("member", place.member)
    if kind == "admin" or "calls.make" in ROLES.get(person.role, ()):
        return
    if person.role == SERVICE:
        fits = person.project == place.project
    else:
        there = register.get(ProjectMemberRecord, project=place.project, id=person.id)
        fits = there is not None and "calls.make" in PROJECT_ROLES[there.role]
    if not fits:
        raise Conflict(
            f"{person.id} cannot have keys in {place.project}: take it into that project first.",
            param="member",
        )


def _authorise(actor: Actor, record: KeyRecord, deed: str) -> None:
    if record.id == actor.id or manages_own(actor, record):
        return
    place = Place(record.account, record.project, record.member)
    if record.kind == "admin" and not record.member:
        place = Place()
    things = "admin_keys" if record.kind == "admin" else "keys"
    authorise(actor, f"{things}.{deed}", place, "key", record.id)


def _sees(actor: Actor, record: KeyRecord) -> bool:
    try:
        _authorise(actor, record, "read")
    except NotFound:
        return False
    return True


def _find(actor: Actor, register: Register, reference: str) -> KeyRecord:
    """Return the key that is meant, among those that the actor knows."""
    exact = register.get(KeyRecord, id=reference)
    if exact is not None:
        return exact
    if _is_id(reference):  # a further look would take time by which it could be told from one of others
        raise absent("key", reference)
    where = {"account": actor.account} if actor.account else {}
    found = [
        *register.all(KeyRecord, name=reference, **where),
        *register.all(KeyRecord, shown=reference, **where),
    ]
    found = [record for record in found if _sees(actor, record)]
    live = [record for record in found if not record.revoked_at] or found
    if not live:
        raise absent("key", reference)
    if len(live) > 1:
        ids = ", ".join(record.id for record in live[:10])
        raise Conflict(f"{reference!r} means {len(live)} keys: say which by its id: {ids}.")
    return live[0]


def _open(deed: Deed, record: KeyRecord, *, mighty: bool = False) -> KeyRecord:
    """Return a key that is about to be changed, authorised; `mighty`: by who has all of its rights."""
    _authorise(deed.actor, record, "write")
    if mighty and record.kind == "admin":
        check_rights(deed.actor, record.rights, record.member)
    deed.account = record.account
    if record.revoked_at:
        raise Conflict(f"The key {record.id} ({record.name}) has been revoked already.")
    return record


def _visible(actor: Actor, register: Register, where: dict[str, Any]) -> dict[str, Any]:
    """Narrow a list to what the actor may see."""
    seen: dict[str, Any] = dict(where)
    if not actor.account:
        authorise(actor, "keys.read", Place())
        return seen
    if where.get("account", actor.account) != actor.account:
        raise absent("account", where["account"])
    seen["account"] = actor.account
    project = where.get("project", "")
    if project and not (
        actor.may("projects.read", Place(actor.account, project))
        and register.get(ProjectRecord, id=project, account=actor.account)
    ):
        raise absent("project", project)
    if actor.rights is not None and not actor.rights & {"keys.read", "keys.own"}:
        authorise(actor, "keys.read", Place(actor.account, project))
    if not actor.may("keys.read", Place(actor.account, project)):
        if where.get("member", actor.member) != actor.member:
            authorise(actor, "keys.read", Place(actor.account, project))
        seen["member"] = actor.member
    if not actor.may("admin_keys.read", Place(actor.account)):
        if where.get("kind") == "admin":  # its own it may see
            seen["member"] = actor.member
        else:
            seen.setdefault("kind", ("live", "test"))
    return seen
