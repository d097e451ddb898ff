"""Lines and answers in the bucket through which a provider has its batches."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

from headgate.batch.bodies import lines_in, patient, whole_of
from headgate.errors import UpstreamInterrupted
from headgate.providers.buckets import (
    all_of,
    at_bucket,
    bucket_of,
    input_of,
    list_in,
    mistake,
    page_of,
    to_bucket,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from headgate.ports import Request, Transport
    from headgate.providers.buckets import ObjectStore
    from headgate.values import Target
    from headgate.wire.batchjobs import BatchJob

_MOST_PAGES: Final = 100


class Depot:
    """Who puts lines into buckets, and takes answers out of them.

    Args:
        transport: for bodies of any length.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def put(self, store: ObjectStore, job: BatchJob, target: Target, lines: memoryview) -> str:
        """Put the lines of a batch's last part there; return their name. Raises `UpstreamError`."""
        name = input_of(job, bucket_of(target))
        told = hashlib.sha256
        sha256 = (await asyncio.to_thread(told, lines)).hexdigest() if store.hashes else ""
        await self._told(patient(target), to_bucket(store, target, ("PUT", name), (lines, sha256)))
        return name

    async def lines(self, store: ObjectStore, target: Target, begin: str) -> AsyncGenerator[bytes]:
        """Yield the lines of answers whose names begin so; there may be none. Raises `UpstreamError`."""
        for name in await self._names(store, target, begin):
            if not name.endswith(store.answers):
                continue
            exchange = await self._transport.acquire(at_bucket(patient(target)))
            try:
                exchange.send(to_bucket(store, target, ("GET", name)))
                head = await exchange.head()
                if head.status != 200:
                    raise mistake(head, await whole_of(exchange))
                async for line in lines_in(exchange):
                    yield line
            finally:
                exchange.release()

    async def clear(self, store: ObjectStore, job: BatchJob, target: Target) -> None:
        """Remove all that a batch has there. Raises `UpstreamError`."""
        for name in await self._names(store, target, all_of(job, bucket_of(target))):
            await self._told(target, to_bucket(store, target, ("DELETE", name)))

    async def count(self, store: ObjectStore, target: Target) -> int:
        """Return how many objects of batches lie there, of the first thousand. Raises `UpstreamError`."""
        begin = f"{bucket_of(target).prefix}batch_"
        return len(page_of(await self._told(target, list_in(store, target, begin, ""))).names)

    async def _names(self, store: ObjectStore, target: Target, begin: str) -> list[str]:
        names, after = list[str](), ""
        for _ in range(_MOST_PAGES):
            page = page_of(await self._told(target, list_in(store, target, begin, after)))
            names += page.names
            if not page.after:
                return names
            after = page.after
        raise UpstreamInterrupted("The bucket lists more objects than a batch can have.")

    async def _told(self, target: Target, request: Request) -> bytes:
        exchange = await self._transport.acquire(at_bucket(target))
        try:
            exchange.send(request)
            head = await exchange.head()
            body = await whole_of(exchange)
        finally:
            exchange.release()
        if head.status >= 300 and not (request.method == "DELETE" and head.status == 404):
            raise mistake(head, body)
        return body
