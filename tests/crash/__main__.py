"""Kill, restart, reconcile: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.crash.callers import AT_ONCE, Callers
from tests.crash.server import Server
from tests.crash.verdict import Comparison, Verdict, read_notes
from tests.longform import verdict
from tests.postgres import fresh_database

from headgate.failpoints import ON_CALLS

# How often a place is passed before it kills, at least: rare places must still be reached in a second.
RARE = {"rotate": 1, "drain-before-commit": 2, "drain-after-commit": 2}
FAILPOINT_WAIT_S = 20.0


@dataclass
class Kill:
    """One life of the server, as it ended."""

    spec: str
    calls: int
    in_flight: int  # sent by a client and not answered to the end
    open: int = 0  # opened and not settled, as the next start found


class Loop:
    """The crash loop."""

    def __init__(self, folder: Path, kills: int, seed: int, database: str = "") -> None:
        self.folder = folder
        self.database = database
        self.random = random.Random(seed)
        self.lives = self.plan(kills)
        self.kills: list[Kill] = []
        self.wrong: list[str] = []
        self.notes = folder / "oracle.log"

    def plan(self, kills: int) -> list[str]:
        """Return a specification for each life: every failpoint once, the rest killed at any moment."""
        named = [
            f"{name}=kill@{RARE.get(name, 30) + self.random.randrange(RARE.get(name, 200))}"
            for name in ON_CALLS
        ]
        lives = named[:kills] + [""] * (kills - len(named))
        self.random.shuffle(lives)
        return lives

    async def run(self) -> int:
        command = [sys.executable, "-m", "tests.crash.oracle", str(self.notes)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as oracle:
            try:
                assert oracle.stdout is not None
                server = Server(self.folder, int(oracle.stdout.readline()), self.database)
                return await self.drive(server)
            finally:
                oracle.terminate()

    async def drive(self, server: Server) -> int:
        began = time.monotonic()
        key = (await server.ask("keys", "create", "--name", "crash"))["key"]
        callers = Callers(server.port, key, self.random.randrange(1 << 30))
        before = 0  # estimates of earlier lives
        for spec in self.lives:
            await server.start(spec)
            kill = await self.live_and_die(server, callers, spec)
            self.kills.append(kill)
            await server.start()
            estimated = (await self.compare(server, callers)).estimated
            kill.open, before = estimated - before, estimated
            if kill.open > kill.in_flight:
                self.wrong.append(
                    f"kill {len(self.kills)}: {kill.open} estimates, {kill.in_flight} in flight"
                )
            self.tell(kill)
            await server.kill()
        await self.end(server, callers)
        self.report(server, callers, await self.compare(server, callers), time.monotonic() - began)
        return len(self.wrong)

    async def live_and_die(self, server: Server, callers: Callers, spec: str) -> Kill:
        before = len(callers.calls)
        callers.start()
        if not spec:
            await asyncio.sleep(self.random.uniform(0.15, 1.0))
            await server.kill()
        elif not await server.died(FAILPOINT_WAIT_S):
            self.wrong.append(f"kill {len(self.kills) + 1}: {spec} was not reached")
            await server.kill()
        await callers.stop()
        await self.check_lent(server)
        made = callers.calls[before:]
        return Kill(spec, len(made), sum(not seen.finished for seen in made))

    def tell(self, kill: Kill) -> None:
        number = f"kill {len(self.kills):3}/{len(self.lives)}"
        print(
            f"{number}  {kill.spec or 'at random':30} {kill.calls:4} calls, {kill.in_flight:3} in flight, "
            f"{kill.open:3} open",
            flush=True,
        )

    async def end(self, server: Server, callers: Callers) -> None:
        """Serve once more without a kill, and stop in order: then every call must have ended."""
        await server.start()
        before = len(callers.calls)
        callers.start()
        await asyncio.sleep(0.3)
        await callers.stop()
        unfinished = sum(not seen.finished for seen in callers.calls[before:])
        if unfinished:
            self.wrong.append(f"{unfinished} calls did not end although nothing was killed")
        if await server.stop() != 0:
            self.wrong.append("the server did not stop in order")
        await self.check(server)

    async def compare(self, server: Server, callers: Callers) -> Verdict:
        rows = await server.ask("usage", "--calls")
        verdict = Comparison(rows, callers.calls, read_notes(self.notes)).run(server.place)
        new = [line for line in verdict.wrong if line not in self.wrong]
        for line in new[:10]:
            print(f"  after kill {len(self.kills)}: {line}", flush=True)
        self.wrong += new
        return verdict

    async def check_lent(self, server: Server) -> None:
        """What is open in the journal of the dead server is covered by its slices, and no pot gave too much."""
        findings = (await server.ask("ledger", "check"))["findings"]
        for finding in findings:
            if finding["kind"] in {"pot", "slice"}:
                self.wrong.append(f"kill {len(self.kills) + 1}: {finding['kind']}: {finding['detail']}")

    async def check(self, server: Server) -> None:
        result = await server.ask("ledger", "check")
        for finding in result["findings"][:10]:
            print(f"  ledger check: {finding['kind']}: {finding['detail']}")
        self.wrong += [f"ledger check: {finding}" for finding in result["findings"]]

    def report(self, server: Server, callers: Callers, verdict: Verdict, took: float) -> None:
        print("\ncalls open at the kill, as the next start found them:")
        for low, count in sorted(Counter(kill.open // 5 * 5 for kill in self.kills).items()):
            print(f"  {low:3} to {low + 4:3}  {'#' * count} {count}")
        busy = sum(kill.open >= 5 for kill in self.kills)
        if busy * 2 <= len(self.kills):
            self.wrong.append("most kills must come with 5 open calls or more")
        finished = sum(seen.finished for seen in callers.calls)
        streams = sum(seen.streaming for seen in callers.calls)
        print(
            f"\n{len(self.kills)} kills in {took:.0f} s, {busy} with 5 open calls or more; {AT_ONCE} clients, "
            f"{len(callers.calls)} calls ({streams} streams), {finished} answered whole, {callers.refused} refused\n"
            f"books: {verdict.exact} exact, {verdict.estimated} estimated ({verdict.by_mark} by a mark, "
            f"{verdict.by_hold} by their hold); slowest start {server.slowest_start_s:.2f} s\n"
            f"{'lost 0, doubled 0, difference 0 nano-USD' if not self.wrong else f'{len(self.wrong)} WRONG'}"
        )
        for line in self.wrong[:20]:
            print(f"  {line}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=int(time.monotonic_ns() % 100_000))
    parser.add_argument("--keep", help="work in this folder and keep it")
    parser.add_argument("--postgres", action="store_true", help="the books in this machine's PostgreSQL")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with ExitStack() as stack:
        database = stack.enter_context(fresh_database()) if options.postgres else ""
        if options.keep:
            folder = Path(options.keep)
            folder.mkdir(parents=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-crash-")))
        loop = Loop(folder, options.kills, options.seed, database)
        return verdict(asyncio.run(loop.run()), options.seed)


if __name__ == "__main__":
    raise SystemExit(main())
