"""Stop gateways under load and say what came of it: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.drain.rounds import Terms, Verdict, rolling_restart, stop_under_load
from tests.longform import verdict


def report(name: str, verdict: Verdict) -> int:
    """Print what came of it; return how much was wrong."""
    figures = ", ".join(f"{what} {figure:.2f}" for what, figure in verdict.figures.items())
    print(
        f"{name}: {figures}; {f'{len(verdict.wrong)} WRONG' if verdict.wrong else 'nothing lost'}", flush=True
    )
    for line in verdict.wrong[:10]:
        print(f"  {line}")
    return len(verdict.wrong)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drain", description=__doc__)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--grace", type=float, default=30.0)
    parser.add_argument("--leave", type=float, default=5.0)
    parser.add_argument("--replicas", type=int, default=3)
    options = parser.parse_args()
    terms, wrong = Terms(options.leave, options.grace), 0
    with tempfile.TemporaryDirectory(prefix="headgate-drain-") as name:
        folder = Path(name)
        for workers in (1, 2):
            outcome = asyncio.run(stop_under_load(folder / f"{workers}", workers, options.streams, terms))
            wrong += report(f"{options.streams} streams, {workers} workers", outcome)
        outcome = asyncio.run(rolling_restart(folder, options.replicas, 8, terms))
        wrong += report(f"rolling restart of {options.replicas}", outcome)
    return verdict(wrong)


if __name__ == "__main__":
    sys.exit(main())
