"""Make, show, change and archive projects, and say who is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from headgate.errors import CallerError, Conflict
from headgate.identity.roles import PROJECT_ROLES
from headgate.ops.actors import Place, absent, authorise
from headgate.ops.words import check_metadata, check_name, given
from headgate.records import AccountRecord, MemberRecord, ProjectMemberRecord, ProjectRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Deed, Desk, Page, PageOrder, Register


class ProjectOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The project that somebody wants."""

    name: str
    account: str = ""  # public id; empty: the actor's own, or the only one
    environment: str = ""
    metadata: dict[str, str] = {}


class ProjectChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall become of a project; what is not given stays."""

    name: str | UnsetType = UNSET
    environment: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


def create_project(actor: Actor, desk: Desk, order: ProjectOrder) -> ProjectRecord:
    """Make a project; who makes it and cannot see all projects is its owner.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such account, or not for this actor.
        CallerError: the order cannot be filled; `param` names the member.
    """
    with desk.writing(actor, "project.created") as deed:
        account = account_of(actor, deed.register, order.account)
        deed.allow("projects.write", Place(account), "account", account)
        return deed.add(
            _checked(
                ProjectRecord(
                    account=account,
                    name=order.name,
                    environment=order.environment,
                    metadata=order.metadata,
                    created_at=deed.at,
                )
            )
        )


def list_projects(
    actor: Actor, desk: Desk, page: PageOrder, account: str = "", *, archived: bool = False
) -> Page:
    """Return a page of the projects that the actor may see, as `ProjectRecord`s."""
    with desk.reading() as register:
        where: dict[str, Any] = {"account": account or actor.account}
        if not where["account"]:
            authorise(actor, "gateway.accounts", Place())
            del where["account"]
        elif not actor.may("projects.read", Place(account or actor.account)):
            seen = [ref for ref, may in actor.projects.items() if "projects.read" in may]
            if not seen or where["account"] != actor.account:
                authorise(actor, "account.read", Place(where["account"]), "account", account)
            where["id"] = seen
        if not archived:
            where["archived_at"] = 0
        return desk.page(register, ProjectRecord, page, **where)


def show_project(actor: Actor, desk: Desk, ref: str) -> ProjectRecord:
    """Return a project.

    Raises:
        NotFound: there is none, or not for this actor.
    """
    with desk.reading() as register:
        found = register.get(ProjectRecord, id=ref)
        if found is None:
            raise absent("project", ref)
        authorise(actor, "projects.read", Place(found.account, ref), "project", ref)
        return found


def change_project(actor: Actor, desk: Desk, ref: str, change: ProjectChange) -> ProjectRecord:
    """Change a project.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, or not for this actor.
        CallerError: the change cannot be made; `param` names the member.
        Conflict: the project is archived.
    """
    with desk.writing(actor, "project.changed", ref) as deed:
        before = open_project(deed, "projects.write", ref)
        return deed.put(before, _checked(msgspec.structs.replace(before, **given(change))))


def archive_project(actor: Actor, desk: Desk, ref: str) -> ProjectRecord:
    """End a project for good: its keys are refused within a second, its books stay.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, or not for this actor.
        Conflict: it is archived already.
    """
    with desk.writing(actor, "project.archived", ref) as deed:
        before = open_project(deed, "projects.write", ref)
        return deed.put(before, msgspec.structs.replace(before, archived_at=deed.at))


def list_project_members(actor: Actor, desk: Desk, project: str, page: PageOrder) -> Page:
    """Return a page of who is in a project, as `ProjectMemberRecord`s."""
    with desk.reading() as register:
        authorise(actor, "members.read", _seen(actor, register, project))
        return desk.page(register, ProjectMemberRecord, page, project=project)


def show_project_member(actor: Actor, desk: Desk, project: str, member: str) -> ProjectMemberRecord:
    """Return what a member is in a project.

    Raises:
        PermissionRefused: the actor sees the project and not who is in it.
        NotFound: there is no such project, not for this actor, or the member is not in it.
    """
    with desk.reading() as register:
        where = _seen(actor, register, project)
        if member != actor.member:
            authorise(actor, "members.read", where)
        found = register.get(ProjectMemberRecord, project=project, id=member)
        if found is None:
            raise absent("member", member)
        return found


def put_project_member(actor: Actor, desk: Desk, project: str, member: str, role: str) -> ProjectMemberRecord:
    """Take a member into a project, or change its role there.

    Raises:
        PermissionRefused: the actor may not, or has not the rights that the role gives.
        NotFound: there is no such project or member, or not for this actor.
        CallerError: there is no such role.
        Conflict: a service account, whose only project is its own.
    """
    with desk.writing(actor, "project_member.put", member) as deed:
        found = open_project(deed, "members.write", project)
        place = Place(found.account, project)
        if role not in PROJECT_ROLES:
            raise CallerError(f"{role!r} is no role in a project: {', '.join(PROJECT_ROLES)}.", param="role")
        deed.grant(PROJECT_ROLES[role], place)
        person = deed.register.get(MemberRecord, id=member)
        if person is None or person.account != found.account or person.removed_at:
            raise absent("member", member)
        if person.project:
            raise Conflict(f"{member} is a service account: it stays in its own project.")
        before = deed.register.get(ProjectMemberRecord, project=project, id=member)
        if before is not None:
            deed.grant(PROJECT_ROLES[before.role], place)
            return deed.put(before, msgspec.structs.replace(before, role=role))
        draft = ProjectMemberRecord(
            id=member,
            account=found.account,
            project=project,
            role=role,
            name=person.name,
            email=person.email,
            created_at=deed.at,
        )
        return deed.add(draft)


def remove_project_member(actor: Actor, desk: Desk, project: str, member: str) -> ProjectMemberRecord:
    """Take a member out of a project: its keys there are refused within a second.

    Raises:
        PermissionRefused: the actor may not, or has less rights there than the member.
        NotFound: there is no such project, or the member is not in it.
    """
    with desk.writing(actor, "project_member.removed", member) as deed:
        found = open_project(deed, "members.write", project)
        before = deed.register.get(ProjectMemberRecord, project=project, id=member)
        if before is None:
            raise absent("member", member)
        deed.grant(PROJECT_ROLES[before.role], Place(found.account, project))
        return deed.remove(before)


def _seen(actor: Actor, register: Register, project: str) -> Place:
    found = register.get(ProjectRecord, id=project)
    if found is None:
        raise absent("project", project)
    where = Place(found.account, project)
    authorise(actor, "projects.read", where, "project", project)
    return where


def account_of(actor: Actor, register: Register, wanted: str) -> str:
    """Return the account that an actor means: the named one, its own, or the first.

    Raises:
        NotFound: there is no such account.
    """
    ref = wanted or actor.account
    if ref:
        if register.get(AccountRecord, id=ref) is None:
            raise absent("account", ref)
        return ref
    return register.all(AccountRecord)[0].id


def open_project(deed: Deed, permission: str, ref: str) -> ProjectRecord:
    """Return a project in which something is about to be changed, authorised.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is none, or not for this actor.
        Conflict: it is archived.
    """
    found = deed.find(ProjectRecord, "project", ref)
    place = Place(found.account, ref)
    if not deed.actor.may("projects.read", place):
        raise absent("project", ref)
    deed.allow(permission, place)
    if found.archived_at:
        raise Conflict(f"The project {ref} is archived.")
    return found


def _checked(record: ProjectRecord) -> ProjectRecord:
    check_metadata(record.metadata)
    return msgspec.structs.replace(
        record,
        name=check_name(record.name),
        environment=check_name(record.environment, "environment", empty=True),
    )
