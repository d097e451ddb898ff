"""Requests to providers' own batch APIs: lines go up, answers come down, neither ever whole in memory."""

from __future__ import annotations

import asyncio
from mmap import ACCESS_READ, mmap
from typing import IO, TYPE_CHECKING, Final

import msgspec

from headgate.errors import UpstreamInterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from headgate.ports import Exchange, Request, Transport
    from headgate.providers.batches import BatchState, BatchWire, Form
    from headgate.values import Target
    from headgate.wire.batchjobs import BatchJob

_MOST_ANSWER: Final = 16 * 1024 * 1024
_LONGEST_LINE: Final = 128 * 1024 * 1024
_MOST_PAGES: Final = 100
_SLOW_S: Final = 3_600.0  # a file may take so long


class Uplink:
    """Who asks providers' batch APIs.

    Args:
        wires: by the kind of host.
        transport: for bodies of any length.
        folder: where lines lie until they are sent.
    """

    def __init__(self, wires: Mapping[str, BatchWire], transport: Transport, folder: str) -> None:
        self.folder = folder
        self._wires = wires
        self._transport = transport

    def wire(self, target: Target) -> BatchWire | None:
        """Return how a target's batch API is spoken to, if it is to run batches."""
        if target.simulated or target.steered or target.host.batch != "provider" or not target.host.several:
            return None
        return self._wires.get(target.host.kind)

    def known(self, target: Target) -> BatchWire:
        """Return how a target is spoken to that has a batch."""
        return self._wires[target.host.kind]

    async def upload(self, target: Target, form: Form, spool: IO[bytes], name: str) -> str:
        """Send lines that lie in a file; return the provider's name of them. Raises `UpstreamError`."""
        wire = self.known(target)
        with mmap(spool.fileno(), 0, access=ACCESS_READ) as lines:
            view = memoryview(lines)
            try:
                body = await self._told(_patient(target), wire.upload(target, form, (view,), name))
            finally:
                view.release()
        return wire.named(body)

    async def create(self, job: BatchJob, target: Target) -> str:
        """Make a batch; return its name there. Raises `UpstreamError`."""
        wire = self.known(target)
        return wire.named(await self._told(target, wire.create(job, target)))

    async def look(self, target: Target, batch: str) -> BatchState:
        """Ask how far a batch is. Raises `UpstreamError`."""
        wire = self.known(target)
        return wire.state(await self._told(target, wire.look(target, batch)))

    async def cancel(self, target: Target, batch: str) -> None:
        """End a batch. Raises `UpstreamError`."""
        await self._told(target, self.known(target).cancel(target, batch))

    async def find(self, job: BatchJob, target: Target) -> str:
        """Return the provider's name of a batch that may have been made; empty: it was not.

        Raises:
            UpstreamError: nobody knows.
        """
        wire, after = self.known(target), ""
        for _ in range(_MOST_PAGES):
            found = wire.found(await self._told(target, wire.listed(target, after)), job)
            if found.id or not found.after:
                return found.id
            after = found.after
        raise UpstreamInterrupted("The provider lists more batches than can be looked through.")

    async def lines(self, target: Target, file: str) -> AsyncIterator[bytes]:
        """Yield the lines of a file at the provider. Raises `UpstreamError`."""
        wire = self.known(target)
        exchange = await self._transport.acquire(_patient(target))
        try:
            exchange.send(wire.content(target, file))
            head = await exchange.head()
            if head.status != 200:
                raise wire.error(head, await _whole(exchange))
            async for line in _split(exchange):
                yield line
        finally:
            exchange.release()

    async def _told(self, target: Target, request: Request) -> bytes:
        exchange = await self._transport.acquire(target)
        try:
            exchange.send(request)
            head = await exchange.head()
            body = await _whole(exchange)
        finally:
            exchange.release()
        if head.status >= 300:
            raise self.known(target).error(head, body)
        return body


def _patient(target: Target) -> Target:
    """Return a target that may take long for a file."""
    deadlines = msgspec.structs.replace(target.deadlines, first_byte_s=_SLOW_S, total_s=_SLOW_S)
    return msgspec.structs.replace(target, deadlines=deadlines)


async def _split(exchange: Exchange) -> AsyncIterator[bytes]:
    """Yield the lines of a body that are not empty."""
    rest = b""
    while data := await exchange.read():
        *whole, rest = (rest + data).split(b"\n") if b"\n" in data else [rest + data]
        for line in filter(bytes.strip, whole):
            yield line
        if len(rest) > _LONGEST_LINE:
            raise UpstreamInterrupted("A line of the provider's answers has no end.")
        await asyncio.sleep(0)
    if rest.strip():
        yield rest


async def _whole(exchange: Exchange) -> bytes:
    parts, size = [], 0
    while size < _MOST_ANSWER and (data := await exchange.read()):
        parts.append(data)
        size += len(data)
    return b"".join(parts)
