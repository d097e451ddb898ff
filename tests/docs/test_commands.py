"""Every command that the documents show exists with the options that they show."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from tests.surfaces.conftest import HEADGATE, plain_environment
from tests.surfaces.forks import run as run_forked

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *(ROOT / "docs").glob("guide-map*.md")]


def shown() -> list[str]:
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found |= {line.split(" #")[0].strip() for line in re.findall(r"\.venv/bin/headgate [^`\n|]+", text)}
        found |= {
            f".venv/bin/headgate serve {args}" for args in re.findall(r'make serve ARGS="([^"]+)"', text)
        }
    return sorted(found)


GROUPS = {
    *("accounts", "audit", "budgets", "config", "credit", "db", "events", "keys", "ledger", "limits"),
    *("members", "projects", "tiers"),
}


@cache
def help_of(*path: str) -> str:
    done = run_forked([HEADGATE, *path, "--help"], ROOT, plain_environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("line", shown())
def test_a_shown_command_exists_with_its_options(line):
    words = shlex.split(line)[1:]
    path = words[: 3 if words[:2] == ["credit", "codes"] else 2 if words[0] in GROUPS else 1]
    text = help_of(*path)
    for option in [word for word in words if word.startswith("--")]:
        assert option in text, f"{option} of {line!r}"
