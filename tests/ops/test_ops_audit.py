"""Every write leaves exactly one row of the audit, done or refused; a refused one nothing else."""

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.ops.fakes import actor, join

from headgate.errors import GatewayError, NotFound, PermissionRefused
from headgate.ops import accounts, budgets, keys, members, projects
from headgate.ops.accounts import AccountChange, AccountOrder
from headgate.ops.actors import LOCAL, Actor
from headgate.ops.audit import list_audit
from headgate.ops.budgets import BudgetOrder
from headgate.ops.desk import Desk, PageOrder
from headgate.ops.keyrules import KeyChange, KeyOrder
from headgate.ops.members import MemberChange, MemberOrder
from headgate.ops.projects import ProjectChange, ProjectOrder
from headgate.stores.sql.database import connect

NEWEST = PageOrder(limit=100, order="desc")


@dataclass
class Scene:
    desk: Desk
    folder: Path
    account: str
    project: str
    key: str
    member: str
    budget: str
    owner: Actor
    viewer: Actor
    foreigner: Actor

    def state(self) -> str:
        """Return a hash of the whole database but the audit."""
        with closing(connect(self.folder)) as sql:
            lines = [line for line in sql.iterdump() if "audit" not in line]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def rows(self) -> int:
        with closing(connect(self.folder)) as sql:
            return int(sql.execute("SELECT count(*) FROM audit").fetchone()[0])


@pytest.fixture
def scene(desk: Desk, tmp_path: Path) -> Scene:
    account = accounts.create_account(LOCAL, desk, AccountOrder(name="acme")).id
    other = accounts.create_account(LOCAL, desk, AccountOrder(name="other")).id
    owner, viewer, dev = (join(LOCAL, desk, role, account) for role in ("owner", "viewer", "developer"))
    foreigner = join(LOCAL, desk, "owner", other)
    project = projects.create_project(owner, desk, ProjectOrder(name="p")).id
    projects.put_project_member(owner, desk, project, dev.id, "member")
    key = keys.create_key(owner, desk, KeyOrder(name="k", project=project)).record.id
    budget = budgets.set_budget(owner, desk, BudgetOrder(scope="project", ref=project, amount=5)).id
    return Scene(desk, tmp_path, account, project, key, dev.id, budget, owner, viewer, foreigner)


Write = Callable[[Actor, Scene], object]
WRITES: dict[str, Write] = {
    "account.created": lambda who, on: accounts.create_account(who, on.desk, AccountOrder(name="n")),
    "account.changed": lambda who, on: accounts.change_account(
        who, on.desk, on.account, AccountChange(name="n")
    ),
    "project.created": lambda who, on: projects.create_project(
        who, on.desk, ProjectOrder(name="n", account=on.account)
    ),
    "project.changed": lambda who, on: projects.change_project(
        who, on.desk, on.project, ProjectChange(name="n")
    ),
    "project.archived": lambda who, on: projects.archive_project(who, on.desk, on.project),
    "project_member.put": lambda who, on: projects.put_project_member(
        who, on.desk, on.project, on.member, "owner"
    ),
    "project_member.removed": lambda who, on: projects.remove_project_member(
        who, on.desk, on.project, on.member
    ),
    "member.added": lambda who, on: members.add_member(
        who, on.desk, MemberOrder(email="n@b.example", role="viewer", account=on.account)
    ),
    "member.changed": lambda who, on: members.change_member(
        who, on.desk, on.member, MemberChange(role="viewer")
    ),
    "member.removed": lambda who, on: members.remove_member(who, on.desk, on.member),
    "key.created": lambda who, on: keys.create_key(who, on.desk, KeyOrder(name="n", project=on.project)),
    "key.changed": lambda who, on: keys.change_key(who, on.desk, on.key, KeyChange(rpm=5)),
    "key.rotated": lambda who, on: keys.rotate_key(who, on.desk, on.key, grace_s=5),
    "key.revoked": lambda who, on: keys.revoke_key(who, on.desk, on.key),
    "budget.set": lambda who, on: budgets.set_budget(
        who, on.desk, BudgetOrder(scope="project", ref=on.project, amount=9)
    ),
    "budget.removed": lambda who, on: budgets.remove_budget(who, on.desk, on.budget),
}
SERVICE: dict[str, Write] = {
    "member.added": lambda who, on: keys.create_service_account(who, on.desk, on.project, KeyOrder(name="n"))
}
EACH = [*WRITES.items(), *SERVICE.items()]


@pytest.mark.parametrize(("action", "write"), EACH)
def test_a_write_that_is_done_leaves_one_row_and_a_change(scene: Scene, action: str, write: Write) -> None:
    who = LOCAL if action == "account.created" else scene.owner
    rows, before = scene.rows(), scene.state()
    write(who, scene)
    assert scene.rows() == rows + 1
    assert scene.state() != before
    row = list_audit(LOCAL, scene.desk, NEWEST).data[0]
    assert (row.action, row.outcome, row.actor) == (action, "done", who.id)
    assert row.ref
    assert row.detail
    if action != "account.created":
        assert row.account == scene.account
    with closing(connect(scene.folder)) as sql:
        told = sql.execute("SELECT ref FROM changes ORDER BY seq DESC LIMIT 3").fetchall()
    assert (row.ref,) in told


@pytest.mark.parametrize("who", ["viewer", "foreigner"])
@pytest.mark.parametrize(("action", "write"), EACH)
def test_a_write_that_is_refused_leaves_one_row_and_nothing_else(
    scene: Scene, action: str, write: Write, who: str
) -> None:
    person: Actor = getattr(scene, who)
    rows, before = scene.rows(), scene.state()
    with pytest.raises(GatewayError) as caught:
        write(person, scene)
    assert scene.rows() == rows + 1
    assert scene.state() == before
    row = list_audit(LOCAL, scene.desk, NEWEST).data[0]
    assert (row.action, row.outcome, row.actor, row.account) == (action, "refused", person.id, person.account)
    assert row.detail["status"] == caught.value.http_status


def test_no_secret_is_in_the_audit_or_anywhere_in_the_database(scene: Scene) -> None:
    made = keys.create_key(scene.owner, scene.desk, KeyOrder(name="n", project=scene.project))
    again = keys.rotate_key(scene.owner, scene.desk, made.record.id, grace_s=5)
    with pytest.raises(NotFound):
        keys.revoke_key(scene.owner, scene.desk, again.text)
    with closing(connect(scene.folder)) as sql:
        dump = "\n".join(sql.iterdump())
    for text in (made.text, again.text):
        for part in (text, text[11:30], text[-12:], text.encode().hex()):
            assert part not in dump


def test_the_audit_is_read_by_who_may(scene: Scene) -> None:
    auditor = join(LOCAL, scene.desk, "auditor", scene.account)
    with pytest.raises(PermissionRefused):
        keys.revoke_key(scene.viewer, scene.desk, scene.key)
    rows = list_audit(auditor, scene.desk, NEWEST, outcome="refused").data
    assert [row.actor for row in rows] == [scene.viewer.id]
    assert all(row.account == scene.account for row in list_audit(auditor, scene.desk, NEWEST).data)
    for who in (scene.viewer, actor(scene.desk, scene.member)):
        with pytest.raises(PermissionRefused):
            list_audit(who, scene.desk, NEWEST)
    with pytest.raises(NotFound):
        list_audit(scene.foreigner, scene.desk, NEWEST, scene.account)
