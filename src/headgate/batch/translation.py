"""The input of a batch as its provider takes it: the requests that it would get one by one, in parts."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import IO, TYPE_CHECKING, Final, NamedTuple

import msgspec

from headgate.admission.bounds import assumed_output
from headgate.batch.parts import names_files, owner_of, take_in
from headgate.batch.reading import InputRefused, lines_of
from headgate.batch.replay import at_its_provider, packed
from headgate.errors import CallerError, Fenced, GatewayError, Unavailable
from headgate.money.batchterms import PASSED
from headgate.providers import shaping
from headgate.values import Call
from headgate.wire.batches import BatchError, LineRefused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from headgate.batch.parts import Parts
    from headgate.pipeline import Pipeline
    from headgate.ports import Request
    from headgate.providers.batches import BatchWire
    from headgate.values import Principal, Target
    from headgate.wire.batchjobs import KeptBatch

AT_ONCE: Final = 200  # lines in one write to the store
PIECE: Final = 1 << 20  # bytes in one write
_SPELL: Final = 16  # lines that are translated without a pause for others


class Span(NamedTuple):
    """Which lines of an input are one part."""

    begin: int  # behind this one
    until: int  # with this one; 0: as many as one batch takes
    most: int  # lines of one batch
    least: int  # of one, too


class Sheet(NamedTuple):
    """What was written down."""

    lines: int
    until: int  # the last line of the input that was looked at
    last: bool  # of all
    values: frozenset[str]  # of the header in which requests may differ


async def keep(parts: Parts, batch: KeptBatch, answers: list[tuple[int, bytes]]) -> None:
    """Keep answers. Raises `Fenced`: somebody else has the batch now."""
    if answers and not await parts.store.keep_answers(batch, answers):
        raise Fenced("Somebody else has this batch now.")


class Translation:
    """Writes down a part of a batch's input.

    Args:
        parts: of the process.
        pipeline: of lines that we run: it knows their targets.
        batch: held by this worker.
        wire: of its provider.
    """

    def __init__(self, parts: Parts, pipeline: Pipeline, batch: KeptBatch, wire: BatchWire) -> None:
        self._parts = parts
        self._pipeline = pipeline
        self._batch = batch
        self._wire = wire
        self._lines = 0
        self._size = 0
        self._piece = bytearray()
        self._written = 0
        self._values: set[str] = set()
        self._refused: list[tuple[int, bytes]] = []
        self._tail = deque[tuple[int, int]]()  # of the last lines: their numbers, and where each begins

    async def write(self, spool: IO[bytes], span: Span) -> Sheet:
        """Write the lines of a part that can be sent; the others are marked.

        Raises:
            CallerError: the batch's key makes no calls any more.
            InputRefused: its file is gone.
        """
        parts, job = self._parts, self._batch.job
        principal = await parts.principal(job.key, job.book)
        file = await parts.files.find(owner_of(job), job.input_file)
        if file is None:
            raise InputRefused(BatchError("file_not_found", f"The input file {job.input_file} is gone."))
        self._tail = deque(maxlen=span.least - 1)
        async with aclosing(self._lines_behind(span.begin, parts.files.read(file), principal)) as lines:
            return await self._fill(spool, span, lines)

    async def _lines_behind(
        self, begin: int, chunks: AsyncIterator[bytes], principal: Principal
    ) -> AsyncGenerator[tuple[int, bytes]]:
        """Yield the numbers of the lines behind one, and each as it is sent; empty: it cannot be."""
        number = 0
        async for _, data in lines_of(chunks, self._parts.largest):
            number += 1
            if not number % _SPELL:
                await asyncio.sleep(0)
            if number > begin:
                yield number, await self._line(data or b"", number, principal)

    async def _fill(self, spool: IO[bytes], span: Span, lines: AsyncGenerator[tuple[int, bytes]]) -> Sheet:
        last = span.begin
        async for number, line in lines:
            if span.until:
                if number > span.until:
                    return await self._sheet(spool, last, last=False)
            elif self._lines >= span.most or (line and not self._fits(line)):
                left = await self._leave(spool, span.least, lines, line)
                return await self._sheet(spool, left or last, last=False)
            await self._put(spool, line, number)
            last = number
        return await self._sheet(spool, last, last=True)

    async def _leave(
        self, spool: IO[bytes], least: int, lines: AsyncGenerator[tuple[int, bytes]], first: bytes
    ) -> int:
        """Take as many lines back as the next part lacks; return the last one that is left, 0: all are.

        What is behind the part is looked at as far as it must be to know that.
        """
        ahead = int(bool(first))
        if ahead < least:
            async for _, line in lines:
                ahead += bool(line)
                if ahead >= least:
                    break
        lacking = least - ahead
        if not ahead or lacking <= 0 or self._lines - lacking < least:
            return 0
        number, at = self._tail[-lacking]
        await self._flush(spool)
        await asyncio.to_thread(spool.truncate, at)
        self._lines -= lacking
        return number - 1

    def _fits(self, line: bytes) -> bool:
        """Say whether a line goes into this part; the first one always does."""
        return not self._lines or self._size + len(line) <= self._wire.most_bytes

    async def _put(self, spool: IO[bytes], line: bytes, number: int) -> None:
        if not line:  # its call will say why
            self._refused.append((number, packed(0, b"")))
            if len(self._refused) >= AT_ONCE:
                await self._keep_refused()
            return
        self._tail.append((number, self._written + len(self._piece)))
        if self._lines:
            self._piece += self._wire.between
        self._piece += line
        self._lines += 1
        self._size += len(line) + len(self._wire.between)
        if len(self._piece) >= PIECE:
            await self._flush(spool)

    async def _flush(self, spool: IO[bytes]) -> None:
        data = bytes(self._piece)
        self._piece.clear()
        self._written += len(data)
        await asyncio.to_thread(spool.write, data)

    async def _keep_refused(self) -> None:
        refused, self._refused = self._refused, []
        await keep(self._parts, self._batch, refused)

    async def _sheet(self, spool: IO[bytes], number: int, *, last: bool) -> Sheet:
        await self._flush(spool)
        await asyncio.to_thread(spool.flush)
        await self._keep_refused()
        return Sheet(self._lines, number, last, frozenset(self._values))

    async def _line(self, data: bytes, number: int, principal: Principal) -> bytes:
        """Return a line; empty where the request cannot be sent."""
        job = self._batch.job
        try:
            request = await self._request(data, number, principal)
            line = self._wire.line(job, number, request.whole())
        except (CallerError, LineRefused):
            return b""
        if self._wire.varies:
            self._values.update(value for name, value in request.headers if name == self._wire.varies)
        return line

    async def _request(self, data: bytes, number: int, principal: Principal) -> Request:
        parts, job = self._parts, self._batch.job
        assert job.passed is not None
        call = Call(parts.new_id(), parts.operations[job.endpoint], 0)
        call.principal = principal
        take_in(parts, job, (number, data), call)
        if names_files(call):
            await parts.inlining.inline(call)
        call.tier = PASSED
        try:
            targets = await self._pipeline.fitting(call, parts.routes())
        except CallerError:
            raise
        except GatewayError as error:
            raise Unavailable(error.message) from error
        if job.capped:
            call.shrunk_to = assumed_output(call, targets)
        target = _unsigned(at_its_provider(targets, job.passed))
        codec = parts.stages.codecs[target.host.kind][call.operation]
        return codec.encode(call, target) if call.shape is None else shaping.encode(codec, call, target)


def _unsigned(target: Target) -> Target:
    """Return a target whose requests nobody signs: lines are not sent as requests."""
    if target.host.signing is None:
        return target
    return msgspec.structs.replace(target, host=msgspec.structs.replace(target.host, signing=None))
