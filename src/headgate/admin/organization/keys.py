"""Keys: `client.admin.organization.projects.api_keys` and `.admin_api_keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from headgate.admin.organization.projects import ROOT
from headgate.admin.organization.shapes import Gone, Lifetime, Name, maybe, seconds
from headgate.admin.table import Listed, Route, listed
from headgate.errors import NotFound, PermissionRefused
from headgate.ops import keys, members, projects
from headgate.ops.actors import absent
from headgate.ops.desk import PageOrder
from headgate.ops.keyrules import KeyChange, KeyOrder

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked
    from headgate.records import KeyRecord, MemberRecord

KEYS: Final = ROOT + "/{project_id}/api_keys"
ADMIN: Final = "/v1/organization/admin_api_keys"
_CALLING: Final = ("live", "test")


class ProjectKeyPage(PageOrder, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys; by whether their owners have access still."""

    owner_project_access: Literal["active", "inactive", "any"] = "any"


class ProjectKeyChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a key shall be valid from now on."""

    expires_in_seconds: Lifetime | None = None


class KeyUser(msgspec.Struct, frozen=True, kw_only=True):
    """The person that has a key."""

    id: str
    object: Literal["organization.project.user"] = "organization.project.user"
    name: str
    email: str
    role: str
    created_at: int


class KeyService(msgspec.Struct, frozen=True, kw_only=True):
    """The service account that has a key."""

    id: str
    object: Literal["organization.project.service_account"] = "organization.project.service_account"
    name: str
    role: str
    created_at: int


class KeyOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a key; nobody, of a key of the gateway's own."""

    type: Literal["user", "service_account"] | None = None
    user: KeyUser | None = None
    service_account: KeyService | None = None


class ProjectKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of a project as OpenAI shows it."""

    id: str
    object: Literal["organization.project.api_key"] = "organization.project.api_key"
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    owner: KeyOwner
    owner_project_access: Literal["active", "inactive"]


class AdminKeyOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The admin key that somebody wants: with all of their own rights."""

    name: Name
    expires_in_seconds: Lifetime | None = None


class AdminOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Who has an admin key."""

    type: Literal["user"] = "user"
    object: Literal["organization.user"] = "organization.user"
    id: str | None
    name: str | None
    role: str | None
    created_at: int | None


class AdminKey(msgspec.Struct, frozen=True, kw_only=True):
    """An admin key as OpenAI shows it."""

    id: str
    object: Literal["organization.admin_api_key"] = "organization.admin_api_key"
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    owner: AdminOwner


class NewAdminKey(AdminKey, frozen=True, kw_only=True):
    """A new admin key: `value` is its text, shown once."""

    value: str


class _Owners:
    """Who has the keys of a list, each looked up once, as far as the asker may see it."""

    def __init__(self, office: Office, asked: Asked) -> None:
        self._office = office
        self._asked = asked
        self._known: dict[str, MemberRecord | None] = {}

    def find(self, member: str) -> MemberRecord | None:
        """Return a member; None where the asker may not see it."""
        if member not in self._known:
            try:
                self._known[member] = members.show_member(self._asked.actor, self._office.desk, member)
            except (NotFound, PermissionRefused):
                self._known[member] = None
        return self._known[member]

    def project_key(self, record: KeyRecord) -> ProjectKey:
        """Return a key of a project."""
        found = self.find(record.member) if record.member else None
        return ProjectKey(
            **_common(record),
            owner=_owner(record, found),
            owner_project_access="inactive" if found is not None and found.removed_at else "active",
        )

    def admin_key(self, record: KeyRecord) -> AdminKey:
        """Return an admin key."""
        return AdminKey(**_common(record), owner=self.admin_owner(record))

    def admin_owner(self, record: KeyRecord) -> AdminOwner:
        """Return who has an admin key."""
        found = self.find(record.member) if record.member else None
        return AdminOwner(
            id=record.member or None,
            name=found.name if found is not None else None,
            role=found.role if found is not None else None,
            created_at=seconds(found.created_at) if found is not None else None,
        )


def _common(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "redacted_value": record.shown,
        "created_at": seconds(record.created_at),
        "last_used_at": maybe(record.used_at),
        "expires_at": maybe(record.expires_at),
    }


def _owner(record: KeyRecord, found: MemberRecord | None) -> KeyOwner:
    if not record.member:
        return KeyOwner()
    name, created_at = (found.name, seconds(found.created_at)) if found is not None else ("", 0)
    if record.member.startswith("svc_"):
        service = KeyService(id=record.member, name=name, role="member", created_at=created_at)
        return KeyOwner(type="service_account", service_account=service)
    email, role = (found.email, found.role) if found is not None else ("", "")
    user = KeyUser(id=record.member, name=name, email=email, role=role, created_at=created_at)
    return KeyOwner(type="user", user=user)


def _list(office: Office, asked: Asked) -> Listed[ProjectKey]:
    project = projects.show_project(asked.actor, office.desk, asked.path["project_id"])
    access = asked.query.owner_project_access
    page = keys.list_keys(
        asked.actor, office.desk, asked.query, account=project.account, project=project.id, kind=_CALLING,
        revoked_at=0, **({} if access == "any" else {"orphaned": access == "inactive"}),
    )  # fmt: skip
    return listed(page, _Owners(office, asked).project_key)


def _find(office: Office, asked: Asked) -> KeyRecord:
    """Return the key of the path, which must be in its project."""
    project, ref = asked.path["project_id"], asked.path["key_id"]
    projects.show_project(asked.actor, office.desk, project)
    found = keys.show_key(asked.actor, office.desk, ref)
    if found.project != project or found.kind not in _CALLING or found.revoked_at:
        raise absent("key", ref)
    return found


def _show(office: Office, asked: Asked) -> ProjectKey:
    return _Owners(office, asked).project_key(_find(office, asked))


def _change(office: Office, asked: Asked) -> ProjectKey:
    found, lifetime = _find(office, asked), asked.body.expires_in_seconds
    if lifetime is not None:
        until = office.desk.clock.wall() + lifetime * 1_000_000
        found = keys.change_key(asked.actor, office.desk, found.id, KeyChange(expires_at=until))
    return _Owners(office, asked).project_key(found)


def _remove(office: Office, asked: Asked) -> Gone:
    gone = keys.revoke_key(asked.actor, office.desk, _find(office, asked).id)
    return Gone(id=gone.id, object="organization.project.api_key.deleted")


def _list_admin(office: Office, asked: Asked) -> Listed[AdminKey]:
    where = {"account": asked.organization} if asked.organization else {}
    page = keys.list_keys(asked.actor, office.desk, asked.query, kind="admin", revoked_at=0, **where)
    return listed(page, _Owners(office, asked).admin_key)


def _create_admin(office: Office, asked: Asked) -> NewAdminKey:
    order = KeyOrder(name=asked.body.name, kind="admin", expires_in_s=asked.body.expires_in_seconds or 0)
    made = keys.create_key(asked.actor, office.desk, order)
    owner = _Owners(office, asked).admin_owner(made.record)
    return NewAdminKey(**_common(made.record), owner=owner, value=made.text)


def _find_admin(office: Office, asked: Asked) -> KeyRecord:
    found = keys.show_key(asked.actor, office.desk, asked.path["key_id"])
    if found.kind != "admin" or found.revoked_at:
        raise absent("key", asked.path["key_id"])
    return found


def _show_admin(office: Office, asked: Asked) -> AdminKey:
    return _Owners(office, asked).admin_key(_find_admin(office, asked))


def _remove_admin(office: Office, asked: Asked) -> Gone:
    gone = keys.revoke_key(asked.actor, office.desk, _find_admin(office, asked).id)
    return Gone(id=gone.id, object="organization.admin_api_key.deleted")


ROUTES: Final = (
    Route(
        method="GET", path=KEYS, permission="keys.read", summary="List a project's keys", handle=_list,
        answer=Listed[ProjectKey], query=ProjectKeyPage,
    ),
    Route(
        method="GET", path=KEYS + "/{key_id}", permission="keys.read", summary="Show a key of a project",
        handle=_show, answer=ProjectKey,
    ),
    Route(
        method="POST", path=KEYS + "/{key_id}", permission="keys.write", summary="Change when a key expires",
        handle=_change, answer=ProjectKey, body=ProjectKeyChange,
    ),
    Route(
        method="DELETE", path=KEYS + "/{key_id}", permission="keys.write",
        summary="Revoke a key of a project",
        handle=_remove, answer=Gone,
    ),
    Route(
        method="GET", path=ADMIN, permission="admin_keys.read", summary="List admin keys",
        handle=_list_admin, answer=Listed[AdminKey], query=PageOrder,
    ),
    Route(
        method="POST", path=ADMIN, permission="admin_keys.write", summary="Make an admin key",
        handle=_create_admin, answer=NewAdminKey, body=AdminKeyOrder, shown_once="value",
    ),
    Route(
        method="GET", path=ADMIN + "/{key_id}", permission="admin_keys.read", summary="Show an admin key",
        handle=_show_admin, answer=AdminKey,
    ),
    Route(
        method="DELETE", path=ADMIN + "/{key_id}", permission="admin_keys.write",
        summary="Revoke an admin key",
        handle=_remove_admin, answer=Gone,
    ),
)  # fmt: skip
