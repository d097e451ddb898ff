"""Copies of the source, each with an environment of its own, and tests that run on them.

An environment is a folder with `bin/python` and `bin/headgate`, which know our libraries and the copy, and
nothing of the installed package: so do all processes that tests start by them, whatever their variables.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.zoo.catalogue import SOURCE, Mutant

ROOT = SOURCE.parent
TEST_S = 60  # a test's own time limit
RUN_S = 150.0  # and that of a run: beyond it nothing has been proven
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::\S.*?)(?: - .*)?$", re.MULTILINE)
_SUMMARY = re.compile(
    r"^.*\b(?:passed|failed|error|errors|skipped|deselected)\b.* in [0-9.]+s.*$", re.MULTILINE
)

Verdict = Literal["caught", "survived", "hung", "broken", "misfit"]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of tests on a copy."""

    status: int | None  # pytest's; None: it did not end in time
    output: str

    @property
    def failed(self) -> list[str]:
        """The tests that failed, or whose fixtures did."""
        return _FAILED.findall(self.output)

    @property
    def summary(self) -> str:
        """What pytest says at its end."""
        found = _SUMMARY.findall(self.output)
        return found[-1].strip("= ") if found else ""

    @property
    def late(self) -> bool:
        """A test ran into its time limit."""
        return "Failed: Timeout (>" in self.output

    @property
    def green(self) -> bool:
        """All of them ran, and passed."""
        return self.status == 0 and "passed" in self.summary and "skipped" not in self.summary

    @property
    def verdict(self) -> Verdict:
        """What that says of the mutant in the copy."""
        if self.status is None:
            return "hung"
        if self.status == 1 and self.failed:
            return "caught"
        return "survived" if self.status == 0 else "broken"


class Copy:
    """The source in a folder, with an environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "src"
        # With what is compiled already: copied files keep the times that it is known by.
        shutil.copytree(SOURCE, self.source)
        self.bin = folder / "env" / "bin"
        venv.EnvBuilder(symlinks=True).create(folder / "env")
        paths = [str(self.source), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        (self._site_packages / "copy.pth").write_text("\n".join(dict.fromkeys(paths)) + "\n")
        program = self.bin / "headgate"
        program.write_text(
            f"#!{self.bin}/python\nfrom headgate.__main__ import main\n\nraise SystemExit(main())\n"
        )
        program.chmod(0o755)

    @property
    def _site_packages(self) -> Path:
        [found] = (self.folder / "env" / "lib").glob("python*/site-packages")
        return found

    def test(self, tests: Sequence[str], *more: str, within_s: float = RUN_S) -> Run:
        """Run tests, up to the first that fails.

        Args:
            tests: pytest's ids.
            more: options.
            within_s: what still runs then is killed.
        """
        command = [
            *(str(self.bin / "python"), "-m", "pytest", "-x", "-q", "--no-header", "--tb=line", "-rfEs"),
            *("-o", "addopts=", "-o", f"timeout={TEST_S}", "-p", "no:cacheprovider", "-p", "no:schemathesis"),
            *(f"--basetemp={self.folder / 'tmp'}", "--hypothesis-seed=0", *more, *tests),
        ]
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))
        }
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=kept | {"COLUMNS": "400"},  # the ids of tests are long
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=within_s)
            except subprocess.TimeoutExpired:
                return Run(None, "")
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what a failing test has left behind
        return Run(process.returncode, _COLOURS.sub("", output))


def play(mutant: Mutant, folder: Path) -> Run:
    """Run a mutant's tests on a copy that has it; the copy is removed.

    Raises:
        Misfit: the code has changed.
    """
    copy = Copy(folder)
    try:
        mutant.mutate(copy.source)
        return copy.test(mutant.tests)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
