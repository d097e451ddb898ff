"""Runs lines: each is a call on the path of all others, with the rights of its key and the money held.

A line fails only for its own reasons. What limits us slows all lines of a model and counts for nothing;
what breaks down is tried again, a bounded number of times. A line has its place among those at once until its
output is kept, so no more than that are ever in flight, and waits before it is sent where the answers of all
take much memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from headgate.admission.entrance import Entrance
from headgate.admission.gates import Gate, Ticket
from headgate.admission.load import Load
from headgate.batch import answers
from headgate.batch.answers import Answers
from headgate.batch.films import Films
from headgate.batch.hands import Hands
from headgate.batch.line import LineAnswers, LineJournal, LineObserver, LineSink, Running
from headgate.batch.money import LineReservations
from headgate.batch.pace import Pace
from headgate.batch.parts import names_files, take_in
from headgate.batch.replay import NOT_SENT, OneAttempt, ReplayPipeline, Replays
from headgate.batch.waiting import WaitingAttempts, WaitingPipeline, waits
from headgate.errors import (
    CallerError,
    GatewayError,
    Internal,
    OrderUnclear,
    QuotaExceeded,
    Unavailable,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRefused,
    WrongShape,
)
from headgate.money.batchterms import BATCH, PASSED
from headgate.pipeline import Pipeline
from headgate.providers.batchcalls import AT_ONCE
from headgate.settle import Ledger
from headgate.values import Call
from headgate.wire.batches import LineRefused, answered, unanswered
from headgate.wire.batchjobs import Finished, Returned, line_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from headgate.batch.parts import Parts
    from headgate.pipeline import Stages
    from headgate.values import MonotonicNs
    from headgate.wire.batches import BatchError
    from headgate.wire.batchjobs import Claim, KeptBatch

_OWN_REASONS: Final = (CallerError, QuotaExceeded, UpstreamRefused, WrongShape, OrderUnclear)
_BACKOFF_US: Final = 1_000_000
_LONGEST_US: Final = 60_000_000
_LOADS: Final = 2  # the files of so many of the largest lines are in memory at once


class OpenEntrance(Entrance):
    """Lets every line in: batches have quotas of their own, and use nothing of the limits of calls."""

    __slots__ = ()

    def __init__(self) -> None:
        """Know no limits."""

    def enter(self, gate: Gate, tokens: int, now: MonotonicNs) -> Ticket:
        """Return a ticket that counts nowhere."""
        del tokens, now
        return Ticket(Gate(gate.principal, (), (), ()), 0, open=False)


class Crew:
    """The lines that one worker runs.

    Args:
        parts: of the process.
        kept: told of each line that has ended, with what is to be kept of it.
    """

    def __init__(self, parts: Parts, kept: Callable[[KeptBatch, Finished | Returned], None]) -> None:
        self._parts = parts
        self._kept = kept
        self.hands = Hands()
        most = _LOADS * parts.largest
        # Of lines that run, and of those that wait for hours.
        self._loads = (Load(most, parts.stopping), Load(most, parts.stopping))
        self._answers = Answers(answers.MOST, parts.stopping)
        self._running: dict[bytes, Running] = {}
        self._paces: dict[str, Pace] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        stages = self._stages(parts.stages)
        self.pipeline = Pipeline(stages)
        self.films = Films(parts, stages, self.pipeline)
        self._answered: dict[str, Running] = {}  # by the ids of their requests
        known = replace(stages, transport=Replays(self._answered), attempts=OneAttempt(stages.attempts))
        self._replay = ReplayPipeline(known, self._answered)
        patient = replace(stages, attempts=WaitingAttempts(stages.attempts))
        self._waiting = WaitingPipeline(patient, parts, self._running)

    def _stages(self, stages: Stages) -> Stages:
        ledger, running = stages.ledger, self._running
        own = Ledger(
            LineJournal(ledger.journal, running),
            ledger.budgets,
            ledger.rates,
            LineObserver(ledger.observer, running),
            ledger.clock,
        )
        money = LineReservations(running, ledger.clock)
        return replace(stages, ledger=own, reservations=money, answers=LineAnswers(), entrance=OpenEntrance())

    def pace(self, model: str) -> Pace:
        """Return how many lines of a model run, and may."""
        pace = self._paces.get(model)
        if pace is None:
            pace = self._paces[model] = Pace(self._parts.terms().concurrency)
        return pace

    def paced(self, batch: KeptBatch) -> Pace:
        """Return the same for the model of a batch, by the settings of now."""
        job, terms = batch.job, self._parts.terms()
        pace, own = self.pace(job.model), terms.of(job.model).concurrency
        waiting = waits(self._parts, job)
        pace.follow(own or (max(AT_ONCE, terms.concurrency) if waiting else terms.concurrency), eager=waiting)
        return pace

    async def give_up(self, batch: KeptBatch) -> None:
        """End the calls of a batch's lines that wait at their provider; they wait again."""
        lines = {call: line for call, line in self._running.items() if line.waits and line.batch.n == batch.n}
        if not lines:
            return
        for line in lines.values():
            line.given_up = True
        await self._parts.each(
            lambda call: Unavailable("Its batch waits for it no longer.") if call.id in lines else None
        )

    def take(self, batch: KeptBatch, calls: Collection[bytes], claims: Collection[Claim]) -> None:
        """Take the lines that were claimed with these ids of calls; each is then started or given back."""
        self.hands.take(batch, calls, claims)
        self.pace(batch.job.model).running += len(claims)

    def start(self, batch: KeptBatch, claim: Claim, data: bytes) -> None:
        """Run a line."""
        task = asyncio.get_running_loop().create_task(self._run(batch, claim, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def give_back(self, batch: KeptBatch, claims: Collection[Claim]) -> None:
        """Let lines wait again that were not started."""
        for claim in claims:
            self._kept(batch, Returned(claim.n, claim.fence, 0, claim.paid, tried=False))

    def refuse(self, batch: KeptBatch, claims: Collection[Claim], why: BatchError) -> None:
        """Give lines that cannot be run their output."""
        job = batch.job
        for claim in claims:
            name = line_id(job, claim.n)
            output = unanswered(name, claim.custom_id, why.code, why.message)
            back = Running(batch, claim).left() if job.capped else ()
            self._kept(batch, Finished(claim.n, claim.fence, output, False, claim.paid, back))

    def stored(self, batch: KeptBatch, lines: Collection[Finished | Returned]) -> None:
        """Take note that what came of some lines is kept, so others may begin."""
        self.hands.let_go(batch, lines)
        self._answers.give(batch, lines)
        self.pace(batch.job.model).running -= len(lines)

    async def close(self) -> None:
        """Wait for the lines that run; their calls are cut by whoever owns them."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, batch: KeptBatch, claim: Claim, data: bytes) -> None:
        line = Running(batch, claim)
        try:
            came = await self._serve(line, data)
        except Exception as fault:  # a bug: the line must come to its end all the same
            self._parts.troubles.caught(f"a line of {batch.job.id}", fault)
            came = self._broken(line)
        self._kept(batch, came)

    async def _serve(self, line: Running, data: bytes) -> Finished | Returned:
        """Make the call of a line; return what is to be kept of it."""
        batch, claim, sink = line.batch, line.claim, LineSink()
        self._running[claim.call] = line
        call = Call(claim.call, self._parts.operations[batch.job.endpoint], self._monotonic())
        try:
            body = await self._prepare(line, call, data)
            self._parts.start(self._serving(call, sink, line, body), call)
            await sink.ended.wait()
        except GatewayError as error:
            sink.error = error
        except LineRefused as refused:  # its file is another one than was read
            sink.error = CallerError(refused.error.message, code=refused.error.code)
        finally:
            self._loads[line.waits].give(line.carried)
            del self._running[claim.call]
            self._answered.pop(call.request_id, None)
        came = self._ended(line, sink, call)
        self._answers.came(batch, came, call)
        return came

    def _serving(self, call: Call, sink: LineSink, line: Running, body: bytes) -> Coroutine[None, None, None]:
        """Return what serves a line: a maker of videos, its provider, or the answer that it has."""
        if call.operation == "videos":
            return self._guarded(self.films.serve(call, sink, line, body), sink)
        pipeline = self._waiting if line.waits else self.pipeline
        if line.claim.answer is not None:
            self._answered[call.request_id] = line
            pipeline = self._replay
        return pipeline.serve(call, sink, self._parts.routes())

    async def _guarded(self, run: Coroutine[None, None, None], sink: LineSink) -> None:
        """Serve a line that the pipeline does not; never raises but on cancellation."""
        try:
            await run
        except GatewayError as error:
            sink.error = error
        except asyncio.CancelledError:  # the gateway is stopping: whoever runs the line again goes on
            sink.abort()
            raise
        except Exception as fault:
            self._parts.troubles.caught("a line that orders a video", fault)
            sink.error = Internal("The server had an error while processing your request.")
        sink.finish()

    def _broken(self, line: Running) -> Finished | Returned:
        """Return what is to be kept of a line that a bug of ours ended."""
        error = Internal("The server had an error while processing this request.")
        job, claim = line.batch.job, line.claim
        again = self._again(line, error) if line.charge == claim.paid else None
        if again is not None:
            return again
        output = unanswered(line_id(job, claim.n), claim.custom_id, "internal_error", error.message)
        return Finished(claim.n, claim.fence, output, False, line.charge, line.left() if job.capped else ())

    async def _prepare(self, line: Running, call: Call, data: bytes) -> bytes:
        """Make the call of a line; return its body."""
        job, claim = line.batch.job, line.claim
        call.principal = await self._parts.principal(job.key, job.book)
        call.parent = job.call
        body = take_in(self._parts, job, (claim.n, data), call)
        line.waits = claim.answer is None and call.operation != "videos" and waits(self._parts, job)
        if not (line.waits or call.operation == "videos"):  # which for hours have none
            await self._answers.take(line.batch, claim, call)
        if names_files(call) and (claim.answer is None or claim.answer.startswith(NOT_SENT)):
            await self._carry(line, call)
        elif line.waits:
            await self._take_load(line, len(body))
        call.tier = PASSED if line.waits or claim.answer is not None else BATCH
        call.received_ns = self._monotonic()  # what it has waited here is none of its time
        return body

    async def _take_load(self, line: Running, size: int) -> None:
        """Wait for room in memory for what a line holds as long as it runs. Raises `Unavailable`."""
        await self._loads[line.waits].take(size)
        line.carried = size
        if self._parts.stopping():
            raise Unavailable("The gateway is shutting down.")

    async def _carry(self, line: Running, call: Call) -> None:
        """Put the files that a call names into it, when those of others leave room."""
        await self._take_load(line, await self._parts.inlining.size(call))
        await self._parts.inlining.inline(call)

    def _monotonic(self) -> int:
        return self._parts.stages.ledger.clock.monotonic()

    def _ended(self, line: Running, sink: LineSink, call: Call) -> Finished | Returned:
        """Return what is to be kept of a line."""
        error, claim, pace = sink.error, line.claim, self.pace(line.batch.job.model)
        if sink.aborted or (error is not None and line.given_up):
            return Returned(claim.n, claim.fence, 0, line.charge, tried=False)
        if error is None:
            pace.served()
            return self._finished(line, call, sink.status, sink.body)
        if line.charge == claim.paid:  # this run has cost nothing, whatever those before it did
            again = self._again(line, error)
            if again is not None:
                return again
        return self._finished(line, call, error.http_status, self._parts.error_body(error))

    def _again(self, line: Running, error: GatewayError) -> Returned | None:
        """Return when a line that failed is tried again; None: never."""
        if isinstance(error, _OWN_REASONS):
            return None
        if line.claim.answer is not None and isinstance(error, UpstreamError):  # it will say no other
            return None
        claim, wall = line.claim, self._parts.stages.ledger.clock.wall()
        if isinstance(error, (UpstreamOverloaded, Unavailable)):
            now = self._monotonic()
            at = self.pace(line.batch.job.model).refused(now, error.retry_after_s)
            return Returned(claim.n, claim.fence, wall + (at - now) // 1000, line.charge, tried=False)
        if claim.tries + 1 >= self._parts.terms().tries:
            return None
        pause = min(_BACKOFF_US << min(claim.tries, 10), _LONGEST_US)
        asked = error.retry_after_s if isinstance(error, UpstreamError) else None
        due = wall + max(pause, int((asked or 0) * 1_000_000))
        return Returned(claim.n, claim.fence, due, line.charge)

    def _finished(self, line: Running, call: Call, status: int, body: bytes) -> Finished:
        claim, job = line.claim, line.batch.job
        output = answered(line_id(job, claim.n), claim.custom_id, status, call.request_id, body)
        back = line.left() if job.capped else ()
        return Finished(claim.n, claim.fence, output, 200 <= status < 300, line.charge, back, line.usage)
