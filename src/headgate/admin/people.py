"""Accounts, projects, members and service accounts over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from headgate.admin.table import Deleted, Listed, Route, listed
from headgate.ops import accounts, audit, members, projects
from headgate.ops.desk import PageOrder
from headgate.records import (
    AccountRecord,
    AuditRecord,
    MemberRecord,
    ProjectMemberRecord,
    ProjectRecord,
)

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked


class AccountPage(PageOrder, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows of a list, and of which account; empty: the asker's own."""

    account: str = ""


class ProjectPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which projects."""

    archived: bool = False  # those too


class MemberPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which members; of a project: its service accounts."""

    project: str = ""


class AuditPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows of the audit."""

    order: Literal["asc", "desc"] = "desc"
    actor: str = ""
    action: str = ""
    kind: str = ""
    ref: str = ""
    outcome: Literal["done", "refused", ""] = ""


class ProjectRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member is in a project."""

    role: Literal["owner", "member"]


def _list_accounts(office: Office, asked: Asked) -> Listed[AccountRecord]:
    return listed(accounts.list_accounts(asked.actor, office.desk, asked.query))


def _create_account(office: Office, asked: Asked) -> AccountRecord:
    return accounts.create_account(asked.actor, office.desk, asked.body)


def _show_account(office: Office, asked: Asked) -> AccountRecord:
    return accounts.show_account(asked.actor, office.desk, asked.path["account_id"])


def _change_account(office: Office, asked: Asked) -> AccountRecord:
    return accounts.change_account(asked.actor, office.desk, asked.path["account_id"], asked.body)


def _list_projects(office: Office, asked: Asked) -> Listed[ProjectRecord]:
    query = asked.query
    page = projects.list_projects(asked.actor, office.desk, query, query.account, archived=query.archived)
    return listed(page)


def _create_project(office: Office, asked: Asked) -> ProjectRecord:
    return projects.create_project(asked.actor, office.desk, asked.body)


def _show_project(office: Office, asked: Asked) -> ProjectRecord:
    return projects.show_project(asked.actor, office.desk, asked.path["project_id"])


def _change_project(office: Office, asked: Asked) -> ProjectRecord:
    return projects.change_project(asked.actor, office.desk, asked.path["project_id"], asked.body)


def _archive_project(office: Office, asked: Asked) -> ProjectRecord:
    return projects.archive_project(asked.actor, office.desk, asked.path["project_id"])


def _list_project_members(office: Office, asked: Asked) -> Listed[ProjectMemberRecord]:
    page = projects.list_project_members(asked.actor, office.desk, asked.path["project_id"], asked.query)
    return listed(page)


def _put_project_member(office: Office, asked: Asked) -> ProjectMemberRecord:
    project, member = asked.path["project_id"], asked.path["member_id"]
    return projects.put_project_member(asked.actor, office.desk, project, member, asked.body.role)


def _remove_project_member(office: Office, asked: Asked) -> Deleted:
    project, member = asked.path["project_id"], asked.path["member_id"]
    return Deleted(id=projects.remove_project_member(asked.actor, office.desk, project, member).id)


def _list_members(office: Office, asked: Asked) -> Listed[MemberRecord]:
    query = asked.query
    return listed(members.list_members(asked.actor, office.desk, query, query.account, query.project))


def _add_member(office: Office, asked: Asked) -> MemberRecord:
    return members.add_member(asked.actor, office.desk, asked.body)


def _show_member(office: Office, asked: Asked) -> MemberRecord:
    return members.show_member(asked.actor, office.desk, asked.path["member_id"])


def _change_member(office: Office, asked: Asked) -> MemberRecord:
    return members.change_member(asked.actor, office.desk, asked.path["member_id"], asked.body)


def _remove_member(office: Office, asked: Asked) -> Deleted:
    return Deleted(id=members.remove_member(asked.actor, office.desk, asked.path["member_id"]).id)


def _list_audit(office: Office, asked: Asked) -> Listed[AuditRecord]:
    query = asked.query
    where = {name: getattr(query, name) for name in ("actor", "action", "kind", "ref", "outcome")}
    given = {name: value for name, value in where.items() if value}
    return listed(audit.list_audit(asked.actor, office.desk, query, query.account, **given))


ROUTES: Final = (
    Route(
        method="GET", path="/admin/v1/accounts", permission="account.read", summary="List accounts",
        handle=_list_accounts, answer=Listed[AccountRecord], query=PageOrder,
    ),
    Route(
        method="POST", path="/admin/v1/accounts", permission="gateway.accounts", summary="Open an account",
        handle=_create_account, answer=AccountRecord, body=accounts.AccountOrder, status=201,
    ),
    Route(
        method="GET", path="/admin/v1/accounts/{account_id}", permission="account.read",
        summary="Show an account", handle=_show_account, answer=AccountRecord,
    ),
    Route(
        method="PATCH", path="/admin/v1/accounts/{account_id}", permission="account.write",
        summary="Change, suspend or close an account", handle=_change_account, answer=AccountRecord,
        body=accounts.AccountChange,
    ),
    Route(
        method="GET", path="/admin/v1/projects", permission="projects.read", summary="List projects",
        handle=_list_projects, answer=Listed[ProjectRecord], query=ProjectPage,
    ),
    Route(
        method="POST", path="/admin/v1/projects", permission="projects.write", summary="Make a project",
        handle=_create_project, answer=ProjectRecord, body=projects.ProjectOrder, status=201,
    ),
    Route(
        method="GET", path="/admin/v1/projects/{project_id}", permission="projects.read",
        summary="Show a project", handle=_show_project, answer=ProjectRecord,
    ),
    Route(
        method="PATCH", path="/admin/v1/projects/{project_id}", permission="projects.write",
        summary="Change a project", handle=_change_project, answer=ProjectRecord,
        body=projects.ProjectChange,
    ),
    Route(
        method="POST", path="/admin/v1/projects/{project_id}/archive", permission="projects.write",
        summary="Archive a project: its keys call no more", handle=_archive_project, answer=ProjectRecord,
    ),
    Route(
        method="GET", path="/admin/v1/projects/{project_id}/members", permission="members.read",
        summary="List a project's members", handle=_list_project_members,
        answer=Listed[ProjectMemberRecord], query=PageOrder,
    ),
    Route(
        method="PUT", path="/admin/v1/projects/{project_id}/members/{member_id}", permission="members.write",
        summary="Give a member a role in a project", handle=_put_project_member,
        answer=ProjectMemberRecord, body=ProjectRole,
    ),
    Route(
        method="DELETE", path="/admin/v1/projects/{project_id}/members/{member_id}",
        permission="members.write",
        summary="Take a member out of a project", handle=_remove_project_member, answer=Deleted,
    ),
    Route(
        method="GET", path="/admin/v1/members", permission="members.read", summary="List members",
        handle=_list_members, answer=Listed[MemberRecord], query=MemberPage,
    ),
    Route(
        method="POST", path="/admin/v1/members", permission="members.write", summary="Add a member",
        handle=_add_member, answer=MemberRecord, body=members.MemberOrder, status=201,
    ),
    Route(
        method="GET", path="/admin/v1/members/{member_id}", permission="members.read",
        summary="Show a member",
        handle=_show_member, answer=MemberRecord,
    ),
    Route(
        method="PATCH", path="/admin/v1/members/{member_id}", permission="members.write",
        summary="Change a member's role or name", handle=_change_member, answer=MemberRecord,
        body=members.MemberChange,
    ),
    Route(
        method="DELETE", path="/admin/v1/members/{member_id}", permission="members.write",
        summary="Remove a member", handle=_remove_member, answer=Deleted,
    ),
    Route(
        method="GET", path="/admin/v1/audit", permission="audit.read",
        summary="Read what was done and refused", handle=_list_audit, answer=Listed[AuditRecord],
        query=AuditPage,
    ),
)  # fmt: skip
