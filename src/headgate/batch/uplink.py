"""Requests to providers' own batch APIs: lines go up, answers come down, neither ever whole in memory."""

from __future__ import annotations

from contextlib import aclosing
from mmap import ACCESS_READ, mmap
from typing import IO, TYPE_CHECKING, Final

from headgate.batch.bodies import LONGEST, Bounded, lines_in, patient, unpacked, whole_of
from headgate.batch.depot import Depot
from headgate.errors import UpstreamFailed, UpstreamInterrupted, UpstreamLacks
from headgate.ports import Request
from headgate.providers.batches import Bulk
from headgate.transport.elsewhere import answers_at

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping

    from headgate.ports import Transport
    from headgate.providers.batchcalls import BatchCalls
    from headgate.providers.batches import BatchState, BatchWire
    from headgate.values import Call, Operation, Target
    from headgate.wire.batchjobs import BatchJob, Part

_MOST_PAGES: Final = 100
_MOST_PAGES_OF_ANSWERS: Final = 2_000
_MOST_BYTES_APART: Final = 4 << 30  # of a file that lies elsewhere


class Uplink:
    """Who asks providers' batch APIs.

    Args:
        wires: by the kind of host, or by what its row names.
        transport: for bodies of any length.
        folder: where lines lie until they are sent.
        called: batch APIs that take lines as calls, by what the row of a host names.
    """

    def __init__(
        self,
        wires: Mapping[str, BatchWire],
        transport: Transport,
        folder: str,
        called: Mapping[str, BatchCalls] | None = None,
    ) -> None:
        self.folder = folder
        self._wires = wires
        self._called = called or {}
        self._transport = transport
        self._depot = Depot(transport)

    def wire(self, target: Target, operation: Operation) -> BatchWire | None:
        """Return how a target's batch API is spoken to, if it is to run batches of an operation."""
        if _ours(target):
            return None
        wire = self._wires.get(target.host.batches or target.host.kind)
        return wire if wire is not None and operation in (wire.operations or {operation}) else None

    def calls(self, target: Target, operation: Operation) -> BatchCalls | None:
        """Return how a target is asked for lines by calls at its batch API, if it is to run them."""
        called = None if _ours(target) else self._called.get(target.host.batches)
        return called if called is not None and operation in called.operations else None

    def lacks(self, target: Target, operation: Operation) -> bool:
        """Say whether a target that is to run batches has none of an operation."""
        return not (_ours(target) or self.wire(target, operation) or self.calls(target, operation))

    def takes(self, call: Call, target: Target) -> bool:
        """Say whether a target that is to run batches may have a call in one."""
        wire = self.wire(target, call.operation)
        return wire is None or wire.takes(call, target)

    def known(self, target: Target) -> BatchWire:
        """Return how a target is spoken to that has a batch."""
        return self._wires[target.host.batches or target.host.kind]

    async def standing(self, target: Target) -> tuple[str, ...]:
        """Ask whether batches may be made at a target, where that can be asked.

        Returns:
            The addresses of answers that were told. They may be signed.

        Raises:
            UpstreamError: they may not, or nobody knows.
        """
        wire = self.known(target)
        request = wire.standing(target)
        return () if request is None else wire.lies(await self._told(target, request))

    async def send(
        self, job: BatchJob, target: Target, spool: IO[bytes], around: tuple[Collection[str], str]
    ) -> str:
        """Send lines that lie in a file; return the provider's name of them, or of the batch that they are.

        Args:
            job: whose last part they are.
            target: where to.
            spool: the file.
            around: values of the header in which their requests may differ, and a boundary.

        Raises:
            UpstreamError: it does not take them, or nobody knows.
        """
        wire, (values, boundary) = self.known(target), around
        # It is not closed by us: what was not sent may be in the loop's hands yet when the answer is there.
        lines = memoryview(mmap(spool.fileno(), 0, access=ACCESS_READ))
        if wire.objects is not None:
            return await self._depot.put(wire.objects, job, target, lines)
        bulk = Bulk((lines,), values, boundary)
        opening = wire.opening(job, target, bulk)
        if opening is not None:
            await self._told(target, opening)
        return wire.named(await self._told(patient(target), wire.send(job, target, bulk)))

    async def ready(self, target: Target, file: str) -> bool:
        """Say whether a batch can be made of a file. Raises `UpstreamError`."""
        wire = self.known(target)
        request = wire.readiness(target, file)
        return request is None or wire.ready(await self._told(target, request))

    async def create(self, job: BatchJob, target: Target) -> str:
        """Make a batch; return its name there. Raises `UpstreamError`."""
        wire = self.known(target)
        return wire.named(await self._told(target, wire.create(job, target)))

    async def look(self, target: Target, part: Part) -> BatchState:
        """Ask how far a batch is. Raises `UpstreamError`."""
        wire = self.known(target)
        try:
            return wire.state(await self._told(target, wire.look(target, part.batch)))
        except UpstreamLacks:
            if not (wire.forgets and part.cancelled):
                raise
            return wire.forgotten(part.batch)

    async def cancel(self, target: Target, part: Part) -> None:
        """End a batch that has not ended. Raises `UpstreamError`."""
        wire = self.known(target)
        if wire.forgets and (await self.look(target, part)).ended:  # what it has to tell were lost
            return
        await self._told(target, wire.cancel(target, part.batch))

    async def find(self, job: BatchJob, target: Target) -> str:
        """Return the provider's name of a batch that may have been made; empty: it was not.

        Raises:
            UpstreamError: nobody knows.
        """
        wire, after, unsure = self.known(target), "", False
        for _ in range(_MOST_PAGES):
            try:
                body = await self._told(target, wire.listed(job, target, after))
            except UpstreamLacks:
                if not wire.forgets:
                    raise
                return ""
            found = wire.found(body, job, after)
            if found.id:
                return found.id
            for name in found.maybe:
                if await self._is_ours(job, target, name):
                    return name
            unsure = unsure or found.unsure
            if not found.after:
                break
            after = found.after
        else:
            raise UpstreamInterrupted("The provider lists more batches than can be looked through.")
        if unsure:
            raise UpstreamInterrupted("A batch that runs at the provider may be this one: its end will tell.")
        return ""

    async def _is_ours(self, job: BatchJob, target: Target, name: str) -> bool:
        """Say whether the first answer of a batch is one of ours. Raises `UpstreamError`."""
        async with aclosing(self.lines(target, name)) as lines:
            async for line in lines:
                return self.known(target).mine(line, job)
        return False

    async def lines(self, target: Target, name: str) -> AsyncGenerator[bytes]:
        """Yield the lines of answers at the provider. Raises `UpstreamError`."""
        wire = self.known(target)
        if wire.objects is not None:
            async with aclosing(self._depot.lines(wire.objects, target, name)) as lines:
                async for line in lines:
                    yield line
            return
        if wire.paged or wire.points(name):
            found = self._paged if wire.paged else self._apart
            async for line in found(wire, target, name):
                yield line
            return
        exchange = await self._transport.acquire(patient(target))
        try:
            exchange.send(wire.content(target, name))
            head = await exchange.head()
            if head.status != 200:
                raise wire.error(head, await whole_of(exchange))
            async for line in lines_in(exchange):
                yield line
        finally:
            exchange.release()

    async def _paged(self, wire: BatchWire, target: Target, name: str) -> AsyncGenerator[bytes]:
        """Yield answers that come as pages."""
        request = wire.content(target, name)
        for _ in range(_MOST_PAGES_OF_ANSWERS):
            page = wire.unfold(target, name, await self._told(patient(target), request, LONGEST))
            for line in page.lines:
                yield line
            if page.following is None:
                return
            request = page.following
        raise UpstreamInterrupted("The provider's pages of answers have no end.")

    async def _apart(self, wire: BatchWire, target: Target, name: str) -> AsyncGenerator[bytes]:
        """Yield answers in files at addresses of their own, each told when it is its turn: it expires."""
        urls = await self._addresses(wire, target, name)
        files = len(urls)
        for at in range(files):
            if at:
                urls = await self._addresses(wire, target, name)
            if len(urls) != files:
                raise UpstreamInterrupted("The provider tells other files of answers than it did before.")
            async with aclosing(self._file(wire, target, urls[at])) as lines:
                async for line in lines:
                    yield line

    async def _addresses(self, wire: BatchWire, target: Target, name: str) -> tuple[str, ...]:
        """Return where files of answers lie. Raises `UpstreamLacks`: nowhere."""
        urls = wire.elsewhere(await self._told(target, wire.content(target, name)))
        if not urls:
            raise UpstreamLacks("The provider tells no file of answers.", upstream_status=404)
        return urls

    async def _file(self, wire: BatchWire, target: Target, url: str) -> AsyncGenerator[bytes]:
        """Yield the answers in a file that gets no credential of ours."""
        place, path = answers_at(url, target)
        exchange = await self._transport.acquire(patient(place))
        try:
            exchange.send(Request("GET", path, (), b"", "req_batch"))
            head = await exchange.head()
            if head.status != 200:  # what is said there may quote the address, which is signed
                why = f"Answers cannot be had where the provider says that they lie ({head.status})."
                raise UpstreamFailed(why, upstream_status=502)
            unpacking, body = wire.unpacking(), Bounded(exchange, _MOST_BYTES_APART)
            async for line in lines_in(body) if unpacking is None else unpacked(body, unpacking):
                yield line
        finally:
            exchange.release()

    async def clear(self, job: BatchJob, target: Target) -> None:
        """Remove what was laid down for a batch, and what it left. Raises `UpstreamError`."""
        wire = self.known(target)
        if wire.objects is not None:
            await self._depot.clear(wire.objects, job, target)
        for request in wire.leavings(job, target):
            try:
                await self._told(target, request)
            except UpstreamLacks:  # it is gone
                continue

    async def _told(self, target: Target, request: Request, most: int = 1 << 24) -> bytes:
        exchange = await self._transport.acquire(self.known(target).at(target))
        try:
            exchange.send(request)
            head = await exchange.head()
            body = await whole_of(exchange, most)
        finally:
            exchange.release()
        if head.status >= 300:
            raise self.known(target).error(head, body)
        return body


def _ours(target: Target) -> bool:
    """Say whether we run the batches of a target."""
    return target.simulated or target.steered or target.batch == "own"
