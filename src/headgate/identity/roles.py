"""Which role may do what: one table of data, and nothing else decides.

A permission is `things.deed`. `read` is the least of them: what an actor may not read does not exist for
it. A role of an account holds in all its projects, a role of a project in that project alone; a member
has both kinds at once. Permissions that begin with `gateway.` concern more than one account: only who
owns the gateway has them.
"""

from __future__ import annotations

from typing import Final

_READ: Final = {
    "account.read", "audit.read", "budgets.read", "credit.read", "keys.read", "limits.read", "members.read",
    "projects.read", "usage.read",
}  # fmt: skip
_WRITE: Final = {
    "account.write", "budgets.write", "credit.write", "keys.write", "limits.write", "members.write",
    "projects.write",
}  # fmt: skip
_SPECIAL: Final = {
    "admin_keys.read",
    "admin_keys.write",  # of others: one's own need nothing but the rights that they carry
    "calls.make",  # through a live or a test key
    "keys.own",  # make, see, change and revoke the keys that belong to oneself
    "owners.write",  # give or take the role of an owner
}
_GATEWAY: Final = {
    "gateway.accounts",  # open, list, suspend and close accounts; their mode, tier and multiplier
    "gateway.credit",  # gifts, top-ups by hand, refunds, adjustments, codes
    "gateway.read",  # what concerns no account: its audit, its events
    "gateway.secrets",  # stored keys of providers
    "gateway.tiers",
}

ACCOUNT_PERMISSIONS: Final[frozenset[str]] = frozenset(_READ | _WRITE | _SPECIAL)
PERMISSIONS: Final[frozenset[str]] = ACCOUNT_PERMISSIONS | _GATEWAY

ROLES: Final[dict[str, frozenset[str]]] = {
    "owner": ACCOUNT_PERMISSIONS,
    "admin": ACCOUNT_PERMISSIONS - {"owners.write"},
    "billing": frozenset(_READ - {"audit.read"} | {"budgets.write", "credit.write"}),
    "developer": frozenset({"account.read", "limits.read"}),  # the rest comes from its projects
    "viewer": frozenset(_READ - {"audit.read", "credit.read"}),
    "auditor": frozenset(_READ | {"admin_keys.read"}),
}
_MEMBER: Final = frozenset(
    {"projects.read", "keys.own", "calls.make", "usage.read", "limits.read", "budgets.read"}
)
PROJECT_ROLES: Final[dict[str, frozenset[str]]] = {
    "owner": _MEMBER
    | {"projects.write", "keys.read", "keys.write", "members.read", "members.write", "limits.write",
       "budgets.write"},
    "member": _MEMBER,
}  # fmt: skip
SERVICE: Final = "service"  # the role of a service account: a member of its one project, nothing else

# Which permission lets an actor see what a permission is about.
READS: Final[dict[str, str]] = {
    "keys.own": "keys.read",
    "calls.make": "keys.read",
    "owners.write": "members.read",
    "gateway.accounts": "account.read",
    "gateway.credit": "credit.read",
    "gateway.secrets": "gateway.read",
    "gateway.tiers": "account.read",
}


def read_permission(permission: str) -> str:
    """Return the permission to see the things that a permission is about."""
    return READS.get(permission) or permission.partition(".")[0] + ".read"
