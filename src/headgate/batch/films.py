"""Lines that order videos: each runs until its video is made, or will not be, and answers with that.

Source: OpenAI's batch guide: the result of a batch for `/v1/videos` has video objects that have come to their
end (`completed`, `failed`), whose ids fetch the files. A job has its id by the line, and is kept when it is
ordered: whoever runs the line again asks for that job, and orders no second one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.admission.gates import Gate, Ticket
from headgate.errors import GatewayError, Unavailable, UpstreamRefused
from headgate.providers.videos import booked_at, failed, late, ordered, told, used
from headgate.settle import Tab
from headgate.values import Prices
from headgate.wire.batchjobs import video_id
from headgate.wire.videos import STORED, Picture, read_order

if TYPE_CHECKING:
    from headgate.admission.budget import Hold
    from headgate.batch.line import LineSink, Running
    from headgate.batch.parts import Parts
    from headgate.pipeline import Pipeline, Stages
    from headgate.ports import Sink
    from headgate.routing.doors import Seat
    from headgate.values import Call, Target
    from headgate.wire.batchjobs import KeptBatch
    from headgate.wire.videos import VideoJob, VideoOrder

VIDEOS: Final = "/v1/videos"
_JSON: Final = b"application/json"
_FIRST_S, _LONGEST_S, _STEP_S = 0.5, 10.0, 0.25  # until a job is asked for again: ever longer
_FAILED: Final = 502
_NO_SLOT: Final = -1  # no worker takes it over when it starts
_encode = msgspec.json.encode


class Films:
    """Serves the lines of one worker that order videos.

    Args:
        parts: of the process.
        stages: of lines: their money and their journal.
        pipeline: of lines: it knows their targets.
    """

    def __init__(self, parts: Parts, stages: Stages, pipeline: Pipeline) -> None:
        self._parts = parts
        self._stages = stages
        self._pipeline = pipeline

    async def serve(self, call: Call, sink: LineSink, line: Running, body: bytes) -> None:
        """Serve a line to its end.

        Raises:
            GatewayError: its video is not ordered.
        """
        job, seat = await self._known(line), None
        try:
            if job is None:
                hold, job, seat = await self._order(call, sink, line, body)
            else:
                seat = self._parts.videos().seat(job)
                hold = await self._stages.reservations.reserve(call, (booked_at(job),))
            ended = await self._until_done(job)
        finally:
            if seat is not None:
                self._stages.attempts.doors.leave(seat)
        if ended is None:
            sink.abort()
            return
        self._settle(call, hold, line, ended)
        await self._kept(ended)
        self._stages.failpoints.hit("video-ended")
        sink.whole(200, b"", _encode(ended.shown()))

    async def forsake(self, batch: KeptBatch) -> None:
        """Write down as failed what was ordered by lines that will not be run again. Raises `Unavailable`."""
        for job in await self._parts.videos().store.open_of(batch.job.id):
            gone = failed(job, "batch_ended", "Its batch ended while this video was made.")
            await self._parts.videos().store.put(gone)

    async def _known(self, line: Running) -> VideoJob | None:
        """Return the job that an earlier run of a line has placed; None where it placed none, or may have."""
        found = await self._parts.videos().store.placed(video_id(line.batch.job, line.claim.n))
        return found if found is not None and found.operation else None

    async def _order(
        self, call: Call, sink: Sink, line: Running, body: bytes
    ) -> tuple[Hold, VideoJob, Seat | None]:
        """Place the order of a line with the first provider that takes it.

        Raises:
            GatewayError: none does.
        """
        order = await self._read(call, body)
        targets = await self._pipeline.fitting(call, self._parts.routes())
        hold = await self._stages.reservations.reserve(call, targets)
        placed: list[tuple[VideoJob, Seat | None]] = []
        name, batch = video_id(line.batch.job, line.claim.n), line.batch.job.id

        async def attempt(call: Call, sink: Sink, tab: Tab, target: Target) -> None:
            del sink
            job = ordered(call, order, target, self._stages.ledger.clock.wall())
            job = msgspec.structs.replace(job, id=name, batch=batch, slot=_NO_SLOT)
            placed.append(await self._placed(job, order, tab, target))

        await self._stages.attempts.run(attempt, call, sink, self._tab(call, hold), targets)
        return hold, *placed[0]

    async def _read(self, call: Call, body: bytes) -> VideoOrder:
        order = read_order(_JSON, body)
        if not order.stored:
            return order
        assert call.principal is not None
        shown = await self._parts.inlining.picture(call.principal, order.stored, STORED)
        return msgspec.structs.replace(order, picture=Picture(*shown))

    async def _placed(
        self, job: VideoJob, order: VideoOrder, tab: Tab, target: Target
    ) -> tuple[VideoJob, Seat | None]:
        """Order a job at one target. Raises `GatewayError`."""
        videos = self._parts.videos()
        await videos.store.put(job)
        try:
            state = await videos.works.order(order, target, f"req_{job.call.hex()}")
        except BaseException:
            await asyncio.shield(videos.store.drop(job))
            raise
        self._stages.failpoints.hit("video-ordered")
        seat, tab.seat = tab.seat, None
        after = told(job, state, self._stages.ledger.clock.wall())
        kept = await self._kept(after)
        self._stages.failpoints.hit("video-kept")
        return kept, seat

    # ── until it is done ────────────────────────────────────────────────────────────────────────

    async def _until_done(self, job: VideoJob) -> VideoJob | None:
        """Ask for a job until it has come to its end; None: the process stops."""
        wait = _FIRST_S
        while job.open:
            wait = min(wait * 1.5, _LONGEST_S)
            rest = wait
            while rest > 0:
                if self._parts.stopping():
                    return None
                await asyncio.sleep(min(rest, _STEP_S))
                rest -= _STEP_S
            after = await self._asked(job)
            job = await self._kept(after) if after != job and after.open else after
        return job

    async def _asked(self, job: VideoJob) -> VideoJob:
        """Return a job as its maker says that it is; trouble puts that off, until it is too old."""
        now, videos = self._stages.ledger.clock.wall(), self._parts.videos()
        try:
            return told(job, await videos.works.ask(job, videos.target(job)), now)
        except GatewayError as error:
            if isinstance(error, UpstreamRefused) or late(job, now):
                return failed(job, error.code or "video_failed", error.message)
            return job

    async def _kept(self, job: VideoJob) -> VideoJob:
        """Keep a job as it is now, lest it be ordered twice: a store that is away is waited for."""
        while True:
            try:
                return await self._put(job)
            except Unavailable:
                if self._parts.stopping():
                    return job
            await asyncio.sleep(_STEP_S)

    async def _put(self, job: VideoJob) -> VideoJob:
        """Keep a job; one that its caller has deleted meanwhile stays so."""
        store = self._parts.videos().store
        if not job.deleted and await store.find(job.project, job.id) is None:
            job = msgspec.structs.replace(job, deleted=True)
        await (store.put(job) if job.open or not job.deleted else store.drop(job))
        return job

    def _tab(self, call: Call, hold: Hold) -> Tab:
        assert call.principal is not None
        gate = Gate(call.principal, (), (), ())
        return Tab(self._stages.ledger, call, hold, Ticket(gate, 0, open=False))

    def _settle(self, call: Call, hold: Hold, line: Running, job: VideoJob) -> None:
        """Book a job: what it costs where it was made, nothing where it failed."""
        target = booked_at(job)
        if line.claim.paid:  # its maker bills it once, and that is in the books
            target = msgspec.structs.replace(target, costs=Prices())
        tab = self._tab(call, hold)
        tab.open(target)
        self._stages.failpoints.hit("video-opened")
        tab.settle(200 if job.status == "completed" else _FAILED, used(job))
        self._stages.failpoints.hit("video-settled")
