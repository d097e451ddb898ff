"""The register in SQL: what servers see of what it writes, and that a transaction is one."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from headgate.identity.keys import Keyring, mint_key
from headgate.records import AccountRecord, BudgetRecord, KeyRecord, MemberRecord, ProjectRecord
from headgate.stores.sql.admin import SqlAdminStore, SqlRegister
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.database import Place, changes_since, connect, last_change, load_budgets
from headgate.stores.sql.directory import Directory
from headgate.stores.sql.engine import SqliteDialect
from headgate.values import Book

NOW = 1_790_000_000_000_000


@pytest.fixture
def pepper(place: Place) -> bytes:
    return prepare(place, NOW, None).pepper


@pytest.fixture
def store(place: Place, pepper: bytes) -> Iterator[SqlAdminStore]:
    with closing(SqlAdminStore(place)) as opened:
        yield opened


def add(store: SqlAdminStore, pepper: bytes, **fields: object) -> tuple[str, KeyRecord]:
    key = mint_key(pepper)
    with store.writing() as register:
        (project,) = register.all(ProjectRecord)
        draft = KeyRecord(
            id="", name="n", kind="live", shown=key.shown, project=project.id, account=project.account,
            created_at=NOW, **fields,
        )  # fmt: skip
        return key.text, register.add(draft, digest=key.digest)


def test_a_stored_key_is_seen_by_servers_with_its_limits(
    place: Place, store: SqlAdminStore, pepper: bytes
) -> None:
    text, record = add(store, pepper, rpm=3, tpm=500, concurrency=2, expires_at=NOW + 5)
    with store.reading() as register:
        assert register.all(KeyRecord) == [record]
    assert record.id.startswith("key_")
    assert record.project.startswith("proj_")
    with closing(connect(place)) as sql:
        principal = Keyring(pepper, Directory(sql)).authenticate(text, NOW)
    assert (principal.rpm, principal.tpm, principal.concurrency) == (3, 500, 2)
    assert principal.expires_at == NOW + 5


def test_every_kind_comes_back_as_it_went(store: SqlAdminStore, pepper: bytes) -> None:
    with store.writing() as register:
        account = register.add(AccountRecord(name="a", prepaid=True, metadata={"k": "é"}, created_at=1))
        project = register.add(ProjectRecord(account=account.id, name="p", environment="staging"))
        member = register.add(MemberRecord(account=account.id, name="m", role="viewer", email="a@b.c"))
        robot = register.add(MemberRecord(account=account.id, name="r", role="service", project=project.id))
        assert robot.id.startswith("svc_")
        for record in (account, project, member, robot):
            assert register.get(type(record), id=record.id) == record
        changed = msgspec.structs.replace(member, role="admin")
        register.put(changed)
        assert register.all(MemberRecord, account=account.id, role=("admin", "owner")) == [changed]
        register.remove(robot)
        assert register.get(MemberRecord, id=robot.id) is None


def test_what_is_not_there_is_a_lookup_error(store: SqlAdminStore, pepper: bytes) -> None:
    with store.writing() as register, pytest.raises(LookupError):
        register.put(AccountRecord(id="acct_none", name="a"))
    with store.writing() as register, pytest.raises(LookupError):
        register.add(ProjectRecord(account="acct_none", name="p"))


def write_and_fail(register: SqlRegister) -> None:
    made = register.add(AccountRecord(name="a"))
    register.changed("account", made.id, NOW)
    register.put(AccountRecord(id="acct_none", name="b"))


def test_a_block_that_raises_leaves_nothing(place: Place, store: SqlAdminStore, pepper: bytes) -> None:
    with closing(connect(place)) as sql:
        before = last_change(sql)
        with pytest.raises(LookupError), store.writing() as register:
            write_and_fail(register)
        assert last_change(sql) == before
    with store.reading() as register:
        assert len(register.all(AccountRecord)) == 1


def test_a_reader_does_not_wait_for_a_writer(place: Place, store: SqlAdminStore, pepper: bytes) -> None:
    with closing(connect(place)) as sql:
        sql.execute("BEGIN IMMEDIATE")
        with store.reading() as register:
            assert len(register.all(AccountRecord)) == 1
        sql.execute("ROLLBACK")


def test_servers_are_told_of_changes_in_order(place: Place, store: SqlAdminStore, pepper: bytes) -> None:
    with closing(connect(place)) as sql:
        before = last_change(sql)
        with store.writing() as register:
            register.changed("key", "key_1", NOW)
            register.changed("account", "acct_1", NOW)
        told = [(kind, ref) for _, kind, ref in changes_since(sql, before)]
    assert told == [("key", "key_1"), ("account", "acct_1")]


def test_a_budget_is_seen_by_servers(place: Place, store: SqlAdminStore, pepper: bytes) -> None:
    _, key = add(store, pepper)
    draft = BudgetRecord(
        scope="key", ref=key.id, account=key.account, project=key.project, book=Book.SIM, amount=9,
        unit="day", tz="UTC", origin="local",
    )  # fmt: skip
    with store.writing() as register:
        made = register.add(draft)
        assert register.all(BudgetRecord, scope="key", ref=key.id) == [made]
    with closing(connect(place)) as sql:
        assert [(row.scope, row.book, row.amount) for row in load_budgets(sql)] == [("key", Book.SIM, 9)]


def test_a_statement_is_compiled_once_for_all_files_and_asks_the_right_one(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other", "third")]
    SqliteDialect.compiled.clear()
    compiled, names = [], []
    for folder in folders:
        prepare(folder, NOW, None)
        with closing(SqlAdminStore(folder)) as store:
            with store.writing() as register:
                register.add(AccountRecord(id="", name=folder.name, created_at=NOW))
            with store.reading() as register:
                names.append([account.name for account in register.all(AccountRecord)][-1])
        compiled.append(len(SqliteDialect.compiled))

    assert names == ["one", "other", "third"]
    assert compiled == [compiled[0]] * 3
    assert compiled[0] > 0
