"""Let three replicas be one and say what came of it: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.longform import verdict
from tests.replicas.rounds import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.replicas", description=__doc__)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument(
        "--statements", default="", metavar="FILE", help="write every statement of the replicas"
    )
    parser.add_argument("--redis", default="", metavar="URL", help="which they share, too")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="headgate-replicas-") as name:
        for outcome in asyncio.run(play(Path(name), **vars(options))):
            wrong += len(outcome.wrong)
            for line in outcome.wrong[:10]:
                print(f"  {outcome.name}: {line}")
    return verdict(wrong)


if __name__ == "__main__":
    sys.exit(main())
