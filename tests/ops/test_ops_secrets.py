"""S-12: stored keys of providers are sealed, stay in their row, follow a new KEK, and never come out."""

import base64
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.ops.fakes import HandClock, join

from headgate.errors import CallerError, Conflict, NotFound, PermissionRefused
from headgate.ops.actors import LOCAL
from headgate.ops.audit import list_audit
from headgate.ops.desk import Desk, PageOrder, every
from headgate.ops.secrets import SecretOrder, list_secrets, remove_secret, rotate_kek, store_secret
from headgate.stores.sql.database import connect
from headgate.stores.sql.secrets import open_secret
from headgate.vaults.envelope import SealError, SecretGone, Slip, new_kek, parse_kek, seal, unseal

HOST = "https://api.example.com"
CANARY = "sk-canary-7f3a9c51d2"
ALL = PageOrder(limit=100)
OLD, NEW = (parse_kek(new_kek()) for _ in range(2))


@pytest.fixture
def sql(desk: Desk, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path)) as connection:
        yield connection


def order(**fields: str) -> SecretOrder:
    return SecretOrder(**{"name": "openai", "value": CANARY, "host": f"{HOST}/v1", **fields})


def test_a_stored_key_is_opened_for_its_host_and_shown_to_nobody(
    desk: Desk, sql: sqlite3.Connection, clock: HandClock
) -> None:
    made = store_secret(LOCAL, desk, [OLD], order())
    assert (made.id, made.host, made.version) == ("openai", HOST, 1)
    assert open_secret(sql, [OLD], "openai", HOST, clock.now) == CANARY
    again = store_secret(LOCAL, desk, [OLD], order(value="sk-other"))
    assert again.version == 2
    assert open_secret(sql, [NEW, OLD], "openai", HOST, clock.now) == "sk-other"
    assert list_secrets(LOCAL, desk, ALL).data == [again]
    for shown in (made, order(), list_secrets(LOCAL, desk, ALL), list_audit(LOCAL, desk, ALL)):
        assert CANARY not in repr(shown)
    assert remove_secret(LOCAL, desk, "openai") == again
    with pytest.raises(NotFound):
        remove_secret(LOCAL, desk, "openai")
    with pytest.raises(SecretGone, match="secrets store openai"):
        open_secret(sql, [OLD], "openai", HOST, clock.now)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"value": " "}, "value"),
        ({"value": "a\nb"}, "value"),
        ({"value": "x" * 20_000}, "value"),
        ({"host": "ftp://x"}, "host"),
        ({"host": "https://user:pw@x"}, "host"),
    ],
)
def test_what_cannot_be_stored_names_its_member(desk: Desk, fields: dict[str, str], param: str) -> None:
    with pytest.raises(CallerError) as caught:
        store_secret(LOCAL, desk, [OLD], order(**fields))
    assert caught.value.param == param
    assert list_secrets(LOCAL, desk, ALL).data == []


def test_nothing_is_stored_without_a_kek_nor_by_an_account(desk: Desk) -> None:
    with pytest.raises(Conflict, match="HEADGATE_KEK"):
        store_secret(LOCAL, desk, [], order())
    owner = join(LOCAL, desk, "owner")
    with pytest.raises(PermissionRefused):
        store_secret(owner, desk, [OLD], order())
    with pytest.raises(PermissionRefused):
        list_secrets(owner, desk, ALL)


def test_a_missing_or_wrong_kek_is_said_clearly(
    desk: Desk, sql: sqlite3.Connection, clock: HandClock
) -> None:
    store_secret(LOCAL, desk, [OLD], order())
    with pytest.raises(SealError, match="needs the key encryption key: set HEADGATE_KEK"):
        open_secret(sql, [], "openai", HOST, clock.now)
    with pytest.raises(SealError, match="that is not given here"):
        open_secret(sql, [NEW], "openai", HOST, clock.now)
    for text in ("", "00" * 31, "zz" * 32, "x"):
        with pytest.raises(SealError, match="not 32 bytes"):
            parse_kek(text)
    assert parse_kek(base64.b64encode(OLD).decode()) == parse_kek(f" {OLD.hex()}\n") == OLD


def test_at_another_host_it_is_cleared(desk: Desk, sql: sqlite3.Connection, clock: HandClock) -> None:
    store_secret(LOCAL, desk, [OLD], order())
    with pytest.raises(SecretGone, match="has been cleared"):
        open_secret(sql, [OLD], "openai", "https://evil.example.com", clock.now)
    assert list_secrets(LOCAL, desk, ALL).data == []
    with pytest.raises(SecretGone):
        open_secret(sql, [OLD], "openai", HOST, clock.now)
    row = list_audit(LOCAL, desk, PageOrder(order="desc")).data[0]
    assert (row.action, row.ref) == ("secret.cleared", "openai")


def swapped(columns: str) -> Callable[[sqlite3.Connection], object]:
    """Return what gives each of two rows some columns of the other."""

    names = columns.split(", ")

    def change(sql: sqlite3.Connection) -> None:
        rows = {row[0]: row[1:] for row in sql.execute(f"SELECT name, {columns} FROM secrets").fetchall()}
        for name, other in (("a", "b"), ("b", "a")):
            marks = ", ".join(f"{column} = ?" for column in names)
            sql.execute(f"UPDATE secrets SET {marks} WHERE name = ?", (*rows[other], name))

    return change


def statement(text: str) -> Callable[[sqlite3.Connection], object]:
    return lambda sql: sql.execute(text)


CHANGES: dict[str, Callable[[sqlite3.Connection], object]] = {
    "two rows changed places": swapped("wrapped, nonce, sealed"),
    "the wrapped keys changed places": swapped("wrapped"),
    "the secrets changed places": swapped("nonce, sealed"),
    "an older version": statement("UPDATE secrets SET version = version + 1"),
    "another host": statement("UPDATE secrets SET host = 'https://evil.example.com'"),
    "another row": statement("UPDATE secrets SET id = id + 1"),
    "one byte": statement("UPDATE secrets SET sealed = CAST(x'00' || substr(sealed, 2) AS BLOB)"),
    "cut off": statement("UPDATE secrets SET sealed = substr(sealed, 1, 5)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_a_row_is_accepted(
    desk: Desk, sql: sqlite3.Connection, clock: HandClock, change: str
) -> None:
    for name in ("a", "b"):
        store_secret(LOCAL, desk, [OLD], order(name=name, value=f"sk-of-{name}"))
    CHANGES[change](sql)
    host = "https://evil.example.com" if change == "another host" else HOST
    for name in ("a", "b"):
        with pytest.raises(SealError, match="its row was changed"):
            open_secret(sql, [OLD], name, host, clock.now)


def test_ten_thousand_secrets_follow_a_new_kek_at_once(
    desk: Desk, sql: sqlite3.Connection, clock: HandClock
) -> None:
    count = 10_000
    rows = []
    for number in range(count):
        slip = Slip(number + 1, f"s{number}", HOST, 1)
        box = seal(OLD, slip, f"{CANARY}-{number}")
        rows.append((slip.row, slip.name, HOST, 1, box.wrapped, box.nonce, box.sealed, 5))
    sql.execute("BEGIN")
    sql.executemany("INSERT INTO secrets VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    sql.execute("COMMIT")
    assert rotate_kek(LOCAL, desk, [OLD], NEW) == count
    for number in range(count):  # a server that has both reads all through the change
        assert open_secret(sql, [NEW, OLD], f"s{number}", HOST, clock.now) == f"{CANARY}-{number}"
    with pytest.raises(SealError):
        open_secret(sql, [OLD], "s0", HOST, clock.now)
    assert len(list(every(lambda page: list_secrets(LOCAL, desk, page)))) == count
    third = parse_kek(new_kek())
    sql.execute("UPDATE secrets SET wrapped = x'00' WHERE name = 's5000'")
    with pytest.raises(Conflict, match="'s5000'"):
        rotate_kek(LOCAL, desk, [NEW], third)
    assert open_secret(sql, [NEW], "s1", HOST, clock.now) == f"{CANARY}-1"  # none was changed


def test_no_file_of_the_folder_holds_a_secret_or_the_kek(desk: Desk, tmp_path: Path) -> None:
    store_secret(LOCAL, desk, [OLD], order())
    rotate_kek(LOCAL, desk, [OLD], NEW)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for secret in (CANARY.encode(), OLD, NEW, OLD.hex().encode(), NEW.hex().encode()):
                assert secret not in content, path


def test_an_envelope_opens_only_as_it_was_closed() -> None:
    slip = Slip(1, "n", HOST, 1)
    box = seal(OLD, slip, "ключ 鍵")
    assert unseal([NEW, OLD], slip, box) == "ключ 鍵"
    assert seal(OLD, slip, "ключ 鍵") != box  # no two are alike
    for other in (
        Slip(2, "n", HOST, 1),
        Slip(1, "m", HOST, 1),
        Slip(1, "n", HOST + "x", 1),
        Slip(1, "n", HOST, 2),
    ):
        with pytest.raises(SealError):
            unseal([OLD], other, box)
