"""The attempts of a call: one, where its first target answers; else what the class of each error allows.

Nothing is tried again once the caller has seen a byte, nor for one who has left. What a breaker has taken out
is asked last; with all of a model's targets out a few calls still go through, since one of them may be well.
Where targets have bounds, each attempt takes a seat at its target first, if need be after a wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import msgspec

from headgate.admission.bounds import rough_input
from headgate.errors import CallerGone, GatewayError, UpstreamError, UpstreamOverloaded, WrongShape
from headgate.ports import Sink
from headgate.providers import shaping
from headgate.providers.told import told
from headgate.routing.health import Choice
from headgate.routing.retries import RetryBudget, Tries
from headgate.routing.weights import drawn
from headgate.settle import Tab
from headgate.values import Call
from headgate.waits import own_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headgate.ports import Clock, Head
    from headgate.routing.doors import Doors, Seat
    from headgate.routing.health import Health
    from headgate.routing.retries import Active, RetryTerms, Step
    from headgate.values import Target

_NS = 1_000_000_000
_PANICS = 3  # calls of a model at once, while none of its targets is well


class Attempt(Protocol):
    """Make one attempt of a call."""

    async def __call__(self, call: Call, sink: Sink, tab: Tab, target: Target) -> None:
        """Ask a target and relay what it answers.

        Raises:
            UpstreamError: it gave no whole answer.
        """
        ...


class Asked(msgspec.Struct, frozen=True, gc=False):
    """Whose attempts they are."""

    attempt: Attempt
    call: Call
    sink: Sink
    tab: Tab


class Attempts:
    """Ask targets for calls. One per process.

    Args:
        terms: how often and how soon.
        health: which targets are well.
        doors: which have room.
        clock: monotonic time.
        draw: returns chance from [0, 1).
        active: returns how many calls are open at a target's provider, and in all.
    """

    __slots__ = (
        "_active", "_budget", "_clock", "_draw", "_panics", "_terms", "doors", "health", "made",
        "most_panics",
    )  # fmt: skip

    def __init__(
        self,
        terms: RetryTerms,
        health: Health,
        doors: Doors,
        clock: Clock,
        draw: Callable[[], float],
        active: Callable[[Target], Active],
    ) -> None:
        self.health = health
        self.doors = doors
        self.made = 0  # attempts beyond the first ones
        self._terms = terms
        self._clock = clock
        self._draw = draw
        self._active = active
        self._budget = RetryBudget(terms)
        self.most_panics = _PANICS
        self._panics = Counter[str]()  # by the first target's model

    async def run(
        self, attempt: Attempt, call: Call, sink: Sink, tab: Tab, targets: tuple[Target, ...]
    ) -> None:
        """Ask the targets until one answers.

        Raises:
            UpstreamError: of the last attempt; `retry` is False where no more would help now.
            CallerGone: the caller hung up in a pause.
        """
        if len(targets) > 1:
            targets = self.drawn(targets)
        if self.health.breakers or not self.doors.idle:
            await self._run_by_choice(Asked(attempt, call, sink, tab), targets)
            return
        try:
            await attempt(call, sink, tab, targets[0])
        except UpstreamError as error:
            failed = _bare(error)
        else:
            self.health.served(targets[0], self._clock, tab)
            return
        asked = Asked(attempt, call, sink, tab)
        last = await self._ask_again(asked, targets[0], failed)
        if last is not None:
            await self.ask_on(asked, targets, (last,))

    async def _run_by_choice(self, asked: Asked, targets: tuple[Target, ...]) -> None:
        """Do the same where some targets are not well, or not all have room."""
        choice = await self.begin(asked, targets)
        try:
            await self.ask_chosen(asked, choice)
        finally:
            self.free(asked.tab)

    def drawn(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        """Return targets with those in front of each group that are drawn by their weights."""
        return drawn(targets, self._draw()) if any(target.weight for target in targets) else targets

    async def begin(self, asked: Asked, targets: tuple[Target, ...]) -> Choice:
        """Return the targets in the order in which they are asked, with a seat at the first of them.

        Raises:
            GatewayError: none lets the call in.
            CallerGone: the caller hung up while it waited.
        """
        choice = self.health.choose(targets, self._clock.monotonic())
        return choice if self.doors.idle else await self._let_in(asked, choice)

    async def _let_in(self, asked: Asked, choice: Choice) -> Choice:
        """Take a seat at the first target that has room; the others stand behind it.

        Raises:
            GatewayError: none lets the call in.
            CallerGone: the caller hung up while it waited.
        """
        targets = choice.targets
        seat = await self._seat(asked, targets[: choice.open or None])
        targets = (targets[seat.index], *targets[: seat.index], *targets[seat.index + 1 :])
        if not choice.panic:
            return Choice(targets)
        now = self._clock.monotonic()
        return Choice(targets, panic=all(self.health.wait_ns(target, now) for target in targets))

    async def _seat(self, asked: Asked, targets: tuple[Target, ...]) -> Seat:
        call, tab, began = asked.call, asked.tab, self._clock.monotonic()
        tokens = rough_input(call) + (call.max_output or 0) * call.n
        seat = tab.seat = await self.doors.enter(call, targets, tokens, asked.sink)
        tab.waited_ns += self._clock.monotonic() - began
        return seat

    def free(self, tab: Tab) -> None:
        """Give back the seat of an attempt; the second time does nothing."""
        seat, tab.seat = tab.seat, None
        if seat is not None:
            self.doors.leave(seat)

    def heard(self, tab: Tab, target: Target, head: Head) -> None:
        """Take in what the head of an answer says of its provider's limits."""
        self.doors.told(target, told(head), tab.seat, served=head.status < 300)

    async def ask_chosen(self, asked: Asked, choice: Choice) -> None:
        """Ask the targets of a call that has its seat until one answers; see `run`."""
        if not choice.panic:
            await self._ask(asked, choice.targets, panic=False)
            return
        self.health.panicked(choice.targets, self._clock.monotonic())
        model = choice.targets[0].model.name
        if self._panics[model] >= self.most_panics:
            raise self._all_out(choice.targets)
        self._panics[model] += 1
        try:
            await self._ask(asked, choice.targets, panic=True)
        finally:
            self._panics[model] -= 1
            if not self._panics[model]:
                del self._panics[model]

    async def _ask(self, asked: Asked, targets: tuple[Target, ...], *, panic: bool) -> None:
        failed = await self.ask_one(asked, targets[0])
        if failed is not None:
            await self.ask_on(asked, targets, (failed,), panic=panic)

    async def ask_on(
        self,
        asked: Asked,
        targets: tuple[Target, ...],
        errors: Sequence[UpstreamError],
        *,
        panic: bool = False,
    ) -> None:
        """Go on where the first target has failed, or the first two, by their errors; see `run`."""
        self.free(asked.tab)
        until = asked.call.received_ns + int(targets[0].deadlines.total_s * _NS)
        if asked.call.deadline is not None:
            until = min(until, asked.call.deadline.at_ns)
        tries = Tries(self._terms, targets, until, panic=panic)
        for index, error in enumerate(errors[:-1]):
            tries.after(index, error, self._clock.monotonic(), 0.0)
        index = len(errors) - 1
        failed: UpstreamError | None = errors[-1]
        while failed is not None:
            step = room = None
            if not (asked.tab.shown or asked.sink.gone):
                step = tries.after(index, failed, self._clock.monotonic(), self._draw())
            if step is not None:
                room = self._room(step, targets[step.target], failed)
            if step is None or room is None:
                if tries.made > 1 or step is not None:
                    failed.retry = False
                raise failed
            index = step.target
            self.made += 1
            self.health.retried(targets[index])
            try:
                if step.pause_ns:
                    await self._pause(asked.sink, step.pause_ns)
                failed = await self._retry(asked, targets[index], failed)
            finally:
                if room:
                    self._budget.give(room)

    async def _retry(self, asked: Asked, target: Target, failed: UpstreamError) -> UpstreamError | None:
        """Ask a target after another attempt has failed, if it has room for that.

        Raises:
            UpstreamError: the failure before, where there is no room.
        """
        if not self.doors.idle:
            try:
                await self._seat(asked, (target,))
            except GatewayError:
                raise failed from None
        try:
            return await self.ask_one(asked, target)
        finally:
            self.free(asked.tab)

    def _room(self, step: Step, target: Target, failed: UpstreamError) -> str | None:
        """Begin a retry; return the provider in whose budget it has taken room, empty: in none's.

        None: there is no room. What a provider has refused as too much at once needs none to come again: it
        stands in line there, where one is let in, then one more for each that was served.
        """
        limited = isinstance(failed, UpstreamOverloaded) and failed.limited_by
        if not step.again or (limited and self.doors.paces(target)):
            return ""
        name = target.host.name
        return name if self._budget.take(name, self._active(target)) else None

    async def ask_one(self, asked: Asked, target: Target) -> UpstreamError | None:
        """Ask one target.

        It is asked once more when a kept connection to it was closed before it was asked, and when its answer
        is not the JSON that was asked for.
        """
        probes = self.health.asked(target, self._clock)
        if probes is None:
            return self._all_out((target,))
        try:
            try:
                await asked.attempt(asked.call, asked.sink, asked.tab, target)
            except UpstreamError as error:
                failed = _bare(error)
            else:
                self.health.served(target, self._clock, asked.tab)
                return None
            return await self._ask_again(asked, target, failed)
        except BaseException:  # its caller has left, or we are stopping
            if probes:
                self.health.left(target)
            raise

    async def _ask_again(self, asked: Asked, target: Target, failed: UpstreamError) -> UpstreamError | None:
        """Ask a target again as long as its error says that this may help at once; return the last error."""
        call, sink, tab = asked.call, asked.sink, asked.tab
        stale = False
        while True:
            seen = tab.shown or sink.gone
            if failed.not_processed and not (stale or seen):
                stale = True
            elif seen or not (isinstance(failed, WrongShape) and shaping.asks_again(call, failed)):
                self._failed(target, failed)
                return failed
            try:
                await asked.attempt(call, sink, tab, target)
            except UpstreamError as error:
                failed = _bare(error)
            else:
                self.health.served(target, self._clock, tab)
                return None

    def _failed(self, target: Target, error: UpstreamError) -> None:
        self.health.failed(target, error, self._clock)
        if isinstance(error, UpstreamOverloaded) and error.limited_by and not target.simulated:
            self.doors.refused(target, error.retry_after_s, self._clock.monotonic())

    async def _pause(self, sink: Sink, pause_ns: int) -> None:
        """Wait, but for nobody.

        Raises:
            CallerGone: the caller hung up meanwhile.
        """
        await own_task()
        gone = asyncio.Event()
        sink.on_gone(gone.set)
        try:
            async with asyncio.timeout(pause_ns / _NS):
                await gone.wait()
        except TimeoutError:
            return
        finally:
            sink.on_gone(_nothing)
        raise CallerGone

    def _all_out(self, targets: tuple[Target, ...]) -> UpstreamError:
        now = self._clock.monotonic()
        wait_s = min(self.health.wait_ns(target, now) for target in targets) / _NS
        error = UpstreamOverloaded(
            "No provider of this model answers now. It is asked again soon; try again then.",
            retry_after_s=max(1.0, wait_s) * (1 + self._draw() / 4),  # not all at once
        )
        error.kind = ""  # nobody was asked
        return error


def _bare(error: UpstreamError) -> UpstreamError:
    """Return an error without the frames that it came through: that one of them keeps it were a cycle."""
    return error.with_traceback(None)


def _nothing() -> None:
    """Nobody has to be told."""
