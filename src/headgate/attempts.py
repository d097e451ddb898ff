"""The attempts of a call: one, where its first target answers; else what the class of each error allows.

Nothing is tried again once the caller has seen a byte, nor for one who has left. What a breaker has taken out
is asked last; with all of a model's targets out a few calls still go through, since one of them may be well.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from headgate.errors import CallerGone, UpstreamError, UpstreamOverloaded, WrongShape
from headgate.providers import shaping
from headgate.routing.retries import RetryBudget, Tries
from headgate.routing.weights import drawn
from headgate.waits import own_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.ports import Clock, Sink
    from headgate.routing.health import Health
    from headgate.routing.retries import Active, RetryTerms
    from headgate.settle import Tab
    from headgate.values import Call, Target

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


class _Asked(NamedTuple):
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
        clock: monotonic time.
        draw: returns chance from [0, 1).
        active: returns how many calls are open at a target's provider, and in all.
    """

    __slots__ = ("_active", "_budget", "_clock", "_draw", "_panics", "_terms", "health", "made")

    def __init__(
        self,
        terms: RetryTerms,
        health: Health,
        clock: Clock,
        draw: Callable[[], float],
        active: Callable[[Target], Active],
    ) -> None:
        self.health = health
        self.made = 0  # attempts beyond the first ones
        self._terms = terms
        self._clock = clock
        self._draw = draw
        self._active = active
        self._budget = RetryBudget(terms)
        self._panics = Counter[str]()  # by the first target's model

    async def run(
        self, attempt: Attempt, call: Call, sink: Sink, tab: Tab, targets: tuple[Target, ...]
    ) -> None:
        """Ask the targets until one answers.

        Raises:
            UpstreamError: of the last attempt; `retry` is False where no more would help now.
            CallerGone: the caller hung up in a pause.
        """
        asked = _Asked(attempt, call, sink, tab)
        if targets[0].weight and len(targets) > 1:
            targets = drawn(targets, self._draw())
        if self.health.quiet:
            await self._ask(asked, targets, panic=False)
            return
        choice = self.health.choose(targets, self._clock.monotonic())
        if not choice.panic:
            await self._ask(asked, choice.targets, panic=False)
            return
        model = choice.targets[0].model.name
        if self._panics[model] >= _PANICS:
            raise self._all_out(choice.targets)
        self._panics[model] += 1
        try:
            await self._ask(asked, choice.targets, panic=True)
        finally:
            self._panics[model] -= 1
            if not self._panics[model]:
                del self._panics[model]

    async def _ask(self, asked: _Asked, targets: tuple[Target, ...], *, panic: bool) -> None:
        failed = await self._try(asked, targets[0])
        if failed is None:
            return
        until = asked.call.received_ns + int(targets[0].deadlines.total_s * _NS)
        tries, index = Tries(self._terms, targets, until, panic=panic), 0
        while failed is not None:
            step = None
            if not (asked.tab.shown or asked.sink.gone):
                step = tries.after(index, failed, self._clock.monotonic(), self._draw())
            if step is None or (step.again and not self._room(targets[step.target])):
                if tries.made > 1 or step is not None:
                    failed.retry = False
                raise failed
            index = step.target
            self.made += 1
            try:
                if step.pause_ns:
                    await self._pause(asked.sink, step.pause_ns)
                failed = await self._try(asked, targets[index])
            finally:
                if step.again:
                    self._budget.give(targets[index].host.name)

    def _room(self, target: Target) -> bool:
        """Begin a retry at a target, if the budget has room for it."""
        return self._budget.take(target.host.name, self._active(target))

    async def _try(self, asked: _Asked, target: Target) -> UpstreamError | None:
        """Ask one target.

        It is asked once more when a kept connection to it was closed before it was asked, and when its answer
        is not the JSON that was asked for.
        """
        attempt, call, sink, tab = asked
        self.health.asked(target, self._clock)
        stale = False
        while True:
            try:
                await attempt(call, sink, tab, target)
            except UpstreamError as error:
                seen = tab.shown or sink.gone
                if error.not_processed and not (stale or seen):
                    stale = True
                    continue
                if isinstance(error, WrongShape) and not seen and shaping.asks_again(call, error):
                    continue
                self.health.failed(target, error, self._clock.monotonic())
                return error
            self.health.served(target, self._clock)
            return None

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
        return UpstreamOverloaded(
            "No provider of this model answers now. It is asked again soon; try again then.",
            retry_after_s=max(1.0, wait_s),
        )


def _nothing() -> None:
    """Nobody has to be told."""
