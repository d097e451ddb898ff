"""Who does something, what they may do where, and the only gate that asks.

An actor is LOCAL (whoever can read the pepper and the database owns them), a member, or an admin key,
whose rights are some of its member's. A thing of another account, one that an actor may not see and one
that does not exist are the same: `absent` says so in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from headgate.errors import NotFound, PermissionRefused
from headgate.identity.keys import OWN, mask
from headgate.identity.roles import PERMISSIONS, read_permission
from headgate.values import Ceiling

NOBODY: Final[frozenset[str]] = frozenset()


class Place(msgspec.Struct, frozen=True):
    """Where a thing is: public ids; an empty account is the gateway itself."""

    account: str = ""
    project: str = ""
    member: str = ""  # whose it is, of a key


class Actor(msgspec.Struct, frozen=True):
    """Who does something. `id` is written into the audit and as the origin of what they make."""

    id: str
    account: str = ""  # the only one that it knows; empty: all of the gateway
    member: str = ""  # the person or the service account behind it
    permissions: frozenset[str] = NOBODY  # in all of its account
    projects: Mapping[str, frozenset[str]] = {}  # and more in some projects
    ceiling: Ceiling = Ceiling()  # what a key that it makes can be at most
    rights: frozenset[str] | None = None  # of an admin key with rights of its own

    def may(self, permission: str, place: Place) -> bool:
        """Say whether it may, there."""
        if self.account and place.account != self.account:
            return False
        if self._has(permission, place):
            return True
        own = permission in {"keys.read", "keys.write"} and bool(self.member) and place.member == self.member
        return own and self._has("keys.own", place)

    def _has(self, permission: str, place: Place) -> bool:
        return permission in self.permissions or permission in self.projects.get(place.project, NOBODY)

    def everything(self, place: Place) -> frozenset[str]:
        """Return all that it may do in a place."""
        if self.account and place.account != self.account:
            return NOBODY
        return self.permissions | self.projects.get(place.project, NOBODY)


# Whoever can read the pepper and the database owns them: the file system has authorised them.
LOCAL: Final = Actor("local", permissions=PERMISSIONS)


def authorise(actor: Actor, permission: str, place: Place, thing: str = "", ref: str = "") -> None:
    """Let an actor pass that may.

    Args:
        actor: who.
        permission: of `roles.PERMISSIONS`.
        place: where the thing is, or will be.
        thing: what it is ("key"), where there is one; who may not read it is told that it is absent.
        ref: as the actor named it.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: and may not even see it.
    """
    assert permission in PERMISSIONS, permission
    if actor.may(permission, place):
        return
    known = thing == "account" and place.account == actor.account  # its own, whatever it may in it
    if thing and not (known or actor.may(read_permission(permission), place)):
        raise absent(thing, ref)
    raise PermissionRefused(
        f"{actor.id} may not do this: it takes the permission {permission}. Ask an owner of the account.",
        code="insufficient_permissions",
    )


def absent(thing: str, ref: str) -> NotFound:
    """Return the refusal of a thing that is not there, or not for this actor."""
    return NotFound(f"There is no {thing} {printable(ref)!r}.")


def printable(ref: str) -> str:
    """Return what may be repeated of a reference: never a key."""
    return mask(ref) if ref.startswith(OWN) and "…" not in ref else ref[:200]
