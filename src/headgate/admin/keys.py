"""Keys and service accounts over HTTP. A key's text is in the answer that makes it, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from headgate.admin.people import AccountPage
from headgate.admin.table import Listed, Route, listed
from headgate.ops import ages, keys
from headgate.ops.keyrules import KeyChange, KeyOrder
from headgate.records import OLD_DAYS, KeyRecord, MemberRecord

if TYPE_CHECKING:
    from headgate.admin.office import Office
    from headgate.admin.table import Asked


class KeyPage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys."""

    project: str = ""
    member: str = ""
    kind: Literal["live", "test", "admin", ""] = ""
    name: str = ""


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the present secret stays valid beside the new one."""

    grace_s: int = 0


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key with a new secret: `key` is its text, shown once."""

    key: str
    record: KeyRecord


class NewServiceAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A new service account with its first key: `key` is the key's text, shown once."""

    key: str
    record: KeyRecord
    member: MemberRecord


def _list(office: Office, asked: Asked) -> Listed[KeyRecord]:
    query = asked.query
    where = {name: getattr(query, name) for name in ("account", "project", "member", "kind", "name")}
    given = {name: value for name, value in where.items() if value}
    return listed(keys.list_keys(asked.actor, office.desk, query, **given))


def _create(office: Office, asked: Asked) -> NewKey:
    made = keys.create_key(asked.actor, office.desk, asked.body)
    return NewKey(key=made.text, record=made.record)


def _create_service_account(office: Office, asked: Asked) -> NewServiceAccount:
    made = keys.create_service_account(asked.actor, office.desk, asked.path["project_id"], asked.body)
    return NewServiceAccount(key=made.key.text, record=made.key.record, member=made.member)


def _show(office: Office, asked: Asked) -> KeyRecord:
    return keys.show_key(asked.actor, office.desk, asked.path["key_id"])


def _change(office: Office, asked: Asked) -> KeyRecord:
    return keys.change_key(asked.actor, office.desk, asked.path["key_id"], asked.body)


def _rotate(office: Office, asked: Asked) -> NewKey:
    made = keys.rotate_key(asked.actor, office.desk, asked.path["key_id"], asked.body.grace_s)
    return NewKey(key=made.text, record=made.record)


def _revoke(office: Office, asked: Asked) -> KeyRecord:
    return keys.revoke_key(asked.actor, office.desk, asked.path["key_id"])


class AgePage(AccountPage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys: those that have had their secret for so many days."""

    days: Annotated[int, Meta(ge=1, le=36_500)] = OLD_DAYS


class AgedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that can be used, and whether its secret is old (90 days) or overdue (180)."""

    age: Literal["", "old", "overdue"]
    key: KeyRecord


def _ages(office: Office, asked: Asked) -> Listed[AgedKey]:
    query, now = asked.query, office.desk.clock.wall()
    where = {"account": query.account} if query.account else {}
    page = ages.list_old_keys(asked.actor, office.desk, query, query.days, **where)
    return listed(page, lambda record: AgedKey(age=ages.age_of(record, now), key=record))


ROUTES: Final = (
    Route(
        method="GET", path="/admin/v1/keys", permission="keys.read", summary="List keys", handle=_list,
        answer=Listed[KeyRecord], query=KeyPage,
    ),
    Route(
        method="POST", path="/admin/v1/keys", permission="keys.write", summary="Make a key", handle=_create,
        answer=NewKey, body=KeyOrder, status=201, shown_once="key",
    ),
    Route(
        method="GET", path="/admin/v1/key_ages", permission="keys.read",
        summary="List keys whose secrets are old", handle=_ages, answer=Listed[AgedKey], query=AgePage,
    ),
    Route(
        method="GET", path="/admin/v1/keys/{key_id}", permission="keys.read", summary="Show a key",
        handle=_show,
        answer=KeyRecord,
    ),
    Route(
        method="PATCH", path="/admin/v1/keys/{key_id}", permission="keys.write", summary="Change a key",
        handle=_change, answer=KeyRecord, body=KeyChange,
    ),
    Route(
        method="POST", path="/admin/v1/keys/{key_id}/rotate", permission="keys.write",
        summary="Give a key a new secret", handle=_rotate, answer=NewKey, body=Rotation, shown_once="key",
    ),
    Route(
        method="DELETE", path="/admin/v1/keys/{key_id}", permission="keys.write", summary="Revoke a key",
        handle=_revoke, answer=KeyRecord,
    ),
    Route(
        method="POST", path="/admin/v1/projects/{project_id}/service_accounts", permission="members.write",
        summary="Make a service account with a first key", handle=_create_service_account,
        answer=NewServiceAccount, body=KeyOrder, status=201, shown_once="key",
    ),
)  # fmt: skip
