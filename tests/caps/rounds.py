"""What is played: many calls at once on money for a few, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tests.caps.callers import Order, Seen, call
from tests.caps.money import PRICE, Money, Payer
from tests.caps.provider import Provider
from tests.caps.serving import Gateway, MovedClock

KNOWN_S = 1.0  # after that every worker knows a new key and its money
DRAINED_S = 10.0
SPENDABLE_S = 1.0  # the rest, after settlement
AT_ONCE = 200
DAY_US = 86_400_000_000
_CODES = {
    "key": "insufficient_quota",
    "project": "project_spend_limit_exceeded",
    "account": "organization_spend_limit_exceeded",
    "credit": "insufficient_quota",
}


@dataclass
class Tally:
    """What came of a kind of round."""

    rounds: int = 0
    served: int = 0
    refused: int = 0
    slowest_s: float = 0.0  # from the settlement of the last call to the rest being spent
    wrong: list[str] = field(default_factory=list)

    def expect(self, right: bool, said: str) -> None:
        if not right:
            self.wrong.append(f"round {self.rounds}: {said}")


class Rounds:
    """Rounds against one gateway."""

    def __init__(self, gateway: Gateway, provider: Provider, chance: Random) -> None:
        self.gateway = gateway
        self.provider = provider
        self.chance = chance
        self.money = Money(gateway.data)

    async def all_at_once(self, payer: Payer, orders: Sequence[Order]) -> list[Seen]:
        calls = [call(self.gateway.port, self.chance.choice(payer.keys)[1], order) for order in orders]
        return list(await asyncio.gather(*calls))

    async def drained(self, payer: Payer, seen: Sequence[Seen]) -> dict[str, int]:
        """Wait until the books have every call that was sent; return what each was charged."""
        sent = {each.request_id for each in seen if each.status == 200}
        for _ in range(int(DRAINED_S / 0.05)):
            charges = self.money.charges(payer)
            if sent <= charges.keys():
                return charges
            await asyncio.sleep(0.05)
        raise AssertionError(f"{len(sent - charges.keys())} calls are not in the books")

    def compare(self, tally: Tally, seen: Sequence[Seen], charges: dict[str, int], amount: int) -> int:
        """Compare clients, provider and books; return what is left of an amount."""
        for each in seen:
            if each.status == 200:
                note = self.provider.notes[each.request_id]
                charge = charges[each.request_id]
                if each.whole:
                    tally.expect(charge == note.tokens * PRICE, f"{charge} charged for {note}")
                tally.expect(charge <= each.tokens * PRICE, f"{charge} charged above the hold of {each}")
            elif each.request_id in charges:
                tally.expect(charges[each.request_id] == 0, f"{each} was charged {charges[each.request_id]}")
        spent = sum(charges.values())
        tally.expect(spent <= amount, f"OVERSPENT: {spent} of {amount}")
        return amount - spent

    async def spend_the_rest(self, tally: Tally, payer: Payer, rest: int, since: float) -> None:
        """The rest can be spent at once, and not one token more."""
        tokens = rest // PRICE
        if tokens:
            [last] = await self.all_at_once(payer, [Order(tokens, gap_ms=0)])
            took_s = time.monotonic() - since
            tally.slowest_s = max(tally.slowest_s, took_s)
            tally.expect(last.status == 200, f"{tokens} tokens for {rest}, {took_s:.2f} s later: {last}")
        [beyond] = await self.all_at_once(payer, [Order(1, gap_ms=0)])
        tally.expect(beyond.status == 429, f"one more token was served: {beyond}")

    # ── kinds of rounds ──────────────────────────────────────────────────────────────────────────

    async def equal(self, tally: Tally, scope: str, at_once: int) -> None:
        """Money for exactly k equal calls, and a remainder too small for one: k are served."""
        k, tokens = self.chance.randrange(1, 51), self.chance.randrange(20, 200)
        amount = k * tokens * PRICE + self.chance.randrange(tokens * PRICE)
        payer = self.money.payer(keys=1 if scope == "key" else 3, prepaid=scope == "credit")
        if scope == "credit":
            part = self.chance.randrange(amount)
            self.money.grant(payer.account, part, expires_at=(time.time_ns() // 1000) + 3_600_000_000)
            self.money.grant(payer.account, amount - part)
        else:
            ref = {"key": payer.keys[0][0], "project": payer.project, "account": payer.account}[scope]
            self.money.budget(scope, ref, amount)
        await asyncio.sleep(KNOWN_S)
        seen = await self.all_at_once(payer, [Order(tokens)] * at_once)
        since = time.monotonic()
        served = [each for each in seen if each.status == 200]
        refused = [each for each in seen if each.status == 429]
        tally.rounds += 1
        tally.served, tally.refused = tally.served + len(served), tally.refused + len(refused)
        tally.expect(len(served) == k, f"{len(served)} of {k} were served")
        tally.expect(len(refused) == at_once - k, f"{len(refused)} of {at_once - k} were refused")
        tally.expect({each.code for each in refused} <= {_CODES[scope]}, f"{refused[:1]}")
        await self.spend_the_rest(tally, payer, amount - k * tokens * PRICE, since)
        last = await self.drained(payer, served)
        self.compare(tally, seen, last, amount)

    async def unequal(self, tally: Tally, scope: str, at_once: int) -> None:
        """Every size, half used, streamed, hung up on and failed over, on a key and its project at once."""
        amount = self.chance.randrange(2_000, 12_000) * PRICE
        payer = self.money.payer(keys=1)
        self.money.budget("key", payer.keys[0][0], amount)
        self.money.budget(
            scope if scope != "key" else "project",
            payer.project if scope == "key" else payer.account,
            amount + 1,
        )
        await asyncio.sleep(KNOWN_S)
        seen = await self.all_at_once(payer, [self.any_order() for _ in range(at_once)])
        tally.rounds += 1
        served = [each for each in seen if each.status == 200]
        tally.served += len(served)
        tally.refused += sum(each.status == 429 for each in seen)
        tally.expect(
            {each.status for each in seen} <= {200, 429},
            f"{[e for e in seen if e.status not in {200, 429}][:1]}",
        )
        charges = await self.drained(payer, served)
        rest = self.compare(tally, seen, charges, amount)
        await self.spend_the_rest(tally, payer, rest, time.monotonic())

    def any_order(self) -> Order:
        tokens = self.chance.randrange(1, 400)
        return Order(
            tokens,
            made=self.chance.choice([-1, tokens // 2, 0]),
            gap_ms=self.chance.choice([0, 50, 200]),
            mode=self.chance.choice(["ok", "ok", "fail"]),
            stream=self.chance.random() < 0.5,
            hang_up=self.chance.random() < 0.15,
        )

    async def expiring(self, tally: Tally, at_once: int) -> None:
        """A grant ends in the middle: what was held before stays paid by it, afterwards only the balance is left."""
        tokens, k = self.chance.randrange(20, 200), self.chance.randrange(2, 25)
        price = tokens * PRICE
        payer = self.money.payer(keys=2, prepaid=True)
        expires_at = time.time_ns() // 1000 + int((KNOWN_S + 1.5) * 1e6)
        first = self.money.grant(payer.account, k * price + price // 2, expires_at)
        self.money.grant(payer.account, k * price)
        await asyncio.sleep(KNOWN_S)
        early = await self.all_at_once(
            payer, [Order(tokens, gap_ms=2_500)] * k
        )  # held in the first; end behind it
        late = await self.all_at_once(payer, [Order(tokens)] * at_once)
        tally.rounds += 1
        served = [sum(each.status == 200 for each in seen) for seen in (early, late)]
        tally.served, tally.refused = tally.served + sum(served), tally.refused + at_once - served[1]
        charges = await self.drained(payer, early + late)
        self.compare(tally, early + late, charges, 2 * k * price)
        # On a slow machine some of the early ones came too late: the balance pays for those, then.
        in_time = self.money.ask(
            "SELECT count(*) FROM calls WHERE account = ? AND charge > 0 AND opened_at < ?",
            payer.account,
            expires_at,
        )[0][0]
        tally.expect(served[0] == k, f"{served[0]} of {k} were served before or as a grant ended")
        tally.expect(0 < in_time <= k, f"{in_time} of {k} opened before the grant ended")
        tally.expect(served[1] == in_time, f"{served[1]} of {in_time} were served by what was left")
        rows = self.money.ask("SELECT spent FROM pots WHERE kind = 'grant' AND ref = ?", first)
        tally.expect(
            rows == [(in_time * price,)], f"the grant has spent {rows}, {in_time * price} were held in it"
        )

    async def reset(self, tally: Tally, at_once: int, clock: MovedClock) -> None:
        """A daily budget for k calls resets in the middle of a burst: k per day, never more."""
        tokens, k = self.chance.randrange(20, 200), self.chance.randrange(1, at_once // 4 + 1)
        payer = self.money.payer(keys=3)
        self.money.budget("account", payer.account, k * tokens * PRICE, "day")
        await asyncio.sleep(KNOWN_S)
        before, pauses = len(self.provider.notes), [self.chance.uniform(0, 0.3) for _ in range(at_once)]

        async def one(pause: float) -> Seen:
            await asyncio.sleep(pause)
            return await call(self.gateway.port, self.chance.choice(payer.keys)[1], Order(tokens))

        burst = asyncio.gather(*(one(pause) for pause in pauses))
        wanted = before + self.chance.randrange(1, k + 1)
        while len(self.provider.notes) < wanted:
            await asyncio.sleep(0)
        clock.ahead += DAY_US - clock.wall() % DAY_US  # midnight
        seen = [*await burst, *await self.all_at_once(payer, [Order(tokens)] * at_once)]
        tally.rounds += 1
        served = [each for each in seen if each.status == 200]
        tally.served, tally.refused = tally.served + len(served), tally.refused + len(seen) - len(served)
        await self.drained(payer, served)
        days = self.money.ask(
            "SELECT opened_at / 86400000000, count(*), sum(charge) FROM calls WHERE account = ? AND charge > 0"
            " GROUP BY 1",
            payer.account,
        )
        for day, count, charge in days:
            tally.expect(charge <= k * tokens * PRICE, f"OVERSPENT on day {day}: {count} of {k}")
        tally.expect(len(days) == 2 and days[1][1] == k, f"{days}, {k} are paid for each day")
