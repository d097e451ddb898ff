"""Play rounds and say what came of them: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.caps.provider import Provider
from tests.caps.rounds import AT_ONCE, DAY_US, SPENDABLE_S, Rounds, Tally
from tests.caps.serving import MovedClock, processes, workers_here
from tests.longform import verdict

SCOPES = ("key", "project", "account", "credit")


async def play(
    folder: Path, workers: int, rounds: int, chance: Random, at_once: int = AT_ONCE
) -> dict[str, Tally]:
    """Play every kind of round so often; return what came of each."""
    tallies = {f"{scope}, equal": Tally() for scope in SCOPES}
    tallies |= {"all kinds at once": Tally(), "credit that expires": Tally(), "a day that ends": Tally()}
    async with Provider() as provider:
        async with processes(folder / "served", provider.port, workers) as gateway:
            for number in range(rounds):
                await one_of_each(Rounds(gateway, provider, chance), tallies, number, at_once)
        for number in range(rounds):
            day = tallies["a day that ends"]
            await end_of_day(folder / f"day-{number}", provider, workers, (day, chance, at_once))
    return tallies


async def one_of_each(rounds: Rounds, tallies: dict[str, Tally], number: int, at_once: int) -> None:
    """Play the slow kinds beside the others: each has payers of its own."""

    async def equal() -> None:
        for scope in SCOPES:
            await rounds.equal(tallies[f"{scope}, equal"], scope, at_once)

    await asyncio.gather(
        equal(),
        rounds.unequal(tallies["all kinds at once"], SCOPES[number % 3], at_once),
        rounds.expiring(tallies["credit that expires"], at_once),
    )


async def end_of_day(folder: Path, provider: Provider, workers: int, what: tuple[Tally, Random, int]) -> None:
    """Play one round across midnight, by workers whose clock is moved there."""
    tally, chance, at_once = what
    clock = MovedClock(-(time.time_ns() // 1000 % DAY_US) + DAY_US // 2)  # noon
    async with workers_here(folder, provider.port, workers, clock) as gateway:
        await Rounds(gateway, provider, chance).reset(tally, at_once, clock)


def report(workers: int, tallies: dict[str, Tally]) -> int:
    """Print what came of it; return how much was wrong."""
    print(f"{workers} workers")
    for name, tally in tallies.items():
        verdict = f"{len(tally.wrong)} WRONG" if tally.wrong else "exact"
        print(
            f"  {name:20} {tally.rounds:3} rounds {tally.served:6} served {tally.refused:6} refused, "
            f"rest spent within {tally.slowest_s:.2f} s  {verdict}"
        )
        if tally.slowest_s > SPENDABLE_S:
            tally.wrong.append(f"the rest took {tally.slowest_s:.2f} s")
        for line in tally.wrong[:5]:
            print(f"    {line}")
    return sum(len(tally.wrong) for tally in tallies.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.caps", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--workers", type=int, action="append", help="repeatable; default 1 and 4")
    parser.add_argument("--seed", type=int, default=int(time.monotonic_ns() % 100_000))
    options = parser.parse_args()
    wrong = 0
    for workers in options.workers or [1, 4]:
        print(f"seed {options.seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="headgate-caps-") as folder:
            chance = Random(options.seed)
            wrong += report(workers, asyncio.run(play(Path(folder), workers, options.rounds, chance)))
    print("overspent 0, exact everywhere" if not wrong else f"{wrong} WRONG")
    return verdict(wrong, options.seed)


if __name__ == "__main__":
    sys.exit(main())
