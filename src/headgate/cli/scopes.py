"""Options that say what a cap or a limit is for: an account, a project or a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from headgate.cli.naming import id_of, place_of
from headgate.ops.actors import LOCAL
from headgate.ops.projects import account_of
from headgate.ops.scopes import Within

if TYPE_CHECKING:
    from headgate.ops.desk import Desk

_SCOPES: Final = (
    click.option("--account", metavar="ID|NAME", default="", help="Of this account."),
    click.option("--project", metavar="ID|NAME", default="", help="Of this project."),
    click.option("--key", metavar="ID|NAME", default="", help="Of this key."),
)


def scope_options(what: Any) -> Any:
    """Give a command the options `account`, `project` and `key`."""
    for option in reversed(_SCOPES):
        what = option(what)
    return what


def within(desk: Desk, account: str, project: str, key: str) -> Within:
    """Return which rows of a list are meant.

    Raises:
        NotFound: there is no such thing.
        Conflict: several have that name.
    """
    return Within(*place_of(desk, account, project), id_of(desk, "key", key))


def scope_of(desk: Desk, account: str, project: str, key: str) -> tuple[str, str]:
    """Return what is meant: the narrowest of what is said, else the first account.

    Raises:
        as `within`.
    """
    found = within(desk, account, project, key)
    if found.key:
        return "key", found.key
    if found.project:
        return "project", found.project
    if found.account:
        return "account", found.account
    with desk.reading() as register:
        return "account", account_of(LOCAL, register, "")
