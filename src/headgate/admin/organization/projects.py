"""Projects and who is in them: `client.admin.organization.projects` and `.projects.users`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from headgate.admin.organization.shapes import Gone, Name, ProjectRole, maybe, seconds
from headgate.admin.table import Listed, Route, listed
from headgate.errors import CallerError
from headgate.ops import members, projects
from headgate.ops.actors import absent
from headgate.ops.desk import PageOrder

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked
    from headgate.records import ProjectMemberRecord, ProjectRecord

ROOT: Final = "/v1/organization/projects"


class ProjectPage(PageOrder, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which projects."""

    include_archived: bool = False


class ProjectName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The project that somebody wants."""

    name: Name


class ProjectNaming(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a project shall be called; null: as it is."""

    name: Name | None = None


class OrganizationProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project as OpenAI shows it."""

    id: str
    object: Literal["organization.project"] = "organization.project"
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]


class ProjectUserOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who shall be in a project, by id or by address."""

    role: ProjectRole
    user_id: str | None = None
    email: str | None = None


class ProjectUserChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member shall be in a project; null: what it is."""

    role: ProjectRole | None = None


class ProjectUser(msgspec.Struct, frozen=True, kw_only=True):
    """A member in a project as OpenAI shows it."""

    id: str
    object: Literal["organization.project.user"] = "organization.project.user"
    name: str
    email: str
    role: ProjectRole
    added_at: int


def _project(record: ProjectRecord) -> OrganizationProject:
    return OrganizationProject(
        id=record.id,
        name=record.name,
        created_at=seconds(record.created_at),
        archived_at=maybe(record.archived_at),
        status="archived" if record.archived_at else "active",
    )


def _user(record: ProjectMemberRecord) -> ProjectUser:
    return ProjectUser(
        id=record.id,
        name=record.name,
        email=record.email,
        role="owner" if record.role == "owner" else "member",
        added_at=seconds(record.created_at),
    )


def _list(office: Office, asked: Asked) -> Listed[OrganizationProject]:
    query = asked.query
    page = projects.list_projects(
        asked.actor, office.desk, query, asked.organization, archived=query.include_archived
    )
    return listed(page, _project)


def _create(office: Office, asked: Asked) -> OrganizationProject:
    order = projects.ProjectOrder(name=asked.body.name, account=asked.organization)
    return _project(projects.create_project(asked.actor, office.desk, order))


def _show(office: Office, asked: Asked) -> OrganizationProject:
    return _project(projects.show_project(asked.actor, office.desk, asked.path["project_id"]))


def _change(office: Office, asked: Asked) -> OrganizationProject:
    name = asked.body.name
    change = projects.ProjectChange() if name is None else projects.ProjectChange(name=name)
    return _project(projects.change_project(asked.actor, office.desk, asked.path["project_id"], change))


def _archive(office: Office, asked: Asked) -> OrganizationProject:
    return _project(projects.archive_project(asked.actor, office.desk, asked.path["project_id"]))


def _list_users(office: Office, asked: Asked) -> Listed[ProjectUser]:
    page = projects.list_project_members(asked.actor, office.desk, asked.path["project_id"], asked.query)
    return listed(page, _user)


def _add_user(office: Office, asked: Asked) -> ProjectUser:
    order, project = asked.body, asked.path["project_id"]
    member = order.user_id or _by_address(office, asked, project, order.email)
    return _user(projects.put_project_member(asked.actor, office.desk, project, member, order.role))


def _by_address(office: Office, asked: Asked, project: str, email: str | None) -> str:
    if not email:
        raise CallerError(
            "Missing required parameter: 'user_id'.", param="user_id", code="missing_required_parameter"
        )
    account = projects.show_project(asked.actor, office.desk, project).account
    page = members.list_members(asked.actor, office.desk, PageOrder(limit=1), account, emails=[email])
    if not page.data:
        raise absent("member", email)
    return page.first_id


def _show_user(office: Office, asked: Asked) -> ProjectUser:
    project, member = asked.path["project_id"], asked.path["user_id"]
    return _user(projects.show_project_member(asked.actor, office.desk, project, member))


def _change_user(office: Office, asked: Asked) -> ProjectUser:
    project, member = asked.path["project_id"], asked.path["user_id"]
    before = projects.show_project_member(asked.actor, office.desk, project, member)
    role = asked.body.role or before.role
    return _user(projects.put_project_member(asked.actor, office.desk, project, member, role))


def _remove_user(office: Office, asked: Asked) -> Gone:
    project, member = asked.path["project_id"], asked.path["user_id"]
    gone = projects.remove_project_member(asked.actor, office.desk, project, member)
    return Gone(id=gone.id, object="organization.project.user.deleted")


ROUTES: Final = (
    Route(
        method="GET", path=ROOT, permission="projects.read", summary="List projects", handle=_list,
        answer=Listed[OrganizationProject], query=ProjectPage,
    ),
    Route(
        method="POST", path=ROOT, permission="projects.write", summary="Make a project", handle=_create,
        answer=OrganizationProject, body=ProjectName,
    ),
    Route(
        method="GET", path=ROOT + "/{project_id}", permission="projects.read", summary="Show a project",
        handle=_show, answer=OrganizationProject,
    ),
    Route(
        method="POST", path=ROOT + "/{project_id}", permission="projects.write", summary="Rename a project",
        handle=_change, answer=OrganizationProject, body=ProjectNaming,
    ),
    Route(
        method="POST", path=ROOT + "/{project_id}/archive", permission="projects.write",
        summary="Archive a project: its keys call no more", handle=_archive, answer=OrganizationProject,
    ),
    Route(
        method="GET", path=ROOT + "/{project_id}/users", permission="members.read",
        summary="List a project's members", handle=_list_users, answer=Listed[ProjectUser], query=PageOrder,
    ),
    Route(
        method="POST", path=ROOT + "/{project_id}/users", permission="members.write",
        summary="Take a member into a project", handle=_add_user, answer=ProjectUser, body=ProjectUserOrder,
    ),
    Route(
        method="GET", path=ROOT + "/{project_id}/users/{user_id}", permission="members.read",
        summary="Show a member in a project", handle=_show_user, answer=ProjectUser,
    ),
    Route(
        method="POST", path=ROOT + "/{project_id}/users/{user_id}", permission="members.write",
        summary="Change a member's role in a project", handle=_change_user, answer=ProjectUser,
        body=ProjectUserChange,
    ),
    Route(
        method="DELETE", path=ROOT + "/{project_id}/users/{user_id}", permission="members.write",
        summary="Take a member out of a project", handle=_remove_user, answer=Gone,
    ),
)  # fmt: skip
