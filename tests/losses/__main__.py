"""Lose the database in every way and say what came of it: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.longform import verdict
from tests.losses.disk import full_disk
from tests.losses.rounds import Outcome, play
from tests.losses.table import Bounds

KINDS = ["killed", "frozen", "exhausted", "slow"]
DISK = "disk"


async def _play(folder: Path, kinds: list[str], seconds: float, bounds: Bounds) -> list[Outcome]:
    outcomes = []
    if lost := [kind for kind in kinds if kind != DISK]:
        outcomes += await play(folder / "database", lost, seconds, bounds)
    if DISK in kinds:
        outcomes.append(await full_disk(folder / "disk", bounds.journal_s))
        print(outcomes[-1].report(), flush=True)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.losses", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, DISK], default=[*KINDS, DISK])
    parser.add_argument("--journal", type=float, default=15.0, help="seconds that calls go on without it")
    parser.add_argument("--keys", type=float, default=60.0, help="seconds that keys are believed")
    options = parser.parse_args()
    bounds, wrong = Bounds(options.journal, options.keys), 0
    with tempfile.TemporaryDirectory(prefix="headgate-losses-") as name:
        for outcome in asyncio.run(_play(Path(name), options.kinds, options.seconds, bounds)):
            wrong += len(outcome.wrong)
            for line in outcome.wrong[:10]:
                print(f"  {outcome.name}: {line}")
    return verdict(wrong)


if __name__ == "__main__":
    sys.exit(main())
