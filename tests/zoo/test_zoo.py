"""`make zoo` in short: every mutant still fits the code, two of them are caught today, and none goes unnoticed."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.zoo.__main__ import play_all
from tests.zoo.catalogue import SOURCE, Mutant, bugs, mutants
from tests.zoo.copies import ROOT, Copy

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="environments are made of links")
ALL = mutants()
CHILDREN = """
import subprocess, sys
from pathlib import Path

def test_processes_without_our_variables_have_the_copy():
    for command in ([sys.executable, "-m", "headgate"], [str(Path(sys.executable).with_name("headgate"))]):
        done = subprocess.run([*command, "--version"], env={}, capture_output=True, text=True, check=True)
        assert "0.0.mutant" in done.stdout, done
"""


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code_and_its_tests_are_there(mutant: Mutant) -> None:
    path = SOURCE / "headgate" / mutant.file
    code = mutant.applied(path.read_text())
    if path.suffix == ".py":
        compile(code, mutant.file, "exec")
    for test in mutant.tests:
        file, _, name = test.partition("::")
        function = name.partition("[")[0].rpartition("::")[2] or name.partition("[")[0]
        beside = (ROOT / file).parent.glob("*.py")  # it may be in a contract
        assert any(f"def {function}(" in other.read_text() for other in beside), f"{test} is not there"


def test_every_bug_of_the_list_is_there_or_says_why_not() -> None:
    found = bugs()
    assert [bug.name for bug in found[:22]] == [str(number) for number in range(1, 23)]
    assert len({bug.name for bug in found}) == len(found)
    for bug in found:
        assert bool(bug.not_yet) != bool(bug.mutants), bug.name


def test_two_mutants_are_caught_today(tmp_path: Path) -> None:
    first = 2 * datetime.now(UTC).timetuple().tm_yday
    chosen = [ALL[(first + number) % len(ALL)] for number in range(2)]
    for outcome in play_all(chosen, tmp_path, jobs=2):
        assert outcome.verdict == "caught", outcome.tell()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("zoo") / "copy")
    about = made.source / "headgate" / "__init__.py"
    about.write_text('"""A mutant."""\n\n__version__ = "0.0.mutant"\n')
    return made


@pytest.mark.parametrize(
    ("code", "verdict", "green"),
    [
        (CHILDREN, "survived", True),
        ("def test_one():\n    assert 1 == 2\n", "caught", False),
        ("from headgate import nothing_of_the_kind\n", "broken", False),
        ("import pytest\n\ndef test_one():\n    pytest.skip()\n", "survived", False),
    ],
    ids=["passes", "fails", "cannot be read", "is left out"],
)
def test_a_run_is_judged(copy: Copy, tmp_path: Path, code: str, verdict: str, green: bool) -> None:
    (tmp_path / "test_it.py").write_text(code)
    run = copy.test([str(tmp_path / "test_it.py")])
    assert (run.verdict, run.green) == (verdict, green), run.output


def test_a_run_that_does_not_end_has_caught_nothing(copy: Copy, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import time\n\ndef test_one():\n    time.sleep(60)\n")
    assert copy.test([str(tmp_path / "test_it.py")], within_s=0.5).verdict == "hung"


def test_a_mutant_that_no_longer_applies_is_said_to(tmp_path: Path) -> None:
    gone = Mutant(
        file="settle.py", text="no such line", instead="", tests=(), name="8z", failure="It is lost."
    )
    [outcome] = play_all([gone], tmp_path, jobs=1)
    assert outcome.verdict == "misfit"
    assert "mutant 8z: its text occurs 0 times in src/headgate/settle.py, not once" in outcome.tell()
    assert "Bring the mutant in tests/zoo in line" in outcome.tell()
