"""Play all of it and print the table: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.ensemble.limits import Size
from tests.ensemble.outages import SERVICES, WAYS
from tests.ensemble.rounds import Terms, play
from tests.ensemble.table import wrong
from tests.longform import verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.ensemble", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each outage")
    parser.add_argument("--rounds", type=int, default=50, help="of money for k calls")
    parser.add_argument("--calls", type=int, default=200, help="at once, in each of them")
    parser.add_argument("--changes", type=int, default=10)
    parser.add_argument("--pour-s", type=float, default=65.0, help="how long limits are poured on")
    parser.add_argument("--lines", type=int, default=100, help="of each batch")
    every = [f"{service}-{how}" for service in SERVICES for how in WAYS]
    parser.add_argument("losses", nargs="*", default=every, help=", ".join(every))
    given = vars(parser.parse_args())
    losses = [tuple(name.split("-", 1)) for name in given.pop("losses")]
    pour = Size(given.pop("pour_s"), per_s=8.0)
    terms = Terms(losses=losses, pour=pour, **given)
    with tempfile.TemporaryDirectory(prefix="headgate-ensemble-") as folder:
        found = wrong(asyncio.run(play(Path(folder), terms)))
    return verdict(len(found))


if __name__ == "__main__":
    sys.exit(main())
