"""Each command of the guide map, as it is printed, against a running gateway."""

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
from tests.surfaces.conftest import ROOT
from tests.surfaces.forks import run as run_forked

PAGE = (ROOT / "docs" / "guide-map.md").read_text(encoding="utf-8").replace("\\|", "|")
LINES = dict.fromkeys(re.findall(r"`((?:\.venv/bin/|OPENAI_API_KEY=|curl |echo )[^`]+)`", PAGE))
ONES = [line for line in LINES if not line.endswith("headgate sim")]  # which serves until it is stopped
# What is given to a command, and its words; anything that needs a shell has none.
COMMAND = re.compile(r"((?:\w+=\S+ )*)(?:(\.venv/bin/[^$|]+)|.*)")
ERRORS = re.findall(r"^\| (\d+)? ?[a-z][^|`]*\| `([^`]*ask\.py[^`]*)` \|$", PAGE, re.MULTILINE)


@cache
def told(line, gateway):
    """Run a line in the repository, where `.venv` is; only the port and the folder are the test's.

    What is one command is started without its imports, anything else by a shell.
    """
    environment = {**gateway.client_environment(), "HEADGATE_DATA": str(gateway.data)}
    said = line.replace("http://127.0.0.1:8787", gateway.base.removesuffix("/v1"))
    given, words = COMMAND.fullmatch(said).groups()
    if words is not None:
        return run_forked(
            shlex.split(words), ROOT, environment | dict(re.findall(r"(\w+)=(\S+) ", given)), timeout=60
        )
    return subprocess.run(
        ["bash", "-c", said],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.skipif(not (ROOT / ".venv").is_dir(), reason="the lines name .venv, which `make env` makes")
@pytest.mark.parametrize("line", ONES)
def test_a_line_of_the_guide_map_runs(line, simulated):
    done = told(line, simulated)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


@pytest.mark.skipif(not (ROOT / ".venv").is_dir(), reason="the lines name .venv, which `make env` makes")
@pytest.mark.parametrize(("status", "line"), ERRORS)
def test_an_error_of_the_guide_is_had_by_its_line(status, line, simulated):
    assert told(line, simulated).stdout.startswith(status or "400 BadRequestError context_length")


def test_the_page_has_its_lines():
    assert len(ONES) > 30
    assert len(ERRORS) == 7
    assert all(Path(ROOT / name).is_file() for line in ONES for name in re.findall(r"examples/\S+\.py", line))
