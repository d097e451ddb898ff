"""Play all mutants and say which were caught: see the package's docstring."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.zoo.catalogue import Misfit, Mutant, bugs, mutants
from tests.zoo.copies import Copy, Run, Verdict, play

WHAT_TO_DO: dict[Verdict, str] = {
    "survived": "Every test passed although the bug is there. Write a test that fails with it, and name it here.",
    "hung": "The tests did not end. Give what waits in them a limit of its own, so that it says what it missed.",
    "broken": "The tests could not run. A mutant must be code that starts, and its tests must exist.",
    "misfit": "",
    "caught": "",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one mutant."""

    mutant: Mutant
    verdict: Verdict
    took_s: float
    run: Run | None = None
    why: str = ""

    @property
    def by(self) -> str:
        """The test that caught it."""
        return self.run.failed[0] if self.run is not None and self.run.failed else ""

    def tell(self) -> str:
        """Return what there is to say of one that was not caught."""
        mutant = self.mutant
        if self.verdict == "misfit":
            return self.why
        lines = [
            f"mutant {mutant.name} {self.verdict}: {mutant.failure}",
            f"  in      src/headgate/{mutant.file}:",
            *(f"          - {line}" for line in mutant.text.rstrip().splitlines()),
            *(f"          + {line}" for line in mutant.instead.rstrip().splitlines()),
            *(f"  tests   {test}" for test in mutant.tests),
            f"  pytest  {self.run.summary if self.run is not None else ''}",
            f"  what to do: {WHAT_TO_DO[self.verdict]}",
        ]
        if self.verdict == "broken" and self.run is not None:
            lines += self.run.output.splitlines()[-15:]
        return "\n".join(lines)


def outcome_of(mutant: Mutant, folder: Path) -> Outcome:
    """Play one mutant."""
    began = time.monotonic()
    try:
        run = play(mutant, folder / mutant.name)
    except Misfit as misfit:
        return Outcome(mutant, "misfit", 0.0, why=str(misfit))
    return Outcome(mutant, run.verdict, time.monotonic() - began, run)


def play_all(chosen: Sequence[Mutant], folder: Path, jobs: int) -> list[Outcome]:
    """Play mutants, so many at once, and print a line for each; return what came of them in their order."""
    pool = ThreadPoolExecutor(jobs)
    try:
        waiting: dict[Future[Outcome], Mutant] = {
            pool.submit(outcome_of, each, folder): each for each in chosen
        }
        for number, done in enumerate(as_completed(waiting), 1):
            outcome = done.result()
            words = outcome.by.removeprefix("tests/") or outcome.tell().partition("\n")[0]
            words += " (by its time limit)" if outcome.run is not None and outcome.run.late else ""
            print(
                f"{number:3}/{len(chosen)}  {outcome.mutant.name:15} {outcome.verdict:8} {outcome.took_s:5.1f} s  {words}",
                flush=True,
            )
        return [each.result() for each in waiting]
    finally:
        pool.shutdown(cancel_futures=True)


def unmutated(chosen: Sequence[Mutant], folder: Path, jobs: int) -> str:
    """Run all their tests on a plain copy; return what is wrong, or nothing."""
    tests = list(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
    began = time.monotonic()
    run = Copy(folder / "plain").test(tests, f"-n{jobs}", "--durations=3", within_s=900.0)
    print(
        f"without a mutant: {run.summary or 'no verdict'}, {time.monotonic() - began:.0f} s in all",
        flush=True,
    )
    if run.green:
        return ""
    return f"{run.output[-3000:]}\nThe tests must pass, every one, before a mutant says anything."


def report(outcomes: Sequence[Outcome]) -> int:
    """Print the table and what is to be done; return how many were not caught."""
    by_mutant = {each.mutant.name: each for each in outcomes}
    print()
    for bug in bugs():
        played = [by_mutant[each.name] for each in bug.mutants if each.name in by_mutant]
        if bug.not_yet and len(outcomes) > 1:
            print(f"  {bug.name:16} not yet   {bug.failure} {bug.not_yet}")
        elif played:
            caught = sum(each.verdict == "caught" for each in played)
            print(f"  {bug.name:16} {caught:2} of {len(played):2}  {bug.failure}")
    missed = [each for each in outcomes if each.verdict != "caught"]
    for each in missed:
        print(f"\n{each.tell()}")
    return len(missed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("names", nargs="*", help="bugs or mutants (`8`, `8a`); without any, all")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="how many at once")
    options = parser.parse_args()
    try:
        chosen = mutants(options.names)
    except ValueError as fault:
        parser.error(str(fault))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headgate-zoo-") as folder:
        wrong = unmutated(chosen, Path(folder), options.jobs)
        if wrong:
            print(wrong)
            return 1
        outcomes = play_all(chosen, Path(folder), options.jobs)
    missed = report(outcomes)
    took = f"{len(outcomes)} mutants in {time.monotonic() - began:.0f} s"
    print(f"\n{took}: " + (f"{missed} NOT CAUGHT" if missed else "every one was caught"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
