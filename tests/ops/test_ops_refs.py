import pytest
from tests.ops.fakes import join

from headgate.errors import Conflict, NotFound
from headgate.ops.accounts import AccountChange, AccountOrder, change_account, create_account
from headgate.ops.actors import LOCAL
from headgate.ops.desk import Desk, PageOrder, every
from headgate.ops.members import list_members, remove_member
from headgate.ops.projects import ProjectOrder, archive_project, create_project, list_projects
from headgate.ops.refs import public_id_of


def test_a_thing_is_meant_by_its_id_or_its_name(desk: Desk) -> None:
    acme = create_account(LOCAL, desk, AccountOrder(name="ACME 公司"))
    project = create_project(LOCAL, desk, ProjectOrder(name="staging", account=acme.id))
    boss = join(LOCAL, desk, "owner", acme.id)
    assert public_id_of(LOCAL, desk, "account", "ACME 公司") == acme.id
    assert public_id_of(LOCAL, desk, "account", acme.id) == acme.id
    assert public_id_of(LOCAL, desk, "project", "staging") == project.id
    assert public_id_of(LOCAL, desk, "member", "M0@Example.org") == boss.id


def test_a_name_that_several_have_is_refused_unless_its_account_is_said(desk: Desk) -> None:
    acme = create_account(LOCAL, desk, AccountOrder(name="acme"))
    with pytest.raises(Conflict, match=r"means 2 projects.*proj_"):
        public_id_of(LOCAL, desk, "project", "default")
    found = public_id_of(LOCAL, desk, "project", "default", acme.id)
    assert [found] == [row.id for row in list_projects(LOCAL, desk, PageOrder(), acme.id).data]
    boss = join(LOCAL, desk, "owner", acme.id)
    assert public_id_of(boss, desk, "project", "default") == found


def test_who_is_gone_makes_room_for_who_is_there(desk: Desk) -> None:
    acme = create_account(LOCAL, desk, AccountOrder(name="acme"))
    old = create_project(LOCAL, desk, ProjectOrder(name="web", account=acme.id))
    archive_project(LOCAL, desk, old.id)
    assert public_id_of(LOCAL, desk, "project", "web") == old.id
    new = create_project(LOCAL, desk, ProjectOrder(name="web", account=acme.id))
    assert public_id_of(LOCAL, desk, "project", "web") == new.id
    join(LOCAL, desk, "owner", acme.id)
    leaver = join(LOCAL, desk, "viewer", acme.id)
    remove_member(LOCAL, desk, leaver.id)
    assert public_id_of(LOCAL, desk, "member", "m1@example.org") == leaver.id
    change_account(LOCAL, desk, acme.id, AccountChange(status="closed"))
    other = create_account(LOCAL, desk, AccountOrder(name="acme"))
    assert public_id_of(LOCAL, desk, "account", "acme") == other.id


def test_the_names_of_others_are_absent(desk: Desk) -> None:
    acme = create_account(LOCAL, desk, AccountOrder(name="acme"))
    other = create_account(LOCAL, desk, AccountOrder(name="other"))
    create_project(LOCAL, desk, ProjectOrder(name="secret", account=other.id))
    boss = join(LOCAL, desk, "owner", acme.id)
    for thing, name in (("account", "other"), ("project", "secret"), ("member", "none@x.org")):
        with pytest.raises(NotFound):
            public_id_of(boss, desk, thing, name)


def test_every_row_of_a_list_is_yielded_whatever_the_page(desk: Desk) -> None:
    join(LOCAL, desk, "owner")
    for _ in range(120):
        join(LOCAL, desk, "viewer")
    names = [row.email for row in every(lambda page: list_members(LOCAL, desk, page))]
    assert names == [f"m{number}@example.org" for number in range(121)]
