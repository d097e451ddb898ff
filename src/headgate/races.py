"""Two targets at once for one call, where the first takes long to begin: who answers first is the call's.

The second is asked beside the first one, which goes on. What counts is the first event of a stream that
shows anything, and a whole answer; the other attempt is ended then, and its connection closed. The caller
pays for the one that answered, at most the hold, which is over all targets of the call; what the other may
cost is the house's.

Only a call's first attempt has a second one beside it, only at a target that is well and has room at once,
and only as often as the share of its model allows (`routing/hedging.py`). Where the first fails, the second
may still answer, and the other way round; where both fail the call goes on like any other. A call that its
caller leaves, or that is cut, is the first attempt's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from headgate.admission.bounds import rough_input
from headgate.attempts import Asked
from headgate.choices import copy_of
from headgate.errors import CallerGone, GatewayError, Outrun, UpstreamError
from headgate.routing.hedging import Hedging
from headgate.waits import CallRun, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.attempts import Attempts
    from headgate.pipeline import Stages
    from headgate.ports import Headers, Sink
    from headgate.routing.hedging import HedgeTerms
    from headgate.routing.trials import Counter
    from headgate.settle import Side
    from headgate.values import Call, Target

HEDGES: Final = "headgate_hedges"
_NS: Final = 1_000_000_000
_EXPECTED: Final = (GatewayError, CallerGone, Outrun, asyncio.CancelledError)


class _Lane:
    """One of the two attempts, and the sink of its answer: `ports.Sink`, but that its state is only shown."""

    def __init__(self, tab: Side, sink: Sink, target: Target) -> None:
        self.tab = tab
        self.target = target
        self.began_ns = 0
        self.failed: UpstreamError | None = None
        self.fault: BaseException | None = None  # anything else that ended it
        self.over = False
        self.run: CallRun
        self._sink = sink
        self._callback: Callable[[], None] = _nothing

    @property
    def gone(self) -> bool:
        """Say whether nobody wants this answer any more."""
        return self.tab.beaten or self._sink.gone

    @property
    def started(self) -> bool:
        """Say whether the caller has a head."""
        return self._sink.started

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Send a head: of the answer, or early."""
        self._sink.start(status, headers, length)

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """Send a whole answer."""
        self._sink.whole(status, lines, body)

    def write(self, data: bytes) -> None:
        """Send bytes of the answer, or a comment."""
        self._sink.write(data)

    def finish(self) -> None:
        """End the answer."""
        self._sink.finish()

    async def drained(self) -> None:
        """Wait until the caller has read enough."""
        await self._sink.drained()

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Keep whom to call when the caller goes."""
        self._callback = callback

    def on_quiet(self, callback: Callable[[], None]) -> None:
        """Keep the caller's stream alive; either attempt can."""
        self._sink.on_quiet(callback)

    def abort(self) -> None:
        """Cut the caller's connection."""
        self._sink.abort()

    def hang_up(self) -> None:
        """Take note that the caller has gone."""
        self._callback()

    def end(self) -> None:
        """End the attempt for the other one."""
        if not self.over:
            self.run.end(Outrun())


class _Race:
    """One call with two targets at once, or still with one."""

    def __init__(self, races: Races, asked: Asked, hedging: Hedging, name: str) -> None:
        self.lanes: list[_Lane] = []
        self._races = races
        self._asked = asked
        self._hedging = hedging
        self._name = name
        self._sides: list[Side] = []
        self._others: tuple[Target, ...] = ()
        self._wait = Wait(asyncio.get_running_loop())

    async def run(self, targets: tuple[Target, ...]) -> None:
        """Ask the first target, and perhaps one of the others; return, or raise, what came of it."""
        asked, delay = self._asked, self._hedging.delay(stream=self._asked.call.stream)
        seat, asked.tab.seat = asked.tab.seat, None
        first = self._lane(targets[0], asked.call)
        first.tab.seat = seat
        self._others = targets[1:]
        timer = asyncio.get_running_loop().call_later(delay.ns / _NS, self._hedge) if delay.ns else None
        asked.sink.on_gone(self._gone)
        try:
            first.run.step()
            while not all(lane.over for lane in self.lanes):
                await self._wait
        except BaseException as fault:
            await self._stop(fault)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            asked.tab.adopt(self._sides)
            self._count()
        await self._end()

    # ── its attempts ─────────────────────────────────────────────────────────────────────────────

    def _lane(self, target: Target, call: Call) -> _Lane:
        asked, races = self._asked, self._races
        tab = asked.tab.side(self._sides)
        lane = _Lane(tab, asked.sink, target)
        tab.ends(lane.end)
        tab.passing = races.failpoint
        lane.began_ns = races.clock.monotonic()
        lane.run = CallRun(
            self._attempt(lane, Asked(asked.attempt, call, cast("Sink", lane), tab)).__await__(), self._ended
        )
        self.lanes.append(lane)
        return lane

    async def _attempt(self, lane: _Lane, asked: Asked) -> None:
        try:
            lane.failed = await self._races.attempts.ask_one(asked, lane.target)
        except BaseException as fault:
            lane.fault = fault  # whoever waits for both attempts raises it
        finally:
            lane.over = True
            lane.tab.over()
            self._races.attempts.free(lane.tab)
        final = lane.fault is not None or (lane.failed is not None and not lane.failed.another_target)
        if final and lane is self.lanes[0] and not lane.tab.beaten:
            lane.tab.claim()  # no other target may help

    def _ended(self, _: CallRun) -> None:
        if all(lane.over for lane in self.lanes):
            self._wait.wake()

    def _hedge(self) -> None:
        """Ask a second target, if there is one that may be asked."""
        first, races = self.lanes[0], self._races
        if first.over or first.gone or first.tab.begun_ns:
            return
        call = self._asked.call
        target = next((each for each in self._others if races.fit(each)), None)
        if target is None or first.target.host.hangup != "cancel":
            self._told("no_target")
            return
        seat = None
        if not races.attempts.doors.idle:
            seat = races.attempts.doors.at_once(target, rough_input(call) + (call.max_output or 0) * call.n)
            if seat is None:
                self._told("no_room")
                return
        if not self._hedging.share.take():
            if seat is not None:
                races.attempts.doors.leave(seat)
            self._told("over_share")
            return
        twin = copy_of(call, 0)
        twin.id, twin.request_id, twin.parent = call.id, call.request_id, call.parent
        second = self._lane(target, twin)
        second.tab.seat = seat
        second.run.step()

    # ── how it ends ──────────────────────────────────────────────────────────────────────────────

    def _chosen(self) -> _Lane | None:
        """Return the attempt whose call it is, or would be if it ended now."""
        won = next((lane for lane in self.lanes if lane.tab.won), None)
        return won or next((lane for lane in self.lanes if not lane.over), None)

    def _gone(self) -> None:
        """Let one attempt hear that the caller has left, and end the other."""
        lane = self._chosen()
        if lane is not None:
            lane.tab.claim()
            lane.hang_up()

    async def _stop(self, fault: BaseException) -> None:
        """End the attempts as their call was ended."""
        lane = self._chosen()
        if lane is not None and not lane.over:
            lane.tab.claim()
            if isinstance(fault, Exception):
                lane.run.end(fault)
            else:
                lane.run.cancel()
        for each in self.lanes:
            await each.run.done()

    async def _end(self) -> None:
        first, *others = self.lanes
        for lane in self.lanes:
            if lane.fault is not None and (lane.tab.won or not isinstance(lane.fault, _EXPECTED)):
                raise lane.fault
        won = next((lane for lane in self.lanes if lane.tab.won), None)
        if won is not None:
            if won.failed is not None:
                raise won.failed
            return
        assert first.failed is not None
        errors = (first.failed, *(lane.failed for lane in others if lane.failed is not None))
        asked = [lane.target for lane in self.lanes[: len(errors)]]
        rest = [target for target in self._others if target not in asked]
        await self._races.attempts.ask_on(self._asked, (*asked, *rest), errors)

    def _count(self) -> None:
        """Count what became of a second request, and how long the first took to begin."""
        first, *others = self.lanes
        delay, clock = self._hedging.delay(stream=self._asked.call.stream), self._races.clock
        bill = first.tab.bill
        if first.tab.beaten or (bill is not None and bill.status == 200):
            delay.took((first.tab.begun_ns or clock.monotonic()) - first.began_ns)
        for lane in others:
            failed = lane.failed is not None or not isinstance(lane.fault, (Outrun, type(None)))
            self._told("won" if lane.tab.won and not failed else "failed" if failed else "lost")

    def _told(self, outcome: str) -> None:
        self._races.counter.count(HEDGES, self._name, outcome)


class Races:
    """Make the first attempts of calls that may have two at once. One per pipeline.

    Args:
        stages: of the pipeline.
    """

    def __init__(self, stages: Stages) -> None:
        self.attempts: Attempts = stages.attempts
        self.counter: Counter = stages.steering.trials.counter
        self.clock = stages.ledger.clock
        self.failpoint = stages.failpoints.hit
        self._models: dict[str, Hedging] = {}

    async def run(self, asked: Asked, targets: tuple[Target, ...], name: str, terms: HedgeTerms) -> None:
        """Ask the targets of a call until one answers, after a while perhaps two at once.

        Raises:
            GatewayError: none did; see `Attempts.run`.
            CallerGone: the caller hung up.
        """
        if len(targets) < 2 or targets[0].host.hangup != "cancel" or not terms.means(asked.call):
            await self.attempts.run(asked.attempt, asked.call, asked.sink, asked.tab, targets)
            return
        hedging = self._models.get(name)
        if hedging is None or hedging.terms != terms:
            hedging = self._models[name] = Hedging(terms)
        hedging.share.called()
        choice = await self.attempts.begin(asked, self.attempts.drawn(targets))
        try:
            if choice.panic:
                await self.attempts.ask_chosen(asked, choice)
            else:
                await _Race(self, asked, hedging, name).run(choice.targets)
        finally:
            self.attempts.free(asked.tab)

    def fit(self, target: Target) -> bool:
        """Say whether a target may be asked beside another: it is well, and stops when we hang up."""
        return target.host.hangup == "cancel" and self.attempts.health.well(target, self.clock.monotonic())


def _nothing() -> None:
    """Nobody has to be told."""
