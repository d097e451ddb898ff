"""How each kind of record lies in its table: what is read, what it can be found by, what is written.

Records name other things by public ids, tables by internal integers; the queries here translate one way,
`refs` the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Select, String, case, cast, func, literal, select

from headgate.records import (
    AccountRecord,
    AuditRecord,
    BudgetRecord,
    EventRecord,
    KeyRecord,
    LimitRecord,
    MemberRecord,
    ProjectMemberRecord,
    ProjectRecord,
    SecretRecord,
)
from headgate.stores.sql.tables import (
    accounts,
    audit,
    budgets,
    events,
    key_uses,
    keys,
    limits,
    members,
    project_members,
    projects,
    secrets,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Table


class Shape(NamedTuple):
    """One kind of record in SQL."""

    table: Table
    query: Select[Any]  # with a column for each member of the record, under its name
    where: Mapping[str, ColumnElement[Any]]  # what it can be found by
    order: ColumnElement[Any]  # grows with age
    prefix: str = ""  # of a new public id; empty: it gets none
    refs: Mapping[str, Table] = {}  # members that are public ids, and of what
    packed: tuple[str, ...] = ()  # members that are kept as JSON
    derived: tuple[str, ...] = ()  # members that are read and not written


_ids = {table: table.c.public_id for table in (accounts, projects, members, keys)}


def _columns(table: Table, names: str) -> list[ColumnElement[Any]]:
    return [table.c[name] for name in names.split()]


def _or_empty(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(column, "")


_accounts = Shape(
    accounts,
    select(
        accounts.c.public_id.label("id"),
        *_columns(
            accounts, "name status prepaid tier tier_fixed multiplier_ppm first_paid_at metadata created_at"
        ),
    ),
    {"id": accounts.c.public_id, "name": accounts.c.name, "status": accounts.c.status},
    accounts.c.id,
    "acct",
    packed=("metadata",),
)
_projects = Shape(
    projects,
    select(
        projects.c.public_id.label("id"),
        accounts.c.public_id.label("account"),
        *_columns(projects, "name environment archived_at metadata created_at"),
    ).join(accounts, accounts.c.id == projects.c.account),
    {
        "id": projects.c.public_id,
        "account": accounts.c.public_id,
        "name": projects.c.name,
        "archived_at": projects.c.archived_at,
    },
    projects.c.id,
    "proj",
    {"account": accounts},
    ("metadata",),
)
_members = Shape(
    members,
    select(
        members.c.public_id.label("id"),
        accounts.c.public_id.label("account"),
        _or_empty(projects.c.public_id).label("project"),
        *_columns(members, "name email role removed_at metadata created_at"),
    )
    .join(accounts, accounts.c.id == members.c.account)
    .outerjoin(projects, projects.c.id == members.c.project),
    {
        "id": members.c.public_id,
        "account": accounts.c.public_id,
        "project": _or_empty(projects.c.public_id),
        "name": members.c.name,
        "email": members.c.email,
        "role": members.c.role,
        "removed_at": members.c.removed_at,
    },
    members.c.id,
    "user",
    {"account": accounts, "project": projects},
    ("metadata",),
)
_project_members = Shape(
    project_members,
    select(
        members.c.public_id.label("id"),
        accounts.c.public_id.label("account"),
        projects.c.public_id.label("project"),
        *_columns(members, "name email"),
        *_columns(project_members, "role created_at"),
    )
    .select_from(project_members)
    .join(projects, projects.c.id == project_members.c.project)
    .join(members, members.c.id == project_members.c.member)
    .join(accounts, accounts.c.id == projects.c.account)
    .where(members.c.removed_at == 0),
    {"id": members.c.public_id, "project": projects.c.public_id, "role": project_members.c.role},
    members.c.id,
    refs={"id": members, "project": projects},
    derived=("account", "name", "email"),
)
_keys = Shape(
    keys,
    select(
        keys.c.public_id.label("id"),
        projects.c.public_id.label("project"),
        accounts.c.public_id.label("account"),
        _or_empty(members.c.public_id).label("member"),
        *_columns(keys, "name kind shown models endpoints networks rights rpm tpm rpd tpd concurrency"),
        *_columns(keys, "queue_ms priority metadata created_by created_at rotated_at old_until"),
        *_columns(keys, "expires_at revoked_at"),
        func.coalesce(key_uses.c.used_at, 0).label("used_at"),
    )
    .join(projects, projects.c.id == keys.c.project)
    .join(accounts, accounts.c.id == projects.c.account)
    .outerjoin(members, members.c.id == keys.c.member)
    .outerjoin(key_uses, key_uses.c.key == keys.c.id),
    {
        "id": keys.c.public_id,
        "project": projects.c.public_id,
        "account": accounts.c.public_id,
        "member": _or_empty(members.c.public_id),
        "created_by": keys.c.created_by,
        "digest": keys.c.digest,
        "old_digest": keys.c.old_digest,
        "kind": keys.c.kind,
        "name": keys.c.name,
        "shown": keys.c.shown,
        "revoked_at": keys.c.revoked_at,
        "secret_at": case((keys.c.rotated_at > 0, keys.c.rotated_at), else_=keys.c.created_at),
        "ends_at": case((keys.c.expires_at > 0, keys.c.expires_at), else_=2**62),
        "orphaned": func.coalesce(members.c.removed_at, 0) > 0,
    },
    keys.c.id,
    "key",
    {"project": projects, "member": members},
    ("models", "endpoints", "networks", "rights", "metadata"),
    ("account", "used_at"),
)


def _scoped(table: Table, names: str) -> tuple[Select[Any], dict[str, ColumnElement[Any]]]:
    """Return the query of what bounds an account, a project or a key, and what it can be found by.

    Its `ref` says which one; where that is follows.
    """
    key, key_project = keys.alias("its_key"), projects.alias("its_keys_project")
    project, whole = projects.alias("its_project"), accounts.alias("its_account")
    account = accounts.alias("own_account")
    found = {
        "id": table.c.public_id,
        "ref": func.coalesce(key.c.public_id, project.c.public_id, whole.c.public_id),
        "account": account.c.public_id,
        "project": func.coalesce(key_project.c.public_id, project.c.public_id, ""),
    }
    scope, ref = table.c.scope, table.c.ref
    query = (
        select(*(column.label(name) for name, column in found.items()), *_columns(table, names))
        .outerjoin(key, (scope == "key") & (key.c.id == ref))
        .outerjoin(key_project, key_project.c.id == key.c.project)
        .outerjoin(project, (scope == "project") & (project.c.id == ref))
        .outerjoin(whole, (scope == "account") & (whole.c.id == ref))
        .join(account, account.c.id == func.coalesce(key_project.c.account, project.c.account, whole.c.id))
    )
    return query, {**found, "scope": scope, "origin": table.c.origin}


_budget_query, _budget_where = _scoped(budgets, "scope book amount unit tz hard thresholds origin created_at")
_budgets = Shape(
    budgets,
    _budget_query,
    {**_budget_where, "unit": budgets.c.unit},
    budgets.c.id,
    "budget",
    packed=("thresholds",),
    derived=("account", "project"),
)
_limit_query, _limit_where = _scoped(limits, "scope model rpm tpm rpd tpd concurrency origin created_at")
_limits = Shape(
    limits,
    _limit_query,
    {**_limit_where, "model": limits.c.model},
    limits.c.id,
    "limit",
    derived=("account", "project"),
)
_audit = Shape(
    audit,
    select(
        (literal("audit_") + cast(audit.c.seq, String)).label("id"),
        _or_empty(accounts.c.public_id).label("account"),
        *_columns(audit, "at actor action kind ref outcome detail"),
    ).outerjoin(accounts, accounts.c.id == audit.c.account),
    {
        "id": literal("audit_") + cast(audit.c.seq, String),
        "account": _or_empty(accounts.c.public_id),
        "actor": audit.c.actor,
        "action": audit.c.action,
        "kind": audit.c.kind,
        "ref": audit.c.ref,
        "outcome": audit.c.outcome,
    },
    audit.c.seq,
    refs={"account": accounts},
    packed=("detail",),
)
_events = Shape(
    events,
    select(
        (literal("event_") + cast(events.c.seq, String)).label("id"),
        _or_empty(accounts.c.public_id).label("account"),
        *_columns(events, "at kind ref detail"),
    ).outerjoin(accounts, accounts.c.id == events.c.account),
    {
        "id": literal("event_") + cast(events.c.seq, String),
        "account": _or_empty(accounts.c.public_id),
        "kind": events.c.kind,
        "ref": events.c.ref,
    },
    events.c.seq,
    packed=("detail",),
)

_secrets = Shape(
    secrets,
    select(
        secrets.c.name.label("id"),
        secrets.c.id.label("row"),
        *_columns(secrets, "host version wrapped nonce sealed created_at"),
    ),
    {"id": secrets.c.name},
    secrets.c.name,
)

SHAPES: dict[type, Shape] = {
    AccountRecord: _accounts,
    ProjectRecord: _projects,
    MemberRecord: _members,
    ProjectMemberRecord: _project_members,
    KeyRecord: _keys,
    BudgetRecord: _budgets,
    LimitRecord: _limits,
    AuditRecord: _audit,
    SecretRecord: _secrets,
    EventRecord: _events,
}
SCOPES = {"account": accounts, "project": projects, "key": keys}
