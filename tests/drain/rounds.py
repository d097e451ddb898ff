"""Stop a gateway under its callers, and restart several of them behind a balancer, one after the other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.caps.money import PRICE, Money
from tests.caps.serving import CONFIG, HEADGATE, Gateway, start
from tests.drain.clients import Stream, readiness
from tests.drain.provider import GAP_S, Provider
from tests.surfaces.forks import Forked, run

EXIT_S = 2.0  # how long it may take beyond the times that it is given
SEEN_S = 1.0  # within which a probe must see that it stops
_PROBE_S = 0.05
_PLENTY = 10**12


@dataclass(frozen=True)
class Terms:
    """How long it takes calls, and then lets the open ones end; how much later than that a slow machine may be."""

    leave_s: float
    grace_s: float
    slack_s: float = 0.0

    def settings(self, upstream: int) -> str:
        return (
            f"{CONFIG.format(port=upstream)}\n[server]\nleave_s = {self.leave_s}\ndrain_s = {self.grace_s}\n"
        )


@dataclass
class Verdict:
    """What came of a round."""

    wrong: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def expect(self, true: object, said: str) -> None:
        if not true:
            self.wrong.append(said)


async def stop_under_load(folder: Path, workers: int, streams: int, terms: Terms) -> Verdict:
    """Stop a gateway with so many streams open, half of which are longer than its grace."""
    verdict = Verdict()
    async with Provider() as provider:
        process, gateway = await start(folder, terms.settings(provider.port), workers)
        payer = Money(gateway.data).payer()
        Money(gateway.data).budget("account", payer.account, _PLENTY)
        await asyncio.sleep(0.5)
        key, port = payer.keys[0][1], gateway.ports[0]
        whole_s = terms.leave_s + terms.grace_s
        short, long = int(0.6 * whole_s / GAP_S), int(3 * whole_s / GAP_S) + 100
        opened = [Stream(short if number % 2 else long) for number in range(streams)]
        reading = [asyncio.create_task(each.read(port, key)) for each in opened]
        await asyncio.gather(*(each.begun.wait() for each in opened))
        process.send_signal(signal.SIGTERM)
        since = time.monotonic()
        probing = asyncio.create_task(_unready_after(port, since))
        late = await _calls_until(port, key, since + terms.leave_s)
        verdict.figures["not ready after"] = await probing
        code = await asyncio.to_thread(process.wait, whole_s + 60)
        verdict.figures["exit after"] = time.monotonic() - since
        await asyncio.gather(*reading)
    verdict.expect(code == 0, f"exit code {code}")
    _judge(verdict, opened, late, terms, short)
    _reconcile(verdict, gateway, opened, short)
    return verdict


async def _unready_after(port: int, since: float) -> float:
    while await readiness(port) == 200:
        await asyncio.sleep(0.02)
    return time.monotonic() - since


async def _calls_until(port: int, key: str, end: float) -> list[Stream]:
    """Make short calls until the gateway may refuse connections; those that begin later do not count."""
    made: list[asyncio.Task[Stream]] = []
    while time.monotonic() < end - _PROBE_S:
        made.append(asyncio.create_task(Stream(1).read(port, key)))
        await asyncio.sleep(_PROBE_S)
    return list(await asyncio.gather(*made))


def _judge(verdict: Verdict, opened: list[Stream], late: list[Stream], terms: Terms, short: int) -> None:
    ready_s, exit_s = verdict.figures["not ready after"], verdict.figures["exit after"]
    verdict.expect(ready_s < SEEN_S + terms.slack_s, f"not ready after {ready_s:.2f} s")
    most_s = terms.leave_s + terms.grace_s + EXIT_S + terms.slack_s
    verdict.expect(exit_s <= most_s, f"exit after {exit_s:.1f} s")
    verdict.figures["calls while it leaves"] = len(late)
    for each in late:
        verdict.expect(each.is_whole, f"a call while it leaves: refused {each.refused}, status {each.status}")
    for each in opened:
        if each.tokens == short:
            verdict.expect(each.is_whole, f"a stream within the grace ended with {each.raw[-80:]!r}")
        else:
            verdict.expect(each.was_told, f"a stream beyond the grace ended with {each.raw[-80:]!r}")
            verdict.expect(b"[DONE]" not in each.raw, "a stream that was cut says [DONE]")


def _reconcile(verdict: Verdict, gateway: Gateway, opened: list[Stream], short: int) -> None:
    """Whole streams cost what they are, cut ones what came of them; no hold is open."""
    command = [HEADGATE, "ledger", "check", "--data", str(gateway.data), "--json"]
    found = run(command, gateway.data, dict(os.environ), 120)
    verdict.expect(json.loads(found.stdout)["findings"] == [], found.stdout)
    rows = Money(gateway.data).ask("SELECT call, status, charge, hold FROM calls")
    books = {"req_" + call.hex(): (status, charge, hold) for call, status, charge, hold in rows}  # type: ignore[attr-defined]
    for each in opened:
        status, charge, hold = books.get(each.request_id, (0, 0, 0))
        if each.tokens == short:
            verdict.expect((status, charge) == (200, short * PRICE), f"a whole stream: {status}, {charge}")
        else:
            came = each.raw.count(b"tok ") * PRICE
            verdict.expect(status == 503, f"a cut stream has status {status}")
            verdict.expect(came // 2 <= charge <= min(hold, 2 * came), f"{charge} for {came}")


# ── a rolling restart ───────────────────────────────────────────────────────────────────────────


class Replica:
    """One gateway behind the balancer."""

    def __init__(self, folder: Path, upstream: int, terms: Terms) -> None:
        self.ready = False
        self.port = 0
        self.key = ""
        self._folder, self._upstream, self._terms = folder, upstream, terms
        self._process: Forked | subprocess.Popen[str]

    async def start(self) -> None:
        """Start it; its data are those of its last run."""
        self._process, gateway = await start(self._folder, self._terms.settings(self._upstream), 1)
        self.port = gateway.ports[0]
        if not self.key:
            self.key = Money(gateway.data).payer().keys[0][1]
            await asyncio.sleep(0.5)

    async def stop(self) -> int:
        """Stop it in order."""
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, 120)


class Balancer:
    """Sends each call to the next replica that was ready when it was last asked."""

    def __init__(self, replicas: list[Replica]) -> None:
        self._replicas = replicas
        self._next = 0

    async def watch(self) -> None:
        """Ask each of them several times a second."""
        while True:
            for each in self._replicas:
                each.ready = await readiness(each.port) == 200
            await asyncio.sleep(0.1)

    def pick(self) -> Replica:
        """Return whose turn it is."""
        ready = [each for each in self._replicas if each.ready]
        self._next += 1
        return ready[self._next % len(ready)]


async def rolling_restart(folder: Path, replicas: int, callers: int, terms: Terms) -> Verdict:
    """Restart one after the other under load; every call is answered whole."""
    verdict, done = Verdict(), asyncio.Event()
    made: list[Stream] = []
    async with Provider() as provider:
        every = [Replica(folder / f"replica-{number}", provider.port, terms) for number in range(replicas)]
        await asyncio.gather(*(each.start() for each in every))
        balancer = Balancer(every)
        watching = asyncio.create_task(balancer.watch())
        while not all(each.ready for each in every):
            await asyncio.sleep(0.02)

        async def load() -> None:
            while not done.is_set():
                replica = balancer.pick()
                made.append(await Stream(2).read(replica.port, replica.key))

        loads = [asyncio.create_task(load()) for _ in range(callers)]
        for each in every:
            verdict.expect(await each.stop() == 0, "exit code")
            await each.start()
            while not each.ready:
                await asyncio.sleep(0.02)
        done.set()
        await asyncio.gather(*loads)
        watching.cancel()
        await asyncio.gather(*(each.stop() for each in every))
    for stream in made:
        verdict.expect(stream.is_whole, f"failed: refused {stream.refused}, {stream.raw[:60]!r}")
    verdict.figures["calls"] = len(made)
    return verdict
