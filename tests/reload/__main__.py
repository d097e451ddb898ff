"""Reload under load and say what came of it: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.longform import verdict
from tests.reload.rounds import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reload", description=__doc__)
    parser.add_argument("--reloads", type=int, default=200)
    parser.add_argument("--wrong", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headgate-reload-") as folder:
        outcome = asyncio.run(play(Path(folder), options.reloads, options.wrong, workers=options.workers))
    print(outcome.report())
    for line in outcome.wrong[:10]:
        print(f"  {line}")
    return verdict(len(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())
