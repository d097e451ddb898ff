"""Measure a gateway whose books and limits are in PostgreSQL and Redis beside one that keeps them itself.

Both run at once and are loaded in turn, so what else the machine does meets both. The exit status says
whether every answer and both books were right; a missed goal is printed and is no failure.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import fresh
import machine
import run
import servers
from load import Generator, Load
from session import DIRECT, FULL, HEADGATE, Session, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from session import Sample

GOAL, NEAR = 1.10, 1.125  # times the CPU; a quarter above the goal
ALONE, FLEET = "embedded", "elsewhere"


class Plan(NamedTuple):
    """How many rounds, and how long each gateway is loaded in one."""

    rounds: int = 12
    window_s: float = 4.0
    warm_rounds: int = 3


def measure(binary: Path, plan: Plan, folder: Path, storage: Mapping[str, str]) -> list[str]:
    """Do it all, print what was seen, and return what was wrong."""
    layout = machine.choose_layout()
    mock_binary, generator = servers.build_tools()
    with machine.pinned(layout.load):
        mock = servers.start_mock(mock_binary, folder, layout.load)
        sessions: dict[str, Session] = {}
        try:
            for name, where in ((ALONE, {}), (FLEET, storage)):
                own = sessions[name] = Session(folder, layout, Generator(generator, layout.load), FULL)
                own.targets[DIRECT] = Target(DIRECT, mock)
                cores = (layout.gateway, layout.load)
                own.headgate = servers.Headgate(binary, folder / name, mock.port, cores, storage=where)
                own.start_headgate()
            _play(sessions, plan)
            for own in sessions.values():
                run.close_books(own)
        finally:
            left = [own.targets[HEADGATE].server for own in sessions.values() if HEADGATE in own.targets]
            for server in (*left, mock):
                server.kill()
    return [f"{name}: {text}" for name, own in sessions.items() for text in own.failures]


def _play(sessions: Mapping[str, Session], plan: Plan) -> None:
    """Load both in turn, and print what a call took."""
    load, samples = Load(plan.window_s), []
    for index in range(plan.warm_rounds + plan.rounds):
        names = (ALONE, FLEET) if index % 2 == 0 else (FLEET, ALONE)
        seen = {name: sessions[name].measure(HEADGATE, load) for name in names}
        right = {name: sample for name, sample in seen.items() if sample is not None}
        if len(right) < len(names):
            return  # what was wrong is recorded
        if index >= plan.warm_rounds:
            samples.append(right)
            print(f"  round {len(samples):2}: {right[ALONE].cpu_us:.1f} and {right[FLEET].cpu_us:.1f} us")
    print("\n".join(lines(samples)))


def lines(rounds: Sequence[Mapping[str, Sample]]) -> list[str]:
    """Return what is printed: each gateway, and how they compare round by round."""
    said = []
    for name in (ALONE, FLEET):
        cpu = [each[name].cpu_us for each in rounds]
        said.append(f"{name:10} CPU of a call {statistics.median(cpu):7.1f} us (least {min(cpu):.1f})")
    ratio = statistics.median(each[FLEET].cpu_us / each[ALONE].cpu_us for each in rounds)
    verdict = "met" if ratio <= GOAL else "near" if ratio <= NEAR else "MISSED"
    noisy = sum(not sample.window.quiet for each in rounds for sample in each.values())
    said.append(f"round by round {ratio:.3f} times as much  <= {GOAL:.2f}  {verdict}")
    said.append(f"noise: {noisy} of {2 * len(rounds)} windows had other work beside them")
    return said


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 where everything was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--postgres", metavar="URL", default="postgresql://root@127.0.0.1", help="a server")
    parser.add_argument("--redis", metavar="URL", default="redis://127.0.0.1/15", help="a database")
    parser.add_argument("--rounds", type=int, default=Plan().rounds)
    parser.add_argument("--headgate", type=Path, default=servers.OWN, help="the command to measure")
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        storage = {"redis": options.redis, "database": stack.enter_context(fresh.database(options.postgres))}
        plan = Plan(options.rounds)
        return servers.conclude(FLEET, lambda folder: measure(options.headgate, plan, folder, storage))


if __name__ == "__main__":
    sys.exit(main())
