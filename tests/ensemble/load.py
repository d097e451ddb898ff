"""A steady load: calls of several callers, and batches that are ordered, followed and fetched."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.caps.callers import MODEL
from tests.caps.money import PRICE, Payer
from tests.ensemble.world import Ensemble
from tests.several.asking import ask

from headgate.cli.batchwire import CHAT, DONE, BatchClient
from headgate.cli.client import Refused
from headgate.cli.exits import Failed

PLENTY = 10**13
TOKENS = 20
RPM = 120
PAUSE_S = 0.1
BATCHES_DONE_S = 90.0
FETCHES = 200  # of a file, at most
BATCH_TOKENS, LINE_MS = 30, 150


@dataclass(frozen=True)
class Seen:
    """What a caller saw; status 0: no answer."""

    who: str
    at: float
    took_s: float
    status: int
    request_id: str = ""
    whole: bool = False
    said: str = ""


def chat(tokens: int, *, gap_ms: int = 0, stream: bool = False) -> dict[str, object]:
    """Return the body of a call that costs so many tokens."""
    words = [{"role": "user", "content": f"plan {tokens} {gap_ms} ok"}]
    body: dict[str, object] = {"model": MODEL, "messages": words, "max_tokens": tokens}
    return {**body, "stream": True} if stream else body


class Load:
    """All who call, until they are told to stop."""

    def __init__(self, world: Ensemble, folder: Path, lines: int, tight: int) -> None:
        self.world = world
        self.lines = lines  # of a batch
        self.tight = tight  # calls that the caller with little money can pay
        self.seen: list[Seen] = []
        self.payers: dict[str, Payer] = {}
        self.batch_keys: dict[str, Payer] = {}
        self.batches: list[Batch] = []
        self.refused: list[Seen] = []  # requests about batches
        self._folder = folder
        self._done = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._chance = random.Random(7)

    async def begin(self) -> None:
        """Make who calls, and let them begin once every replica knows them."""
        world = self.world
        self.payers = {
            "free": await world.payer(),
            "budget": await world.payer(cap=PLENTY),
            "credit": await world.payer(credit=PLENTY),
            "tight": await world.payer(cap=self.tight * TOKENS * PRICE),
            "limited": await world.payer(),
        }
        self.batch_keys = {
            "batches": await world.payer(),
            "batches on a budget": await world.payer(cap=PLENTY),
        }
        key = self.payers["limited"].keys[0][0]
        await world.change("UPDATE keys SET rpm = ? WHERE id = ?", (RPM, key), "key", "keys")
        await asyncio.gather(
            *(world.known(each) for each in (*self.payers.values(), *self.batch_keys.values()))
        )
        for who in self.payers:
            await self.until_served(who)
        self._tasks = [asyncio.create_task(self._call_on(who)) for who in self.payers]
        self._tasks += [asyncio.create_task(self._order_on(who)) for who in self.batch_keys]

    async def end(self) -> None:
        """Let nobody begin anything more; return when what is under way has ended."""
        self._done.set()
        await asyncio.gather(*self._tasks)

    async def until_served(self, who: str) -> float:
        """Wait until every replica serves somebody; return how long that took."""
        began = time.monotonic()
        for replica in self.world.fleet.replicas:
            while (await self.once(who, replica.port)).status != 200:
                assert time.monotonic() - began < 60, replica.say()
                await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def once(self, who: str, port: int = 0) -> Seen:
        """Call once, by the balancer if no replica is named."""
        stream = self._chance.random() < 0.4
        body = chat(TOKENS, gap_ms=self._chance.choice((0, 0, 20, 100)), stream=stream)
        began = time.monotonic()
        try:
            reply = await ask(port or self.world.balancer.port, self.payers[who].keys[0][1], CHAT, body)
        except (OSError, EOFError) as fault:
            seen = Seen(who, began, time.monotonic() - began, 0, said=repr(fault))
        else:
            whole = reply.status == 200 and (b"[DONE]" if stream else b'"usage"') in reply.body
            said = "" if reply.status == 200 else reply.body.decode()[:300]
            took_s = time.monotonic() - began
            seen = Seen(who, began, took_s, reply.status, reply.request_id, whole, said)
        self.seen.append(seen)
        return seen

    def statuses(self, since: float, until: float) -> dict[str, Counter[int]]:
        """Return who was answered how, of the calls that ended or began in a time."""
        found: dict[str, Counter[int]] = {who: Counter() for who in self.payers}
        for each in self.within(since, until):
            found[each.who][each.status] += 1
        return found

    def within(self, since: float, until: float) -> list[Seen]:
        return [each for each in self.seen if each.at <= until and each.at + each.took_s >= since]

    async def _call_on(self, who: str) -> None:
        while not self._done.is_set():
            await self.once(who)
            await asyncio.sleep(PAUSE_S)

    # ── batches ─────────────────────────────────────────────────────────────────────────────────

    async def _order_on(self, who: str) -> None:
        number = 0
        while not self._done.is_set():
            number += 1
            batch = Batch(self, who, self.lines)
            if await batch.order(self._folder / f"{who}-{number}.jsonl"):
                self.batches.append(batch)
                await batch.follow(self._done)

    async def about_batches(self, who: str, work: Any, *values: object) -> Any:
        """Ask something of the API of batches; None: it was refused, which is noted."""
        began = time.monotonic()
        try:
            return await asyncio.to_thread(work, *values)
        except Refused as fault:
            status, said = fault.status, str(fault)
        except (Failed, OSError, HTTPException, ValueError) as fault:
            status, said = 0, repr(fault)
        self.refused.append(Seen(who, began, time.monotonic() - began, status, said=said))
        await asyncio.sleep(0.3)
        return None

    def client(self, who: str) -> BatchClient:
        """Return one that speaks to whatever replica the balancer chooses."""
        return BatchClient(f"http://127.0.0.1:{self.world.balancer.port}", self.batch_keys[who].keys[0][1])


class Batch:
    """One batch, from its order to its outputs."""

    def __init__(self, load: Load, who: str, lines: int) -> None:
        self.who, self.lines = who, lines
        self.name = ""
        self.found: dict[str, Any] = {}
        self.ordered_at = time.monotonic()
        self.took_s = 0.0
        self.rows: list[Any] = []
        self._load, self._client = load, load.client(who)

    async def order(self, path: Path) -> bool:
        """Upload and order it; say whether that was answered."""
        body = chat(BATCH_TOKENS, gap_ms=LINE_MS)
        with path.open("w") as file:
            for number in range(self.lines):
                asked = {
                    "custom_id": f"line-{number}",
                    "method": "POST",
                    "url": CHAT,
                    "body": body,
                }
                file.write(json.dumps(asked) + "\n")
        file_id = await self._load.about_batches(self.who, self._client.upload, path)
        if file_id is None:
            return False
        made = await self._load.about_batches(self.who, self._client.create, file_id, CHAT, {})
        if made is None:
            return False
        self.name = made["id"]
        return True

    async def follow(self, done: asyncio.Event) -> None:
        """Wait for its end, and fetch what came of it."""
        since = 0.0
        while self.found.get("status") not in DONE:
            if done.is_set():
                since = since or time.monotonic()
                if time.monotonic() - since > BATCHES_DONE_S:
                    return
            found = await self._load.about_batches(self.who, self._client.find, self.name)
            self.found = found or self.found
            await asyncio.sleep(0.2)
        self.took_s = time.monotonic() - self.ordered_at
        for name in ("output_file_id", "error_file_id"):
            for _ in range(FETCHES):
                rows = await self._load.about_batches(self.who, self._lines, self.found[name])
                if rows is not None:
                    self.rows += rows
                    break

    def _lines(self, name: str | None) -> list[Any]:
        return [json.loads(line) for line in self._client.lines(name)]
