"""See to a batch at its provider's own batch API: send it, look how far it is, end it, fetch its answers.

Each step is kept before the next one begins, by whoever holds the batch. That a batch is about to be made is
kept before it is, so nobody makes a second one: who finds that it may have been made looks for it first.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from headgate.admission.bounds import assumed_output
from headgate.batch.parts import owner_of
from headgate.batch.reading import InputRefused, lines_of
from headgate.batch.replay import at_its_provider, packed
from headgate.errors import (
    CallerError,
    GatewayError,
    Unavailable,
    UpstreamDenied,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamRefused,
)
from headgate.identity.standing import allow
from headgate.money.batchterms import PASSED
from headgate.providers import shaping
from headgate.values import Call
from headgate.wire.batches import BatchError, LineRefused, read_line
from headgate.wire.batchjobs import Passed

if TYPE_CHECKING:
    from headgate.batch.parts import Parts
    from headgate.batch.uplink import Uplink
    from headgate.pipeline import Pipeline
    from headgate.providers.batches import BatchWire
    from headgate.values import Principal, Target
    from headgate.wire.batchjobs import KeptBatch

_US: Final = 1_000_000
_FIRST_S, _LONGEST_S = 1.0, 60.0  # how long until a batch is looked at again: ever longer
_UNCLEAR_US: Final = 3 * _US  # a provider may take so long to list what it was asked to make
_LATE_US: Final = 60 * _US  # who was asleep so long after an intention makes nothing
_GIVEN_UP_US: Final = 86_400 * _US  # after its end in time nothing more is expected
_REFUSED: Final = (UpstreamRefused, UpstreamDenied)
_PIECE: Final = 1 << 20
_SPELL: Final = 16  # lines that are translated without a pause for others
_AT_ONCE: Final = 200  # lines in one write to the store


def passed_on(uplink: Uplink, target: Target | None) -> Passed | None:
    """Return what a batch begins with that its provider shall run; None: we do."""
    if target is None or uplink.wire(target) is None:
        return None
    host = target.host
    return Passed(provider=host.name, credential=host.credential, upstream=target.model.name)


def why_not_run(passed: Passed) -> str:
    """Return why the lines without an answer have none."""
    codes = {"expired": "batch_expired", "cancelled": "batch_cancelled"}
    return codes.get(passed.ended, "batch_incomplete")


class Passing:
    """Sees to the batches of one worker that are at their providers.

    Args:
        parts: of the process.
        pipeline: of lines that we run: it knows their targets.
    """

    def __init__(self, parts: Parts, pipeline: Pipeline) -> None:
        self._parts = parts
        self._pipeline = pipeline
        self._pauses: dict[int, float] = {}

    async def advance(self, batch: KeptBatch) -> float:
        """Take a batch that this worker holds a step on; return after how many seconds the next one is due.

        Raises:
            GatewayError: the provider or the store does not answer; the step is taken again.
        """
        job, passed = batch.job, batch.job.passed
        assert passed is not None
        if passed.ended:
            return await self._fetch(batch, passed)
        if self._wall() >= job.expires_at + _GIVEN_UP_US:
            return await self._end(batch, "expired")
        return await (self._look(batch, passed) if passed.batch else self._make(batch, passed))

    async def _make(self, batch: KeptBatch, passed: Passed) -> float:
        """Send the lines, or make the batch of them; a provider that refuses either ends the batch."""
        try:
            if passed.intended:
                return await self._resolve(batch, passed)
            if self._over(batch):
                return await self._end(batch, self._how(batch))
            return await (self._create(batch) if passed.file else self._send(batch))
        except _REFUSED as error:
            return await self._fail(batch, (BatchError(error.code or "batch_refused", error.message),))

    def pause(self, batch: KeptBatch) -> float:
        """Return how long to wait before the next look: ever longer."""
        pause = self._pauses.get(batch.n, _FIRST_S)
        self._pauses[batch.n] = min(pause * 1.5, _LONGEST_S)
        return pause

    def _wall(self) -> int:
        return self._parts.stages.ledger.clock.wall()

    def _over(self, batch: KeptBatch) -> bool:
        return batch.status == "cancelling" or self._wall() >= batch.job.expires_at

    def _how(self, batch: KeptBatch) -> str:
        return "cancelled" if batch.status == "cancelling" else "expired"

    async def _note(self, batch: KeptBatch, /, **changes: Any) -> KeptBatch:
        """Keep what is known now. Raises `Unavailable`: somebody else sees to the batch."""
        assert batch.job.passed is not None
        passed = msgspec.structs.replace(batch.job.passed, **changes)
        noted = msgspec.structs.replace(batch, job=msgspec.structs.replace(batch.job, passed=passed))
        if not await self._parts.store.note(noted):
            raise Unavailable("Somebody else has this batch now.")
        return noted

    async def _end(self, batch: KeptBatch, how: str) -> float:
        await self._note(batch, ended=how, fetched=True)
        return 0.0

    async def _fail(self, batch: KeptBatch, why: tuple[BatchError, ...]) -> float:
        """End a batch that its provider does not run: nothing was charged, and all its money is free."""
        if batch.status == "cancelling":
            return await self._end(batch, "cancelled")
        why = why or (BatchError("batch_failed", "The provider could not run this batch."),)
        await self._parts.store.fail(batch, tuple(_ours(batch, each) for each in why), self._wall())
        return 0.0

    def _target(self, batch: KeptBatch) -> Target:
        job = batch.job
        assert job.passed is not None
        found = self._parts.routes().candidates(job.model, job.book, self._wall(), PASSED)
        return at_its_provider(found, job.passed)

    # ── there ───────────────────────────────────────────────────────────────────────────────────

    async def _send(self, batch: KeptBatch) -> float:
        target = self._target(batch)
        try:
            with tempfile.TemporaryFile(dir=self._parts.uplink.folder) as spool:
                try:
                    lines = await _Translation(self._parts, self._pipeline, batch, target).write(spool)
                except (CallerError, InputRefused) as error:
                    code = error.errors[0].code if isinstance(error, InputRefused) else error.code
                    return await self._fail(batch, (BatchError(code or "batch_failed", str(error)),))
                if not lines:  # each has its own error
                    return await self._end(batch, "completed")
                file = await self._upload(batch, target, spool)
        except OSError as fault:
            raise Unavailable(
                f"A batch cannot be written down for its provider: {fault.strerror}."
            ) from fault
        await self._note(batch, file=file)
        return 0.0

    async def _upload(self, batch: KeptBatch, target: Target, spool: IO[bytes]) -> str:
        uplink = self._parts.uplink
        wire = uplink.known(target)
        form = wire.form(f"headgate-{self._parts.new_id().hex()}")
        return await uplink.upload(target, form, spool, batch.job.id)

    async def _create(self, batch: KeptBatch) -> float:
        """Make the batch, once it is kept that it may be there."""
        intended, target, hit = self._wall(), self._target(batch), self._parts.stages.failpoints.hit
        batch = await self._note(batch, intended=intended)
        hit("batch-intended")
        if self._wall() - intended > _LATE_US:
            raise Unavailable("This worker was asleep; whether the batch was made is looked up.")
        try:
            made = await self._parts.uplink.create(batch.job, target)
        except _REFUSED:
            raise
        except UpstreamError:  # it may be made yet: that is looked up, a while from now
            await self._note(batch, intended=self._wall())
            raise
        hit("batch-passed")
        await self._note(batch, batch=made)
        return _FIRST_S

    async def _resolve(self, batch: KeptBatch, passed: Passed) -> float:
        """Find out whether a batch was made, and make it where it was not."""
        rest = passed.intended + _UNCLEAR_US - self._wall()
        if rest > 0:
            return rest / _US
        try:
            found = await self._parts.uplink.find(batch.job, self._target(batch))
        except _REFUSED as error:  # that says nothing of the batch
            raise UpstreamInterrupted(error.message) from error
        if found:
            await self._note(batch, batch=found)
            return 0.0
        if self._over(batch):
            return await self._end(batch, self._how(batch))
        return await self._create(batch)

    # ── until it has ended ──────────────────────────────────────────────────────────────────────

    async def _look(self, batch: KeptBatch, passed: Passed) -> float:
        target, uplink = self._target(batch), self._parts.uplink
        if batch.status == "cancelling" and not passed.cancelled:
            try:
                await uplink.cancel(target, passed.batch)
            except UpstreamRefused as error:  # it has ended meanwhile
                self._parts.troubles.met(batch.job.id, error.message)
            batch = await self._note(batch, cancelled=True)
            self._pauses.pop(batch.n, None)
        state = await uplink.look(target, passed.batch)
        if not state.ended:
            return self.pause(batch)
        self._pauses.pop(batch.n, None)
        if state.ended == "failed":
            return await self._fail(batch, state.why)
        await self._note(batch, ended=state.ended, output=state.output, errors=state.errors)
        return 0.0

    async def _fetch(self, batch: KeptBatch, passed: Passed) -> float:
        """Fetch what was answered; where that cannot be had for a day it is given up."""
        if self._wall() < batch.job.expires_at + _GIVEN_UP_US:
            target = self._target(batch)
            for file in (passed.output, passed.errors):
                if file:
                    await self._keep(batch, target, file)
        self._parts.stages.failpoints.hit("batch-fetched")
        await self._note(batch, fetched=True)
        return 0.0

    async def _keep(self, batch: KeptBatch, target: Target, file: str) -> None:
        uplink, size = self._parts.uplink, 0
        wire, fresh = uplink.known(target), list[tuple[int, bytes]]()
        async for line in uplink.lines(target, file):
            answer = self._read(batch, wire, line)
            if answer is None:
                continue
            fresh.append(answer)
            size += len(line)
            if len(fresh) >= _AT_ONCE or size >= _PIECE:
                await _keep(self._parts, batch, fresh)
                fresh, size = [], 0
        await _keep(self._parts, batch, fresh)

    def _read(self, batch: KeptBatch, wire: BatchWire, line: bytes) -> tuple[int, bytes] | None:
        try:
            answer = wire.answer(line)
        except UpstreamInterrupted as error:  # its request has no answer, then
            self._parts.troubles.met(batch.job.id, error.message)
            return None
        return None if answer is None else (answer.n, packed(answer.status, answer.body))


def _ours(batch: KeptBatch, error: BatchError) -> BatchError:
    """Return an error of a provider with our names in place of its own."""
    job, passed = batch.job, batch.job.passed
    assert passed is not None
    message = error.message.replace(passed.file or job.input_file, job.input_file)
    return msgspec.structs.replace(error, message=message.replace(passed.batch or job.id, job.id))


async def _keep(parts: Parts, batch: KeptBatch, answers: list[tuple[int, bytes]]) -> None:
    if answers and not await parts.store.keep_answers(batch, answers):
        raise Unavailable("Somebody else has this batch now.")


class _Translation:
    """The input of a batch as its provider takes it: the requests that it would get one by one."""

    def __init__(self, parts: Parts, pipeline: Pipeline, batch: KeptBatch, target: Target) -> None:
        self._parts = parts
        self._pipeline = pipeline
        self._batch = batch
        self._wire = parts.uplink.known(target)
        self._sent = 0
        self._refused: list[tuple[int, bytes]] = []

    async def write(self, spool: IO[bytes]) -> int:
        """Write the lines that can be sent; return how many. The others are marked.

        Raises:
            CallerError: the batch's key makes no calls any more.
            InputRefused: its file is gone.
        """
        parts, job = self._parts, self._batch.job
        principal = await parts.principal(job.key, job.book)
        file = await parts.files.find(owner_of(job), job.input_file)
        if file is None:
            raise InputRefused(BatchError("file_not_found", f"The input file {job.input_file} is gone."))
        number, piece = 0, bytearray()
        async for _, line in lines_of(parts.files.read(file), parts.largest):
            number += 1
            if not number % _SPELL:
                await asyncio.sleep(0)
            piece += await self._line(line or b"", number, principal)
            if len(piece) >= _PIECE:
                await asyncio.to_thread(spool.write, bytes(piece))
                piece.clear()
        await asyncio.to_thread(spool.write, bytes(piece))
        await asyncio.to_thread(spool.flush)
        await _keep(parts, self._batch, self._refused)
        return self._sent

    async def _line(self, data: bytes, number: int, principal: Principal) -> bytes:
        """Return a line; empty where the request cannot be sent, which its call will say."""
        try:
            body = await self._body(data, number, principal)
        except (CallerError, LineRefused):
            self._refused.append((number, packed(0, b"")))
            if len(self._refused) >= _AT_ONCE:
                await _keep(self._parts, self._batch, self._refused)
                self._refused = []
            return b""
        self._sent += 1
        return self._wire.line(number, self._batch.job.endpoint, body)

    async def _body(self, data: bytes, number: int, principal: Principal) -> bytes:
        parts, job = self._parts, self._batch.job
        assert job.passed is not None
        call = Call(parts.new_id(), parts.operations[job.endpoint], 0)
        call.principal = principal
        parts.parse(read_line(data, number, job.endpoint).body, call)
        allow(principal, call.operation, call.model)
        call.tier = PASSED
        try:
            targets = await self._pipeline.candidates(call, parts.routes())
        except CallerError:
            raise
        except GatewayError as error:
            raise Unavailable(error.message) from error
        if job.capped:
            call.shrunk_to = assumed_output(call, targets)
        target = at_its_provider(targets, job.passed)
        codec = parts.stages.codecs[target.host.kind][call.operation]
        request = codec.encode(call, target) if call.shape is None else shaping.encode(codec, call, target)
        return request.whole()
