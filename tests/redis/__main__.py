"""Lose Redis in every way under load, and say what came of it: `make redis-loss`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.longform import verdict
from tests.redis.losses import FAULTS, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.redis", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long it is lost")
    parser.add_argument("faults", nargs="*", default=FAULTS, help=", ".join(FAULTS))
    options = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="headgate-redis-") as folder:
        for fault in options.faults:
            outcome = play(Path(folder) / fault, fault, options.seconds)
            print(outcome.report(), flush=True)
            wrong += outcome.wrong
    for line in wrong:
        print(f"  wrong: {line}")
    return verdict(len(wrong))


if __name__ == "__main__":
    sys.exit(main())
