"""What runs batches, put together when there is the first one: in any worker, whoever took the order."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from headgate.errors import AuthenticationFailed
from headgate.identity.standing import HOW, ceiling_now, halted, principal_of
from headgate.stores.sql.batches import SqlBatches, any_open
from headgate.stores.sql.database import connect
from headgate.wire.batchjobs import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headgate.admission.shedding import Shedder
    from headgate.admission.teller import Teller
    from headgate.background import Background, Calls
    from headgate.batch.keeper import Keeper
    from headgate.batch.runner import Runner
    from headgate.config import Config
    from headgate.files.archive import Archive
    from headgate.observe.log import Log
    from headgate.pipeline import Stages
    from headgate.ports import CallIds
    from headgate.records import KeyRow
    from headgate.routing.routes import Routes
    from headgate.stores.sql.connection import Connection
    from headgate.values import Book, Principal

_LOOK_S: Final = 1.0
# What a batch may be for, where it is served here: OpenAI's list, without what comes as a form.
_ALLOWED: Final = ("/chat/completions", "/completions", "/embeddings", "/moderations", "/images/generations")


class Process(Protocol):
    """What a bureau asks of its process, as it is at the time."""

    config: Config
    routes: Routes
    ids: CallIds
    calls: Calls
    shedder: Shedder
    log: Log

    files: Callable[[], Archive]

    @property
    def draining(self) -> bool:
        """Say whether it begins nothing any more."""
        ...


class Bureau:
    """Who keeps and runs batches, in one worker.

    Args:
        process: of it.
        stages: of the pipeline.
        data: the data folder.
        teller: who grants money to this worker.
        key: returns a key as it stands now.
    """

    __slots__ = ("_data", "_keeper", "_key", "_process", "_runner", "_stages", "_store", "_teller")

    def __init__(
        self,
        process: Process,
        stages: Stages,
        data: Path,
        teller: Teller,
        key: Callable[[int], KeyRow | None],
    ) -> None:
        self._process = process
        self._stages = stages
        self._data = data
        self._teller = teller
        self._key = key
        self._keeper: Keeper | None = None
        self._runner: Runner | None = None
        self._store: SqlBatches | None = None

    def keeper(self, background: Background) -> Keeper:
        """Return who keeps batches, which are run from now on."""
        if self._keeper is None:
            from headgate.batch.keeper import Keeper
            from headgate.batch.parts import Parts
            from headgate.batch.runner import Runner
            from headgate.http.dataplane import OPERATIONS
            from headgate.http.errors import body
            from headgate.http.parse import parse

            process = self._process
            self._store = SqlBatches(partial(connect, self._data))
            parts = Parts(
                stages=self._stages,
                store=self._store,
                files=process.files().shelf,
                terms=lambda: process.config.batch,
                routes=lambda: process.routes,
                principal=self._principal,
                place=lambda: Place(*self._teller.place),
                new_id=process.ids.next,
                start=process.calls.start,
                parse=parse,
                error_body=body,
                operations={f"/v1{path}": OPERATIONS[path] for path in _ALLOWED},
                busy=lambda: process.shedder.active,
                stopping=lambda: process.draining,
                trouble=self._trouble,
                largest=process.config.server.max_image_body_bytes,
            )
            self._runner = Runner(parts)
            self._keeper = Keeper(parts, self._runner.wake)
            background.spawn("batches", self._runner.run())
        return self._keeper

    def start(self, sql: Connection, background: Background) -> None:
        """Run what another process has begun, or takes orders for."""
        background.spawn("batch watch", self._watch(sql, background))

    async def _watch(self, sql: Connection, background: Background) -> None:
        """Begin to run batches once there are any; then whoever runs them looks for itself."""
        loop = asyncio.get_running_loop()
        while self._keeper is None and not any_open(sql):
            waited: asyncio.Future[None] = loop.create_future()
            loop.call_later(_LOOK_S, _wake, waited)
            await waited
        self.keeper(background)
        await loop.create_future()

    async def finish(self) -> None:
        """Wait for the lines that run, and keep what came of them."""
        if self._runner is not None:
            await self._runner.close()

    async def close(self) -> None:
        """Close what was opened."""
        if self._store is not None:
            await self._store.close()

    def _principal(self, key: int, book: Book) -> Principal:
        """Return who a batch's key stands for, below interactive calls.

        Raises:
            CallerError: it makes no calls any more.
        """
        row = self._key(key)
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
        self._process.log.line("warning", "a batch waits", why=said)


def _wake(waited: asyncio.Future[None]) -> None:
    if not waited.done():
        waited.set_result(None)
