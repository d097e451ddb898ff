"""From what a person types to ids, and from ids back to the names that a table shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.errors import NotFound
from headgate.ops.accounts import show_account
from headgate.ops.actors import LOCAL
from headgate.ops.keys import show_key
from headgate.ops.members import show_member
from headgate.ops.projects import show_project
from headgate.ops.refs import public_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.ops.desk import Desk
    from headgate.records import AccountRecord, KeyRecord, MemberRecord, ProjectRecord

_SHOW: Final[dict[str, Callable[..., AccountRecord | ProjectRecord | MemberRecord | KeyRecord]]] = {
    "account": show_account,
    "project": show_project,
    "member": show_member,
    "key": show_key,
}


def id_of(desk: Desk, thing: str, reference: str, account: str = "") -> str:
    """Return the public id of an account, project, member or key; empty where nothing is meant.

    Raises:
        NotFound: there is no such thing.
        Conflict: several have that name.
    """
    if not reference:
        return ""
    if thing == "key":
        return show_key(LOCAL, desk, reference).id
    return public_id_of(LOCAL, desk, thing, reference, account)


def ids_of(desk: Desk, thing: str, references: Iterable[str]) -> tuple[str, ...]:
    """Return the public ids of several things."""
    return tuple(id_of(desk, thing, reference) for reference in references)


class Names:
    """The names of things by their public ids, read once each."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._known: dict[tuple[str, str], str] = {}

    def of(self, thing: str, ref: str) -> str:
        """Return a name; the id where the thing has none any more, nothing for nothing."""
        if not ref:
            return ""
        if (thing, ref) not in self._known:
            try:
                name = _SHOW[thing](LOCAL, self._desk, ref).name
            except NotFound:
                name = ref
            self._known[thing, ref] = name
        return self._known[thing, ref]


def place_of(desk: Desk, account: str, project: str) -> tuple[str, str]:
    """Return the public ids of an account and of a project in it, as far as they are said.

    A project that is said alone tells its account.

    Raises:
        as `id_of`.
    """
    where = id_of(desk, "account", account)
    there = id_of(desk, "project", project, where)
    if there and not where:
        where = show_project(LOCAL, desk, there).account
    return where, there
