from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.conftest import Run

from headgate.vaults.envelope import kek_id, parse_kek

CANARY = "sk-canary-of-a-provider"


def test_a_key_is_stored_listed_rewrapped_and_removed_and_never_shown(
    run: Run, say: Callable[..., Any], tmp_path: Path
) -> None:
    first, second = (run("secrets", "new-kek").stdout.strip() for _ in range(2))
    assert first != second
    assert parse_kek(say("secrets", "new-kek")["kek"])
    kek = {"HEADGATE_KEK": first}
    host = ("--host", "https://api.openai.com/v1")
    told = run("secrets", "store", "openai", *host, input=f"{CANARY}\n", env=kek)
    assert told.exit_code == 0, told.output
    assert 'api_key = "stored:openai"' in told.output
    [row] = say("secrets", "list")
    assert (row["id"], row["host"], row["version"]) == ("openai", "https://api.openai.com", 1)
    (tmp_path / "kek").write_text(second)
    moved = say("secrets", "rotate-kek", "--new", "kek", env=kek)
    assert moved == {"rewrapped": 1, "kek": kek_id(parse_kek(second)).hex()}
    assert (
        say("secrets", "store", "openai", *host, input="sk-new", env={"HEADGATE_KEK": second})["version"] == 2
    )
    listed = run("secrets", "list").output + run("audit", "list").output
    assert say("secrets", "remove", "openai")["id"] == "openai"
    for output in (told.output, listed, str(row)):
        assert CANARY not in output
    assert run("secrets", "list").output.strip() == "Nothing is stored."


def test_what_is_missing_is_said(run: Run, tmp_path: Path) -> None:
    result = run("secrets", "store", "openai", "--host", "https://x.example", input=CANARY)
    assert result.exit_code != 0
    assert "HEADGATE_KEK" in result.output
    (tmp_path / "kek").write_text("short")
    for env in ({}, {"HEADGATE_KEK": "short"}):
        result = run("secrets", "rotate-kek", "--new", "kek", env=env)
        assert result.exit_code != 0
        assert "32 bytes" in result.output
