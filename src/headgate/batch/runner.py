"""What runs batches in one worker: a loop that looks what there is to do, and does it.

Everything that must survive is in the store. A broker, or another worker with a new batch, rings the bell:
`wake` says that there is work, and a look finds which.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.batch.crew import Crew
from headgate.batch.films import VIDEOS
from headgate.batch.inputs import Input
from headgate.batch.money import hold_lump
from headgate.batch.outbox import Outputs
from headgate.batch.passing import Passing, passed_on, why_not_run
from headgate.batch.publishing import publish
from headgate.batch.reading import InputRefused, Reader, Terms, begun
from headgate.batch.summons import LOOK_S
from headgate.errors import (
    CallerError,
    Fenced,
    GatewayError,
    NotFound,
    QuotaExceeded,
    Unavailable,
    UpstreamError,
)
from headgate.wire.batches import BatchError
from headgate.wire.batchjobs import Loan, Portion, Room

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headgate.batch.money import Lump
    from headgate.batch.parts import Parts
    from headgate.values import Principal, WallMicros
    from headgate.wire.batchjobs import Claim, Finished, KeptBatch, Passed, Place, Returned

_US: Final = 1_000_000
_LEASE_US: Final = 1_200 * _US  # of a line, or of a batch that is read or published: longer than any call
_PASSED_LEASE_US: Final = 4_800 * _US  # of a batch at its provider: longer than any file takes
_LOOKS_WHILE_BUSY: Final = 20
_ELSEWHERE_S: Final = 2.0  # until we ask again whether who sees to it still does
_RENEW_US: Final = 60 * _US
_TAKE_OVER_US: Final = 2 * _US
_CLOSED_AT_ONCE: Final = 1_000  # lines
_LONGEST_REST_S: Final = 30.0
_READ_AT_ONCE: Final = 4  # inputs of batches: each takes its part of the loop, and of memory
_LOOKING: Final = "looking for work"


class Runner:
    """Runs the batches of one worker.

    Args:
        parts: of the process.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._outputs = Outputs(parts, self._kept)
        self._crew = Crew(parts, self._outputs.put)
        self._passing = Passing(parts, self._crew.pipeline)
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by batch
        self._rests: dict[int, float] = {}  # of batches whose files could not be written, the next time
        self._known: dict[int, KeptBatch] = {}  # as it was at the last look
        self._bell = asyncio.Event()
        self._room = asyncio.Event()
        self._readers = asyncio.Semaphore(_READ_AT_ONCE)
        self._closed = False
        self._renewal: WallMicros = 0  # when it is due
        self._taken_over: WallMicros = 0

    def _resting(self) -> bool:
        return self._closed or self._parts.stopping()

    def wake(self) -> None:
        """Look now: there may be work."""
        self._bell.set()

    async def follow(self, batch: str) -> None:
        """Look now, and wait as long as this worker does something for a batch."""
        self.wake()
        await asyncio.sleep(LOOK_S)
        while (task := self._task_of(batch)) is not None:
            await asyncio.wait({task})
            await asyncio.sleep(LOOK_S)

    def _task_of(self, batch: str) -> asyncio.Task[None] | None:
        known = (each.n for each in self._known.values() if each.job.id == batch)
        return next((self._tasks[n] for n in known if n in self._tasks), None)

    async def close(self) -> None:
        """Wait for what runs, and keep what came of it."""
        self._closed = True
        await self._crew.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._outputs.close()
        place = self._parts.place()
        if place.epoch and not self._renewal:  # a claim was cut: whatever it has taken waits again
            with suppress(GatewayError):  # then its lines are taken over
                await self._renew(place)

    # ── the loop ────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Look for work as long as the process serves."""
        outputs = asyncio.get_running_loop().create_task(self._outputs.run())
        try:
            while not self._resting():
                await self._turn()
            await asyncio.Event().wait()
        finally:
            outputs.cancel()

    async def _turn(self) -> None:
        """Look once, and wait for the bell or for the next look."""
        try:
            await self._look()
        except Exception as fault:  # a bug, too: what there is to do is looked for again
            self._parts.troubles.caught(_LOOKING, fault)
        else:
            self._parts.troubles.over(_LOOKING)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S if self._tasks else self._parts.summons.look_s):
                await self._bell.wait()
        self._bell.clear()

    async def _look(self) -> None:
        parts, now = self._parts, self._wall()
        place = parts.place()
        if not place.epoch:
            return
        if now >= self._renewal:
            await self._renew(place)
            await parts.store.settle_doubts()
        if now - self._taken_over >= _TAKE_OVER_US:  # not before what is here was renewed
            self._taken_over = now
            await parts.store.take_over(now)
        found = await parts.store.open_batches()
        self._known = {batch.n: batch for batch in found}
        for batch in found:
            if batch.n not in self._tasks and not self._resting():
                self._begin(batch)

    async def _renew(self, place: Place) -> None:
        """Keep the lines that are here; others that the store believes to be here wait again."""
        now = self._wall()
        self._renewal = now + _RENEW_US
        try:
            await self._parts.store.renew(place, self._crew.hands.calls(), now + _LEASE_US)
        except GatewayError:
            self._renewal = 0
            raise

    def _begin(self, batch: KeptBatch) -> None:
        steps = {
            "validating": self._validate,
            "in_progress": self._work,
            "cancelling": self._wind_up,
            "finalizing": self._publish,
        }
        run = self._guarded(batch, steps[batch.status])
        task = self._tasks[batch.n] = asyncio.get_running_loop().create_task(run)
        task.add_done_callback(lambda _: self._tasks.pop(batch.n, None))

    async def _guarded(self, batch: KeptBatch, step: Callable[[KeptBatch], Awaitable[bool]]) -> None:
        """Take one batch a step on; what fails is tried again after the next look."""
        try:
            if await step(batch):
                self.wake()
        except Exception as fault:  # a bug, too: the others go on
            if isinstance(fault, Fenced) and await self._was_cancelled(batch):
                self.wake()
                return
            self._parts.troubles.caught(batch.job.id, fault)
            await asyncio.sleep(self._rest_after(batch))
        else:
            self._parts.troubles.over(batch.job.id)
            self._rests.pop(batch.n, None)

    async def _was_cancelled(self, batch: KeptBatch) -> bool:
        """Say whether a batch was cancelled while a step of it was taken, which is no trouble."""
        job = batch.job
        try:
            found = await self._parts.store.find(job.project, job.book, job.id)
        except GatewayError:
            return False
        return found is not None and found.job.times.cancelling != job.times.cancelling

    def _rest_after(self, batch: KeptBatch) -> float:
        """Return how long a batch rests that met a fault.

        What is published is written anew each time, on a disk that may be full for that: ever longer.
        """
        if batch.status != "finalizing":
            return LOOK_S
        rest = self._rests.get(batch.n, LOOK_S)
        self._rests[batch.n] = min(2 * rest, _LONGEST_REST_S)
        return rest

    def _wall(self) -> WallMicros:
        return self._parts.stages.ledger.clock.wall()

    def _kept(self, batch: KeptBatch, lines: list[Finished | Returned]) -> None:
        self._crew.stored(batch, lines)
        self._room.set()

    # ── validating ──────────────────────────────────────────────────────────────────────────────

    async def _own(self, batch: KeptBatch) -> KeptBatch | None:
        now = self._wall()
        return await self._parts.store.own(batch.n, self._parts.place(), now, now + _LEASE_US)

    async def _validate(self, batch: KeptBatch) -> bool:
        if not await self._turn_to_read(batch):
            return False
        try:
            return await self._read_own(batch)
        finally:
            self._readers.release()

    async def _turn_to_read(self, batch: KeptBatch) -> bool:
        """Wait until fewer inputs are read at once; False: the batch was cancelled meanwhile, or we stop."""
        while self._serves(batch):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    return await self._readers.acquire()
        return False

    async def _read_own(self, batch: KeptBatch) -> bool:
        owned = await self._own(batch)
        if owned is None:
            return False
        try:
            principal = await self._parts.principal(batch.job.key, batch.job.book)
            await self._read(owned, principal)
        except InputRefused as refused:
            await self._parts.store.fail(owned, refused.errors, self._wall())
        except (CallerError, QuotaExceeded) as error:
            said = BatchError(error.code or error.error_type, error.message, error.param)
            await self._parts.store.fail(owned, (said,), self._wall())
        return True

    async def _read(self, batch: KeptBatch, principal: Principal) -> None:
        parts = self._parts
        capped = parts.stages.ledger.budgets.covering(principal).capped
        reader = await self._reader(batch, principal, Terms(capped))
        ready = begun(batch, reader, self._wall(), self._passed_on(batch, reader))
        parts.stages.failpoints.hit("batch-read")
        if not capped:
            held_at = msgspec.structs.replace(ready.job, held_at=self._wall())
            ready = msgspec.structs.replace(ready, job=held_at)
            await self._start(ready, reader, None)
            return
        lump = await hold_lump(
            parts.stages.reservations, principal, batch.job.call, reader.model, reader.weight
        )
        try:
            await self._fits(batch, principal, reader, lump)
        except BaseException:
            parts.stages.ledger.budgets.close(lump.hold, 0)
            raise
        await self._fund(_funded(ready, lump), reader, lump)

    def _passed_on(self, batch: KeptBatch, reader: Reader) -> Passed | None:
        """Return what a batch that was read begins with at its provider; None: it is run here."""
        uplink, operation = self._parts.uplink, self._parts.operations[batch.job.endpoint]
        passed, first = passed_on(uplink, reader.first, operation), reader.first
        if passed is not None and not reader.ours:
            return passed
        if passed is not None:
            said = f"Line {reader.ours} is none for the batch API of {passed.provider}."
            self._parts.troubles.met(batch.job.id, f"{said} The whole batch is run here, by calls.")
        elif first is not None and uplink.lacks(first, operation):
            said = f"The batch API of {first.host.name} has no {operation}."
            self._parts.troubles.met(batch.job.id, f"{said} It is run here, by calls.")
        return None

    async def _reader(self, batch: KeptBatch, principal: Principal, terms: Terms) -> Reader:
        """Read the input of a batch, and keep its lines."""
        file = await Input(self._parts, batch.job).file()
        reader = Reader(self._parts, self._crew.pipeline, batch, principal, terms)
        await reader.read(self._parts.files.read(file), file.size)
        return reader

    async def _fits(self, batch: KeptBatch, principal: Principal, reader: Reader, lump: Lump) -> None:
        """Look that what is held can be given to the lines; where it is in tokens they are read once more.

        Raises:
            Unavailable: not now.
        """
        if len(lump.hold.pots) != len(lump.hold.slices):
            raise Unavailable("Not every budget is known yet. Try again in a moment.")
        if not lump.in_tokens:
            return
        again = await self._reader(batch, principal, Terms(capped=True, in_tokens=True))
        if again.weight != reader.weight:
            raise Unavailable("What the lines of this batch may cost has changed. Try again in a moment.")

    async def _fund(self, batch: KeptBatch, reader: Reader, lump: Lump) -> None:
        """Start a batch with its money, which is then no longer this worker's."""
        budgets, moved = self._parts.stages.ledger.budgets, True  # as long as nobody knows
        try:
            await self._start(batch, reader, lump)
        except InputRefused:
            moved = False
            raise
        except GatewayError:
            moved = await self._has_begun(batch)
            raise
        finally:
            if moved:
                budgets.carry_away(lump.hold)
            else:
                budgets.close(lump.hold, 0)

    async def _has_begun(self, batch: KeptBatch) -> bool:
        """Say whether a batch has its money although the store has failed; it has where nobody knows."""
        try:
            return await self._parts.store.has_begun(batch)
        except GatewayError:
            return True

    async def _start(self, batch: KeptBatch, reader: Reader, lump: Lump | None) -> None:
        parts = self._parts
        loan = Loan(parts.place(), lump.taken if lump is not None else ())
        limits = parts.terms().limits(reader.model)
        full = await parts.store.begin(batch, reader.tokens, limits, loan)
        parts.stages.failpoints.hit("batch-begun")
        if full is None:
            parts.summons.begun(batch)
            return
        raise InputRefused(
            BatchError(
                "token_limit_exceeded",
                f"Enqueued token limit reached for {reader.model} in {full.scope}. Limit: {full.limit:,} "
                f"enqueued tokens; {full.used:,} are enqueued and this batch has about {reader.tokens:,}. "
                "Please try again once some in_progress batches have been completed.",
            )
        )

    # ── in progress ─────────────────────────────────────────────────────────────────────────────

    async def _work(self, batch: KeptBatch) -> bool:
        """Run lines as long as there are any."""
        passed, given = batch.job.passed, Input(self._parts, batch.job)
        if passed is not None:
            if not passed.fetched:
                return await self._see_to(batch)
            await self._close_waiting(batch, why_not_run(passed))
        while self._serves(batch):
            if passed is None and self._wall() >= batch.job.expires_at:
                return await self._close(batch, "batch_expired")
            if await self._start_lines(batch, given):
                continue
            if self._crew.hands.of(batch):
                await self._pause(LOOK_S / 5)
            elif await self._parts.store.settle_down(batch.n, self._wall()) is not None:
                return True
            else:
                await self._rest()
        return False

    async def _rest(self) -> None:
        """Wait for the next look. Who waits for nothing but a gateway with less to do goes on once it has."""
        if not self._parts.busy():
            await self._pause(LOOK_S / 2)
            return
        for _ in range(_LOOKS_WHILE_BUSY):
            await asyncio.sleep(LOOK_S / 2 / _LOOKS_WHILE_BUSY)
            if not self._parts.busy():
                return

    async def _start_lines(self, batch: KeptBatch, given: Input) -> bool:
        """Start lines that wait, as many as there is room for; say whether there were any."""
        room = 0 if self._parts.busy() else self._crew.paced(batch).room(self._monotonic())
        left = {claim.n: claim for claim in await self._claim(batch, room)} if room else {}
        if not left:
            return False
        try:
            async for claim, data in given.lines(list(left.values())):
                self._crew.start(batch, left.pop(claim.n), data)
        except InputRefused as refused:  # it was deleted meanwhile: every line fails for that
            self._crew.refuse(batch, left.values(), refused.errors[0])
            left = {}
        finally:
            self._crew.give_back(batch, left.values())
        self._parts.troubles.over(batch.job.id)
        return True

    async def _claim(self, batch: KeptBatch, most: int) -> list[Claim]:
        parts, now = self._parts, self._wall()
        calls = [parts.new_id() for _ in range(most)]
        self._crew.hands.ask(calls)
        claims: list[Claim] = []
        try:
            most = self._crew.pace(batch.job.model).most
            room = Room(calls, most, round(parts.terms().silent_s * _US))
            claims = await parts.store.claim(batch.n, parts.place(), room, now, now + _LEASE_US)
        except (GatewayError, asyncio.CancelledError):  # what it may have done is undone at the next renewal
            self._renewal = 0
            raise
        finally:
            self._crew.take(batch, calls, claims)
        parts.stages.failpoints.hit("batch-claimed")
        return claims

    async def _see_to(self, batch: KeptBatch) -> bool:
        """See to a batch at its provider until all that it answers is here."""
        parts = self._parts
        while self._serves(batch):
            now, pause = self._wall(), _ELSEWHERE_S
            owned = await parts.store.see_to(batch.n, parts.place(), now, now + _PASSED_LEASE_US)
            if owned is not None:
                if owned.job.passed is None or owned.job.passed.fetched:
                    return True
                try:
                    pause = await self._passing.advance(owned)
                except (UpstreamError, NotFound) as error:  # NotFound: it is not in the settings now
                    parts.troubles.met(batch.job.id, error.in_full)
                    pause = self._passing.pause(owned)
            until = self._monotonic() + int(pause * 1_000_000_000)
            while self._serves(batch) and (rest := until - self._monotonic()) > 0:
                await self._pause(min(rest / 1_000_000_000, LOOK_S))
        return False

    def _serves(self, batch: KeptBatch) -> bool:
        known = self._known.get(batch.n)
        return not self._resting() and known is not None and known.status == batch.status

    def _monotonic(self) -> int:
        return self._parts.stages.ledger.clock.monotonic()

    async def _pause(self, longest_s: float) -> None:
        """Wait for room, but no longer than so."""
        self._room.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._room.wait()

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    async def _close(self, batch: KeptBatch, code: str) -> bool:
        """Give every line that waits an error; go on to publish once none runs."""
        await self._close_waiting(batch, code)
        await self._crew.give_up(batch)
        ended = await self._parts.store.settle_down(batch.n, self._wall())
        if ended is None:
            await asyncio.sleep(LOOK_S / 2)
        return True

    async def _close_waiting(self, batch: KeptBatch, code: str) -> None:
        while await self._parts.store.close_waiting(batch, code, _CLOSED_AT_ONCE):
            pass  # each is a transaction of its own

    async def _wind_up(self, batch: KeptBatch) -> bool:
        if batch.job.passed is not None:
            return await self._work(batch)
        return await self._close(batch, "batch_cancelled")

    async def _publish(self, batch: KeptBatch) -> bool:
        owned = await self._own(batch)
        if owned is None:
            return False
        if owned.job.endpoint == VIDEOS:
            await self._crew.films.forsake(owned)
        await publish(self._parts, owned, self._wall())
        return True


def _funded(batch: KeptBatch, lump: Lump) -> KeptBatch:
    """Return a batch with the money that is held for it."""
    hold, covered = lump.hold, lump.in_tokens
    job = msgspec.structs.replace(
        batch.job,
        capped=True,
        held=lump.weight.tokens if covered else lump.weight.money,
        held_at=hold.at,
        pots=() if covered else hold.pots,
        portions=tuple(
            Portion(source.pot, source.grant, source.tokens or source.amount, covered)
            for source in hold.sources
        ),
    )
    return msgspec.structs.replace(batch, job=job)
