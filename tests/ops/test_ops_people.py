"""Accounts, projects, members: who may do what with them, and what stays true."""

import pytest
from tests.ops.fakes import HandClock, actor, join

from headgate.errors import CallerError, Conflict, NotFound, PermissionRefused
from headgate.identity.roles import (
    ACCOUNT_PERMISSIONS,
    PERMISSIONS,
    PROJECT_ROLES,
    READS,
    ROLES,
    read_permission,
)
from headgate.ops.accounts import (
    AccountChange,
    AccountOrder,
    Status,
    change_account,
    create_account,
    list_accounts,
    show_account,
)
from headgate.ops.actors import LOCAL, Actor
from headgate.ops.desk import Desk, PageOrder, order_of
from headgate.ops.members import (
    MemberChange,
    MemberOrder,
    add_member,
    change_member,
    list_members,
    remove_member,
    show_member,
)
from headgate.ops.projects import (
    ProjectChange,
    ProjectOrder,
    archive_project,
    change_project,
    create_project,
    list_project_members,
    list_projects,
    put_project_member,
    remove_project_member,
    show_project,
)
from headgate.ops.signin import actor_of_member

ALL = PageOrder(limit=100)


def test_the_table_of_roles_names_only_permissions_and_each_can_be_seen_by_who_has_it() -> None:
    assert set(ROLES) == {"owner", "admin", "billing", "developer", "viewer", "auditor"}
    for may in (*ROLES.values(), *PROJECT_ROLES.values()):
        assert may <= ACCOUNT_PERMISSIONS
    assert {read_permission(name) for name in PERMISSIONS} <= PERMISSIONS
    assert set(READS) <= PERMISSIONS
    for role in ("viewer", "auditor"):
        assert all(name.endswith(".read") for name in ROLES[role]), role
    assert ROLES["owner"] - ROLES["admin"] == {"owners.write"}


def test_an_account_is_opened_by_the_gateway_alone_with_a_project(desk: Desk) -> None:
    made = create_account(LOCAL, desk, AccountOrder(name="acme", prepaid=True, metadata={"crm": "7"}))
    assert show_account(LOCAL, desk, made.id) == made
    (project,) = list_projects(LOCAL, desk, ALL, made.id).data
    assert (project.name, project.account) == ("default", made.id)
    owner = join(LOCAL, desk, "owner", made.id)
    with pytest.raises(PermissionRefused):
        create_account(owner, desk, AccountOrder(name="more"))
    assert list_accounts(owner, desk, ALL).data == [made]
    assert len(list_accounts(LOCAL, desk, ALL).data) == 2


def test_an_account_names_itself_and_decides_no_more_about_itself(desk: Desk) -> None:
    made = create_account(LOCAL, desk, AccountOrder(name="acme"))
    owner, viewer = (join(LOCAL, desk, role, made.id) for role in ("owner", "viewer"))
    assert change_account(owner, desk, made.id, AccountChange(name="Acme")).name == "Acme"
    for change in (
        AccountChange(status="suspended"),
        AccountChange(prepaid=True),
        AccountChange(multiplier_ppm=0),
    ):
        with pytest.raises(PermissionRefused):
            change_account(owner, desk, made.id, change)
    with pytest.raises(PermissionRefused):
        change_account(viewer, desk, made.id, AccountChange(name="x"))
    assert change_account(LOCAL, desk, made.id, AccountChange(status="suspended")).status == "suspended"
    assert change_account(LOCAL, desk, made.id, AccountChange(status="closed")).status == "closed"
    with pytest.raises(Conflict, match="closed"):
        change_account(LOCAL, desk, made.id, AccountChange(status="active"))


def test_a_foreign_thing_and_none_are_refused_in_the_same_words(desk: Desk) -> None:
    ours = join(LOCAL, desk, "owner")
    account = create_account(LOCAL, desk, AccountOrder(name="theirs")).id
    theirs = join(LOCAL, desk, "owner", account)
    project = create_project(theirs, desk, ProjectOrder(name="p")).id
    said = {}
    for who, ref in (("theirs", account), ("none", "acct_none")):
        with pytest.raises(NotFound) as caught:
            show_account(ours, desk, ref)
        said[who] = caught.value.message.replace(ref, "X")
        for run in (
            lambda ref=ref: change_account(ours, desk, ref, AccountChange(name="x")),
            lambda ref=ref: add_member(
                ours, desk, MemberOrder(email="a@b.example", role="viewer", account=ref)
            ),
            lambda ref=ref: create_project(ours, desk, ProjectOrder(name="p", account=ref)),
            lambda ref=ref: list_projects(ours, desk, ALL, ref),
            lambda ref=ref: list_members(ours, desk, ALL, ref),
        ):
            with pytest.raises(NotFound) as caught:
                run()
            assert caught.value.message.replace(ref, "X") == said[who]
    assert said["theirs"] == said["none"]
    for ref in (project, "proj_none"):
        for run in (
            lambda ref=ref: show_project(ours, desk, ref),
            lambda ref=ref: change_project(ours, desk, ref, ProjectChange(name="x")),
            lambda ref=ref: archive_project(ours, desk, ref),
            lambda ref=ref: list_project_members(ours, desk, ref, ALL),
            lambda ref=ref: put_project_member(ours, desk, ref, ours.id, "owner"),
            lambda ref=ref: remove_project_member(ours, desk, ref, ours.id),
        ):
            with pytest.raises(NotFound) as caught:
                run()
            assert caught.value.message == f"There is no project {ref!r}."
    for ref in (theirs.id, "user_none"):
        for run in (
            lambda ref=ref: show_member(ours, desk, ref),
            lambda ref=ref: change_member(ours, desk, ref, MemberChange(role="viewer")),
            lambda ref=ref: remove_member(ours, desk, ref),
        ):
            with pytest.raises(NotFound) as caught:
                run()
            assert caught.value.message == f"There is no member {ref!r}."


def test_a_project_is_changed_and_archived_for_good(desk: Desk, clock: HandClock) -> None:
    owner = join(LOCAL, desk, "owner")
    made = create_project(owner, desk, ProjectOrder(name="p", environment="staging"))
    changed = change_project(owner, desk, made.id, ProjectChange(environment="production"))
    assert (changed.name, changed.environment) == ("p", "production")
    assert archive_project(owner, desk, made.id).archived_at == clock.now
    with pytest.raises(Conflict, match="archived"):
        change_project(owner, desk, made.id, ProjectChange(name="q"))
    with pytest.raises(Conflict, match="archived"):
        archive_project(owner, desk, made.id)
    assert made.id not in {record.id for record in list_projects(owner, desk, ALL).data}
    assert made.id in {record.id for record in list_projects(owner, desk, ALL, archived=True).data}


def test_a_developer_sees_its_own_projects_alone(desk: Desk) -> None:
    owner, dev = (join(LOCAL, desk, role) for role in ("owner", "developer"))
    project = create_project(owner, desk, ProjectOrder(name="p"))
    assert list_projects(dev, desk, ALL).data == []
    put_project_member(owner, desk, project.id, dev.id, "member")
    dev = actor(desk, dev.id)
    assert list_projects(dev, desk, ALL).data == [project]
    with pytest.raises(PermissionRefused):
        change_project(dev, desk, project.id, ProjectChange(name="q"))
    with pytest.raises(PermissionRefused):
        list_project_members(dev, desk, project.id, ALL)
    put_project_member(owner, desk, project.id, dev.id, "owner")
    dev = actor(desk, dev.id)
    assert change_project(dev, desk, project.id, ProjectChange(name="q")).name == "q"
    (row,) = list_project_members(dev, desk, project.id, ALL).data
    assert (row.id, row.role) == (dev.id, "owner")
    remove_project_member(owner, desk, project.id, dev.id)
    with pytest.raises(NotFound):
        show_project(actor(desk, dev.id), desk, project.id)


def test_nobody_gives_or_takes_rights_that_they_lack(desk: Desk) -> None:
    owner, boss = (join(LOCAL, desk, role) for role in ("owner", "admin"))
    dev = join(boss, desk, "developer")
    with pytest.raises(PermissionRefused, match="owners"):
        add_member(boss, desk, MemberOrder(email="x@y.example", role="owner"))
    with pytest.raises(PermissionRefused, match="owners"):
        change_member(boss, desk, boss.id, MemberChange(role="owner"))
    with pytest.raises(PermissionRefused, match="owners"):
        change_member(boss, desk, owner.id, MemberChange(role="viewer"))
    with pytest.raises(PermissionRefused, match="owners"):
        remove_member(boss, desk, owner.id)
    with pytest.raises(NotFound):  # who may not see the members
        change_member(dev, desk, boss.id, MemberChange(role="viewer"))
    with pytest.raises(NotFound):
        change_member(dev, desk, dev.id, MemberChange(role="owner"))
    assert change_member(owner, desk, dev.id, MemberChange(role="admin")).role == "admin"


def test_one_owner_stays(desk: Desk, clock: HandClock) -> None:
    first = join(LOCAL, desk, "owner")
    with pytest.raises(Conflict, match="last owner"):
        remove_member(first, desk, first.id)
    with pytest.raises(Conflict, match="last owner"):
        change_member(LOCAL, desk, first.id, MemberChange(role="viewer"))
    second = join(first, desk, "owner")
    assert remove_member(second, desk, first.id).removed_at == clock.now
    with pytest.raises(NotFound):
        remove_member(second, desk, first.id)
    assert [record.id for record in list_members(second, desk, ALL).data] == [second.id]


def test_an_address_is_taken_once_and_free_again_when_its_member_leaves(desk: Desk) -> None:
    made = add_member(LOCAL, desk, MemberOrder(email=" Ann@Example.ORG ", role="viewer"))
    assert (made.email, made.name) == ("ann@example.org", "ann@example.org")
    with pytest.raises(Conflict):
        add_member(LOCAL, desk, MemberOrder(email="ann@example.org", role="viewer"))
    remove_member(LOCAL, desk, made.id)
    assert add_member(LOCAL, desk, MemberOrder(email="ann@example.org", role="viewer")).id != made.id


@pytest.mark.parametrize(
    ("order", "param"),
    [
        (MemberOrder(email="none", role="viewer"), "email"),
        (MemberOrder(email="a@b.c\n", role="king"), "role"),
        (MemberOrder(email="a b@c.example", role="viewer"), "email"),
        (MemberOrder(email="a@b.example", role="viewer", name="\x00"), "name"),
    ],
)
def test_a_member_that_cannot_be_names_what_is_wrong(desk: Desk, order: MemberOrder, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        add_member(LOCAL, desk, order)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"email": "a@b.example", "role": "viewer", "is_root": True}, "is_root"),
        ({"email": 5, "role": "viewer"}, "email"),
        ({"email": "a@b.example"}, "role"),
        ({"email": "a@b.example", "role": "viewer", "metadata": {"a": 1}}, "metadata[...]"),
    ],
)
def test_an_unknown_or_mistyped_member_of_an_order_is_refused(members: object, param: str) -> None:
    with pytest.raises(CallerError) as caught:
        order_of(members, MemberOrder)
    assert caught.value.param == param


def test_an_actor_is_what_its_member_is_now(desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner")
    boss = join(owner, desk, "admin")
    change_member(owner, desk, boss.id, MemberChange(role="viewer"))
    now: Actor = actor(desk, boss.id)
    assert now.permissions == ROLES["viewer"]
    with pytest.raises(PermissionRefused):
        create_project(now, desk, ProjectOrder(name="p"))


@pytest.mark.parametrize(("status", "acts"), [("suspended", True), ("closed", False)])
def test_nobody_acts_in_an_account_that_is_closed(desk: Desk, status: Status, acts: bool) -> None:
    account = create_account(LOCAL, desk, AccountOrder(name="other")).id
    boss = join(LOCAL, desk, "owner", account)
    change_account(LOCAL, desk, account, AccountChange(status=status))
    with desk.reading() as register:
        assert (actor_of_member(register, boss.id) is not None) is acts
