"""Leave 100,000 calls and say what is left of them: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.leaks.rounds import play
from tests.longform import verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.leaks", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.monotonic_ns() % 100_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="headgate-leaks-") as folder:
        outcome = asyncio.run(play(Path(folder), options.calls, Random(options.seed), options.at_once))
    print(outcome.report())
    for line in outcome.wrong[:10]:
        print(f"  {line}")
    return verdict(len(outcome.wrong), options.seed)


if __name__ == "__main__":
    sys.exit(main())
