"""What budgets and limits bound: an account, a project or a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.errors import CallerError
from headgate.ops.actors import Place, absent, authorise
from headgate.records import AccountRecord, KeyRecord, ProjectRecord

if TYPE_CHECKING:
    import msgspec

    from headgate.ops.actors import Actor
    from headgate.ops.desk import Desk, Page, PageOrder, Register

SCOPES: Final = ("account", "project", "key")


class Within(NamedTuple):
    """Which rows of a list: only those of these, by public ids; empty: all that the actor may see."""

    account: str = ""  # itself, its projects, their keys
    project: str = ""  # itself and its keys
    key: str = ""


def scoped_page(
    actor: Actor, desk: Desk, kind: type[msgspec.Struct], permission: str, page: PageOrder, within: Within
) -> Page:
    """Return a page of what bounds accounts, projects and keys.

    Raises:
        PermissionRefused: the actor may not.
        NotFound: there is no such thing, or not for this actor.
    """
    with desk.reading() as register:
        place, key = Place(within.account or actor.account, within.project), within.key
        if key:
            place = scope_place(register, "key", key)
            authorise(actor, permission, place, "key", key)
        else:
            authorise(actor, permission, place, "account", place.account)
        where = {"account": place.account, "project": place.project}
        if key:
            where |= {"scope": "key", "ref": key}
        return desk.page(register, kind, page, **{name: value for name, value in where.items() if value})


def scope_place(register: Register, scope: str, ref: str) -> Place:
    """Return where a scope is.

    Raises:
        CallerError: there is no such scope.
        NotFound: there is no such thing in it.
    """
    if scope == "account":
        if register.get(AccountRecord, id=ref) is not None:
            return Place(ref)
    elif scope == "project":
        project = register.get(ProjectRecord, id=ref)
        if project is not None:
            return Place(project.account, ref)
    elif scope == "key":
        key = register.get(KeyRecord, id=ref)
        if key is not None:
            return Place(key.account, key.project)
    else:
        raise CallerError(f"{scope!r} is no scope: {', '.join(SCOPES)}.", param="scope")
    raise absent(scope, ref)
