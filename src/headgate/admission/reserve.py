"""Money before the call: hold what it may cost, or say what would fit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from headgate.admission.bounds import (
    MIN_SHRUNK,
    assumed_output,
    bound,
    input_bound,
    output_limit,
)
from headgate.admission.budget import WAIT_S, Budgets, Hold, exceeded
from headgate.errors import NotFound, QuotaExceeded
from headgate.money.cost import affordable_output, upper_bound
from headgate.waits import own_task

if TYPE_CHECKING:
    from headgate.ports import Clock
    from headgate.values import Call, NanoUSD, Target


class InputCounter(Protocol):
    """Count an input off the loop."""

    async def input_bound(self, call: Call, target: Target) -> int:
        """Return the most tokens that the input can be, counted where the tokenizer is known."""
        ...


class Reservations:
    """Reserve the money of calls."""

    __slots__ = ("_budgets", "_clock", "_counter")

    def __init__(self, budgets: Budgets, clock: Clock, counter: InputCounter) -> None:
        self._budgets = budgets
        self._clock = clock
        self._counter = counter

    async def reserve(self, call: Call, targets: tuple[Target, ...]) -> Hold:
        """Hold the upper bound of a call over its candidates; may shrink its output or wait 2 s.

        Under a cap the limit that the hold rests on is sent, where the provider keeps none of its own.

        Raises:
            QuotaExceeded: it does not fit; the message says what would.
            NotFound: a candidate has no price and the caller has a cap.
        """
        principal = call.principal
        assert principal is not None
        budgets = self._budgets.covering(principal)
        if budgets and any(target.prices is None for target in targets):
            raise NotFound(
                f"The model `{call.model}` does not exist or has no price here, and this account has a "
                "spending cap. Give it a price under [prices] in the configuration.",
                code="model_not_found",
            )
        if budgets:
            call.shrunk_to = assumed_output(call, targets)
        amount = bound(call, targets)
        hold = self._budgets.reserve(budgets, amount, self._clock.wall())
        if hold is not None:
            return hold
        await own_task()
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._wait_for_money(call, targets)
        except TimeoutError:
            raise self._too_dear(call, targets) from None

    async def _wait_for_money(self, call: Call, targets: tuple[Target, ...]) -> Hold:
        """Hold what fits: an exact count first, then a smaller output, then what others give back."""
        principal = call.principal
        assert principal is not None
        budgets = self._budgets.covering(principal)
        await self._count(call, targets)
        while True:
            now = self._clock.wall()
            hold = self._budgets.reserve(budgets, bound(call, targets), now)
            if hold is not None:
                return hold
            free, unspent = self._budgets.left(budgets, now)
            if call.max_output is None and call.operation != "embeddings":
                fits = self._fitting(call, targets, free)
                if MIN_SHRUNK <= fits < _ceiling(call, targets):
                    call.shrunk_to = fits
                    continue
            if _least(call, targets) > unspent or unspent == free:
                raise self._too_dear(call, targets)
            await self._budgets.changed()

    async def _count(self, call: Call, targets: tuple[Target, ...]) -> None:
        """Count the input where a candidate's tokenizer is exact and the request shows all of it."""
        if call.unknown or (call.media is not None and call.media.hidden):
            return
        call.counted = {
            (target.host.name, target.model.name): await self._counter.input_bound(call, target)
            for target in targets
            if target.model.exact
        }

    def _fitting(self, call: Call, targets: tuple[Target, ...], money: int) -> int:
        """Return the output tokens per choice that some money covers; 0 when none."""
        fits = _ceiling(call, targets)
        for target in targets:
            assert target.prices is not None
            tokens = affordable_output(input_bound(call, target), money, target.prices)
            fits = min(fits, tokens // call.n - call.predicted)
        return max(fits, 0)

    def _too_dear(self, call: Call, targets: tuple[Target, ...]) -> QuotaExceeded:
        principal = call.principal
        assert principal is not None
        budgets = self._budgets.covering(principal)
        free, _ = self._budgets.left(budgets, self._clock.wall())
        fits = self._fitting(call, targets, free)
        call.shrunk_to = 0
        return exceeded(budgets, bound(call, targets), free, fits)


def _ceiling(call: Call, targets: tuple[Target, ...]) -> int:
    return min(output_limit(call, target) for target in targets)


def _least(call: Call, targets: tuple[Target, ...]) -> NanoUSD:
    """Return the bound with the smallest output limit that the call may be given."""
    limit = call.max_output if call.max_output is not None else min(MIN_SHRUNK, _ceiling(call, targets))
    limit = (limit + call.predicted) * call.n
    return max(
        upper_bound(input_bound(call, target), limit, target.prices)
        for target in targets
        if target.prices is not None
    )
