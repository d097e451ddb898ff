"""Who keeps the jobs: orders them, asks for them until they are done, and settles each exactly once.

A job is written down before its provider is asked, with the prices of that moment; the money for it is held
from then on, by the worker that asks for it. When it is done it is opened and settled in the journal, and
only then written down as done. A start holds the money again, and asks the books before it settles what a
stopped process may have settled. Nobody has to ask for a job for it to be finished and paid.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from headgate.admission.budget import Hold
from headgate.admission.gates import Gate, Ticket
from headgate.errors import GatewayError, Limited, NotFound, Unavailable, UpstreamRefused
from headgate.providers.videos import booked_at, failed, late, ordered, told, used
from headgate.settle import Tab
from headgate.values import Call, Principal
from headgate.wire.videos import weigh_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.pipeline import Pipeline, Stages
    from headgate.ports import Exchange, Head, Sink
    from headgate.providers.videos import VideoState
    from headgate.routing.doors import Seat
    from headgate.routing.routes import Routes
    from headgate.values import MonotonicNs, Target
    from headgate.videos.works import Works
    from headgate.wire.videos import VideoJob, VideoOrder

_NS = 1_000_000_000
_LOOK_S = 0.2
_FIRST_NS, _LONGEST_NS = _NS // 2, 10 * _NS  # how long until a job is asked for again: ever longer
FAILED = 502
_LOST = "The gateway was stopped while it ordered this video."


class VideoStore(Protocol):
    """Where jobs are kept. Every method raises `Unavailable` when that does not answer."""

    async def put(self, job: VideoJob) -> None:
        """Keep a job as it is now."""
        ...

    async def drop(self, job: VideoJob) -> None:
        """Forget a job."""
        ...

    async def find(self, project: int, name: str) -> VideoJob | None:
        """Return a job of a project."""
        ...

    async def listed(self, project: int, after: str, limit: int, *, newest: bool) -> list[VideoJob] | None:
        """Return a project's jobs behind another; None where that is none of its own."""
        ...

    async def open(self, slot: int, workers: int) -> list[VideoJob]:
        """Return the jobs that a worker asks for."""
        ...

    async def booked(self, job: VideoJob) -> bool:
        """Say whether the books have its settlement."""
        ...


class _Task:
    """A job in the making."""

    __slots__ = ("call", "due", "hold", "job", "seat", "settled", "wait")

    def __init__(
        self, job: VideoJob, call: Call, hold: Hold, *, seat: Seat | None = None, settled: bool = False
    ) -> None:
        self.seat = seat  # at its provider
        self.job = job
        self.call = call
        self.hold = hold
        self.settled = settled  # by a process that stopped before it could write that down
        self.wait: MonotonicNs = _FIRST_NS
        self.due: MonotonicNs = 0


class Keeper:
    """The jobs of one worker.

    Args:
        pipeline: of calls, whose stages are used here.
        stages: the same.
        store: of jobs.
        works: who makes them.
        routes: where models are, now.
        team: this worker's slot, and how many there are.
    """

    def __init__(
        self,
        stages: Stages,
        pipeline: Pipeline,
        store: VideoStore,
        works: Works,
        routes: Callable[[], Routes],
        team: tuple[int, int],
    ) -> None:
        self.store = store
        self._stages = stages
        self._pipeline = pipeline
        self.works = works
        self._routes = routes
        self._slot, self._workers = team
        self._tasks: dict[str, _Task] = {}
        self._closed = False

    # ── orders ──────────────────────────────────────────────────────────────────────────────────

    async def order(self, call: Call, order: VideoOrder, sink: Sink) -> VideoJob:
        """Order a video: within the limits, and with the money for it held.

        Raises:
            GatewayError: it is not made; nothing is held or kept.
        """
        ledger, entrance = self._stages.ledger, self._stages.entrance
        principal = call.principal
        assert principal is not None
        if not ledger.journal.accepting:
            raise Unavailable("The gateway cannot write its books now. Try again in a moment.")
        weigh_order(order, call)
        targets = await self._pipeline.fitting(call, self._routes())
        now = ledger.clock.monotonic()
        gate = ledger.rates.gate(principal, call.model, now)
        ticket = entrance.enter(gate, 0, now) or await entrance.stand(gate, 0, call.model, sink)
        try:
            hold = await self._stages.reservations.reserve(call, targets)
        except BaseException:
            ledger.rates.cancel(ticket, ledger.clock.monotonic())
            raise
        try:
            return await self._place(call, order, targets, hold, sink)
        except BaseException:
            ledger.budgets.close(hold, 0)
            raise
        finally:
            ledger.rates.settle(ticket, 0, ledger.clock.monotonic())

    async def _place(
        self, call: Call, order: VideoOrder, targets: tuple[Target, ...], hold: Hold, sink: Sink
    ) -> VideoJob:
        """Place an order with the first provider that has room and takes it, asked like those of calls.

        What is taken keeps its room until it is done.
        """
        placed: list[VideoJob] = []

        async def attempt(call: Call, sink: Sink, tab: Tab, target: Target) -> None:
            del sink
            job = self._job(call, order, target)
            await self.store.put(job)
            asked = target
            if call.sim and target.simulated:
                asked = msgspec.structs.replace(target, headers=(("x-headgate-sim", call.sim),))
            try:
                state = await self.works.order(order, asked, call.request_id)
            except BaseException:
                await asyncio.shield(self.store.drop(job))
                raise
            seat, tab.seat = tab.seat, None
            placed.append(await self._taken(_Task(job, call, hold, seat=seat), state))

        await self._stages.attempts.run(attempt, call, sink, self._tab(call, hold), targets)
        return placed[0]

    def _job(self, call: Call, order: VideoOrder, target: Target) -> VideoJob:
        job = ordered(call, order, target, self._stages.ledger.clock.wall())
        return msgspec.structs.replace(job, slot=self._slot)

    async def _taken(self, task: _Task, state: VideoState) -> VideoJob:
        """Keep a job that its provider has taken: from here on it is asked for, whatever happens."""
        self._tasks[task.job.id] = task
        with suppress(Unavailable):  # what cannot be written down now is at the next change
            await self._follow(task, state)
        return task.job

    # ── until they are done ─────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Ask for the jobs, for as long as the process serves."""
        while True:
            now = self._stages.ledger.clock.monotonic()
            due = [task for task in self._tasks.values() if task.due <= now]
            await asyncio.gather(*(self._ask(task) for task in due))
            await asyncio.sleep(_LOOK_S)

    async def adopt(self) -> None:
        """Take over the jobs of a process that is no more. Raises `Unavailable`."""
        for job in await self.store.open(self._slot, self._workers):
            if job.id in self._tasks or job.batch:  # who runs the batch asks for it
                continue
            call = self._call(job)
            if not job.operation:  # it may have been ordered: nobody knows
                lost = failed(job, "interrupted", _LOST)
                await self._finish(_Task(job, call, self._unheld()), lost)
                continue
            booked = await self.store.booked(job)
            hold = self._unheld() if booked else await self._hold(job, call)
            self._tasks[job.id] = _Task(job, call, hold, seat=self.seat(job), settled=booked)

    def seat(self, job: VideoJob) -> Seat | None:
        """Return the room that a job takes at its provider; where that has none left it has none."""
        doors = self._stages.attempts.doors
        try:
            return None if doors.idle else doors.at_once(self.target(job), 0)
        except NotFound:
            return None

    def _call(self, job: VideoJob) -> Call:
        call = Call(job.call, "videos", self._stages.ledger.clock.monotonic())
        call.principal = Principal(
            job.key, job.project, job.account, job.member, job.book, prepaid=job.prepaid
        )
        call.model = job.model
        call.max_output = 0
        call.units = ((job.unit, job.seconds),)
        return call

    async def _hold(self, job: VideoJob, call: Call) -> Hold:
        """Hold the money of a job again; where somebody has spent it since, the house pays."""
        try:
            return await self._stages.reservations.reserve(call, (self.target(job),))
        except (Limited, NotFound):
            return self._unheld()

    def _unheld(self) -> Hold:
        return Hold(0, self._stages.ledger.clock.wall(), (), ())

    def target(self, job: VideoJob) -> Target:
        """Return where a job is made, at the prices that it was ordered at.

        Raises:
            NotFound: its provider is no longer configured.
        """
        found = self._routes().candidates(job.model, job.book, self._stages.ledger.clock.wall())
        for target in found:
            if target.host.name == job.provider and target.model.name == job.upstream:
                return msgspec.structs.replace(target, prices=job.prices, costs=job.costs)
        raise NotFound(f"The provider {job.provider!r} of this video is no longer configured.")

    async def _ask(self, task: _Task) -> None:
        """Ask for a job once; trouble puts it off, until it is too old."""
        job, clock = task.job, self._stages.ledger.clock
        task.wait = min(task.wait * 3 // 2, _LONGEST_NS)
        task.due = clock.monotonic() + task.wait
        try:
            state = await self.works.ask(job, self.target(job))
            await self._follow(task, state)
        except GatewayError as error:
            unknown = isinstance(error, UpstreamRefused)  # it knows nothing of this job
            if (unknown or late(job, clock.wall())) and not self._closed:
                with suppress(Unavailable):
                    await self._finish(task, failed(job, error.code or "video_failed", error.message))

    async def _follow(self, task: _Task, state: VideoState) -> None:
        """Take in what a provider says."""
        if self._closed:  # the next start will ask again
            return
        job = task.job
        after = told(job, state, self._stages.ledger.clock.wall())
        if not after.open:
            await self._finish(task, after)
        elif after != job:
            task.job = after
            await self.store.put(after)

    async def _finish(self, task: _Task, done: VideoJob) -> None:
        """Settle a job, and write it down as done."""
        self._settle(task, done)
        self._leave(task)
        task.job = done
        await (self.store.drop(done) if done.deleted else self.store.put(done))
        self._tasks.pop(done.id, None)

    def _tab(self, call: Call, hold: Hold) -> Tab:
        principal = call.principal
        assert principal is not None
        gate = Gate(principal, (), (), ())
        return Tab(self._stages.ledger, call, hold, Ticket(gate, 0, open=False))

    def _leave(self, task: _Task) -> None:
        seat, task.seat = task.seat, None
        if seat is not None:
            self._stages.attempts.doors.leave(seat)

    def _settle(self, task: _Task, done: VideoJob) -> None:
        """Book a job: what it costs where it was made, nothing where it failed."""
        if task.settled:
            return
        tab = self._tab(task.call, task.hold)
        if task.job.operation or done.operation:
            tab.open(booked_at(task.job))
        tab.settle(200 if done.status == "completed" else FAILED, used(done))
        task.settled = True

    # ── what callers ask ────────────────────────────────────────────────────────────────────────

    async def find(self, principal: Principal, name: str) -> VideoJob:
        """Return a job of the caller's project. Raises `NotFound`."""
        job = await self.store.find(principal.project, name)
        if job is None or job.book is not principal.book:
            raise NotFound(f"Video with id '{name[:100]}' not found.", param="video_id")
        return job

    async def listed(self, principal: Principal, after: str, limit: int, *, newest: bool) -> list[VideoJob]:
        """Return jobs of the caller's project. Raises `NotFound` where `after` is none of them."""
        jobs = await self.store.listed(principal.project, after, limit, newest=newest)
        if jobs is None:
            raise NotFound(f"Video with id '{after[:100]}' not found.", param="after")
        return jobs

    async def delete(self, principal: Principal, name: str) -> VideoJob:
        """Delete a job. One that is being made is paid when it is done all the same: its maker bills it."""
        job = await self.find(principal, name)
        if not job.open:
            await self.store.drop(job)
            return job
        task = self._tasks.get(name)
        hidden = msgspec.structs.replace(task.job if task is not None else job, deleted=True)
        if task is not None:
            task.job = hidden
        await self.store.put(hidden)
        return job

    async def fetch(self, job: VideoJob) -> tuple[Exchange, Head]:
        """Begin to fetch a video from where it is kept. Raises `GatewayError`."""
        return await self.works.fetch(job, self.target(job))

    def close(self) -> None:
        """Give back what is held: the next start holds it again."""
        self._closed = True
        for task in self._tasks.values():
            self._stages.ledger.budgets.close(task.hold, 0)
            self._leave(task)
        self._tasks.clear()
