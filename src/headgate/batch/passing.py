"""See to a batch at its provider's own batch API: send it, look how far it is, end it, fetch its answers.

Each step is kept before the next one begins, by whoever holds the batch. That a batch is about to be made is
kept before it is, so nobody makes a second one: who finds that it may have been made looks for it first.
What a provider does not take as one batch becomes several, made one after the other.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from math import ceil
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from headgate.batch.reading import InputRefused
from headgate.batch.replay import at_its_provider, packed
from headgate.batch.translation import AT_ONCE, PIECE, Span, Translation, keep
from headgate.errors import (
    CallerError,
    Fenced,
    GatewayError,
    Unavailable,
    UpstreamDenied,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamLacks,
    UpstreamRefused,
)
from headgate.money.batchterms import PASSED
from headgate.wire.batches import BatchError
from headgate.wire.batchjobs import Part, Passed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headgate.batch.parts import Parts
    from headgate.batch.translation import Sheet
    from headgate.batch.uplink import Uplink
    from headgate.pipeline import Pipeline
    from headgate.providers.batches import BatchState, BatchWire
    from headgate.values import Operation, Target
    from headgate.wire.batchjobs import KeptBatch

_US: Final = 1_000_000
_LATE_US: Final = 60 * _US  # who was asleep so long after an intention makes nothing
_SLOW_US: Final = 600 * _US  # a provider may end a batch so long after its time
_GIVEN_UP_US: Final = 86_400 * _US  # after its end in time nothing more is expected
_STORED: Final = re.compile(r"\b(?:s3|gs)://[^\s'\",]*[A-Za-z0-9/]")
_REFUSED: Final = (UpstreamRefused, UpstreamDenied)


def passed_on(uplink: Uplink, target: Target | None, operation: Operation) -> Passed | None:
    """Return what a batch begins with that its provider shall run; None: we do."""
    if operation == "videos":  # each is asked for, and fetched, by the name that its maker gives it
        return None
    if target is None or uplink.wire(target, operation) is None:
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
        passed = _passed(batch)
        if passed.ended:
            return await self._fetch(batch, passed)
        if self._wall() >= batch.job.expires_at + _GIVEN_UP_US:  # what lies there may be of use to somebody
            await self._note(batch, ended="expired", fetched=not any(map(_answers, passed.parts)))
            return 0.0
        making = not passed.whole or passed.parts[-1].open
        return await (self._make(batch, passed) if making else self._look(batch, passed))

    async def _make(self, batch: KeptBatch, passed: Passed) -> float:
        """Send the lines of a part, or make the batch of them; a provider may refuse either."""
        part = passed.parts[-1] if passed.parts else None
        try:
            if part is not None and part.open and part.intended:
                return await self._resolve(batch, part)
            if self._over(batch):
                return await self._stop(batch, passed)
            if part is not None and part.open and part.file:
                return await self._create(batch, part)
            return await self._send(batch, passed)
        except _REFUSED as error:
            return await self._refused(batch, error)

    async def _refused(self, batch: KeptBatch, error: UpstreamError) -> float:
        return await self._fail(batch, (BatchError(error.code or "batch_refused", error.message),))

    def pause(self, batch: KeptBatch) -> float:
        """Return how long to wait before the next look: ever longer."""
        patience = self._parts.patience
        pause = self._pauses.get(batch.n, patience.first_s)
        self._pauses[batch.n] = min(pause * 1.5, patience.longest_s)
        return pause

    def _wall(self) -> int:
        return self._parts.stages.ledger.clock.wall()

    def _over(self, batch: KeptBatch) -> bool:
        return batch.status == "cancelling" or self._wall() >= batch.job.expires_at

    def _how(self, batch: KeptBatch) -> str:
        return "cancelled" if batch.status == "cancelling" else "expired"

    async def _note(self, batch: KeptBatch, /, *, uncancelled: bool = False, **changes: Any) -> KeptBatch:
        """Keep what is known now. Raises `Fenced`: somebody else sees to it, or it was cancelled."""
        passed = msgspec.structs.replace(_passed(batch), **changes)
        noted = msgspec.structs.replace(batch, job=msgspec.structs.replace(batch.job, passed=passed))
        if not await self._parts.store.note(noted, uncancelled=uncancelled):
            raise Fenced("Somebody else has this batch now, or its caller no longer wants it.")
        return noted

    async def _note_part(
        self, batch: KeptBatch, /, at: int = -1, *, uncancelled: bool = False, **changes: Any
    ) -> KeptBatch:
        """Keep what is known of a part now. Raises `Fenced`."""
        parts = list(_passed(batch).parts)
        parts[at] = msgspec.structs.replace(parts[at], **changes)
        return await self._note(batch, parts=tuple(parts), uncancelled=uncancelled)

    async def _end(self, batch: KeptBatch, how: str) -> float:
        fetched = not any(map(_answers, _passed(batch).parts))
        if fetched:
            await self._clear(batch)
        await self._note(batch, ended=how, fetched=fetched)
        return 0.0

    async def _stop(self, batch: KeptBatch, passed: Passed) -> float:
        """Make nothing more of a batch that is cancelled, or whose time is over."""
        if not passed.parts:
            return await self._end(batch, self._how(batch))
        if passed.parts[-1].open:
            batch = await self._note_part(batch, ended=self._how(batch))
        await self._note(batch, whole=True)
        return 0.0

    async def _fail(self, batch: KeptBatch, why: tuple[BatchError, ...], *, anywhere: bool = False) -> float:
        """End what its provider does not run, nor we, if it can be run nowhere.

        Where nothing of a batch was made, nothing was charged, and all its money is free. Where others of its
        parts were, each line of this one fails with what was said.
        """
        passed = _passed(batch)
        why = tuple(_ours(batch, each) for each in why) or (
            BatchError("batch_failed", "The provider could not run this batch."),
        )
        if any(part.batch for part in passed.parts):
            if not passed.parts[-1].open:  # the next part cannot even be written down
                rest = Part(until=batch.counts.total, lines=0)
                batch = await self._note(batch, parts=(*passed.parts, rest), whole=True)
            return await self._fail_part(batch, len(_passed(batch).parts) - 1, why[0])
        if batch.status == "cancelling":
            return await self._end(batch, "cancelled")
        if not anywhere and self._target(batch).batch == "provider-first":
            return await self._take_back(batch, why[0])
        self._parts.troubles.met(batch.job.id, f"It has failed: {why[0].message}")
        await self._clear(batch)
        await self._parts.store.fail(batch, why, self._wall())
        return 0.0

    async def _take_back(self, batch: KeptBatch, why: BatchError) -> float:
        """Run a batch here that its provider does not run."""
        self._parts.troubles.met(batch.job.id, f"{why.message} It is run here.")
        await self._clear(batch)
        ours = msgspec.structs.replace(batch, job=msgspec.structs.replace(batch.job, passed=None))
        if not await self._parts.store.take_back(ours):
            raise Fenced("Somebody else has this batch now.")
        return 0.0

    async def _fail_part(self, batch: KeptBatch, at: int, why: BatchError) -> float:
        """Give each line of a part its provider's refusal as its answer."""
        told = msgspec.json.encode({"error": {"message": why.message, "code": why.code}})
        begin, until = _begin(_passed(batch), at), _passed(batch).parts[at].until
        for first in range(begin + 1, until + 1, AT_ONCE):
            lines = range(first, min(first + AT_ONCE, until + 1))
            await keep(self._parts, batch, [(n, packed(400, told)) for n in lines])
        await self._note_part(batch, at, ended="failed")
        return 0.0

    async def _clear(self, batch: KeptBatch) -> None:
        """Remove what was laid down for a batch that is over; what cannot be is told, and stays."""
        await self._note(batch, uncancelled=True)  # raises where somebody else has it by now, and needs it
        try:
            await self._parts.uplink.clear(batch.job, self._target(batch))
        except GatewayError as error:
            self._parts.troubles.met(batch.job.id, f"What was laid down for it stays there: {error.in_full}")
        self._parts.stages.failpoints.hit("batch-cleared")

    def _target(self, batch: KeptBatch) -> Target:
        job = batch.job
        found = self._parts.routes().candidates(job.model, job.book, self._wall(), PASSED)
        return at_its_provider(found, _passed(batch))

    # ── there ───────────────────────────────────────────────────────────────────────────────────

    async def _send(self, batch: KeptBatch, passed: Passed) -> float:
        """Write down a part, and send it: as a file, or, where there are none, as the batch."""
        target = self._target(batch)
        wire = self._parts.uplink.known(target)
        again = bool(passed.parts) and passed.parts[-1].open
        begin = _begin(passed, len(passed.parts) - again)
        most = _most(batch.counts.total, target, wire)
        span = Span(begin, passed.parts[-1].until if again else 0, most, _least(target, wire))
        with self._spool() as spool:
            try:
                sheet = await Translation(self._parts, self._pipeline, batch, wire).write(spool, span)
            except (CallerError, InputRefused) as error:
                code = error.errors[0].code if isinstance(error, InputRefused) else error.code
                why = BatchError(code or "batch_failed", str(error))
                return await self._fail(batch, (why,), anywhere=True)
            if not sheet.lines:  # each has its own error
                return await self._nothing(batch, again=again)
            if not again:
                part = Part(until=sheet.until, lines=sheet.lines)
                batch = await self._note(batch, parts=(*passed.parts, part), whole=sheet.last)
            elif sheet.lines != passed.parts[-1].lines:  # a file that some named is gone
                batch = await self._note_part(batch, lines=sheet.lines)
            if sheet.lines < _least(target, wire):
                return await self._fail(batch, (_too_few(sheet.lines, _least(target, wire)),))
            return await self._bring(batch, target, spool, sheet)

    async def _nothing(self, batch: KeptBatch, *, again: bool) -> float:
        """Go on where the lines of a part cannot be sent."""
        if again:
            await self._note_part(batch, ended="completed")
        elif _passed(batch).parts:
            await self._note(batch, whole=True)
        else:
            await self._end(batch, "completed")
        return 0.0

    @contextmanager
    def _spool(self) -> Iterator[IO[bytes]]:
        try:
            with tempfile.TemporaryFile(dir=self._parts.uplink.folder) as spool:
                yield spool
        except OSError as fault:
            raise Unavailable(
                f"A batch cannot be written down for its provider: {fault.strerror}."
            ) from fault

    async def _bring(self, batch: KeptBatch, target: Target, spool: IO[bytes], sheet: Sheet) -> float:
        uplink = self._parts.uplink
        boundary, files = f"headgate-{self._parts.new_id().hex()}", uplink.known(target).files
        if not files:
            batch = await self._intend(batch)
        try:
            name = await uplink.send(batch.job, target, spool, (sheet.values, boundary))
        except _REFUSED as error:
            return await self._refused(batch, error)
        except UpstreamError:
            if not files:
                await self._unclear(batch)
            raise
        if not files:
            return await self._made(batch, name)
        await self._note_part(batch, file=name)
        return 0.0

    async def _intend(self, batch: KeptBatch) -> KeptBatch:
        """Keep that a batch may be there from now on. Raises `Unavailable`: it is cancelled, or we slept."""
        intended = self._wall()
        batch = await self._note_part(batch, intended=intended, uncancelled=True)
        self._parts.stages.failpoints.hit("batch-intended")
        if self._wall() - intended > _LATE_US:
            raise Unavailable("This worker was asleep; whether the batch was made is looked up.")
        return batch

    async def _unclear(self, batch: KeptBatch) -> None:
        """Take note that a batch may be made yet: that is looked up, a while from now."""
        await self._note_part(batch, intended=self._wall())

    async def _made(self, batch: KeptBatch, name: str) -> float:
        self._parts.stages.failpoints.hit("batch-passed")
        await self._note_part(batch, batch=name)
        return self._parts.patience.first_s if _passed(batch).whole else 0.0

    async def _create(self, batch: KeptBatch, part: Part) -> float:
        """Make the batch of a file, once it is kept that it may be there."""
        target, uplink = self._target(batch), self._parts.uplink
        if not await uplink.ready(target, part.file):
            return self.pause(batch)
        batch = await self._intend(batch)
        try:
            made = await uplink.create(batch.job, target)
        except _REFUSED:
            raise
        except UpstreamError:
            await self._unclear(batch)
            raise
        return await self._made(batch, made)

    async def _resolve(self, batch: KeptBatch, part: Part) -> float:
        """Find out whether a batch was made, and make it where it was not."""
        rest_s = self._parts.patience.unclear_s - (self._wall() - part.intended) / _US
        if rest_s > 0:
            return rest_s
        try:
            found = await self._parts.uplink.find(batch.job, self._target(batch))
        except _REFUSED as error:  # that says nothing of the batch
            raise UpstreamInterrupted(error.message).at(error.place) from error
        if found:
            await self._note_part(batch, batch=found)
            return 0.0
        if self._over(batch):
            return await self._stop(batch, _passed(batch))
        return await (self._create(batch, part) if part.file else self._send(batch, _passed(batch)))

    # ── until it has ended ──────────────────────────────────────────────────────────────────────

    async def _look(self, batch: KeptBatch, passed: Passed) -> float:
        target, uplink = self._target(batch), self._parts.uplink
        slow = self._wall() >= batch.job.expires_at + _SLOW_US and not uplink.known(target).forgets
        if batch.status == "cancelling" or slow:
            batch = await self._cancel(batch, target)
        for at, part in enumerate(passed.parts):
            if part.ended:
                continue
            state = await uplink.look(target, part)
            if not state.ended:
                return self.pause(batch)
            self._pauses.pop(batch.n, None)
            if state.ended == "failed" and not (state.output or state.errors):
                return await self._failed(batch, at, state)
            ended = "expired" if state.ended == "cancelled" and self._late(batch) else state.ended
            batch = await self._note_part(batch, at, ended=ended, output=state.output, errors=state.errors)
        return await self._end_all(batch)

    def _late(self, batch: KeptBatch) -> bool:
        return batch.status != "cancelling" and self._wall() >= batch.job.expires_at

    async def _end_all(self, batch: KeptBatch) -> float:
        ended = {part.ended for part in _passed(batch).parts}
        how = next((each for each in ("expired", "cancelled") if each in ended), "completed")
        await self._note(batch, ended=how)
        return 0.0

    async def _failed(self, batch: KeptBatch, at: int, state: BatchState) -> float:
        """End a part that failed; alone it is the whole batch."""
        if len(_passed(batch).parts) > 1:
            why = state.why or (BatchError("batch_failed", "The provider could not run this batch."),)
            return await self._fail_part(batch, at, _ours(batch, why[0]))
        batch = await self._note_part(batch, at, batch="")
        return await self._fail(batch, state.why)

    async def _cancel(self, batch: KeptBatch, target: Target) -> KeptBatch:
        """Tell the provider to end what has not ended."""
        for at, part in enumerate(_passed(batch).parts):
            if part.ended or part.cancelled:
                continue
            try:
                await self._parts.uplink.cancel(target, part)
            except UpstreamRefused as error:  # it has ended meanwhile
                self._parts.troubles.met(batch.job.id, error.message)
            batch = await self._note_part(batch, at, cancelled=True)
            self._pauses.pop(batch.n, None)
        return batch

    async def _fetch(self, batch: KeptBatch, passed: Passed) -> float:
        """Fetch what was answered; where that cannot be had for a day it is given up."""
        if self._wall() < batch.job.expires_at + 2 * _GIVEN_UP_US:
            target = self._target(batch)
            for at, part in enumerate(passed.parts):
                if part.had or not _answers(part):
                    continue
                read = [await self._take(batch, target, name, part) for name in _answers(part)]
                batch = await self._note_part(batch, at, had=True, unread=not all(read))
            self._parts.stages.failpoints.hit("batch-fetched")
            if not any(part.unread for part in _passed(batch).parts):  # else they are nowhere but there
                await self._clear(batch)
        await self._note(batch, fetched=True)
        return 0.0

    async def _take(self, batch: KeptBatch, target: Target, name: str, part: Part) -> bool:
        """Keep the answers of a name; say whether all could be read."""
        try:
            return await self._keep(batch, target, name)
        except UpstreamLacks:
            if part.ended == "completed":
                raise
            self._parts.troubles.met(batch.job.id, f"Of a part that was {part.ended} there are no answers.")
            return True

    async def _keep(self, batch: KeptBatch, target: Target, name: str) -> bool:
        uplink, size, whole = self._parts.uplink, 0, True
        read, fresh = uplink.known(target).reading(batch.job), list[tuple[int, bytes]]()
        async for line in uplink.lines(target, name):
            try:
                answer = read(line)
            except UpstreamInterrupted as error:  # its request has no answer, then
                self._parts.troubles.met(batch.job.id, error.message)
                whole = False
                continue
            if answer is None:
                continue
            fresh.append((answer.n, packed(answer.status, answer.body)))
            size += len(line)
            if len(fresh) >= AT_ONCE or size >= PIECE:
                await keep(self._parts, batch, fresh)
                fresh, size = [], 0
        await keep(self._parts, batch, fresh)
        return whole


def _passed(batch: KeptBatch) -> Passed:
    assert batch.job.passed is not None
    return batch.job.passed


def _begin(passed: Passed, at: int) -> int:
    """Return the line behind which a part begins."""
    return passed.parts[at - 1].until if at else 0


def _answers(part: Part) -> list[str]:
    """Return the names of a part's answers."""
    return [name for name in (part.output, part.errors) if name]


def _least(target: Target, wire: BatchWire) -> int:
    """Return how many lines the smallest batch has that is passed on."""
    return target.host.handover.least or wire.least_lines


def _most(total: int, target: Target, wire: BatchWire) -> int:
    """Return how many lines a part has: as many as may be, or so that none is left too small."""
    most = min(target.host.handover.lines or wire.most_lines, wire.most_lines)
    if _least(target, wire) <= 1 or total <= most:
        return most
    return ceil(total / ceil(total / most))


def _too_few(lines: int, least: int) -> BatchError:
    return BatchError(
        "too_few_requests",
        f"The provider of this model runs batches of {least:,} requests and more; this one has {lines:,} "
        "that can be sent. Send more together, or ask for each by itself.",
    )


def _ours(batch: KeptBatch, error: BatchError) -> BatchError:
    """Return an error of a provider with our names in place of its own."""
    job, message = batch.job, error.message
    for part in _passed(batch).parts:
        message = message.replace(part.file or job.input_file, job.input_file)
        message = message.replace(part.batch or job.id, job.id)
    message = _STORED.sub(job.input_file, message)
    return msgspec.structs.replace(error, message=message)
