"""Play it with many rows and say what came of it: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.ensemble.table import tell
from tests.longform import verdict
from tests.upgrade.rounds import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade", description=__doc__)
    parser.add_argument("--calls", type=int, default=325_000, help="each is three rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headgate-upgrade-") as folder:
        row = tell(asyncio.run(play(Path(folder), options.calls)))
    return verdict(len(row.wrong))


if __name__ == "__main__":
    sys.exit(main())
