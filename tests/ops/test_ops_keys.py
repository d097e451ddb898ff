import pytest
from tests.ops.fakes import FakeAdminStore, HandClock

from headgate.errors import CallerError, Conflict, NotFound, PermissionRefused
from headgate.identity.keys import digest, well_formed
from headgate.ops.actors import LOCAL, Actor
from headgate.ops.keys import KeyOrder, create_key, list_keys, revoke_key

PEPPER = bytes(32)
GUEST = Actor("guest")


@pytest.fixture
def store() -> FakeAdminStore:
    return FakeAdminStore()


def test_a_created_key_is_shown_once_and_stored_as_a_digest(store: FakeAdminStore) -> None:
    clock = HandClock()
    made = create_key(LOCAL, store, PEPPER, KeyOrder(name=" ci ", kind="test", rpm=3, expires_in_s=60), clock)
    assert made.text.startswith("sk-hg-test-")
    assert well_formed(made.text)
    assert store.digests == [digest(PEPPER, made.text)]
    assert (made.record.name, made.record.rpm) == ("ci", 3)
    assert made.record.expires_at == clock.now + 60_000_000
    assert made.text not in repr(list_keys(LOCAL, store))


@pytest.mark.parametrize(
    ("order", "param"),
    [
        (KeyOrder(name=" "), "name"),
        (KeyOrder(name="x" * 101), "name"),
        (KeyOrder(name="a\x1b[31m"), "name"),
        (KeyOrder(name="a", kind="root"), "kind"),  # type: ignore[arg-type]
        (KeyOrder(name="a", rpm=-1), "rpm"),
        (KeyOrder(name="a", tpm=2**31), "tpm"),
    ],
)
def test_an_order_that_cannot_be_filled_names_its_member(
    store: FakeAdminStore, order: KeyOrder, param: str
) -> None:
    with pytest.raises(CallerError) as caught:
        create_key(LOCAL, store, PEPPER, order, HandClock())
    assert caught.value.param == param
    assert store.keys == []


def test_a_key_is_revoked_by_id_by_name_or_by_what_is_shown_of_it(store: FakeAdminStore) -> None:
    clock = HandClock()
    made = [create_key(LOCAL, store, PEPPER, KeyOrder(name=f"k{n}"), clock).record for n in range(3)]
    for reference in (made[0].id, made[1].name, made[2].shown):
        assert revoke_key(LOCAL, store, reference, clock).revoked_at == clock.now
    assert all(record.revoked_at for record in store.keys)


def test_what_cannot_be_revoked_says_why(store: FakeAdminStore) -> None:
    clock = HandClock()
    first = create_key(LOCAL, store, PEPPER, KeyOrder(name="twin"), clock).record
    create_key(LOCAL, store, PEPPER, KeyOrder(name="twin"), clock)
    with pytest.raises(NotFound, match="keys list"):
        revoke_key(LOCAL, store, "none", clock)
    with pytest.raises(Conflict, match="means 2 keys"):
        revoke_key(LOCAL, store, "twin", clock)
    revoke_key(LOCAL, store, first.id, clock)
    with pytest.raises(Conflict, match="already"):
        revoke_key(LOCAL, store, first.id, clock)
    assert revoke_key(LOCAL, store, "twin", clock).id != first.id  # only one of the twins is left


def test_only_an_owner_manages_keys(store: FakeAdminStore) -> None:
    clock = HandClock()
    with pytest.raises(PermissionRefused):
        create_key(GUEST, store, PEPPER, KeyOrder(name="a"), clock)
    with pytest.raises(PermissionRefused):
        list_keys(GUEST, store)
    with pytest.raises(PermissionRefused):
        revoke_key(GUEST, store, "a", clock)
    assert store.keys == []
