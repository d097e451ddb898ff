"""Play a storm and say what came of it: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.longform import verdict
from tests.storm.rounds import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--seed", type=int, default=int(time.monotonic_ns() % 100_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headgate-storm-") as folder:
        chance = Random(options.seed)
        storm = asyncio.run(
            play(Path(folder), options.calls, chance, tenants=options.tenants, at_once=options.at_once)
        )
    print(f"{storm.report()}, in {time.monotonic() - began:.0f} s")
    for line in storm.wrong[:10]:
        print(f"  {line}")
    return verdict(len(storm.wrong), options.seed)


if __name__ == "__main__":
    sys.exit(main())
