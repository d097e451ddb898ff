"""One loss: before it, while it lasts, and after it; and what came of the money."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.caps.callers import MODEL
from tests.caps.money import PRICE, Payer
from tests.caps.provider import Provider
from tests.losses.table import BACK_S, Bounds, allowed, patience_s
from tests.several.asking import ask
from tests.several.database import OwnPostgres, Wire
from tests.several.gateways import Fleet, Replica

from headgate.identity.keys import mint

TOKENS = 20
EVERY_S = 0.25
CALL = "/v1/chat/completions"


@dataclass
class Answer:
    """What one caller saw."""

    who: str
    at: float  # seconds since the loss
    took_s: float
    status: int
    request_id: str = ""


@dataclass
class Outcome:
    """What came of a loss."""

    name: str
    answers: list[Answer] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    back_s: float = 0.0

    def report(self) -> str:
        """Say how it was."""
        seen = Counter((each.who, each.status) for each in self.answers)
        told = ", ".join(f"{who} {status}: {count}" for (who, status), count in sorted(seen.items()))
        slowest = max((each.took_s for each in self.answers), default=0.0)
        return (
            f"{self.name}: {told}; slowest answer {slowest:.2f} s, back after {self.back_s:.1f} s; "
            f"{f'{len(self.wrong)} WRONG' if self.wrong else 'as the table says'}"
        )


def order() -> dict[str, object]:
    plan = [{"role": "user", "content": f"plan {TOKENS} 0 ok"}]
    return {"model": MODEL, "messages": plan, "max_tokens": TOKENS}


def unserved(answers: list[Answer]) -> list[str]:
    """Say whom nobody served any more a second after the loss: money in hand and the journal last longer."""
    served = {each.who for each in answers if each.status == 200 and each.at >= 1.0}
    return [f"{who} was not served" for who in ("prepaid", "post-paid") if who not in served]


class Loss:
    """Callers of one gateway, and what they see."""

    def __init__(self, name: str, replica: Replica, fleet: Fleet, bounds: Bounds, *, works: bool) -> None:
        self.outcome = Outcome(name)
        self._replica, self._bounds, self._works = replica, bounds, works
        self._money = fleet.money
        self._payers: dict[str, Payer] = {}
        self._keys: dict[str, str] = {}
        self._names = 0
        self._since = 0.0

    def prepare(self) -> None:
        """Make who calls; waits for the database."""
        for who, prepaid in (("prepaid", True), ("post-paid", False), ("never seen", True)):
            payer = self._payers[who] = self._money.payer(prepaid=prepaid)
            self._keys[who] = payer.keys[0][1]
            if prepaid:
                self._money.grant(payer.account, 10**12)
        self._keys["once"] = self._keys["post-paid"]
        self._keys["unknown"] = mint("live")
        done = self._replica.run("keys", "create", "--name", "boss", "--kind", "admin", "--json")
        self._keys["admin"] = json.loads(done.stdout)["key"]

    async def one(self, who: str) -> Answer:
        """Let a caller ask once."""
        began = time.monotonic()
        if who == "admin":
            self._names += 1
            path, body = "/admin/v1/projects", {"name": f"project {self._names}"}
            reply = await ask(self._replica.port, self._keys[who], path, body)
        else:
            once = secrets.token_hex(8) if who == "once" else ""
            reply = await ask(self._replica.port, self._keys[who], CALL, order(), once=once)
        now = time.monotonic()
        status = 200 if reply.status == 201 else reply.status
        answer = Answer(who, began - self._since, now - began, status, reply.request_id)
        self.outcome.answers.append(answer)
        return answer

    async def warm(self) -> None:
        """Let everybody who was here before be served once."""
        self._since = time.monotonic()
        for who in ("prepaid", "post-paid", "once", "admin"):
            until = time.monotonic() + 20
            while (answer := await self.one(who)).status != 200:
                assert time.monotonic() < until, (answer, self._replica.say())
                await asyncio.sleep(0.1)
        self.outcome.answers = [each for each in self.outcome.answers if each.status == 200]

    def begin(self) -> None:
        """Count time from now on."""
        self._since = time.monotonic()

    async def last(self, seconds: float) -> None:
        """Let all of them go on for so long, and compare every answer with the table."""
        begun = len(self.outcome.answers)
        await asyncio.gather(*(self._go_on(who, seconds) for who in (*self._keys,)))
        for each in self.outcome.answers[begun:]:
            # An answer is of a moment between its question and its end.
            right = allowed(each.who, each.at, self._bounds, works=self._works)
            right |= allowed(each.who, each.at + each.took_s, self._bounds, works=self._works)
            if each.status not in right:
                self.outcome.wrong.append(f"{each.who} at {each.at:.1f} s: {each.status}, right is {right}")
            if each.took_s > patience_s(each.who, works=self._works):
                self.outcome.wrong.append(f"{each.who} at {each.at:.1f} s waited {each.took_s:.1f} s")
        self.outcome.wrong += unserved(self.outcome.answers[begun:])

    async def _go_on(self, who: str, seconds: float) -> None:
        while time.monotonic() - self._since < seconds:
            await self.one(who)
            await asyncio.sleep(EVERY_S * (4 if who == "admin" else 1))

    async def recover(self) -> None:
        """Wait until all is as it was."""
        began, waiting = time.monotonic(), [*self._keys]
        while waiting:
            answers = await asyncio.gather(*(self.one(who) for who in waiting))
            for each in answers:
                if each.status == 401 and each.who != "unknown":
                    self.outcome.wrong.append(f"{each.who}: 401 when it was back")
            waiting = [each.who for each in answers if each.status != (401 if each.who == "unknown" else 200)]
            if time.monotonic() - began > 6 * BACK_S:
                self.outcome.wrong.append(f"never back: {answers}\n{self._replica.say()}")
                return
            await asyncio.sleep(0.05)
        self.outcome.back_s = time.monotonic() - began
        if self.outcome.back_s > BACK_S:
            self.outcome.wrong.append(f"back after {self.outcome.back_s:.1f} s")

    async def reconcile(self) -> None:
        """Compare the books with what callers were served."""
        served = {
            each.request_id for each in self.outcome.answers if each.status == 200 and each.who != "admin"
        }
        until = time.monotonic() + 20
        while True:
            booked = {}
            for payer in self._payers.values():
                booked |= await asyncio.to_thread(self._money.charges, payer)
            if booked.keys() == served or time.monotonic() > until:
                break
            await asyncio.sleep(0.1)
        if lost := served - booked.keys():
            self.outcome.wrong.append(f"{len(lost)} of {len(served)} calls are not in the books")
        odd = {charge for name, charge in booked.items() if name in served} - {TOKENS * PRICE}
        if odd:
            self.outcome.wrong.append(f"charges {odd}, due {TOKENS * PRICE}")
        if dear := [name for name in booked.keys() - served if booked[name]]:
            self.outcome.wrong.append(f"{len(dear)} calls that were refused were charged")


@contextlib.asynccontextmanager
async def losing(kind: str, server: OwnPostgres, wire: Wire) -> AsyncIterator[None]:
    """Lose the database in a way, and have it back."""
    if kind == "killed":
        await server.kill()
        yield
        await server.start()
    elif kind == "frozen":
        server.freeze()
        yield
        server.thaw()
    elif kind == "exhausted":
        async with server.exhausted():
            yield
    else:
        wire.delay_s = 2.0
        yield
        wire.delay_s = 0.0


async def play(
    folder: Path, kinds: list[str], seconds: float, bounds: Bounds, tell: Callable[[str], None] = print
) -> list[Outcome]:
    """Play losses one after another on one gateway; then stop it, and prove its books."""
    outcomes: list[Outcome] = []
    more = f"journal_bound_s = {bounds.journal_s}\nkeys_kept_s = {bounds.keys_s}\n"
    async with OwnPostgres() as server, Provider() as provider, Wire(server.port) as wire:
        url = server.url.replace(str(server.port), str(wire.port))
        async with Fleet(folder, url, provider.port, 1, more) as fleet:
            for kind in kinds:
                outcomes.append(await _one_loss(kind, fleet, (server, wire), (seconds, bounds)))
                tell(outcomes[-1].report())
            outcomes[-1].wrong += await _stop(fleet)
    return outcomes


async def _stop(fleet: Fleet) -> list[str]:
    """Stop a fleet; return what is wrong with it, or with its books."""
    codes, replica = await fleet.stop(), fleet.replicas[0]
    wrong = [f"exit {codes}: {replica.say()}"] if any(codes) else []
    return wrong + [f"ledger check: {each}" for each in await asyncio.to_thread(replica.findings)]


async def _one_loss(
    kind: str, fleet: Fleet, there: tuple[OwnPostgres, Wire], terms: tuple[float, Bounds]
) -> Outcome:
    seconds, bounds = terms
    loss = Loss(kind, fleet.replicas[0], fleet, bounds, works=kind in {"slow", "exhausted"})
    await asyncio.to_thread(loss.prepare)
    await loss.warm()
    loss.begin()
    async with losing(kind, *there):
        await loss.last(seconds)
    await loss.recover()
    await loss.reconcile()
    return loss.outcome
