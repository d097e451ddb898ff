from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

from headgate.identity.keys import well_formed
from headgate.stores.sql.bootstrap import SCHEMA
from headgate.stores.sql.database import connect
from headgate.stores.sql.folder import lock_folder

Say = Callable[..., Any]


def test_a_created_key_is_printed_once_and_alone_on_stdout(run: Run) -> None:
    result = run("keys", "create", "--name", "alice")
    assert result.exit_code == 0
    assert well_formed(result.stdout.strip())
    assert "key_" in result.stderr


def test_a_key_with_its_limits_is_created_listed_and_revoked(say: Say, run: Run) -> None:
    made = say(
        "keys", "create", "--name", "ci", "--kind", "test", "--rpm", "3", "--tpm", "500", "--expires", "90d"
    )
    assert made["key"].startswith("sk-hg-test-")
    [row] = say("keys", "list")
    assert (row["id"], row["name"], row["rpm"], row["tpm"], row["state"]) == (
        made["id"],
        "ci",
        3,
        500,
        "active",
    )
    assert row["expires_at"] - row["created_at"] == 90 * 86_400 * 1_000_000
    assert "key" not in row
    assert made["key"] not in run("keys", "list").output
    assert say("keys", "revoke", "ci")["state"] == "revoked"
    assert say("keys", "list") == []
    [row] = say("keys", "list", "--all")
    assert row["state"] == "revoked"


def test_the_table_of_keys_shows_names_and_ends(run: Run) -> None:
    key = run("keys", "create", "--name", "张三").stdout.strip()
    table = run("keys", "list").output
    assert "张三" in table
    assert f"{key[:13]}…{key[-4:]}" in table


def test_what_cannot_be_done_exits_1_and_says_why(run: Run) -> None:
    run("keys", "create", "--name", "a")
    result = run("keys", "revoke", "b")
    assert result.exit_code == 1
    assert "There is no key 'b'" in result.output
    result = run("keys", "create", "--name", " ")
    assert result.exit_code == 1
    assert "printable characters" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "create"],
        ["keys", "create", "--name", "a", "--kind", "root"],
        ["keys", "create", "--name", "a", "--expires", "soon"],
        ["keys", "create", "--name", "a", "--expires", "0d"],
        ["keys", "create", "--name", "a", "--rpm", "-1"],
        ["keys", "revoke"],
    ],
)
def test_wrong_usage_exits_2_and_makes_nothing(run: Run, arguments: list[str], tmp_path: Path) -> None:
    assert run(*arguments).exit_code == 2
    assert not (tmp_path / "headgate-data").exists()


def test_a_lost_pepper_exits_3(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--name", "a")
    (tmp_path / "headgate-data" / "pepper").unlink()
    result = run("keys", "create", "--name", "b")
    assert result.exit_code == 3
    assert "Restore it from your backup" in result.output


def test_the_data_folder_may_come_from_the_environment(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_DATA", str(tmp_path / "elsewhere"))
    say("keys", "create", "--name", "a")
    assert (tmp_path / "elsewhere" / "pepper").is_file()


def test_the_schema_is_reported_and_migrated(say: Say, run: Run) -> None:
    say("keys", "create", "--name", "a")
    assert say("db", "status") == {"schema": SCHEMA, "known": SCHEMA, "current": True}
    assert say("db", "migrate") == {"before": SCHEMA, "after": SCHEMA}
    assert "up to date" in run("db", "migrate").output


def test_a_schema_is_not_migrated_under_a_running_server(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "--name", "a")
    folder = tmp_path / "headgate-data"
    with closing(connect(folder)) as sql:
        sql.execute("UPDATE alembic_version SET version_num = '0000'")
    with lock_folder(folder):
        result = run("db", "migrate")
    assert result.exit_code == 3
    assert "is served by process" in result.output
