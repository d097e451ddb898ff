"""Print how a fleet does: see the package's docstring."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fleet import limits, money
from tests.longform import verdict

PLENTY, SHORT = 100.0, 0.6  # how long the budget lasts, in times of what is simulated
SIZES = (1, 4, 16, 64, 256, 1000)


def seconds_for(replicas: int, most: float) -> float:
    """Return how long a fleet is looked at: a large one shows in a short time what it does."""
    return min(most, max(2.0, most * 60 / replicas))


def heading(text: str, columns: str) -> None:
    print(f"\n{text}\n{columns}", flush=True)


def budget(options: argparse.Namespace, lasts: float) -> int:
    """Print one line for each size; return what was spent beyond a cap."""
    wrong = 0
    for replicas in options.replicas:
        seconds = seconds_for(replicas, options.seconds)
        terms = money.Terms(replicas, options.calls, seconds, options.seed, lasts)
        came = money.simulate(terms)
        wrong += came.overshoot
        each = came.exchanges / seconds / replicas
        idle = sum(came.idle) / max(1, len(came.idle))
        line = f"{replicas:8} {seconds:6.1f} {came.total:6} {came.asked / came.total:6.0%} {came.wait_ms(0.5):7.1f} "
        line += f"{came.wait_ms(0.99):7.0f} {each:7.1f} {came.exchanges / seconds:9.0f} {idle:6.1%}"
        if lasts < 1:
            line += f" {came.refused:7} {came.hasty:6} {came.left_first:6.1f} {came.left_last:6.1f} {came.overshoot:6}"
        print(line, flush=True)
    return wrong


def limit(options: argparse.Namespace) -> float:
    """Print one line for each size; return by how much a limit was passed at most."""
    worst = 0.0
    for replicas in options.replicas:
        seconds = seconds_for(replicas, 3 * options.seconds)
        came = limits.simulate(replicas, 6_000, seconds, options.seed)
        worst = max(worst, came.overshoot)
        each = came.exchanges / seconds / replicas
        print(
            f"{replicas:8} {seconds:6.1f} {came.demand:6} {len(came.times):7} {came.used(seconds):7.1%} "
            f"{max(0.0, came.overshoot):9.2f} {each:7.1f} {came.exchanges / seconds:9.0f}",
            flush=True,
        )
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--calls", type=int, default=200, help="a second, of the whole fleet, on one budget")
    parser.add_argument("--seconds", type=float, default=8.0, help="that a small fleet is looked at")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    columns = "replicas      s  calls  asked  p50 ms  p99 ms  each/s exchanges/s  idle"
    heading(f"One budget with plenty left, {options.calls} calls a second", columns)
    wrong: float = budget(options, PLENTY)
    heading("One budget to its end", columns + " refused  hasty  first   last   over")
    wrong += budget(options, SHORT)
    heading(
        "One limit, 6,000 requests a minute, asked for twice as much",
        "replicas      s demand  passed    used      over  each/s exchanges/s",
    )
    worst = limit(options)
    print(f"\nseed {options.seed}, {time.monotonic() - began:.0f} s; ", end="")
    print(
        "nothing was overspent"
        if not wrong and worst <= 0
        else f"OVERSPENT: {wrong} nano-USD, {worst:.2f} calls"
    )
    return verdict(int(bool(wrong)) + int(worst > 0), options.seed)


if __name__ == "__main__":
    sys.exit(main())
