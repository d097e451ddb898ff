"""From a credential to an actor: a member's present rights, or those of an admin key within them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import AuthenticationFailed, PermissionRefused
from headgate.identity.keys import digest, incorrect, well_formed
from headgate.identity.networks import inside
from headgate.identity.rights import ceiling_of, narrow
from headgate.identity.roles import PERMISSIONS, PROJECT_ROLES, ROLES, SERVICE
from headgate.ops.actors import LOCAL, Actor
from headgate.ops.keyrules import makers
from headgate.records import AccountRecord, KeyRecord, MemberRecord, ProjectMemberRecord

if TYPE_CHECKING:
    from headgate.ops.desk import Desk, Register
    from headgate.values import Ceiling

_WRONG = "Admin keys begin with sk-hg-adm-; make one with `headgate keys create --kind admin`."


def actor_of_member(register: Register, member: str) -> Actor | None:
    """Return what a member may do now; None where there is no such member any more."""
    person = register.get(MemberRecord, id=member)
    if person is None or person.removed_at:
        return None
    account = register.get(AccountRecord, id=person.account)
    if account is None or account.status == "closed":
        return None
    if person.role == SERVICE:
        return Actor(member, person.account, member, projects={person.project: PROJECT_ROLES["member"]})
    there = register.all(ProjectMemberRecord, id=member)
    projects = {row.project: PROJECT_ROLES[row.role] for row in there}
    return Actor(member, person.account, member, ROLES[person.role], projects)


def actor_of_key(desk: Desk, token: bytes, address: str) -> Actor:
    """Return what an admin key may do now.

    Args:
        desk: where.
        token: the key as it was sent.
        address: of who sent it, as `networks.client_address` gives it.

    Raises:
        AuthenticationFailed: no admin key of ours, revoked or expired, or not from this address.
        PermissionRefused: a key that only makes calls.
    """
    if not well_formed(token):
        raise incorrect(token, _WRONG)
    now = desk.clock.wall()
    with desk.reading() as register:
        found = _key_of(register, digest(desk.pepper, token), now)
        if found is None or (found.expires_at and found.expires_at <= now):
            raise incorrect(token, f"It is not known here, or no longer valid. {_WRONG}")
        if found.kind != "admin":
            raise PermissionRefused(
                f"This key makes calls and does not administer. {_WRONG}", code="admin_key_required"
            )
        actor = _actor(register, found)
    if actor is None:
        raise incorrect(token, "Whose it was is no longer a member here.")
    if actor.ceiling.expires_at and actor.ceiling.expires_at <= now:
        raise incorrect(token, "The key that made it has expired.")
    if actor.ceiling.networks and not inside(address, actor.ceiling.networks):
        raise AuthenticationFailed(
            "Your IP address is not on the allow-list of this key.", code="ip_not_authorized"
        )
    return actor


def _key_of(register: Register, found: bytes, now: int) -> KeyRecord | None:
    key = register.get(KeyRecord, digest=found, revoked_at=0)
    if key is not None:
        return key
    key = register.get(KeyRecord, old_digest=found, revoked_at=0)
    return key if key is not None and now < key.old_until else None


def _actor(register: Register, key: KeyRecord) -> Actor | None:
    """Return who a key stands for: its holder's rights, its own, and those of the keys that made it."""
    holder = actor_of_member(register, key.member) if key.member else LOCAL
    ceiling: Ceiling | None = ceiling_of(key)
    rights = frozenset(key.rights) if key.rights else None
    for maker in makers(register, key):
        ceiling = narrow(ceiling, ceiling_of(maker)) if ceiling is not None else None
        if maker.rights:
            rights = frozenset(maker.rights) & (PERMISSIONS if rights is None else rights)
    if holder is None or ceiling is None:
        return None
    kept = PERMISSIONS if rights is None else rights
    return Actor(
        key.id,
        holder.account,
        key.member,
        holder.permissions & kept,
        {project: may & kept for project, may in holder.projects.items()},
        ceiling,
        rights,
    )
