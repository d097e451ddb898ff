"""Who records the answers of one worker: one call for all who ask for the same.

A recording is claimed in the store before its call begins, under what it is found by. Who asks for it then
finds it here, at another worker (of this node or of another) while it is made, or as it was kept:

=================================  ==========================================================================
found under an Idempotency-Key     what becomes of the request
=================================  ==========================================================================
another request                    422
in the making                      joined: it reads along, also from another worker
whole                              given again
lost or dropped, and it was paid   409: it says which call that was. Nothing is sent twice without a word
lost or dropped, and it cost       the request is made
nothing, or refused
=================================  ==========================================================================
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from headgate.errors import Conflict, GatewayError, Gone, KeyReused, NotFound, Unavailable
from headgate.recordings.neighbours import Board, Neighbours, play
from headgate.recordings.reading import AskAgain, Reading
from headgate.recordings.recording import Memory, Recording
from headgate.recordings.replays import Replays
from headgate.waits import own_task
from headgate.wire.recorded import Kept, Label, State

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from headgate.pipeline import Stages
    from headgate.ports import Sink
    from headgate.values import Call, NanoUSD, Principal, WallMicros
    from headgate.wire.recorded import Order, Recorded

_SWEEP_S: Final = 30.0
_AGAIN_S: Final = 1.0  # until an answer that could not be kept is kept after all
_TIMES: Final = 60  # that it is tried
_LAST_S: Final = 10.0  # at the end, for all of them
_NOTHING: Final = (State.LOST, State.DROPPED)
_ROUNDS: Final = 5  # that a caller asks again for a call of which nothing comes
_PERHAPS_PAID: Final = (401, 403, 408)  # its key was revoked, or its time was over, while it was made


class Store(Board, Protocol):
    """Where recordings are kept, and claimed for all workers. Every method raises `Unavailable`."""

    async def lose(self, slot: int, workers: int) -> None:
        """Take note that what a worker recorded is lost: it has just started, or is no more."""
        ...

    async def claim(self, label: Label, slot: int, now: WallMicros) -> Kept | None:
        """Begin to record. Return what there is of this name already, if anything."""
        ...

    async def take_over(self, label: Label, before: bytes, slot: int, now: WallMicros) -> bool:
        """Record anew what was lost with another call, or cannot be opened; False where somebody else has."""
        ...

    async def keep(self, call: bytes, state: State, recorded: Recorded | None, now: WallMicros) -> None:
        """Keep how a recording ended."""
        ...

    async def release(self, call: bytes, recorded: Recorded, now: WallMicros) -> None:
        """Forget a call that was refused, so that the next one is made; who waits elsewhere is told."""
        ...

    async def find(self, call: bytes) -> Kept | None:
        """Return the recording of a call."""
        ...

    async def sweep(self, now: WallMicros) -> None:
        """Forget what has been kept for long enough."""
        ...

    async def charged(self, call: bytes) -> NanoUSD | None:
        """Return what a call has cost its caller by the books; None where that is not settled yet."""
        ...


class Terms(NamedTuple):
    """How long calls are kept, and how much of their answers."""

    keep_s: float  # a call with an Idempotency-Key, for nobody
    resume_s: int  # the most that a caller may ask for
    answer_bytes: int
    total_bytes: int  # in memory
    slot: int
    workers: int
    secret: bytes  # of the digests that recordings are found by
    shared: bool = False  # with other nodes, whose workers read along, too


class Recorder:
    """The recordings of one worker.

    Args:
        stages: of the pipeline, for the books and the clock.
        store: of recordings.
        terms: how much is kept.
        trouble: told when something that nobody waits for could not be done.
    """

    def __init__(self, stages: Stages, store: Store, terms: Terms, trouble: Callable[[str], None]) -> None:
        self._replays = Replays(stages)
        self._clock = clock = stages.ledger.clock
        self._neighbours = Neighbours(store, terms.slot, clock, trouble)
        self._store = store
        self._terms = terms
        self._trouble = trouble
        self._memory = Memory(terms.answer_bytes, terms.total_bytes)
        self._open: dict[tuple[bytes, bytes], Recording] = {}  # by name and request
        self._own: dict[bytes, Recording] = {}  # by the call, of those that are made here
        self._tasks: set[asyncio.Task[None]] = set()
        self._showing: asyncio.Task[None] | None = None
        self.longest_resume_s = terms.resume_s

    # ── calls ───────────────────────────────────────────────────────────────────────────────────

    async def serve(
        self, call: Call, sink: Sink, order: Order, make: Callable[[Sink], Coroutine[None, None, None]]
    ) -> None:
        """Serve a call whose answer is recorded: give what there is of it, or make it.

        Args:
            call: the caller's.
            sink: where its answer goes.
            order: what it asks for.
            make: serves the call, to another sink.

        Raises:
            GatewayError: nothing was sent.
        """
        await own_task()
        label = self._label(call, order)
        call.keyed = label.keyed
        of, rounds = b"", 0
        while rounds < _ROUNDS:
            recording = self._open.get((label.name, label.request))
            if recording is None:
                recording = await self._first(call, sink, label, make)
            if recording is None:
                return
            try:
                await self._reading(call, sink, label, order.skip).copy(recording)
            except AskAgain:
                await recording.away.wait()
                rounds = rounds + 1 if recording.label.call == of else 0
                of = recording.label.call
            else:
                return
        raise _stuck(of)

    async def resume(self, call: Call, sink: Sink, of: bytes, skip: int) -> None:
        """Give the answer of another call of the same project, or the rest of it.

        Args:
            call: the caller's.
            sink: where it goes.
            of: the id of the other call.
            skip: how many events the caller has.

        Raises:
            NotFound: there is no such recording.
            Gone: it is kept no longer.
        """
        await own_task()
        principal = _caller(call)
        recording = self._own.get(of)
        if recording is None:
            kept = await self._store.find(of)
            if kept is None or not _may_resume(kept.label, principal):
                raise _unknown(of)
            recording = self._elsewhere(kept, call)
        elif not _may_resume(recording.label, principal):
            raise _unknown(of)
        call.operation, call.model = recording.operation, recording.model
        reading = Reading(call, sink, self._replays, numbered=True, skip=skip)
        try:
            await reading.copy(recording)
        except AskAgain:
            raise _gone(of) from None

    def _label(self, call: Call, order: Order) -> Label:
        principal, secret = _caller(call), self._terms.secret
        whose = b"%d:%d:" % (principal.project, principal.book)
        name = b"key:" + order.key if order.key else b"call:" + call.id
        return Label(
            call.id,
            hmac.digest(secret, whose + name, "sha256"),
            hmac.digest(secret, b"request:" + order.request, "sha256"),
            principal.project,
            principal.book,
            bool(order.key),
            order.resume_s,
        )

    def _reading(self, call: Call, sink: Sink, label: Label, skip: int = 0) -> Reading:
        return Reading(call, sink, self._replays, numbered=bool(label.resume_s), skip=skip)

    async def _first(
        self, call: Call, sink: Sink, label: Label, make: Callable[[Sink], Coroutine[None, None, None]]
    ) -> Recording | None:
        """Begin a recording; return one that is to be read, or None where the call was made.

        Raises:
            GatewayError: neither may be.
        """
        keep_s = max(self._terms.keep_s if label.keyed else 0, label.resume_s)
        recording = Recording(label, call, self._memory, keep_s)
        self._open[label.name, label.request] = recording
        try:
            kept = await self._store.claim(label, self._terms.slot, self._clock.wall())
            if kept is not None and await self._retaken(kept, label):
                kept = None
        except BaseException as fault:
            self._close(recording)
            recording.fail(fault if isinstance(fault, GatewayError) else None)
            raise
        if kept is None:
            await self._record(call, sink, recording, make)
            return None
        self._fill(recording, kept)
        return recording

    async def _retaken(self, kept: Kept, label: Label) -> bool:
        """Say whether a request may be made although there was one of this name.

        Raises:
            KeyReused: that was another request.
            Conflict: it was paid, and its answer is not here.
        """
        if kept.label.request != label.request:
            raise KeyReused(
                "This Idempotency-Key was sent with another request within the last day. Use a new one for a "
                "new request, and the same one to send the very same request again.",
                param="Idempotency-Key",
            )
        if kept.state not in _NOTHING and not self._stale(kept):
            return False
        before = kept.label.call
        charged = await self._store.charged(before)
        if charged == 0:
            if self._stale(kept):
                await self._store.keep(before, State.LOST, None, self._clock.wall())
            return await self._store.take_over(label, before, self._terms.slot, self._clock.wall())
        paid = "may have been paid" if charged is None else f"was paid ({charged / 1e9:.9f} USD)"
        why = "was too long to be kept" if kept.state is State.DROPPED else "was cut off and is not kept"
        error = Conflict(
            f"This request was made by the call req_{before.hex()}, which {paid}, and its answer {why}. It "
            "is not made twice under one Idempotency-Key: use a new one to make, and pay, it again.",
            param="Idempotency-Key",
            code="idempotent_answer_lost",
        )
        error.retry = False
        try:
            raise error
        finally:
            del error  # a name for it were a cycle, which would hold the request

    def _stale(self, kept: Kept) -> bool:
        """Say whether a recording is said to be ours and is not."""
        ours = kept.state is State.OPEN and kept.slot == self._terms.slot
        return ours and kept.label.call not in self._own

    async def _record(
        self,
        call: Call,
        sink: Sink,
        recording: Recording,
        make: Callable[[Sink], Coroutine[None, None, None]],
    ) -> None:
        """Make the call; its own caller is one reader among others."""
        reading = self._reading(call, sink, recording.label)
        recording.attach(reading)
        self._own[call.id] = recording
        if self._terms.workers > 1 or self._terms.shared:
            self._begin_showing()
        self._spawn(self._copy(reading, recording, sink))
        try:
            await make(recording)
        finally:
            recording.broken = call.broken
            self._spawn(self._put_away(recording))

    async def _copy(self, reading: Reading, recording: Recording, sink: Sink) -> None:
        """Give the answer to the caller whose call it is."""
        try:
            await reading.copy(recording)
        except AskAgain:
            sink.abort()  # it had left, or what it had not read could not be kept
        except BaseException:
            sink.abort()
            raise

    def _begin_showing(self) -> None:
        if self._showing is None or self._showing.done():
            run = self._neighbours.show(self._own, self._claiming, always=self._terms.shared)
            self._showing = self._spawn(run)

    def _claiming(self) -> set[bytes]:
        return {recording.label.call for recording in self._open.values()}

    async def _put_away(self, recording: Recording) -> None:
        """Let the store know how a recording ended."""
        try:
            for number in range(_TIMES):
                if await self._kept(recording, say=not number):
                    break
                await asyncio.sleep(_AGAIN_S)  # who asks here for the same is given it meanwhile
        finally:
            del self._own[recording.label.call]
            self._close(recording)

    async def _kept(self, recording: Recording, *, say: bool) -> bool:
        """Keep how a recording ended; False where that has failed and may be tried again.

        Of one that has no answer a retry is told later that it is lost.
        """
        call, now = recording.label.call, self._clock.wall()
        whole = recording.ended and recording.kept and recording.status < 300
        try:
            if await self._was_refused(recording):
                await self._store.release(call, recording.recorded(), now)
            elif whole:
                await self._store.keep(call, State.WHOLE, recording.recorded(), now)
            else:
                state = State.LOST if recording.kept else State.DROPPED
                await self._store.keep(call, state, None, now)
        except Unavailable as fault:
            if say:
                self._trouble(fault.message)
            return not whole
        return True

    async def _was_refused(self, recording: Recording) -> bool:
        """Say whether a call came to an error that cost nothing."""
        if recording.early and recording.ended and recording.broken:  # the error came under the status 200
            return await self._store.charged(recording.label.call) == 0
        return recording.status >= 300 and recording.status not in _PERHAPS_PAID

    def _close(self, recording: Recording) -> None:
        """Let nobody find a recording here any more; who reads it goes on."""
        place = (recording.label.name, recording.label.request)
        if self._open.get(place) is recording:
            del self._open[place]
        recording.close()
        recording.away.set()

    # ── recordings of others ────────────────────────────────────────────────────────────────────

    def _elsewhere(self, kept: Kept, call: Call) -> Recording:
        """Return what is kept of a call, or what another worker records.

        Raises:
            Gone: it is kept no longer.
        """
        over = kept.state is State.WHOLE and kept.resume_until <= self._clock.wall()
        if over or kept.state not in {State.WHOLE, State.OPEN} or self._stale(kept):
            raise _gone(kept.label.call)
        recording = Recording(kept.label, call, self._memory, 0)
        self._fill(recording, kept)
        return recording

    def _fill(self, recording: Recording, kept: Kept) -> None:
        """Fill a recording with what is kept, or comes from another worker."""
        recording.follow(kept.label)
        if kept.recorded is not None:
            play(recording, kept.recorded)
            self._close(recording)
        else:
            self._spawn(self._follow(recording))

    async def _follow(self, recording: Recording) -> None:
        try:
            await self._neighbours.follow(recording)
        except Unavailable as fault:
            recording.error = fault
        self._close(recording)
        if not recording.ended:
            recording.abort()

    # ── upkeep ──────────────────────────────────────────────────────────────────────────────────

    async def adopt(self) -> None:
        """Take note that what was recorded in this slot before is lost. Raises `Unavailable`."""
        await self._store.lose(self._terms.slot, self._terms.workers)

    async def run(self) -> None:
        """Forget what is old, for as long as the process lives."""
        while True:
            if self._terms.shared:
                self._begin_showing()
            try:
                await self._store.sweep(self._clock.wall())
            except Unavailable as fault:
                self._trouble(fault.message)
            await asyncio.sleep(_SWEEP_S)

    async def close(self) -> None:
        """Wait until the store knows how every recording ended, but not for ever."""
        showing, until = self._showing, asyncio.get_running_loop().time() + _LAST_S
        if showing is not None:
            showing.cancel()
        while self._tasks and (left := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, run: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            self._trouble(f"recording has failed: {fault!r}")


def _caller(call: Call) -> Principal:
    principal = call.principal
    assert principal is not None
    return principal


def _may_resume(label: Label, principal: Principal) -> bool:
    return bool(label.resume_s) and (label.project, label.book) == (principal.project, principal.book)


def _unknown(of: bytes) -> NotFound:
    return NotFound(
        f"There is no call req_{of.hex()} of this project whose answer can be read on. Ask for that with the "
        "request itself: `x-headgate-resume: 60`.",
        code="call_not_found",
    )


def _stuck(of: bytes) -> Unavailable:
    return Unavailable(
        f"This request was made by the call req_{of.hex()}, of which nothing comes, nor that it is lost. "
        "Nothing was sent to a provider for yours. Send it again later, with the same Idempotency-Key."
    )


def _gone(of: bytes) -> Gone:
    return Gone(
        f"The answer of the call req_{of.hex()} is kept no longer, or was cut off. What it has cost is in "
        "the books; send the request again to make a new one."
    )
