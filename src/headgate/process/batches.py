"""What runs batches, put together when there is the first one: in any worker, whoever took the order."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from headgate.batch.troubles import Troubles
from headgate.errors import AuthenticationFailed
from headgate.identity.standing import HOW, ceiling_now, halted, principal_of
from headgate.stores.sql.batches import SqlBatches, any_open, untaken
from headgate.stores.sql.database import connect
from headgate.wire.batchjobs import Place as BatchPlace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.admission.shedding import Shedder
    from headgate.admission.teller import Teller
    from headgate.batch.keeper import Keeper
    from headgate.batch.parts import Videos
    from headgate.batch.runner import Runner
    from headgate.batch.summons import Summons
    from headgate.batch.uplink import Uplink
    from headgate.config import Config
    from headgate.files.archive import Archive
    from headgate.observe.log import Log
    from headgate.pipeline import Stages
    from headgate.ports import CallIds
    from headgate.process.background import Background, Calls
    from headgate.records import KeyRow
    from headgate.routing.routes import Routes
    from headgate.stores.broker import Caller
    from headgate.stores.sql.database import Place
    from headgate.transport.http import HttpTransport
    from headgate.values import Book, Call, Principal

_LOOK_S: Final = 1.0
_LARGEST: Final = 4 << 30  # bytes of the answers of a batch
_UNTAKEN_US: Final = 60_000_000  # a batch that nobody has begun to read for so long is reported
_REPORTED_S: Final = 30.0
# What a batch may be for: OpenAI's list of what is served here.
_ALLOWED: Final = (
    *("/chat/completions", "/completions", "/embeddings", "/moderations"),
    *("/images/generations", "/images/edits", "/videos"),
)


def _parse(body: bytes, call: Call) -> None:
    """Fill a call of any operation that a batch may be for. Raises `CallerError`."""
    if call.operation == "videos":
        from headgate.wire.videos import take_order as fill
    else:
        from headgate.http.parse import parse as fill
    fill(body, call)


class Outbound(Protocol):
    """Who goes out."""

    transport: HttpTransport


class Process(Protocol):
    """What running batches asks of its process, as it is at the time."""

    config: Config
    routes: Routes
    ids: CallIds
    calls: Calls
    shedder: Shedder
    log: Log

    files: Callable[[], Archive]
    videos: Callable[[], Videos]

    @property
    def outward(self) -> Outbound:
        """Return how it goes out."""
        ...

    @property
    def draining(self) -> bool:
        """Say whether it begins nothing any more."""
        ...


class BatchParts:
    """Who keeps and runs batches, in one worker.

    Args:
        process: of it.
        stages: of the pipeline.
        place: of the books.
        teller: who grants money to this worker.
        key: returns a key as it stands now.
    """

    __slots__ = (
        "_background", "_broker", "_keeper", "_key", "_opened", "_place", "_process", "_runner", "_stages",
        "_store", "_summons", "_teller", "_transport", "_troubles",
    )  # fmt: skip

    def __init__(
        self,
        process: Process,
        stages: Stages,
        place: Place,
        teller: Teller,
        key: Callable[[int], Awaitable[KeyRow | None]],
    ) -> None:
        self._process = process
        self._stages = stages
        self._place = place
        self._teller = teller
        self._key = key
        self._keeper: Keeper | None = None
        self._opened = asyncio.Event()  # there is a keeper
        self._runner: Runner | None = None
        self._background: Background | None = None
        self._broker: Caller | None = None
        self._summons: Summons | None = None
        self._store: SqlBatches | None = None
        self._transport: HttpTransport | None = None
        self._troubles = Troubles(self._trouble, self._fault)

    @property
    def runs(self) -> bool:
        """Say whether lines are run in this process."""
        config = self._process.config
        if config.options.worker or config.batch.run == "here":
            return True
        return config.batch.run == "auto" and not config.storage.queue

    def keeper(self, background: Background) -> Keeper:
        """Return who keeps batches, which are run from now on, here or where workers are."""
        if self._keeper is None:
            from headgate.batch.keeper import Keeper
            from headgate.batch.parts import PATIENCE, Parts
            from headgate.batch.runner import Runner
            from headgate.batch.summons import Summons
            from headgate.http.dataplane import FORMS, OPERATIONS
            from headgate.http.errors import body

            process, known = self._process, {**OPERATIONS, **FORMS, "/videos": "videos"}
            self._summons = summons = Summons(self._broker)
            self._store, files = SqlBatches(partial(connect, self._place)), process.files()
            parts = Parts(
                stages=self._stages,
                store=self._store,
                summons=summons,
                files=files.shelf,
                uplink=self._open_uplink(),
                terms=lambda: process.config.batch,
                routes=lambda: process.routes,
                principal=self._principal,
                place=lambda: BatchPlace(*self._teller.place),
                new_id=process.ids.next,
                start=process.calls.start,
                each=process.calls.each,
                parse=_parse,
                inlining=files.inlining,
                videos=process.videos,
                error_body=body,
                operations={f"/v1{path}": known[path] for path in _ALLOWED},
                busy=lambda: process.shedder.active,
                stopping=lambda: process.draining,
                troubles=self._troubles,
                largest=process.config.server.max_image_body_bytes,
                patience=PATIENCE,
            )
            self._keeper = Keeper(parts)
            self._opened.set()
            if self.runs:
                summons.runner = self._runner = Runner(parts)
                background.spawn("batches", self._runner.run())
        return self._keeper

    def _open_uplink(self) -> Uplink:
        from dataclasses import replace

        from headgate.batch.uplink import Uplink
        from headgate.providers.registry import BATCH_CALLS, BATCHES
        from headgate.transport.framing import Bounds
        from headgate.transport.http import HttpTransport

        process = self._process
        settings = replace(process.outward.transport.settings, bounds=Bounds(body_bytes=_LARGEST))
        self._transport = HttpTransport(self._stages.ledger.clock, settings)
        return Uplink(BATCHES, self._transport, process.config.storage.data, BATCH_CALLS)

    def start(self, background: Background) -> None:
        """Run what another process has begun, or takes orders for; or see that somebody does."""
        self._background = background
        queue = self._process.config.storage.queue
        if queue:
            from headgate.stores.broker import Caller, Terms

            self._broker = Caller(
                Terms(queue, f"{self._process.config.storage.redis_prefix}.batches"),
                self if self.runs else None,
                self._broker_trouble,
            )
            background.spawn("broker", self._broker.run())
        if self.runs:
            background.spawn("batch watch", self._watch(background))
        elif self._teller.place[0].endswith("slot-0"):
            background.spawn("batch watch", self._mind())

    async def visit(self, batch: str) -> None:
        """Work on a batch for which the broker has called. Implements `stores.broker.Answering`."""
        if self._background is not None:
            self.keeper(self._background)
        if self._summons is not None:
            await self._summons.visit(batch)

    async def _mind(self) -> None:
        """Report batches that wait for a worker."""
        while True:
            await asyncio.sleep(_REPORTED_S)
            waiting = await asyncio.to_thread(self._count_untaken)
            if waiting:
                self._troubles.met(
                    "workers",
                    f"none has begun to read {waiting} of the batches within a minute. Start one with "
                    "`headgate worker`, or set batch.run to 'here'",
                )
            else:
                self._troubles.over("workers")

    async def _watch(self, background: Background) -> None:
        """Begin to run batches once there are any; then whoever runs them looks for itself."""
        while not self._opened.is_set() and not await asyncio.to_thread(self._any_open):
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._opened.wait()
        self.keeper(background)
        await asyncio.Event().wait()

    def _count_untaken(self) -> int:
        try:
            with closing(connect(self._place)) as sql:
                return untaken(sql, self._stages.ledger.clock.wall() - _UNTAKEN_US)
        except sqlite3.Error:
            return 0

    def _any_open(self) -> bool:
        try:
            with closing(connect(self._place)) as sql:
                return any_open(sql)
        except sqlite3.Error:  # who copies the books says so; it is looked at again
            return False

    async def finish(self) -> None:
        """Wait for the lines that run, and keep what came of them."""
        if self._runner is not None:
            await self._runner.close()

    async def close(self) -> None:
        """Close what was opened."""
        if self._summons is not None:
            await self._summons.close()
        if self._store is not None:
            await self._store.close()
        if self._transport is not None:
            await self._transport.close()

    async def _principal(self, key: int, book: Book) -> Principal:
        """Return who a batch's key stands for, below interactive calls.

        Raises:
            CallerError: it makes no calls any more.
        """
        row = await self._key(key)
        if row is None:
            raise AuthenticationFailed(f"The key of this batch is gone. {HOW}", code="invalid_api_key")
        refusal, ceiling = halted(row), ceiling_now(row)
        if refusal is not None:
            raise refusal
        if ceiling is None:
            raise AuthenticationFailed(
                f"What the key of this batch may do has come to nothing. {HOW}", code="invalid_api_key"
            )
        principal = principal_of(row, ceiling)
        if principal.expires_at and principal.expires_at <= self._stages.ledger.clock.wall():
            raise AuthenticationFailed(f"The key of this batch has expired. {HOW}", code="invalid_api_key")
        return msgspec.structs.replace(principal, book=book, priority="batch")

    def _trouble(self, said: str) -> None:
        self._process.log.line("warning", "trouble with batches", why=said)

    def _fault(self, where: str, fault: BaseException) -> None:
        self._process.log.fault(f"batches: {where}", fault)

    def _broker_trouble(self, said: str) -> None:
        self._process.log.line("warning", said)
