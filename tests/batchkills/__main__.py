"""Kill, restart, compare: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.crash.server import Server, cost
from tests.crash.verdict import read_notes
from tests.longform import verdict
from tests.stores.books import figures

from headgate.cli.batchwire import CHAT, DONE, BatchClient
from headgate.failpoints import ON_BATCHES

PLACES = ("after-hold", "after-open", "after-send", "before-settle", "after-settle", "before-last-byte",
          "drain-before-commit", "drain-after-commit")  # fmt: skip
# How often a place is passed before it kills.
EARLY = {"batch-read": 1, "batch-begun": 1, "drain-before-commit": 2, "drain-after-commit": 2}
LAST = ("batch-file-written", "batch-published")
GAP_MS = 12  # a tenth of an answer's time
PATIENCE_S = 180.0


def plan(line: int) -> tuple[int, int]:
    """Return the usage of a line: input and output tokens."""
    return 20 + line % 13, 10 + line % 7


def due(lines: int) -> int:
    """Return what a batch costs: of each line half, rounded up."""
    return sum(-(-cost(*plan(line)) // 2) for line in range(lines))


class Kills:
    """One batch, and the lives of the server that runs it."""

    def __init__(self, folder: Path, lines: int, kills: int, seed: int) -> None:
        self.folder = folder
        self.lines = lines
        self.random = random.Random(seed)
        self.notes = folder / "oracle.log"
        self.lives = self.plan(kills)
        self.wrong: list[str] = []
        self.in_flight = 0

    def plan(self, kills: int) -> list[str]:
        """Return a specification for each life: the reading first, the end last, the rest in any order."""
        begin = [f"{name}=kill@1" for name in ("batch-read", "batch-begun")]
        end = [f"{name}=kill@1" for name in LAST]
        named = [
            f"{name}=kill@{EARLY.get(name, self.random.randrange(2, 5 if name.startswith('batch') else 20))}"
            for name in (*PLACES, *ON_BATCHES)
            if name not in {"batch-read", "batch-begun", *LAST}
        ]
        self.random.shuffle(named)
        middle = named[: max(0, kills - 4)]
        middle += [""] * (kills - 4 - len(middle))
        self.random.shuffle(middle)
        return [*begin, *middle, *end][:kills] if kills >= 4 else [*begin, *end][:kills]

    async def run(self) -> int:
        command = [sys.executable, "-m", "tests.crash.oracle", str(self.notes)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as oracle:
            try:
                assert oracle.stdout is not None
                server = Server(self.folder, int(oracle.stdout.readline()))
                return await self.drive(server)
            finally:
                oracle.terminate()

    async def drive(self, server: Server) -> int:
        began = time.monotonic()
        key = (await server.ask("keys", "create", "--name", "kills"))["key"]
        client = BatchClient(f"http://127.0.0.1:{server.port}", key)
        await server.start()
        file_id = await asyncio.to_thread(client.upload, self.write())
        await server.kill()
        name = ""
        for number, spec in enumerate(self.lives, 1):
            await server.start(spec)
            if not name:  # the answer may be lost with the server: the batch is there all the same
                name = await asyncio.to_thread(self.order, client, file_id)
            await self.live_and_die(server, spec)
            running = figures(server.data, "SELECT count(*) FROM batch_lines WHERE state = 1")[0][0]
            done = figures(server.data, "SELECT completed + failed FROM batches")[0][0]
            self.in_flight += running
            print(
                f"kill {number:3}/{len(self.lives)}  {spec or 'at random':28} {done:5} done, {running:3} in flight",
                flush=True,
            )
        await server.start()
        batch = await self.wait(client, name)
        await asyncio.sleep(0.5)
        self.compare(server, client, batch)
        for finding in (await server.ask("ledger", "check"))["findings"]:
            self.wrong.append(f"ledger check: {finding}")
        if await server.stop() != 0:
            self.wrong.append("the server did not stop in order")
        self.report(time.monotonic() - began)
        return len(self.wrong)

    def write(self) -> Path:
        path = self.folder / "in.jsonl"
        with path.open("w") as file:
            for line in range(self.lines):
                given, made = plan(line)
                words = [{"role": "user", "content": f"plan {given} {made} {GAP_MS}"}]
                body = {"model": "crash-model", "messages": words, "max_tokens": 40}
                asked = {"custom_id": f"line-{line}", "method": "POST", "url": CHAT, "body": body}
                file.write(json.dumps(asked) + "\n")
        return path

    @staticmethod
    def order(client: BatchClient, file_id: str) -> str:
        return str(client.create(file_id, CHAT, {})["id"])

    async def live_and_die(self, server: Server, spec: str) -> None:
        if not spec:
            await asyncio.sleep(self.random.uniform(0.6, 1.6))
            await server.kill()
        elif not await server.died(PATIENCE_S / 2 if spec.partition("=")[0] in LAST else 10.0):
            self.wrong.append(f"{spec} was not reached")
            await server.kill()

    async def wait(self, client: BatchClient, name: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            batch = await asyncio.to_thread(client.find, name)
            if batch["status"] in DONE:
                return batch
            if time.monotonic() > deadline:
                raise SystemExit(f"the batch does not end: {batch}")
            await asyncio.sleep(0.2)

    def compare(self, server: Server, client: BatchClient, batch: dict[str, Any]) -> None:
        """Compare outputs, charges and what is held with what must be."""
        rows = [
            json.loads(line)
            for name in ("output_file_id", "error_file_id")
            for line in client.lines(batch[name])
        ]
        names = sorted(row["custom_id"] for row in rows)
        self.expect("outputs", names, sorted(f"line-{line}" for line in range(self.lines)))
        for row in rows:
            used = row["response"]["body"]["usage"]
            known = plan(int(row["custom_id"].removeprefix("line-")))
            if (used["prompt_tokens"], used["completion_tokens"]) != known:
                self.wrong.append(f"{row['custom_id']} has the answer of another line")
        self.expect(
            "counts", batch["request_counts"], {"total": self.lines, "completed": self.lines, "failed": 0}
        )
        charged = "SELECT count(*), coalesce(sum(charge), 0) FROM calls WHERE charge > 0"
        self.expect("charges", figures(server.data, charged), [(self.lines, due(self.lines))])
        self.expect(
            "the batch's sum", figures(server.data, "SELECT sum(charge) FROM batches"), [(due(self.lines),)]
        )
        held = "SELECT coalesce(sum(amount), 0) FROM slices WHERE slot LIKE 'batch-%'"
        self.expect("what is held", figures(server.data, held), [(0,)])
        files = "SELECT count(*) FROM files WHERE purpose = 'batch_output'"
        self.expect("files of outputs", figures(server.data, files), [(1,)])

    def expect(self, what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            self.wrong.append(f"{what}: {str(found)[:200]}, should be {str(wanted)[:200]}")

    def report(self, took: float) -> None:
        begun = sum(note.begun for note in read_notes(self.notes).values())
        again = begun - self.lines
        if again > self.in_flight:
            self.wrong.append(
                f"{again} lines were asked for again, {self.in_flight} were in flight at the kills"
            )
        print(
            f"\n{len(self.lives)} kills in {took:.0f} s under a batch of {self.lines} lines: one output and one charge "
            f"each; the provider was asked {again} times more than there are lines, {self.in_flight} were in flight\n"
            f"{'lost 0, doubled 0, difference 0 nano-USD' if not self.wrong else f'{len(self.wrong)} WRONG'}"
        )
        for line in self.wrong[:20]:
            print(f"  {line}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.batchkills", description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.monotonic_ns() % 100_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="headgate-batch-kills-") as folder:
        kills = Kills(Path(folder), options.lines, options.kills, options.seed)
        return verdict(asyncio.run(kills.run()), options.seed)


if __name__ == "__main__":
    raise SystemExit(main())
