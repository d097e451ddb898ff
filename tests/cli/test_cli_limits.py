"""Limits on the command line."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.cli.conftest import Run

Say = Callable[..., Any]


@pytest.mark.parametrize("scope", ["account", "project", "key"])
def test_a_limit_is_set_listed_shown_changed_and_removed(say: Say, run: Run, scope: str) -> None:
    run("keys", "create", "--name", "app")
    name = "app" if scope == "key" else "default"
    made = say("limits", "create", f"--{scope}", name, "--rpm", "60", "--tpm", "100000", "--concurrency", "5")
    assert (made["scope"], made["rpm"], made["tpm"], made["model"], made["origin"]) == (
        scope,
        60,
        100_000,
        "",
        "local",
    )
    own = say("limits", "create", f"--{scope}", name, "--model", "gpt-4*", "--rpd", "1000", "--tpd", "5")
    assert say("limits", "list") == say("limits", "list", f"--{scope}", name) == [made, own]
    table = run("limits", "list").stdout
    for text in (scope, name, "100,000", "gpt-4*", "1,000", "all"):
        assert text in table
    again = say("limits", "create", f"--{scope}", name, "--rpm", "30")
    assert (again["id"], again["rpm"], again["tpm"]) == (made["id"], 30, 0)
    changed = say("limits", "change", own["id"], "--rpd", "2000")
    assert (changed["id"], changed["rpd"], changed["tpd"], changed["model"]) == (own["id"], 2000, 5, "gpt-4*")
    assert say("limits", "show", own["id"]) == changed
    shown = run("limits", "show", own["id"]).stdout
    for text in ("2,000 requests/day", f"{scope} {name}", "gpt-4*"):
        assert text in shown
    assert "2,000 requests/day, 5 tokens/day for gpt-4*" in run("limits", "remove", own["id"]).stdout
    assert "30 requests/min" in run("limits", "remove", made["id"]).stdout
    assert run("limits", "list").stdout == "No limits but those of keys and tiers.\n"


def test_without_a_scope_it_is_the_first_account(say: Say) -> None:
    made = say("limits", "create", "--rpm", "5")
    assert (made["scope"], made["ref"]) == ("account", say("accounts", "list")[0]["id"])


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("create",), 1, "Give at least one"),
        (("create", "--rpm", "-1"), 2, "--rpm"),
        (("create", "--rpm", "x"), 2, "--rpm"),
        (("create", "--rpm", "99999999999"), 1, "rpm"),
        (("create", "--rpm", "5", "--project", "none"), 1, "There is no project"),
        (("create", "--rpm", "5", "--key", "none"), 1, "There is no key"),
        (("create", "--rpm", "5", "--model", "m" * 300), 1, "model"),
        (("list", "--account", "none"), 1, "There is no account"),
        (("show", "limit_none"), 1, "There is no limit"),
        (("change", "limit_none", "--rpm", "5"), 1, "There is no limit"),
        (("change", "limit_none"), 2, "Say what to change"),
        (("remove", "limit_none"), 1, "There is no limit"),
    ],
)
def test_what_is_wrong_is_told(run: Run, arguments: tuple[str, ...], exit_code: int, said: str) -> None:
    run("keys", "create", "--name", "a")
    result = run("limits", *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert said in result.stderr
