"""Accounts, projects, members and the audit on the command line."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.cli.conftest import Run

from headgate.identity.keys import well_formed

Say = Callable[..., Any]


def test_an_account_is_opened_listed_shown_and_changed(say: Say, run: Run) -> None:
    made = say("accounts", "create", "张记贸易", "--prepaid", "--multiplier", "1.15", "--meta", "city=上海")
    assert (made["name"], made["prepaid"], made["multiplier_ppm"]) == ("张记贸易", True, 1_150_000)
    assert made["metadata"] == {"city": "上海"}
    assert [row["name"] for row in say("accounts", "list")] == ["default", "张记贸易"]
    assert say("accounts", "show", "张记贸易") == say("accounts", "show", made["id"]) == made
    shown = run("accounts", "show", "张记贸易").stdout
    for text in ("prepaid", "x 1.15", "city=上海", made["id"]):
        assert text in shown
    changed = say("accounts", "change", "张记贸易", "--multiplier", "0.8", "--meta", "city=", "--meta", "a=b")
    assert (changed["multiplier_ppm"], changed["metadata"]) == (800_000, {"a": "b"})
    assert "suspended" in run("accounts", "change", "张记贸易", "--status", "suspended").stdout
    assert say("accounts", "change", "张记贸易", "--rename", "张记", "--postpaid")["prepaid"] is False
    say("accounts", "change", "张记", "--status", "closed")
    assert [row["name"] for row in say("accounts", "list")] == ["default"]
    assert [row["status"] for row in say("accounts", "list", "--all")] == ["active", "closed"]
    result = run("accounts", "change", made["id"], "--status", "active")
    assert result.exit_code == 1
    assert "closed" in result.output


def test_a_project_is_made_filled_changed_and_archived(say: Say, run: Run) -> None:
    say("accounts", "create", "acme")
    made = say("projects", "create", "staging", "--account", "acme", "--environment", "staging")
    member = say("members", "create", "li@example.com", "--account", "acme", "--name", "李雷")
    added = say("projects", "add", "staging", "li@example.com", "--role", "owner")
    assert (added["id"], added["role"], added["project"]) == (member["id"], "owner", made["id"])
    shown = say("projects", "show", "staging")
    assert (shown["environment"], [row["name"] for row in shown["members"]]) == ("staging", ["李雷"])
    assert "李雷 (owner)" in run("projects", "show", "staging").stdout
    assert [row["name"] for row in say("projects", "list", "--account", "acme")] == ["default", "staging"]
    assert "acme" in run("projects", "list").stdout
    changed = say("projects", "change", "staging", "--rename", "testing", "--meta", "team=a")
    assert (changed["name"], changed["metadata"]) == ("testing", {"team": "a"})
    assert "no longer in" in run("projects", "remove", "testing", "李雷").stdout
    assert say("projects", "archive", "testing")["archived_at"] > 0
    assert [row["name"] for row in say("projects", "list", "--account", "acme")] == ["default"]
    assert len(say("projects", "list", "--account", "acme", "--all")) == 2


def test_a_member_is_taken_in_shown_changed_and_let_go(say: Say, run: Run) -> None:
    run("accounts", "create", "acme")
    run("projects", "create", "web", "--account", "acme")
    made = say("members", "create", "Han@Example.com", "--project", "web", "--meta", "desk=4")
    assert (made["email"], made["name"], made["role"]) == ("han@example.com", "han@example.com", "developer")
    assert [row["id"] for row in say("projects", "show", "web")["members"]] == [made["id"]]
    assert [row["id"] for row in say("members", "list", "--account", "acme")] == [made["id"]]
    assert say("members", "list") == []
    assert run("members", "list").stdout == "Nobody.\n"
    changed = say(
        "members", "change", "han@example.com", "--role", "admin", "--name", "韩梅梅", "--meta", "desk="
    )
    assert (changed["role"], changed["name"], changed["metadata"]) == ("admin", "韩梅梅", {})
    assert "韩梅梅" in run("members", "show", "han@example.com").stdout
    assert "韩梅梅" in run("members", "list", "--account", "acme").stdout
    say("keys", "create", "--name", "han", "--member", made["id"], "--account", "acme")
    assert say("members", "remove", "韩梅梅")["removed_at"] > 0
    assert say("members", "list", "--account", "acme") == []
    assert "removed" in run("members", "show", made["id"]).stdout


def test_a_service_account_has_a_key_at_once(say: Say, run: Run) -> None:
    run("projects", "create", "jobs")
    result = run("members", "create-service", "夜间任务", "--project", "jobs")
    assert well_formed(result.stdout.strip())
    assert "夜间任务" in result.stderr
    made = say("members", "create-service", "nightly", "--project", "jobs")
    assert well_formed(made["key"])
    assert made["record"]["member"] == made["member"]["id"]
    rows = say("members", "list")
    assert [(row["name"], row["role"]) for row in rows] == [("夜间任务", "service"), ("nightly", "service")]
    assert "jobs" in run("members", "list").stdout


def test_the_last_owner_stays(say: Say, run: Run) -> None:
    say("members", "create", "a@example.com", "--role", "owner")
    for command in (("remove", "a@example.com"), ("change", "a@example.com", "--role", "viewer")):
        result = run("members", *command)
        assert result.exit_code == 1
        assert "last owner" in result.output


def test_the_audit_lists_what_was_done_and_refused_the_newest_first(say: Say, run: Run) -> None:
    run("accounts", "create", "acme")
    run("members", "create", "nonsense")
    run("projects", "create", "web", "--account", "acme")
    rows = say("audit", "list")
    assert [(row["action"], row["outcome"]) for row in rows[:3]] == [
        ("project.created", "done"),
        ("member.added", "refused"),
        ("account.created", "done"),
    ]
    assert {row["actor"] for row in rows} == {"local"}
    assert [row["action"] for row in say("audit", "list", "--outcome", "refused")] == ["member.added"]
    assert [row["action"] for row in say("audit", "list", "--action", "account.created")] == [
        "account.created"
    ]
    assert len(say("audit", "list", "--last", "1")) == 1
    assert {row["action"] for row in say("audit", "list", "--account", "acme")} == {
        "account.created",
        "project.created",
    }
    table = run("audit", "list", "--ref", rows[0]["ref"]).stdout
    assert "project.created" in table
    assert "account.created" not in table


def test_the_events_list_what_happened_by_itself(say: Say, run: Run) -> None:
    account = say("accounts", "create", "acme", "--prepaid")["id"]
    assert say("events", "list", "--kind", "tier.promoted") == []
    assert run("events", "list", "--ref", "nobody").stdout == "Nothing.\n"
    run("credit", "top-up", "100", "--account", "acme", "--reference", "a")
    (promoted,) = say("events", "list", "--account", "acme", "--last", "1")
    assert (promoted["kind"], promoted["ref"], promoted["detail"]["to"]) == (
        "tier.promoted",
        account,
        "tier3",
    )
    table = run("events", "list").stdout
    assert "tier.promoted" in table
    assert "acme" in table


def test_more_rows_of_the_audit_than_a_page_are_listed(say: Say, run: Run) -> None:
    say("keys", "create", "--name", "a")
    for number in range(120):
        run("keys", "change", "a", "--rpm", str(number + 1))
    rows = say("audit", "list", "--last", "110", "--action", "key.changed")
    assert len({row["id"] for row in rows}) == 110


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("accounts", "show", "nobody"), 1, "There is no account 'nobody'"),
        (("accounts", "change", "default"), 2, "Say what to change"),
        (("accounts", "change", "default", "--status", "gone"), 2, "--status"),
        (("accounts", "change", "default", "--multiplier", "-1"), 2, "factor"),
        (("accounts", "create", "a", "--multiplier", "1.1234567"), 2, "factor"),
        (("accounts", "create", "a", "--meta", "x"), 2, "pair"),
        (("accounts", "create", ""), 1, "name"),
        (("projects", "create", "a", "--account", "nobody"), 1, "There is no account"),
        (("projects", "show", "nothing"), 1, "There is no project"),
        (("projects", "change", "default"), 2, "Say what to change"),
        (("projects", "add", "default", "nobody@example.com"), 1, "There is no member"),
        (("projects", "add", "default", "x", "--role", "boss"), 2, "--role"),
        (("projects", "remove", "default", "nobody"), 1, "There is no member"),
        (("members", "create", "x@example.com", "--role", "boss"), 2, "--role"),
        (("members", "create", "x@example.com", "--project", "none"), 1, "There is no project"),
        (("members", "create", "no address"), 1, "e-mail"),
        (("members", "create-service", "x"), 2, "--project"),
        (("members", "change", "x"), 2, "Say what to change"),
        (("members", "change", "nobody", "--role", "viewer"), 1, "There is no member"),
        (("members", "remove", "nobody"), 1, "There is no member"),
        (("audit", "list", "--last", "0"), 2, "--last"),
        (("audit", "list", "--account", "nobody"), 1, "There is no account"),
    ],
)
def test_what_is_wrong_is_told(run: Run, arguments: tuple[str, ...], exit_code: int, said: str) -> None:
    run("keys", "create", "--name", "a")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr


def test_a_name_that_two_accounts_have_is_told_with_its_ids(say: Say, run: Run) -> None:
    say("accounts", "create", "acme")
    result = run("projects", "show", "default")
    assert result.exit_code == 1
    assert result.stderr.count("proj_") == 2
    key = say("keys", "create", "--name", "a", "--account", "acme", "--project", "default")
    assert key["account"] == say("accounts", "show", "acme")["id"]
