import json
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


EVERYTHING = {
    "models": ["gpt-4o*", "o3"],
    "endpoints": ["chat", "embeddings"],
    "networks": ["10.0.0.0/8", "2001:db8::/32"],
    "rpm": 60,
    "tpm": 100_000,
    "rpd": 1000,
    "tpd": 2_000_000,
    "concurrency": 5,
    "queue_ms": 10_000,
    "priority": "batch",
    "metadata": {"team": "客服", "room": "4"},
}
OPTIONS = (
    *("--model", "gpt-4o*", "--model", "o3", "--endpoint", "chat", "--endpoint", "embeddings"),
    *("--network", "10.0.0.0/8", "--network", "2001:db8::/32", "--rpm", "60", "--tpm", "100000"),
    *("--rpd", "1000", "--tpd", "2000000", "--concurrency", "5", "--queue", "10s", "--priority", "batch"),
    *("--meta", "team=客服", "--meta", "room=4"),
)


def of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in EVERYTHING}


def test_a_key_has_everything_that_was_asked_for_and_shows_it(say: Say, run: Run) -> None:
    run("projects", "create", "staging")
    made = say("keys", "create", "--name", "app", "--project", "staging", *OPTIONS, "--expires", "2099-01-31")
    assert of(made) == of(say("keys", "show", "app")) == EVERYTHING
    assert made["expires_at"] == 4_073_500_800_000_000
    assert made["project"] == say("projects", "show", "staging")["id"]
    shown = run("keys", "show", made["id"]).stdout
    for text in (
        "gpt-4o*, o3",
        "2001:db8::/32",
        "100,000 tokens/min",
        "10 s",
        "batch",
        "team=客服",
        "staging",
    ):
        assert text in shown
    assert "60 requests/min" in run("keys", "list").stdout


def test_a_key_is_changed_into_everything_and_back(say: Say, run: Run) -> None:
    first = say("keys", "create", "--name", "app")
    assert of(say("keys", "change", "app", *OPTIONS)) == EVERYTHING
    none = [
        *("--model", "all", "--endpoint", "all", "--network", "all", "--queue", "0s", "--expires", "never"),
        *("--priority", "interactive", "--meta", "team=", "--meta", "room="),
        *(word for name in ("rpm", "tpm", "rpd", "tpd", "concurrency") for word in (f"--{name}", "0")),
    ]
    assert of(say("keys", "change", "app", *none)) == of(first)
    later = say("keys", "change", "app", "--expires", "1d", "--rename", "web")
    assert 0 < later["expires_at"] - later["created_at"] - 86_400_000_000 < 60_000_000
    assert say("keys", "show", "web")["state"] == "active"
    assert "Changed" in run("keys", "change", "web", "--rpm", "3").stdout


def test_a_rotated_key_keeps_its_id_and_its_old_secret_for_a_while(say: Say, run: Run) -> None:
    made = say("keys", "create", "--name", "app")
    again = say("keys", "rotate", "app", "--grace", "1h")
    assert (again["id"], again["state"]) == (made["id"], "active")
    assert again["key"] != made["key"]
    assert again["old_until"] - again["rotated_at"] == 3_600_000_000
    assert "old secret until" in run("keys", "show", "app").stdout
    result = run("keys", "rotate", "app")
    assert well_formed(result.stdout.strip())
    assert say("keys", "show", "app")["old_until"] == 0
    assert "is valid until" in run("keys", "rotate", "app", "--grace", "30d").stderr
    assert run("keys", "rotate", "app", "--grace", "31d").exit_code == 1


def test_keys_are_listed_by_whose_they_are(say: Say, run: Run) -> None:
    run("accounts", "create", "acme")
    run("projects", "create", "web", "--account", "acme")
    run("members", "create", "li@example.com", "--project", "web", "--name", "李雷")
    say("keys", "create", "--name", "a")
    say("keys", "create", "--name", "b", "--project", "web", "--member", "li@example.com")
    say("keys", "create", "--name", "c", "--account", "acme", "--kind", "test")
    admin = ("--kind", "admin", "--right", "usage.read", "--right", "keys.own")
    assert say("keys", "create", "--name", "d", "--member", "李雷", "--project", "web", *admin)["rights"] == [
        "usage.read",
        "keys.own",
    ]
    for some, names in (
        ((), ["a", "b", "c", "d"]),
        (("--account", "acme"), ["b", "c", "d"]),
        (("--project", "web"), ["b", "d"]),
        (("--member", "li@example.com", "--kind", "live"), ["b"]),
        (("--kind", "admin"), ["d"]),
    ):
        assert [row["name"] for row in say("keys", "list", *some)] == names
    assert "李雷" in run("keys", "list").stdout
    assert run("keys", "list", "--kind", "test", "--project", "web").stdout == "No keys.\n"


def test_keys_that_a_revoked_one_has_made_go_with_it(say: Say, run: Run, tmp_path: Path) -> None:
    boss = say("keys", "create", "--name", "boss", "--kind", "admin")
    made = say("keys", "create", "--name", "made")
    with closing(connect(tmp_path / "headgate-data")) as sql:
        sql.execute("UPDATE keys SET created_by = ? WHERE public_id = ?", (boss["id"], made["id"]))
    run("keys", "revoke", "boss", "--made-too")
    assert say("keys", "list") == []


def test_old_keys_are_reported_and_very_old_ones_are_overdue(say: Say, run: Run, tmp_path: Path) -> None:
    result = run("keys", "create", "--name", "new")
    assert (run("keys", "old").exit_code, run("keys", "old").stdout) == (0, "No key is 90 days old.\n")
    for name, days in (("old", 100), ("ancient", 200), ("rotated", 300), ("gone", 400), ("fresh", 89)):
        run("keys", "create", "--name", name)
        with closing(connect(tmp_path / "headgate-data")) as sql:
            sql.execute(
                "UPDATE keys SET created_at = created_at - ? WHERE name = ?", (days * 86_400_000_000, name)
            )
    run("keys", "rotate", "rotated")
    run("keys", "revoke", "gone")
    result = run("keys", "old", "--json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [(row["name"], row["days"], row["age"]) for row in rows] == [
        ("ancient", 200, "overdue"),
        ("old", 100, "old"),
    ]
    table = run("keys", "old")
    assert table.exit_code == 1
    assert table.stdout.count("overdue") == 1
    assert [row["name"] for row in json.loads(run("keys", "old", "--days", "150", "--json").stdout)] == [
        "ancient"
    ]
    assert run("keys", "old", "--days", "0").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("create", "--name", "a", "--project", "none"), 1, "There is no project"),
        (("create", "--name", "a", "--account", "none"), 1, "There is no account"),
        (("create", "--name", "a", "--member", "none"), 1, "There is no member"),
        (("create", "--name", "a", "--network", "10.0.0.1/8"), 1, "networks"),
        (("create", "--name", "a", "--model", "gpt-?"), 1, "pattern"),
        (("create", "--name", "a", "--endpoint", "fax"), 2, "--endpoint"),
        (("create", "--name", "a", "--queue", "1d"), 1, "queue_ms"),
        (("create", "--name", "a", "--cap", "5/year"), 2, "period"),
        (("create", "--name", "a", "--right", "usage.read"), 1, "Only an admin key"),
        (("create", "--name", "a", "--kind", "admin", "--right", "fly"), 1, "no such right"),
        (("create", "--name", "a", "--expires", "2001-01-01"), 1, "past"),
        (("create", "--name", "a", "--priority", "urgent"), 2, "--priority"),
        (("show", "none"), 1, "There is no key"),
        (("change", "app"), 2, "Say what to change"),
        (("change", "app", "--expires", "soon"), 2, "no end"),
        (("change", "none", "--rpm", "1"), 1, "There is no key"),
        (("rotate", "none"), 1, "There is no key"),
        (("rotate", "app", "--grace", "x"), 2, "length of time"),
        (("list", "--project", "none"), 1, "There is no project"),
    ],
)
def test_what_is_wrong_with_a_key_is_told(
    run: Run, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    run("keys", "create", "--name", "app")
    result = run("keys", *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr


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
