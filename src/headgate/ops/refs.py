"""What a person means by a reference: the id of a thing, or its name where only one has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.errors import Conflict
from headgate.ops.actors import Place, absent, printable
from headgate.records import AccountRecord, MemberRecord, ProjectRecord

if TYPE_CHECKING:
    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk

_Thing = AccountRecord | ProjectRecord | MemberRecord


class _Kind(NamedTuple):
    record: type[_Thing]
    names: tuple[str, ...]  # members by which it is known beside its id
    permission: str  # to see it


_KINDS: Final = {
    "account": _Kind(AccountRecord, ("name",), "account.read"),
    "project": _Kind(ProjectRecord, ("name",), "projects.read"),
    "member": _Kind(MemberRecord, ("email", "name"), "members.read"),
}


def public_id_of(actor: Actor, desk: Desk, thing: str, reference: str, account: str = "") -> str:
    """Return the public id of the account, project or member that is meant.

    Args:
        actor: who means it.
        desk: where.
        thing: `account`, `project` or `member`.
        reference: its id, its name, or a member's address.
        account: in which it is, where that is known.

    Raises:
        NotFound: there is none, or not for this actor.
        Conflict: several have that name.
    """
    kind = _KINDS[thing]
    with desk.reading() as register:
        if register.get(kind.record, id=reference) is not None:
            return reference  # the operation that asks for it authorises
        account = account or actor.account
        where = {"account": account} if account and thing != "account" else {}
        found: list[_Thing] = []
        for name in kind.names:
            wanted = reference.lower() if name == "email" else reference
            found += register.all(kind.record, **{name: wanted}, **where)
    seen = {record.id: record for record in found if actor.may(kind.permission, _place(record))}
    live = [record for record in seen.values() if _lives(record)] or list(seen.values())
    if not live:
        raise absent(thing, reference)
    if len(live) > 1:
        ids = ", ".join(record.id for record in live[:10])
        raise Conflict(f"{printable(reference)!r} means {len(live)} {thing}s: say which by its id: {ids}.")
    return live[0].id


def _place(record: _Thing) -> Place:
    if isinstance(record, AccountRecord):
        return Place(record.id)
    project = record.id if isinstance(record, ProjectRecord) else record.project
    return Place(record.account, project)


def _lives(record: _Thing) -> bool:
    if isinstance(record, AccountRecord):
        return record.status != "closed"
    return not (record.archived_at if isinstance(record, ProjectRecord) else record.removed_at)
