"""Let callers leave a gateway, part by part, and look at what its process has after each."""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from tests.crash.server import Server
from tests.leaks.callers import Callers
from tests.leaks.provider import Endless

from headgate.stores.sql.database import connect

PARTS = 10
WARM = 2  # parts before memory counts: tables, pools and pages of the database fill up
QUIET_S = 10.0  # in which all is let go after a part
MOST_MB = 1.0  # growth in 100,000 calls,
NOISE_MB = 2.0  # beyond what the allocator gives and takes
HUNG_UP = 499


@dataclass(frozen=True)
class Look:
    """What the process has: megabytes of its own, files and sockets, threads."""

    calls: int
    memory_mb: float
    files: int
    threads: int


@dataclass
class Outcome:
    """What came of it."""

    calls: int
    looks: list[Look] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def grown_mb(self) -> float:
        """Growth of memory in 100,000 calls, once warm: between the medians of the first and the last looks."""
        warm = self.looks[WARM:]
        third = max(1, len(warm) // 3)
        first, last = warm[:third], warm[-third:]
        calls = median(look.calls for look in last) - median(look.calls for look in first)
        grown = median(look.memory_mb for look in last) - median(look.memory_mb for look in first)
        return grown * 100_000 / calls if calls else 0.0

    def judge(self) -> None:
        """Nothing may have grown."""
        calls = self.looks[-1].calls - self.looks[WARM].calls
        if self.grown_mb * calls / 100_000 > MOST_MB * calls / 100_000 + NOISE_MB:
            self.wrong.append(f"memory grows by {self.grown_mb:.1f} MB in 100,000 calls")
        for name in ("files", "threads"):
            before, after = (getattr(look, name) for look in (self.looks[WARM], self.looks[-1]))
            if after > before + 2:
                self.wrong.append(f"{after} {name}, and {before} when it was warm")

    def reconcile(self, sent: int, rows: int, hung_up: int, findings: list[object]) -> None:
        """Look at the books: each call that reached the provider is in them, once, and none that was not made."""
        if not sent <= rows <= self.calls:
            self.wrong.append(
                f"{rows} calls in the books, {sent} reached the provider, {self.calls} were made"
            )
        if hung_up != rows:
            self.wrong.append(f"{rows - hung_up} of {rows} calls are not booked as left by their callers")
        self.wrong += [f"ledger check: {finding}" for finding in findings[:5]]

    def report(self) -> str:
        """Say how it was."""
        first, last = self.looks[0], self.looks[-1]
        return (
            f"{self.calls} calls left: memory {first.memory_mb:.1f} MB after the first part, {last.memory_mb:.1f} MB "
            f"after the last, {self.grown_mb:+.2f} MB in 100,000 calls once warm; {last.files} files and sockets, "
            f"{last.threads} threads; {len(self.wrong)} wrong"
        )


async def play(folder: Path, calls: int, chance: Random, at_once: int = 50) -> Outcome:
    """Leave so many calls, and tell of each part."""
    outcome, began = Outcome(calls), time.monotonic()
    async with Endless() as provider:
        server = Server(folder, provider.port)
        key = (await server.ask("keys", "create", "--name", "leaves"))["key"]
        await server.start()
        callers = Callers(server.port, key, chance)
        for number in range(1, PARTS + 1):
            await callers.leave(calls * number // PARTS - callers.left.total(), at_once)
            await _quiet(provider, server, outcome)
            look = _look(server.pid, callers.left.total())
            outcome.looks.append(look)
            print(
                f"{look.calls:7} calls left, {time.monotonic() - began:5.0f} s: {look.memory_mb:6.1f} MB, "
                f"{look.files} files and sockets, {look.threads} threads",
                flush=True,
            )
        if await server.stop() != 0:
            outcome.wrong.append("the server did not stop in order")
        with closing(connect(server.place, read_only=True)) as sql:
            ((rows, hung_up),) = sql.execute(
                "SELECT count(*), coalesce(sum(status = ?), 0) FROM calls", (HUNG_UP,)
            ).fetchall()
        findings = (await server.ask("ledger", "check"))["findings"]
    if callers.refused:
        outcome.wrong.append(f"{callers.refused} calls were refused or broken off")
    outcome.judge()
    outcome.reconcile(provider.requests, rows, hung_up, findings)
    return outcome


async def _quiet(provider: Endless, server: Server, outcome: Outcome) -> None:
    """Wait until the provider serves nothing, and the gateway has no call open."""
    until = time.monotonic() + QUIET_S
    while provider.open or await _open_calls(server.port):
        if time.monotonic() > until:
            outcome.wrong.append(
                f"{provider.open} answers are read on {QUIET_S:.0f} s after their callers left"
            )
            return
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)  # for what it books


async def _open_calls(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    found = re.search(r"^headgate_open_calls\S* (\d+)", text, re.MULTILINE)
    assert found, text[:300]
    return int(found[1])


def _look(pid: int, calls: int) -> Look:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    said = {
        name: words.split()[0] for name, _, words in (line.partition(":") for line in lines) if words.split()
    }
    own_kb = int(said["RssAnon"]) + int(said["VmSwap"])  # what is swapped out is a leak, too
    return Look(calls, own_kb / 1024, len(os.listdir(f"/proc/{pid}/fd")), int(said["Threads"]))
