"""A runner among fakes, on the store of a `World`: its provider, its input and the store's faults are the test's."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import msgspec
from tests.batch.world import World
from tests.path.fakes import Bench, FixedRoutes, Script, target

from headgate.batch.parts import Parts
from headgate.batch.runner import Runner
from headgate.batch.summons import Summons
from headgate.batch.troubles import Troubles
from headgate.batch.uplink import Uplink
from headgate.errors import GatewayError
from headgate.http.errors import body
from headgate.http.parse import parse
from headgate.money.batchterms import BatchSettings
from headgate.ports import Head
from headgate.process.background import Calls
from headgate.shelf import FileLabel, StoredFile
from headgate.values import Book, Call, Principal, Target
from headgate.wire.batchjobs import Finished, KeptBatch, Loan, NewLine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
WHO = Principal(key=3, project=2, account=1, book=Book.REAL, priority="batch")
ANSWER = json.dumps(
    {
        "id": "c",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a b"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14},
    }
).encode()


def _opened() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


class FaultyStore:
    """A store whose calls the test lets fail, before or after they were done."""

    def __init__(self, world: World) -> None:
        self._store = world.store
        self.before: dict[str, list[Exception]] = defaultdict(list)  # by method: nothing is done
        self.after: dict[str, list[Exception]] = defaultdict(list)  # it is done, and its answer lost
        self.delays: dict[str, asyncio.Event] = defaultdict(_opened)  # by method: its answer waits for it
        self.asked: list[str] = []  # in order
        self.finished: list[Finished] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*given: Any, **named: Any) -> Any:
            self.asked.append(name)
            if name == "finish":
                self.finished += given[1]
            if self.before[name]:
                raise self.before[name].pop(0)
            done = await getattr(self._store, name)(*given, **named)
            await self.delays[name].wait()
            if self.after[name]:
                raise self.after[name].pop(0)
            return done

        return call


class OneFile:
    """A shelf with the input of a batch, and the outputs."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.faults: list[GatewayError] = []  # of reading
        self.unfound: list[GatewayError] = []  # of finding
        self.refused: list[GatewayError] = []  # of writing outputs
        self.created = 0
        self.readers = 0
        self.gate = asyncio.Event()  # reading waits for it
        self.gate.set()

    async def find(self, owner: Any, name: str) -> StoredFile:
        if self.unfound:
            raise self.unfound.pop(0)
        return StoredFile(name, owner, FileLabel("batch", "in.jsonl"), len(self.data), "", 0, ())

    async def read(
        self, file: StoredFile, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        if self.faults:
            raise self.faults.pop(0)
        self.readers += 1
        try:
            await self.gate.wait()
            yield self.data[start:end]
        finally:
            self.readers -= 1

    async def listed(self, *_: Any, **__: Any) -> list[StoredFile]:
        return []

    async def create(self, owner: Any, label: FileLabel, source: AsyncIterator[bytes]) -> StoredFile:
        self.created += 1
        pages = [page async for page in source]
        if self.refused:
            raise self.refused.pop(0)
        return StoredFile(f"file-{label.filename}", owner, label, sum(map(len, pages)), "", 0, ())


class GatedScript(Script):
    """An answer that comes when its provider lets it."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__(200, [ANSWER])
        self._gate = gate

    async def head(self) -> Head:
        await self._gate.wait()
        return await super().head()


class Provider:
    """Answers each call while its gate is open, or fails it as the test says. Implements `ports.Transport`."""

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.asked = 0
        self.gates: list[asyncio.Event] = []
        self.gate = self.next_gate()

    def next_gate(self) -> asyncio.Event:
        """Let the calls from now on wait for a gate of their own, which is open."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.gates.append(self.gate)
        return self.gate

    async def acquire(self, target: Target) -> Script:
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        return GatedScript(self.gate)

    async def close(self) -> None:
        """Nothing is open."""


class OneSize:
    """Puts nothing into requests that name files, each of which has `size` bytes. Implements `Inlining`."""

    size_of_each = 1 << 20

    async def size(self, call: Call) -> int:
        await asyncio.sleep(0)
        return self.size_of_each

    async def inline(self, call: Call) -> None:
        await asyncio.sleep(0)


def reading(n: int) -> bytes:
    """Return a line that names a file."""
    file = {"type": "file", "file": {"file_id": "file-" + "0" * 24}}
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": [file]}], "max_tokens": 5}
    return json.dumps({"custom_id": f"c{n}", "method": "POST", "url": CHAT, "body": asked}).encode()


def request(n: int) -> bytes:
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"one {n}"}], "max_tokens": 5}
    return json.dumps({"custom_id": f"c{n}", "method": "POST", "url": CHAT, "body": asked}).encode()


class Office:
    """One worker of a world."""

    def __init__(self, world: World, provider: Provider | None = None, **terms: Any) -> None:
        self.world = world
        self.store = FaultyStore(world)
        self.files = OneFile(b"\n".join(map(request, range(1, 33))) + b"\n")
        self.endpoint = CHAT
        self.provider = provider or Provider()
        self.bench = Bench()
        self.calls = Calls()
        self.troubles: list[str] = []
        self.bugs: list[tuple[str, type[BaseException]]] = []
        self.busy = self.stopping = False
        self.broken = 0  # so many lines meet a bug
        ids, stages = count(1), cast(Any, self.bench.pipeline)._stages
        self.clock = self.bench.clock
        self.clock.now_us = 10
        settings = BatchSettings(**terms)
        self.parts = Parts(
            stages=replace(stages, transport=self.provider),
            store=cast(Any, self.store),
            summons=Summons(),
            files=cast(Any, self.files),
            uplink=Uplink({}, cast(Any, self.provider), "."),
            terms=lambda: settings,
            routes=lambda: cast(Any, FixedRoutes(target())),
            principal=self._principal,
            place=lambda: world.place,
            new_id=lambda: (next(ids) << 64).to_bytes(16),
            start=self.calls.start,
            each=self.calls.each,
            parse=parse,
            inlining=cast(Any, OneSize()),
            videos=lambda: cast(Any, None),
            error_body=body,
            operations={CHAT: "chat", EMBEDDINGS: "embeddings"},
            busy=lambda: self.busy,
            stopping=lambda: self.stopping,
            troubles=Troubles(self.troubles.append, self._bug),
            largest=1 << 20,
        )
        self.runner = Runner(self.parts)

    def _bug(self, where: str, fault: BaseException) -> None:
        self.bugs.append((where, type(fault)))

    async def _principal(self, key: int, book: Book) -> Principal:
        if self.broken:
            self.broken -= 1
            raise ZeroDivisionError
        return WHO

    async def order(self, name: str = "batch_1") -> KeptBatch:
        return await self.world.store.create(self.world.job(name, endpoint=self.endpoint))

    async def begun(self, lines: int = 4, name: str = "batch_1") -> KeptBatch:
        """Return a batch in progress, without a cap."""
        kept = await self.order(name)
        owned = await self.world.store.own(kept.n, self.world.place, 10, 20)
        assert owned is not None
        rows, at = [], 0
        for n, line in enumerate(self.files.data.splitlines()[:lines], 1):
            rows.append(NewLine(n, at, len(line), f"c{n}", 0, 0))
            at += len(line) + 1
        assert await self.world.store.add_lines(owned, rows, first=True)
        job = msgspec.structs.replace(owned.job, model="gpt-4o", held_at=5)
        ready = msgspec.structs.replace(owned, job=job, counts=owned.counts._replace(total=lines))
        loan = Loan(self.world.place, ())
        assert await self.world.store.begin(ready, 40, (0, 0, 0), loan) is None
        return ready

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Runner]:
        """Run batches as long as the test looks."""
        task = asyncio.ensure_future(self.runner.run())
        try:
            yield self.runner
        finally:
            for gate in self.provider.gates:
                gate.set()
            await self.runner.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, true: Callable[[], Any], within_s: float = 10.0) -> None:
        """Wait for something."""
        async with asyncio.timeout(within_s):
            while not true():
                await asyncio.sleep(0.01)

    async def ended(self, name: str = "batch_1", within_s: float = 10.0) -> KeptBatch:
        """Wait until a batch is done."""
        async with asyncio.timeout(within_s):
            while True:
                kept = await self.world.store.find(2, Book.REAL, name)
                assert kept is not None
                if kept.status in {"completed", "failed", "cancelled", "expired"}:
                    return kept
                await asyncio.sleep(0.02)

    def states(self) -> list[int]:
        """Return the states of all lines."""
        return [
            state for (state,) in self.world.sql.execute("SELECT state FROM batch_lines ORDER BY batch, n")
        ]
