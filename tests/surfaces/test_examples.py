"""Every example runs as it stands."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.surfaces.forks import run as run_forked

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(p for p in EXAMPLES.glob("*/*.py") if p.name != "ask.py")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_python_examples_run(simulated, program):
    done = run_forked([sys.executable, str(program)], ROOT, simulated.client_environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("language", ["curl", "node", "python"])
def test_there_is_an_example_of_each_endpoint_in_each_language(language):
    there = {path.stem for path in (EXAMPLES / language).iterdir()}
    assert {"chat", "completions", "embeddings", "models", "moderations"} <= there


def test_the_guides_errors_are_the_guides(simulated):
    errors = [sys.executable, str(EXAMPLES / "guide" / "errors.py")]
    done = run_forked(errors, ROOT, simulated.client_environment(), timeout=60)
    seen = [line.split(": ")[1].split()[0] for line in done.stdout.splitlines()]
    wanted = [line.split(": ")[0].split()[0] for line in done.stdout.splitlines()]
    assert seen == wanted
    assert len(seen) == 8


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("script", sorted((EXAMPLES / "curl").glob("*.sh")), ids=lambda path: path.name)
def test_the_curl_examples_run(simulated, script):
    done = subprocess.run(
        ["sh", str(script)], env=simulated.client_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        '"object"' in done.stdout
        or '"id"' in done.stdout
        or '"created"' in done.stdout
        or '"text"' in done.stdout
    )
