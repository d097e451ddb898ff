"""`headgate members`: people with roles, and service accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from headgate.cli import compose
from headgate.cli.naming import Names, id_of, place_of
from headgate.cli.options import (
    account_option,
    changes,
    data_option,
    examples,
    json_option,
    meta_option,
    noted,
)
from headgate.cli.output import date_text, notes_text, print_fields, print_json, print_list, public
from headgate.ops import members as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import every
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_service_account
from headgate.ops.projects import account_of, list_projects, put_project_member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.ops.desk import Desk
    from headgate.records import MemberRecord

_ROLES: Final = ("owner", "admin", "billing", "developer", "viewer", "auditor")
_ROLES_HELP: Final = (
    "owner: everything; admin: all but owners; billing: money; developer: its projects; viewer: reads; "
    "auditor: reads, also the audit."
)


@examples("members create li@example.com --role admin", "members list")
@click.group(name="members")
def command() -> None:
    """Take people and service accounts into an account, change what they may do, let them go."""


@examples(
    "members create li@example.com --role admin --name 李雷",
    "members create han@example.com --account acme --project staging",
)
@command.command()
@data_option
@click.argument("email")
@account_option
@click.option("--role", type=click.Choice(_ROLES), default="developer", show_default=True, help=_ROLES_HELP)
@click.option("--name", metavar="NAME", default="", help="What people call them. [default: the address]")
@click.option("--project", metavar="ID|NAME", default="", help="Take them into this project at once.")
@meta_option
@json_option
def create(data: str | None, account: str, project: str, meta: Any, as_json: bool, **given: Any) -> None:
    """Take a person into an account, and into a project of it."""
    with compose.admin(data, create=True) as desk:
        account, there = place_of(desk, account, project)
        order = msgspec.convert({**given, "account": account, "metadata": noted(meta)}, ops.MemberOrder)
        made = ops.add_member(LOCAL, desk, order)
        if there:
            put_project_member(LOCAL, desk, there, made.id, "member")
    if as_json:
        print_json(public(made))
    else:
        click.echo(f"{made.name} is {made.role} of {made.account}: {made.id}.")


@examples("members create-service nightly --project staging")
@command.command(name="create-service")
@data_option
@click.argument("name")
@click.option("--project", metavar="ID|NAME", required=True, help="Its only project.")
@json_option
def create_service(data: str | None, name: str, project: str, as_json: bool) -> None:
    """Make a service account in a project and print its first key: this once, it is stored nowhere."""
    with compose.admin(data, create=True) as desk:
        made = create_service_account(LOCAL, desk, id_of(desk, "project", project), KeyOrder(name=name))
    if as_json:
        print_json({"key": made.key.text, "member": public(made.member), "record": public(made.key.record)})
        return
    click.echo(made.key.text)
    click.echo(f"Shown only now. It belongs to the service account {made.member.id} ({name}).", err=True)


@examples("members list", "members list --account acme --json")
@command.command(name="list")
@data_option
@account_option
@json_option
def list_(data: str | None, account: str, as_json: bool) -> None:
    """List the people of an account, then its service accounts."""
    with compose.admin(data) as desk:
        rows = list(_everyone(desk, id_of(desk, "account", account)))
        if as_json:
            print_json([public(row) for row in rows])
            return
        names = Names(desk)
        heads = ("id", "name", "e-mail", "role", "project", "since (UTC)", "notes")
        table = [
            (
                row.id,
                row.name,
                row.email,
                row.role,
                names.of("project", row.project),
                date_text(row.created_at),
                notes_text(row.metadata),
            )
            for row in rows
        ]
    print_list(heads, table, "Nobody.")


@examples("members show li@example.com")
@command.command()
@data_option
@click.argument("member", metavar="ID|EMAIL")
@account_option
@json_option
def show(data: str | None, member: str, account: str, as_json: bool) -> None:
    """Show a member."""
    with compose.admin(data) as desk:
        record = ops.show_member(LOCAL, desk, _ref(desk, member, account))
        names = Names(desk)
        where = names.of("account", record.account), names.of("project", record.project)
    if as_json:
        print_json(public(record))
        return
    print_fields(
        (
            ("id", record.id),
            ("name", record.name),
            ("e-mail", record.email),
            ("role", record.role),
            ("account", f"{where[0]} ({record.account})"),
            ("project", where[1]),
            ("since", date_text(record.created_at)),
            ("removed", date_text(record.removed_at)),
            ("notes", notes_text(record.metadata)),
        )
    )


@examples("members change li@example.com --role viewer", "members change li@example.com --name 李蕾")
@command.command()
@data_option
@click.argument("member", metavar="ID|EMAIL")
@account_option
@click.option("--role", type=click.Choice(_ROLES), help=_ROLES_HELP)
@click.option("--name", metavar="NAME", help="What people call them.")
@meta_option
@json_option
def change(data: str | None, member: str, account: str, as_json: bool, **given: Any) -> None:
    """Change a member; what its keys may do follows within a second."""
    given["metadata"] = given.pop("meta")
    members = changes(given)
    with compose.admin(data) as desk:
        ref = _ref(desk, member, account)
        if "metadata" in members:
            before = ops.show_member(LOCAL, desk, ref)
            members["metadata"] = noted(members["metadata"], before.metadata)
        record = ops.change_member(LOCAL, desk, ref, msgspec.convert(members, ops.MemberChange))
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"{record.name} is {record.role} of {record.account}.")


@examples("members remove li@example.com")
@command.command()
@data_option
@click.argument("member", metavar="ID|EMAIL")
@account_option
@json_option
def remove(data: str | None, member: str, account: str, as_json: bool) -> None:
    """Let a member go: its keys are refused within a second."""
    with compose.admin(data) as desk:
        record = ops.remove_member(LOCAL, desk, _ref(desk, member, account))
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"{record.name} is no longer in {record.account}. Its keys are refused within a second.")


def _ref(desk: Desk, member: str, account: str) -> str:
    return id_of(desk, "member", member, id_of(desk, "account", account))


def _everyone(desk: Desk, account: str) -> Iterator[MemberRecord]:
    with desk.reading() as register:
        account = account_of(LOCAL, register, account)
    yield from every(lambda page: ops.list_members(LOCAL, desk, page, account))
    for project in every(lambda page: list_projects(LOCAL, desk, page, account, archived=True)):
        yield from _services(desk, account, project.id)


def _services(desk: Desk, account: str, project: str) -> Iterator[MemberRecord]:
    return every(lambda page: ops.list_members(LOCAL, desk, page, account, project))
