"""The generator of books: what it writes is a ledger that checks, and its figures are of what it wrote."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.surfaces.conftest import HEADGATE, plain_environment

ROOT = Path(__file__).parents[2]


def test_what_it_writes_is_a_ledger_that_checks(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "bench/growth.py",
        "--calls",
        "3000",
        "--asked",
        "2",
        "--data",
        str(tmp_path / "data"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = re.search(r"3,000 calls: ([\d,]+) entries", done.stdout)

    assert done.returncode in {0, 1}, done.stderr  # a slow machine may miss the goal for reports
    assert said is not None
    assert int(said[1].replace(",", "")) == 6_000
    assert float(re.search(r"(\d+) bytes a call", done.stdout)[1]) < 600  # type: ignore[index]
    checked = subprocess.run(
        [HEADGATE, "ledger", "check", "--data", str(tmp_path / "data")],
        env=plain_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "3,000" in checked.stdout or "3000" in checked.stdout
