"""`headgate projects`: parts of an account, with keys and caps of their own."""

from __future__ import annotations

from typing import Any, Final

import click
import msgspec

from headgate.cli import compose
from headgate.cli.naming import Names, id_of
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
from headgate.ops import projects as ops
from headgate.ops.actors import LOCAL
from headgate.ops.desk import every

_ENVIRONMENT: Final = "production, staging, ...; the simulator answers every key of a `test` project."


@examples("projects create staging --environment staging", "projects list")
@click.group(name="projects")
def command() -> None:
    """Make, show, change and archive projects, and say who is in them."""


@examples(
    "projects create staging --environment staging",
    'projects create "客服机器人" --account acme --environment production',
)
@command.command()
@data_option
@click.argument("name")
@account_option
@click.option("--environment", metavar="NAME", default="", help=_ENVIRONMENT)
@meta_option
@json_option
def create(
    data: str | None, account: str, meta: tuple[tuple[str, str], ...], as_json: bool, **given: Any
) -> None:
    """Make a project."""
    with compose.admin(data, create=True) as desk:
        account = id_of(desk, "account", account)
        order = msgspec.convert({**given, "account": account, "metadata": noted(meta)}, ops.ProjectOrder)
        made = ops.create_project(LOCAL, desk, order)
    if as_json:
        print_json(public(made))
    else:
        click.echo(f"Made {made.id} ({made.name}).")


@examples("projects list", "projects list --account acme --all --json")
@command.command(name="list")
@data_option
@click.option("--account", metavar="ID|NAME", default="", help="Only of this account.")
@click.option("--all", "everything", is_flag=True, help="Also archived ones.")
@json_option
def list_(data: str | None, account: str, everything: bool, as_json: bool) -> None:
    """List the projects."""
    with compose.admin(data) as desk:
        account = id_of(desk, "account", account)
        rows = list(every(lambda page: ops.list_projects(LOCAL, desk, page, account, archived=everything)))
        if as_json:
            print_json([public(row) for row in rows])
            return
        names = Names(desk)
        heads = ("id", "name", "environment", "account", "made (UTC)", "archived", "notes")
        table = [
            (
                row.id,
                row.name,
                row.environment,
                names.of("account", row.account),
                date_text(row.created_at),
                date_text(row.archived_at),
                notes_text(row.metadata),
            )
            for row in rows
        ]
    print_list(heads, table, "No projects.")


@examples("projects show staging")
@command.command()
@data_option
@click.argument("project", metavar="ID|NAME")
@json_option
def show(data: str | None, project: str, as_json: bool) -> None:
    """Show a project and who is in it."""
    with compose.admin(data) as desk:
        ref = id_of(desk, "project", project)
        record = ops.show_project(LOCAL, desk, ref)
        people = list(every(lambda page: ops.list_project_members(LOCAL, desk, ref, page)))
        account = Names(desk).of("account", record.account)
    if as_json:
        print_json({**public(record), "members": [public(person) for person in people]})
        return
    print_fields(
        (
            ("id", record.id),
            ("name", record.name),
            ("environment", record.environment),
            ("account", f"{account} ({record.account})"),
            ("members", ", ".join(f"{person.name} ({person.role})" for person in people)),
            ("made", date_text(record.created_at)),
            ("archived", date_text(record.archived_at)),
            ("notes", notes_text(record.metadata)),
        )
    )


@examples("projects change staging --rename testing --environment development")
@command.command()
@data_option
@click.argument("project", metavar="ID|NAME")
@click.option("--rename", "name", metavar="NAME", help="Its new name.")
@click.option("--environment", metavar="NAME", help=_ENVIRONMENT)
@meta_option
@json_option
def change(data: str | None, project: str, as_json: bool, **given: Any) -> None:
    """Change a project."""
    given["metadata"] = given.pop("meta")
    members = changes(given)
    with compose.admin(data) as desk:
        ref = id_of(desk, "project", project)
        if "metadata" in members:
            before = ops.show_project(LOCAL, desk, ref)
            members["metadata"] = noted(members["metadata"], before.metadata)
        record = ops.change_project(LOCAL, desk, ref, msgspec.convert(members, ops.ProjectChange))
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"Changed {record.id} ({record.name}).")


@examples("projects archive staging")
@command.command()
@data_option
@click.argument("project", metavar="ID|NAME")
@json_option
def archive(data: str | None, project: str, as_json: bool) -> None:
    """End a project for good: its keys are refused within a second, its books stay."""
    with compose.admin(data) as desk:
        record = ops.archive_project(LOCAL, desk, id_of(desk, "project", project))
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"Archived {record.id} ({record.name}). Running servers refuse its keys within a second.")


@examples("projects add staging li@example.com", "projects add staging li@example.com --role owner")
@command.command()
@data_option
@click.argument("project", metavar="ID|NAME")
@click.argument("member", metavar="ID|EMAIL")
@click.option(
    "--role",
    type=click.Choice(["member", "owner"]),
    default="member",
    show_default=True,
    help="A member makes keys of its own; an owner manages the project.",
)
@json_option
def add(data: str | None, project: str, member: str, role: str, as_json: bool) -> None:
    """Take a member into a project, or change its role there."""
    with compose.admin(data) as desk:
        ref = id_of(desk, "project", project)
        account = ops.show_project(LOCAL, desk, ref).account
        who = id_of(desk, "member", member, account)
        record = ops.put_project_member(LOCAL, desk, ref, who, role)
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"{record.name} is {record.role} of {ref}.")


@examples("projects remove staging li@example.com")
@command.command()
@data_option
@click.argument("project", metavar="ID|NAME")
@click.argument("member", metavar="ID|EMAIL")
@json_option
def remove(data: str | None, project: str, member: str, as_json: bool) -> None:
    """Take a member out of a project: its keys there are refused within a second."""
    with compose.admin(data) as desk:
        ref = id_of(desk, "project", project)
        account = ops.show_project(LOCAL, desk, ref).account
        record = ops.remove_project_member(LOCAL, desk, ref, id_of(desk, "member", member, account))
    if as_json:
        print_json(public(record))
    else:
        click.echo(f"{record.name} is no longer in {ref}.")
