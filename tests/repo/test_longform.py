"""What a long form says of itself: how far it is, what failed as it comes, and a verdict that its exit code agrees with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.longform import verdict

ROOT = Path(__file__).parents[2]
TESTS = """
import time
import pytest
from tests import longform

longform.EVERY_S = 0.2

@pytest.mark.parametrize("number", range(4))
def test_it(number):
    print("what a test prints")
    longform.note("waited, in ms", 10 * number)
    time.sleep(0.3)
    assert number != {bad}
"""


def run(folder: Path, bad: int, *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_long.py").write_text(TESTS.format(bad=bad))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.longform", "-c", ROOT / "pyproject.toml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADGATE_RUNS": "4"}
    return subprocess.run(
        [*command, "--rootdir", folder, folder, *more],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def test_a_long_form_that_passes_says_so(tmp_path: Path) -> None:
    ended = run(tmp_path, bad=-1)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 of 4 run, 0 failed" in ended.stdout
    assert "what a test prints" not in ended.stdout
    assert "waited, in ms: 20.0 p50, 30.0 p99, 30.0 at most, of 4" in ended.stdout
    assert "PASS: none of 4 tests failed" in ended.stdout


def test_a_long_form_that_fails_says_what_to_run(tmp_path: Path) -> None:
    ended = run(tmp_path, bad=1)
    assert ended.returncode == 1
    assert "FAIL: 1 of 4 tests failed" in ended.stdout
    assert "3 of 4 run, 1 failed" in ended.stdout
    assert (
        "HEADGATE_RUNS=4 .venv/bin/python -m pytest -o timeout=0 'test_long.py::test_it[1]'" in ended.stdout
    )
    assert "PASS" not in ended.stdout


def test_a_long_form_without_tests_does_not_pass(tmp_path: Path) -> None:
    ended = run(tmp_path, -1, "-k", "nothing")
    assert ended.returncode == 5
    assert "PASS" not in ended.stdout


@pytest.mark.parametrize("wrong", [0, 2])
def test_a_program_says_what_came_of_it_and_how_to_play_it_again(
    wrong: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--calls", "7"])
    assert verdict(wrong, 42) == (1 if wrong else 0)
    said = capsys.readouterr().out
    assert said.startswith("FAIL: 2 wrong" if wrong else "PASS")
    assert ("--calls 7 --seed 42" in said) == bool(wrong)
