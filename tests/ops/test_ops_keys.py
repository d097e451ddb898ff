import pytest
from tests.ops.fakes import HandClock, actor, join

from headgate.errors import CallerError, Conflict, NotFound, PermissionRefused
from headgate.identity.keys import digest, well_formed
from headgate.ops.accounts import AccountOrder, create_account
from headgate.ops.actors import LOCAL, Actor
from headgate.ops.desk import Desk, PageOrder
from headgate.ops.keyrules import Cap, KeyChange, KeyOrder
from headgate.ops.keys import (
    change_key,
    create_key,
    create_service_account,
    every_key,
    list_keys,
    revoke_key,
    rotate_key,
    show_key,
)
from headgate.ops.members import remove_member
from headgate.ops.projects import ProjectOrder, create_project, put_project_member
from headgate.ops.signin import actor_of_key
from headgate.records import BudgetRecord, KeyRecord
from headgate.values import Book


def admin(desk: Desk, boss: Actor, **fields: object) -> Actor:
    """Make an admin key and sign in with it."""
    made = create_key(boss, desk, KeyOrder(name="adm", kind="admin", **fields))  # type: ignore[arg-type]
    return actor_of_key(desk, made.text.encode(), "10.0.0.1")


def test_a_created_key_is_shown_once_and_stored_as_a_digest(desk: Desk, clock: HandClock) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name=" ci ", kind="test", rpm=3, expires_in_s=60))
    assert made.text.startswith("sk-hg-test-")
    assert well_formed(made.text)
    with desk.reading() as register:
        assert register.get(KeyRecord, digest=digest(desk.pepper, made.text)) == made.record
    assert (made.record.name, made.record.rpm) == ("ci", 3)
    assert made.record.expires_at == clock.now + 60_000_000
    assert made.text not in repr(list_keys(LOCAL, desk, PageOrder()))
    assert show_key(LOCAL, desk, made.record.id) == made.record


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"kind": "root"}, "kind"),
        ({"rpm": -1}, "rpm"),
        ({"tpm": 2**31}, "tpm"),
        ({"models": ("gpt-?",)}, "models"),
        ({"models": ("",)}, "models"),
        ({"models": ("m",) * 101}, "models"),
        ({"endpoints": ("chats",)}, "endpoints"),
        ({"networks": ("10.0.0.1/8",)}, "networks"),
        ({"networks": ("fe80::1%eth0",)}, "networks"),
        ({"rights": ("keys.read",)}, "rights"),
        ({"kind": "admin", "rights": ("world.rule",)}, "rights"),
        ({"queue_ms": -1}, "queue_ms"),
        ({"priority": "urgent"}, "priority"),
        ({"expires_at": 5}, "expires_at"),
        ({"expires_in_s": -5}, "expires_in_s"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"budget": Cap(amount=-1)}, "amount"),
    ],
)
def test_an_order_that_cannot_be_filled_names_its_member(
    desk: Desk, fields: dict[str, object], param: str
) -> None:
    with pytest.raises(CallerError) as caught:
        create_key(LOCAL, desk, KeyOrder(**{"name": "a", **fields}))  # type: ignore[arg-type]
    assert caught.value.param == param
    assert list(every_key(LOCAL, desk)) == []


def test_a_key_has_all_its_attributes_and_they_can_be_changed(desk: Desk) -> None:
    order = KeyOrder(
        name="a", models=("gpt-4o*",), endpoints=("chat",), networks=("::ffff:10.0.0.0/104", "2001:db8::/32"),
        rpm=1, tpm=2, rpd=3, tpd=4, concurrency=5, queue_ms=6, priority="batch", metadata={"team": "x"},
        budget=Cap(amount=7, unit="day"),
    )  # fmt: skip
    made = create_key(LOCAL, desk, order).record
    assert made.networks == ("10.0.0.0/8", "2001:db8::/32")
    with desk.reading() as register:
        caps = register.all(BudgetRecord, scope="key", ref=made.id)
    assert [(cap.amount, cap.unit, cap.book) for cap in caps] == [(7, "day", Book.REAL), (7, "day", Book.SIM)]
    changed = change_key(LOCAL, desk, made.id, KeyChange(models=("o3",), rpm=0, metadata={}))
    assert changed == show_key(LOCAL, desk, made.id)
    assert (changed.models, changed.rpm, changed.tpm, changed.metadata) == (("o3",), 0, 2, {})


def test_a_test_key_has_a_cap_of_play_money_alone(desk: Desk) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name="t", kind="test", budget=Cap(amount=7))).record
    with desk.reading() as register:
        assert [cap.book for cap in register.all(BudgetRecord, ref=made.id)] == [Book.SIM]


def test_a_key_is_revoked_by_id_by_name_or_by_what_is_shown_of_it(desk: Desk, clock: HandClock) -> None:
    made = [create_key(LOCAL, desk, KeyOrder(name=f"k{n}")).record for n in range(3)]
    for reference in (made[0].id, made[1].name, made[2].shown):
        assert revoke_key(LOCAL, desk, reference).revoked_at == clock.now
    assert all(record.revoked_at for record in every_key(LOCAL, desk))


def test_what_cannot_be_revoked_says_why(desk: Desk) -> None:
    first = create_key(LOCAL, desk, KeyOrder(name="twin")).record
    create_key(LOCAL, desk, KeyOrder(name="twin"))
    with pytest.raises(NotFound, match="There is no key 'none'"):
        revoke_key(LOCAL, desk, "none")
    with pytest.raises(Conflict, match="means 2 keys"):
        revoke_key(LOCAL, desk, "twin")
    revoke_key(LOCAL, desk, first.id)
    with pytest.raises(Conflict, match="already"):
        revoke_key(LOCAL, desk, first.id)
    assert revoke_key(LOCAL, desk, "twin").id != first.id  # only one of the twins is left


def test_a_key_of_another_account_is_as_if_it_were_not(desk: Desk) -> None:
    guest = join(LOCAL, desk, "owner", create_account(LOCAL, desk, AccountOrder(name="other")).id)
    made = create_key(LOCAL, desk, KeyOrder(name="a")).record
    for wanted in (made.id, "a", "key_none"):
        with pytest.raises(NotFound, match=f"There is no key '{wanted}'"):
            revoke_key(guest, desk, wanted)
    for project in (made.project, "proj_none"):
        with pytest.raises(NotFound, match=f"There is no project '{project}'"):
            create_key(guest, desk, KeyOrder(name="a", project=project))
    assert list_keys(guest, desk, PageOrder()).data == []


def test_a_key_given_as_a_reference_is_never_repeated(desk: Desk) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name="a"))
    with pytest.raises(NotFound) as caught:
        revoke_key(LOCAL, desk, made.text)
    assert made.text[14:] not in caught.value.message


def test_rotation_keeps_the_old_secret_for_its_grace(desk: Desk, clock: HandClock) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name="adm", kind="admin"))
    rotated = rotate_key(LOCAL, desk, made.record.id, grace_s=60)
    assert rotated.text != made.text
    assert rotated.record.old_until == clock.now + 60_000_000
    assert actor_of_key(desk, made.text.encode(), "").id == made.record.id
    clock.now += 60_000_000
    with pytest.raises(CallerError, match="no longer valid"):
        actor_of_key(desk, made.text.encode(), "")
    assert actor_of_key(desk, rotated.text.encode(), "").id == made.record.id
    again = rotate_key(LOCAL, desk, made.record.id)
    with pytest.raises(CallerError):
        actor_of_key(desk, rotated.text.encode(), "")
    assert actor_of_key(desk, again.text.encode(), "").id == made.record.id


def test_what_cannot_be_rotated_says_why(desk: Desk, clock: HandClock) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name="a", expires_in_s=1)).record
    with pytest.raises(CallerError, match="grace_s"):
        rotate_key(LOCAL, desk, made.id, grace_s=10**9)
    clock.now += 1_000_000
    with pytest.raises(Conflict, match="expired"):
        rotate_key(LOCAL, desk, made.id)
    revoke_key(LOCAL, desk, made.id)
    with pytest.raises(Conflict, match="revoked"):
        rotate_key(LOCAL, desk, made.id)


def test_keys_come_in_pages(desk: Desk) -> None:
    made = [create_key(LOCAL, desk, KeyOrder(name=str(n))).record for n in range(5)]
    first = list_keys(LOCAL, desk, PageOrder(limit=2))
    assert (first.data, first.has_more) == (made[:2], True)
    second = list_keys(LOCAL, desk, PageOrder(limit=2, after=first.last_id))
    assert second.data == made[2:4]
    last = list_keys(LOCAL, desk, PageOrder(limit=2, after=second.last_id))
    assert (last.data, last.has_more) == (made[4:], False)
    back = list_keys(LOCAL, desk, PageOrder(limit=3, before=last.first_id))
    assert (back.data, back.has_more) == (made[1:4], True)
    newest = list_keys(LOCAL, desk, PageOrder(limit=2, order="desc"))
    assert newest.data == [made[4], made[3]]
    assert list_keys(LOCAL, desk, PageOrder(), name="3").data == [made[3]]
    for page in (PageOrder(limit=0), PageOrder(limit=101), PageOrder(after="key_none"),
                 PageOrder(after=made[0].id, before=made[1].id)):  # fmt: skip
        with pytest.raises(CallerError):
            list_keys(LOCAL, desk, page)


def test_a_developer_has_keys_of_its_own_in_its_projects_alone(desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner")
    dev = join(owner, desk, "developer")
    project = create_project(owner, desk, ProjectOrder(name="p")).id
    with pytest.raises(NotFound, match="There is no project"):
        create_key(dev, desk, KeyOrder(name="a", project=project))
    put_project_member(owner, desk, project, dev.id, "member")
    dev = actor(desk, dev.id)
    mine = create_key(dev, desk, KeyOrder(name="a")).record
    assert (mine.project, mine.member, mine.created_by) == (project, dev.id, dev.id)
    other = create_key(owner, desk, KeyOrder(name="b", project=project)).record
    assert list_keys(dev, desk, PageOrder(), project=project).data == [mine]
    assert list_keys(owner, desk, PageOrder(), project=project).data == [mine, other]
    with pytest.raises(NotFound):
        revoke_key(dev, desk, other.id)
    with pytest.raises(PermissionRefused):
        create_key(dev, desk, KeyOrder(name="c", project=project, member=owner.id))
    assert revoke_key(dev, desk, mine.id).revoked_at


def test_a_service_account_has_keys_in_its_own_project_alone(desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner")
    project, other = (create_project(owner, desk, ProjectOrder(name=n)).id for n in "pq")
    made = create_service_account(owner, desk, project, KeyOrder(name="robot", rpm=5))
    assert made.member.id.startswith("svc_")
    assert (made.key.record.member, made.key.record.project) == (made.member.id, project)
    again = create_key(owner, desk, KeyOrder(name="b", project=project, member=made.member.id))
    assert again.record.member == made.member.id
    with pytest.raises(Conflict, match="take it into that project first"):
        create_key(owner, desk, KeyOrder(name="b", project=other, member=made.member.id))


def test_an_admin_key_has_some_of_its_members_rights_and_loses_them_with_it(desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner")
    boss = join(LOCAL, desk, "admin")
    made = create_key(boss, desk, KeyOrder(name="adm", kind="admin", rights=("keys.read", "keys.write")))
    key = actor_of_key(desk, made.text.encode(), "")
    assert key.permissions == {"keys.read", "keys.write"}
    with pytest.raises(PermissionRefused):
        create_project(key, desk, ProjectOrder(name="p"))
    with pytest.raises(PermissionRefused, match="owners"):
        create_key(boss, desk, KeyOrder(name="x", kind="admin", rights=("owners.write",)))
    with pytest.raises(PermissionRefused):  # a key for somebody who has more
        create_key(boss, desk, KeyOrder(name="x", kind="admin", member=owner.id))
    remove_member(owner, desk, boss.id)
    with pytest.raises(CallerError, match="no longer a member"):
        actor_of_key(desk, made.text.encode(), "")


def test_a_narrow_admin_key_makes_no_wider_key_by_any_way(desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner")
    wide = create_key(owner, desk, KeyOrder(name="wide")).record
    strong = create_key(owner, desk, KeyOrder(name="strong", kind="admin")).record
    narrow = admin(
        desk, owner, rights=("keys.read", "keys.write", "projects.read", "admin_keys.write"),
        models=("gpt-4o*",), networks=("10.0.0.0/8",), rpm=10, budget=Cap(amount=100),
    )  # fmt: skip
    child = create_key(narrow, desk, KeyOrder(name="child")).record
    assert (child.models, child.networks, child.rpm) == (("gpt-4o*",), ("10.0.0.0/8",), 10)
    with desk.reading() as register:
        assert [cap.amount for cap in register.all(BudgetRecord, ref=child.id)] == [100, 100]
    wider: list[dict[str, object]] = [
        {"models": ("*",)}, {"models": ()}, {"networks": ("0.0.0.0/0",)}, {"rpm": 11}, {"rpm": 0},
    ]  # fmt: skip
    for fields in wider:
        with pytest.raises(PermissionRefused, match="lacks"):
            create_key(narrow, desk, KeyOrder(name="x", **fields))  # type: ignore[arg-type]
        with pytest.raises(PermissionRefused, match="lacks"):
            change_key(narrow, desk, child.id, KeyChange(**fields))  # type: ignore[arg-type]
        with pytest.raises(Conflict, match="lacks"):  # not even by somebody who has more
            change_key(owner, desk, child.id, KeyChange(**fields))  # type: ignore[arg-type]
    with pytest.raises(PermissionRefused, match="beyond"):
        create_key(narrow, desk, KeyOrder(name="x", budget=Cap(amount=101)))
    for made in (wide.id, strong.id):  # who rotates a key gets its secret
        with pytest.raises(PermissionRefused, match="lacks"):
            rotate_key(narrow, desk, made)
    for rights in ((), ("credit.write",)):
        with pytest.raises(PermissionRefused, match="lacks"):
            create_key(narrow, desk, KeyOrder(name="x", kind="admin", rights=rights))
        with pytest.raises(PermissionRefused, match="lacks"):
            change_key(narrow, desk, narrow.id, KeyChange(rights=rights))
    assert rotate_key(narrow, desk, child.id).record.id == child.id


def test_a_key_that_an_admin_key_made_follows_when_that_one_loses_rights(desk: Desk) -> None:
    owner = join(LOCAL, desk, "owner")
    first = create_key(owner, desk, KeyOrder(name="first", kind="admin"))
    one = actor_of_key(desk, first.text.encode(), "")
    second = create_key(one, desk, KeyOrder(name="second", kind="admin"))
    assert "credit.write" in actor_of_key(desk, second.text.encode(), "").permissions
    change_key(owner, desk, first.record.id, KeyChange(rights=("keys.read", "keys.write"), rpm=7))
    two = actor_of_key(desk, second.text.encode(), "")
    assert two.permissions == {"keys.read", "keys.write"}
    assert two.ceiling.rpm == 7


def test_revoking_can_take_what_a_key_made_with_it(desk: Desk) -> None:
    one = admin(desk, LOCAL)
    child = create_key(one, desk, KeyOrder(name="child")).record
    revoke_key(LOCAL, desk, one.id, made_too=True)
    assert show_key(LOCAL, desk, child.id).revoked_at


def test_an_admin_key_is_used_only_from_its_networks(desk: Desk) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name="adm", kind="admin", networks=("10.0.0.0/8",)))
    assert actor_of_key(desk, made.text.encode(), "10.1.2.3").id == made.record.id
    for address in ("11.0.0.1", "", "::1"):
        with pytest.raises(CallerError) as caught:
            actor_of_key(desk, made.text.encode(), address)
        assert (caught.value.http_status, caught.value.code) == (401, "ip_not_authorized")


def test_a_data_key_does_not_administer(desk: Desk) -> None:
    made = create_key(LOCAL, desk, KeyOrder(name="a"))
    with pytest.raises(PermissionRefused, match="makes calls"):
        actor_of_key(desk, made.text.encode(), "")
    for junk in (b"", b"sk-hg-adm-x", made.text.encode()[:-1] + b"!"):
        with pytest.raises(CallerError):
            actor_of_key(desk, junk, "")
