"""Change the file of a gateway that serves, again and again, and look at every answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.caps.money import Money
from tests.caps.serving import Gateway, start
from tests.faults.worker import parse
from tests.reload.provider import Provider

MOST_GROWTH_MB = 8.0
_WARM = 10  # reloads, or half of all, before memory is looked at
_IN_FORCE_S = 30.0  # at most, also on a slow machine
_SETTLED = 24  # answers in a row by the newest version: then every worker has it
WRONG = (
    "not TOML at all",
    "[[providers]]\nname = 7\n",
    '[[models]]\nname = "m"\ntargets = [{ provider = "nobody", model = "x" }]\n',
    '[aliases]\na = "b"\nb = "a"\n',
)


@dataclass
class Outcome:
    """What came of it; a version is what an answer says it was asked by."""

    workers: int = 1
    answers: int = 0
    reloads: int = 0
    refused: int = 0
    grown_mb: float = 0.0
    slowest_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=_SETTLED))

    def answered(self, status: int, version: int, oldest: int, newest: int) -> None:
        """Look at an answer: it is by a version that was in force while the call was open."""
        self.answers += 1
        self.recent.append(version)
        if status != 200:
            self.wrong.append(f"status {status}")
        elif not oldest <= version <= newest:
            self.wrong.append(f"by version {version}, and {oldest} to {newest} were in force")

    def report(self) -> str:
        """Say how it was."""
        return (
            f"{self.reloads} reloads and {self.refused} that were refused, {self.answers} answers, in force within "
            f"{self.slowest_s:.1f} s, memory grew by {self.grown_mb:.1f} MB; {len(self.wrong)} wrong"
        )


class File:
    """The settings, and which versions of them may be in force."""

    def __init__(self, path: Path, upstream: int) -> None:
        self.newest = self.oldest = 0
        self._path, self._upstream = path, upstream

    def next(self) -> None:
        """Write the next version, as editors and deployments do it."""
        self.newest += 1
        self._put(self.text(self.newest))

    def break_it(self, number: int) -> None:
        """Write what cannot be used."""
        self._put(WRONG[number % len(WRONG)])

    def text(self, version: int) -> str:
        """Return a version."""
        return (
            f'[[providers]]\nname = "corp"\nbase_url = "http://127.0.0.1:{self._upstream}/{version}"\n'
            f'api_key = "key-{version}"\nmodels = ["none-*"]\n[[models]]\nname = "model"\n'
            f'targets = [{{ provider = "corp", model = "m-{version}" }}]\n'
            '[[prices.rows]]\nmodel = "*"\ninput = 0\noutput = 0.6\n'
        )

    def _put(self, text: str) -> None:
        fresh = self._path.with_name("fresh.toml")
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, self._path)


async def play(folder: Path, reloads: int, wrong: int, *, workers: int = 2, callers: int = 4) -> Outcome:
    """Reload so often, and be refused so often in between."""
    outcome = Outcome(workers=workers)
    async with Provider() as provider:
        file = File(folder / "headgate.toml", provider.port)
        process, gateway = await start(folder, file.text(0), workers)
        payer = Money(gateway.data).payer()
        await asyncio.sleep(0.5)
        done = asyncio.Event()
        loads = [
            asyncio.create_task(_load(gateway, payer.keys[0][1], file, outcome, done)) for _ in range(callers)
        ]
        often = max(1, reloads // wrong) if wrong else reloads + 1
        before = 0.0
        for number in range(1, reloads + 1):
            file.next()
            await _in_force(file, outcome)
            if number % often == 0:
                await _refused(file, outcome, number, partial(_refusals, folder))
            if number == min(_WARM, reloads // 2):
                before = memory_mb(gateway)
        outcome.grown_mb = memory_mb(gateway) - before
        done.set()
        await asyncio.gather(*loads)
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, 60)
        halves = provider.halves
    refusals = _refusals(folder)
    for true, what in (
        (code == 0, f"exit code {code}"),
        (not halves, f"{halves} requests by half a version"),
        (refusals == outcome.refused * workers, f"{refusals} refusals were said"),
        (before and outcome.grown_mb <= MOST_GROWTH_MB, f"memory grew by {outcome.grown_mb:.1f} MB"),
    ):
        if not true:
            outcome.wrong.append(what)
    return outcome


async def _load(gateway: Gateway, key: str, file: File, outcome: Outcome, done: asyncio.Event) -> None:
    body = json.dumps({"model": "model", "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    raw = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    while not done.is_set():
        oldest = file.oldest
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(raw)
        reply = parse(await reader.read())
        writer.close()
        version = -1
        if reply.status == 200:
            version = int(json.loads(reply.body)["choices"][0]["message"]["content"])
        outcome.answered(reply.status, version, oldest, file.newest)
        await asyncio.sleep(0.01)


async def _in_force(file: File, outcome: Outcome) -> None:
    """Wait until the newest version alone answers; from then on an older one is wrong."""
    since = time.monotonic()
    while set(outcome.recent) != {file.newest} or len(outcome.recent) < _SETTLED:
        assert time.monotonic() - since < _IN_FORCE_S, (
            f"version {file.newest} is not in force: {outcome.recent}"
        )
        await asyncio.sleep(0.01)
    file.oldest = file.newest
    outcome.reloads += 1
    outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - since)


async def _refused(file: File, outcome: Outcome, number: int, said: Callable[[], int]) -> None:
    """Write what cannot be used, and wait until every worker has said so."""
    before, since = said(), time.monotonic()
    file.break_it(number)
    outcome.refused += 1
    while said() < before + outcome.workers:
        assert time.monotonic() - since < _IN_FORCE_S, "what cannot be used was not refused"
        await asyncio.sleep(0.05)


def _refusals(folder: Path) -> int:
    """Return how often the log says that settings are not used."""
    return (folder / "server.log").read_text().count("the changed settings are not used")


def memory_mb(gateway: Gateway) -> float:
    """Return what the workers have of memory for themselves, beside what they share."""
    rows = [
        line.split()
        for pid in gateway.workers or [gateway.pid]
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    ]
    return sum(int(row[1]) for row in rows if row[0].startswith("Private_")) / 1024
