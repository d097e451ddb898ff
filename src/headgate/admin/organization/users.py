"""Members and service accounts: `client.admin.organization.users` and `.projects.service_accounts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from headgate.admin.organization.projects import ROOT
from headgate.admin.organization.shapes import Gone, Lifetime, Name, maybe, seconds
from headgate.admin.table import Listed, Route, listed
from headgate.ops import keys, members, projects
from headgate.ops.actors import absent
from headgate.ops.desk import PageOrder
from headgate.ops.keyrules import KeyOrder

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked
    from headgate.records import MemberRecord

USERS: Final = "/v1/organization/users"
SERVICES: Final = ROOT + "/{project_id}/service_accounts"
# OpenAI's second role may read and make calls, and administer nothing.
_READER: Final = "developer"


class UserPage(PageOrder, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which members; `emails`: only those with one of these addresses."""

    emails: tuple[str, ...] = ()


class UserChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a member shall be: `owner`, `reader`, or another role of ours; null: what it is."""

    role: str | None = None


class OrganizationUser(msgspec.Struct, frozen=True, kw_only=True):
    """A member as OpenAI shows it."""

    id: str
    object: Literal["organization.user"] = "organization.user"
    name: str
    email: str
    role: str
    added_at: int
    is_service_account: bool


class ServiceAccountOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service account that somebody wants, with a first key that may expire."""

    name: Name
    expires_in_seconds: Lifetime | None = None
    create_service_account_only: Literal[False] | None = None  # each has a first key here


class ServiceAccountChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a service account shall be called; its role is always `member`."""

    name: Name | None = None
    role: Literal["member"] | None = None


class ServiceAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A service account as OpenAI shows it."""

    id: str
    object: Literal["organization.project.service_account"] = "organization.project.service_account"
    name: str
    role: Literal["member"] = "member"
    created_at: int


class ServiceKeyOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further key of a service account."""

    name: Name | None = None
    expires_in_seconds: Lifetime | None = None


class ServiceKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key of a service account: `value` is its text, shown once."""

    id: str
    object: Literal["organization.project.service_account.api_key"] = (
        "organization.project.service_account.api_key"
    )
    name: str
    created_at: int
    expires_at: int | None
    value: str


class NewServiceAccount(ServiceAccount, frozen=True, kw_only=True):
    """A new service account with its first key."""

    api_key: ServiceKey | None


def _user(record: MemberRecord) -> OrganizationUser:
    return OrganizationUser(
        id=record.id,
        name=record.name,
        email=record.email,
        role="reader" if record.role == _READER else record.role,
        added_at=seconds(record.created_at),
        is_service_account=bool(record.project),
    )


def _service(record: MemberRecord) -> ServiceAccount:
    return ServiceAccount(id=record.id, name=record.name, created_at=seconds(record.created_at))


def _service_key(made: keys.CreatedKey) -> ServiceKey:
    record = made.record
    return ServiceKey(
        id=record.id,
        name=record.name,
        created_at=seconds(record.created_at),
        expires_at=maybe(record.expires_at),
        value=made.text,
    )


def _list_users(office: Office, asked: Asked) -> Listed[OrganizationUser]:
    query = asked.query
    page = members.list_members(asked.actor, office.desk, query, asked.organization, emails=query.emails)
    return listed(page, _user)


def _show_user(office: Office, asked: Asked) -> OrganizationUser:
    return _user(_present(office, asked, asked.path["user_id"]))


def _change_user(office: Office, asked: Asked) -> OrganizationUser:
    role = asked.body.role
    if role is None:
        return _show_user(office, asked)
    change = members.MemberChange(role=_READER if role == "reader" else role)
    return _user(members.change_member(asked.actor, office.desk, asked.path["user_id"], change))


def _remove_user(office: Office, asked: Asked) -> Gone:
    gone = members.remove_member(asked.actor, office.desk, asked.path["user_id"])
    return Gone(id=gone.id, object="organization.user.deleted")


def _present(office: Office, asked: Asked, ref: str) -> MemberRecord:
    found = members.show_member(asked.actor, office.desk, ref)
    if found.removed_at:
        raise absent("member", ref)
    return found


def _find_service(office: Office, asked: Asked) -> MemberRecord:
    """Return the service account of the path, which must be in its project."""
    project, ref = asked.path["project_id"], asked.path["service_account_id"]
    projects.show_project(asked.actor, office.desk, project)
    found = _present(office, asked, ref)
    if found.project != project:
        raise absent("member", ref)
    return found


def _list_services(office: Office, asked: Asked) -> Listed[ServiceAccount]:
    project = projects.show_project(asked.actor, office.desk, asked.path["project_id"])
    page = members.list_members(asked.actor, office.desk, asked.query, project.account, project.id)
    return listed(page, _service)


def _create_service(office: Office, asked: Asked) -> NewServiceAccount:
    order = KeyOrder(name=asked.body.name, expires_in_s=asked.body.expires_in_seconds or 0)
    made = keys.create_service_account(asked.actor, office.desk, asked.path["project_id"], order)
    shown = msgspec.structs.asdict(_service(made.member))
    return NewServiceAccount(**shown, api_key=_service_key(made.key))


def _show_service(office: Office, asked: Asked) -> ServiceAccount:
    return _service(_find_service(office, asked))


def _change_service(office: Office, asked: Asked) -> ServiceAccount:
    found, name = _find_service(office, asked), asked.body.name
    change = members.MemberChange() if name is None else members.MemberChange(name=name)
    return _service(members.change_member(asked.actor, office.desk, found.id, change))


def _remove_service(office: Office, asked: Asked) -> Gone:
    gone = members.remove_member(asked.actor, office.desk, _find_service(office, asked).id)
    return Gone(id=gone.id, object="organization.project.service_account.deleted")


def _create_service_key(office: Office, asked: Asked) -> ServiceKey:
    found, body = _find_service(office, asked), asked.body
    order = KeyOrder(
        name=body.name or found.name,
        project=found.project,
        member=found.id,
        expires_in_s=body.expires_in_seconds or 0,
    )
    return _service_key(keys.create_key(asked.actor, office.desk, order))


ROUTES: Final = (
    Route(
        method="GET", path=USERS, permission="members.read", summary="List members", handle=_list_users,
        answer=Listed[OrganizationUser], query=UserPage,
    ),
    Route(
        method="GET", path=USERS + "/{user_id}", permission="members.read", summary="Show a member",
        handle=_show_user, answer=OrganizationUser,
    ),
    Route(
        method="POST", path=USERS + "/{user_id}", permission="members.write",
        summary="Change a member's role",
        handle=_change_user, answer=OrganizationUser, body=UserChange,
    ),
    Route(
        method="DELETE", path=USERS + "/{user_id}", permission="members.write", summary="Remove a member",
        handle=_remove_user, answer=Gone,
    ),
    Route(
        method="GET", path=SERVICES, permission="members.read", summary="List a project's service accounts",
        handle=_list_services, answer=Listed[ServiceAccount], query=PageOrder,
    ),
    Route(
        method="POST", path=SERVICES, permission="members.write",
        summary="Make a service account with a first key", handle=_create_service,
        answer=NewServiceAccount, body=ServiceAccountOrder, shown_once="api_key",
    ),
    Route(
        method="GET", path=SERVICES + "/{service_account_id}", permission="members.read",
        summary="Show a service account", handle=_show_service, answer=ServiceAccount,
    ),
    Route(
        method="POST", path=SERVICES + "/{service_account_id}", permission="members.write",
        summary="Rename a service account", handle=_change_service, answer=ServiceAccount,
        body=ServiceAccountChange,
    ),
    Route(
        method="DELETE", path=SERVICES + "/{service_account_id}", permission="members.write",
        summary="Remove a service account", handle=_remove_service, answer=Gone,
    ),
    Route(
        method="POST", path=SERVICES + "/{service_account_id}/api_keys", permission="keys.write",
        summary="Make a further key of a service account", handle=_create_service_key, answer=ServiceKey,
        body=ServiceKeyOrder, shown_once="value",
    ),
)  # fmt: skip
