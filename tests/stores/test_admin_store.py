from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headgate.identity.keys import Keyring, mint_key
from headgate.records import BudgetRecord, KeyRecord
from headgate.stores.sql.admin import SqlAdminStore
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.database import connect, last_change, load_budgets, load_keys
from headgate.values import Book

NOW = 1_790_000_000_000_000


@pytest.fixture
def pepper(tmp_path: Path) -> bytes:
    return prepare(tmp_path, NOW, None).pepper


@pytest.fixture
def store(tmp_path: Path, pepper: bytes) -> Iterator[SqlAdminStore]:
    with closing(SqlAdminStore(tmp_path)) as opened:
        yield opened


def add(store: SqlAdminStore, pepper: bytes, **fields: object) -> tuple[str, KeyRecord]:
    key = mint_key(pepper)
    draft = KeyRecord(id="", name="n", kind="live", shown=key.shown, project="", created_at=NOW, **fields)
    return key.text, store.add_key(draft, key.digest)


def seq(folder: Path) -> int:
    with closing(connect(folder)) as sql:
        return last_change(sql)


def test_a_stored_key_is_seen_by_servers_with_its_limits(
    tmp_path: Path, store: SqlAdminStore, pepper: bytes
) -> None:
    before = seq(tmp_path)
    text, record = add(store, pepper, rpm=3, tpm=500, concurrency=2, expires_at=NOW + 5)
    assert store.list_keys() == [record]
    assert record.id.startswith("key_")
    assert record.project.startswith("proj_")
    with closing(connect(tmp_path)) as sql:
        principal = Keyring(pepper, load_keys(sql)).authenticate(text, NOW)
    assert (principal.rpm, principal.tpm, principal.concurrency) == (3, 500, 2)
    assert principal.expires_at == NOW + 5
    assert seq(tmp_path) == before + 1


def test_a_revoked_key_stays_and_is_revoked_once(tmp_path: Path, store: SqlAdminStore, pepper: bytes) -> None:
    _, record = add(store, pepper)
    assert store.revoke_key(record.id, NOW + 1)
    changed = seq(tmp_path)
    assert not store.revoke_key(record.id, NOW + 2)
    assert [key.revoked_at for key in store.list_keys()] == [NOW + 1]
    assert seq(tmp_path) == changed


def test_an_unknown_key_or_project_is_a_lookup_error(store: SqlAdminStore, pepper: bytes) -> None:
    with pytest.raises(LookupError):
        store.revoke_key("key_none", NOW)
    draft = KeyRecord(id="", name="n", kind="live", shown="", project="proj_none")
    with pytest.raises(LookupError):
        store.add_key(draft, bytes(32))
    assert store.list_keys() == []


def test_a_refused_write_leaves_no_change(tmp_path: Path, store: SqlAdminStore, pepper: bytes) -> None:
    before = seq(tmp_path)
    with pytest.raises(LookupError):
        store.revoke_key("key_none", NOW)
    assert not store.remove_budget("budget_none", NOW)
    assert seq(tmp_path) == before


def test_a_budget_replaces_the_one_of_the_same_scope_book_unit_and_origin(
    tmp_path: Path, store: SqlAdminStore, pepper: bytes
) -> None:
    _, key = add(store, pepper)
    draft = BudgetRecord(
        id="", scope="key", ref=key.id, book=Book.SIM, amount=5, unit="day", tz="UTC", origin="local"
    )
    first = store.put_budget(draft)
    second = store.put_budget(
        BudgetRecord(
            id="", scope="key", ref=key.id, book=Book.SIM, amount=9, unit="day", tz="UTC", origin="local"
        )
    )
    assert second.id == first.id
    assert store.list_budgets() == [second]
    with closing(connect(tmp_path)) as sql:
        assert [(row.scope, row.book, row.amount) for row in load_budgets(sql)] == [("key", Book.SIM, 9)]
    assert store.remove_budget(second.id, NOW)
    assert store.list_budgets() == []
