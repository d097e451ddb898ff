import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

from headgate.cli.tomltext import with_sections

Say = Callable[..., Any]

PRODUCTION = """\
# Production. Ask ops before you touch it.

[server]
port = 9000  # behind the balancer

[[providers]]
name = "corp"
base_url = "https://llm.example/v1"
api_key = "sk-production-secret"   # to be moved to the vault
models = ["c-*"]

# What people may call.
[[models]]
name = "small"
targets = [{ provider = "corp", model = "c-1" }]

[[models]]
name = "old"
targets = [
  { provider = "corp", model = "c-0" },
]

[aliases]
fast = "small"

# Until the end of the year.
[budget]
cap = "900/month"
"""
STAGING = """\
[[providers]]
name = "corp"
base_url = "https://staging.example/v1"
api_key = "sk-staging-secret"
models = ["c-*"]

# The new one, tried since Monday.
[[models]]
name = "small"
targets = [{ provider = "corp", model = "c-2" }]
[[models]]
name = "large"
targets = [{ provider = "corp", model = "c-9" }]

[[prices.rows]]
model = "c-*"
input = 1.0
output = 2.0

[[keys]]
name = "night"
parameters = "lenient"

[budget]
cap = "5/month"
[aliases]
fast = "small"
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "staging.toml").write_text(STAGING)
    (tmp_path / "production.toml").write_text(PRODUCTION)
    (tmp_path / "production.toml").chmod(0o640)
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_differs_is_shown_and_nothing_is_written(say: Say, run: Run, files: Path) -> None:
    said = say("config", "promote", "staging.toml", "production.toml")
    assert {
        (row["setting"], json.dumps(row["now"]), json.dumps(row["then"])) for row in said["differences"]
    } == {
        (
            "models small.targets",
            '[{"provider": "corp", "model": "c-1"}]',
            '[{"provider": "corp", "model": "c-2"}]',
        ),
        ("models old", '{"name": "old", "targets": [{"provider": "corp", "model": "c-0"}]}', "null"),
        ("models large", "null", '{"name": "large", "targets": [{"provider": "corp", "model": "c-9"}]}'),
        ("prices", "null", '{"rows": [{"model": "c-*", "input": 1.0, "output": 2.0}]}'),
        ("keys night", "null", '{"name": "night", "parameters": "lenient"}'),
    }
    assert said["stays"] == ["provider 'corp' has its own api_key, base_url"]
    assert (said["written"], said["backup"]) == (False, None)
    text = run("config", "promote", "staging.toml", "production.toml").output
    assert "models small.targets" in text
    assert "add --yes" in text
    assert "secret" not in text + json.dumps(said)
    assert (files / "production.toml").read_text() == PRODUCTION
    assert names(files) == ["production.toml", "staging.toml"]


def test_what_is_promoted_leaves_the_rest_as_it_was_written(run: Run, files: Path) -> None:
    result = run("config", "promote", "staging.toml", "production.toml", "--yes")
    assert result.exit_code == 0, result.output
    path = files / "production.toml"
    assert path.read_text() == (
        PRODUCTION.partition("# What people")[0]
        + "# The new one, tried since Monday.\n"
        + '[[models]]\nname = "small"\ntargets = [{ provider = "corp", model = "c-2" }]\n\n'
        + '[[models]]\nname = "large"\ntargets = [{ provider = "corp", model = "c-9" }]\n\n'
        + '[aliases]\nfast = "small"\n\n# Until the end of the year.\n[budget]\ncap = "900/month"\n'
        + '[[prices.rows]]\nmodel = "c-*"\ninput = 1.0\noutput = 2.0\n\n'
        + '[[keys]]\nname = "night"\nparameters = "lenient"\n\n'
    )
    assert path.stat().st_mode & 0o777 == 0o640
    [backup] = [name for name in names(files) if name.endswith(".bak")]
    assert backup in result.output
    assert (files / backup).read_text() == PRODUCTION
    assert run("config", "check", "--config", "production.toml").exit_code == 0
    assert "has it all" in run("config", "promote", "staging.toml", "production.toml").output


def test_only_what_is_named_is_promoted(say: Say, files: Path) -> None:
    said = say("config", "promote", "staging.toml", "production.toml", "--only", "keys", "--yes")
    assert [row["setting"] for row in said["differences"]] == ["keys night"]
    assert said["waits"] == []
    assert (files / "production.toml").read_text() == (
        PRODUCTION + '[[keys]]\nname = "night"\nparameters = "lenient"\n\n'
    )


def test_what_callers_demand_goes_along_with_the_models(say: Say, files: Path) -> None:
    demand = '[[demands]]\nkeys = ["clinic-*"]\nregions = ["eu"]\n'
    with (files / "staging.toml").open("a") as more:
        more.write("\n" + demand)
    said = say("config", "promote", "staging.toml", "production.toml", "--yes")
    assert any(row["setting"].startswith("demands") for row in said["differences"])
    assert "demands" not in said["waits"]
    assert demand in (files / "production.toml").read_text()


def test_what_waits_for_the_next_start_is_said(say: Say, run: Run, files: Path) -> None:
    with (files / "staging.toml").open("a") as more:
        more.write("[retries]\nattempts = 2\n")
    arguments = ("config", "promote", "staging.toml", "production.toml", "--only", "retries")
    assert say(*arguments)["waits"] == ["retries"]
    assert "next start: retries" in run(*arguments, "--yes").output


@pytest.mark.parametrize(
    ("staging", "said"),
    [
        (STAGING.replace('provider = "corp", model = "c-9"', 'provider = "other", model = "c-9"'), "other"),
        (STAGING.replace("input = 1.0", "input = -1.0"), "price of c-*: -1.0"),
        (STAGING.replace('"lenient"', '"loose"'), "loose"),
        ("[[models\n", "staging.toml: not valid TOML"),
    ],
)
def test_what_could_not_be_used_is_not_promoted(staging: str, said: str, run: Run, files: Path) -> None:
    (files / "staging.toml").write_text(staging)
    result = run("config", "promote", "staging.toml", "production.toml", "--yes")
    assert result.exit_code == 1
    assert said in result.stderr
    assert ".new" not in result.stderr
    assert (files / "production.toml").read_text() == PRODUCTION
    assert names(files) == ["production.toml", "staging.toml"]


def test_a_file_that_is_not_there_or_is_the_same_is_refused(run: Run, files: Path) -> None:
    assert "Cannot read nothing.toml" in run("config", "promote", "nothing.toml", "production.toml").stderr
    (files / "link.toml").symlink_to("production.toml")
    assert "the same file" in run("config", "promote", "link.toml", "production.toml").stderr


def test_a_link_stays_a_link(run: Run, files: Path) -> None:
    (files / "live.toml").symlink_to("production.toml")
    assert run("config", "promote", "staging.toml", "live.toml", "--yes").exit_code == 0
    assert (files / "live.toml").is_symlink()
    assert '"large"' in os.fspath((files / "production.toml").read_text())


@pytest.mark.parametrize(
    ("text", "source", "then"),
    [
        ("", "[a]\nx = 1\n", "[a]\nx = 1\n\n"),
        ("[a]\nx = 1\n", "", ""),
        ("a.x = 1\nb = 2\n[c]\n", "a = { x = 3 }\n", "b = 2\na = { x = 3 }\n[c]\n"),
        ("[c]\ny = 1\n", "# why\na = { x = 3 }\n", "# why\na = { x = 3 }\n[c]\ny = 1\n"),
        ('[c]\ny = """\n[a]\n"""\n', "[a]\nx = 1", '[c]\ny = """\n[a]\n"""\n[a]\nx = 1\n\n'),
        (
            "[c]\ny = [\n[1],\n]\n[a]\nx = [\n  # in it\n  2 ]\n",
            "[a]\nz = 1\n",
            "[c]\ny = [\n[1],\n]\n[a]\nz = 1\n\n",
        ),
        ("[a.b]\n[c]\n[a.d]\n", "['a']\n", "['a']\n\n[c]\n"),
        ("# top\n\n# of c\n[c]\n", "[a]\n", "# top\n\n# of c\n[c]\n[a]\n\n"),
    ],
)
def test_a_section_is_replaced_wherever_it_stands(text: str, source: str, then: str) -> None:
    assert with_sections(text, source, ["a"]) == then
