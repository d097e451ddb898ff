"""Money before the call: hold what it may cost, or say what would fit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from headgate.admission.bounds import bound, input_bound, output_bound
from headgate.admission.budget import WAIT_S, Budgets, Hold, exceeded
from headgate.errors import NotFound, QuotaExceeded
from headgate.money.cost import affordable_output

if TYPE_CHECKING:
    from headgate.ports import Clock
    from headgate.values import Call, Target

MIN_SHRUNK = 1_024  # tokens: an output limit is never shrunk below this


class InputCounter(Protocol):
    """Count an input off the loop."""

    async def input_tokens(self, call: Call, target: Target) -> int:
        """Return the input's tokens, exact where the model's tokenizer is known."""
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
        amount = bound(call, targets)
        hold = self._budgets.reserve(budgets, amount, self._clock.wall())
        if hold is not None:
            return hold
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
        call.input_bound = min(call.input_bound, await self._exact_bound(call, targets))
        while True:
            now = self._clock.wall()
            hold = self._budgets.reserve(budgets, bound(call, targets), now)
            if hold is not None:
                return hold
            free, unspent = self._budgets.left(budgets, now)
            fits = self._fitting(call, targets, free)
            if not call.max_output and fits >= MIN_SHRUNK and call.operation != "embeddings":
                call.shrunk_to = fits
                continue
            wanted = call.max_output or (0 if call.operation == "embeddings" else MIN_SHRUNK)
            if self._fitting(call, targets, unspent) < wanted or unspent == free:
                raise self._too_dear(call, targets)
            await self._budgets.changed()

    async def _exact_bound(self, call: Call, targets: tuple[Target, ...]) -> int:
        """Return the counted input where every candidate's tokenizer is exact, else the bytes."""
        if not all(target.model.exact for target in targets):
            return call.input_bound
        counts = [await self._counter.input_tokens(call, target) for target in targets]
        if call.images or any(name in call.members for name in ("tools", "functions", "response_format")):
            return call.input_bound  # no public formula counts these
        return max(counts)

    def _fitting(self, call: Call, targets: tuple[Target, ...], money: int) -> int:
        """Return the output tokens per choice that some money covers; 0 when none."""
        fits = 2**31
        for target in targets:
            assert target.prices is not None
            tokens = affordable_output(input_bound(call, target), money, target.prices)
            fits = min(fits, tokens // call.n)
        if call.operation == "embeddings":
            return fits
        ceiling = min(output_bound(call, target) // call.n for target in targets)
        return min(fits, ceiling)

    def _too_dear(self, call: Call, targets: tuple[Target, ...]) -> QuotaExceeded:
        principal = call.principal
        assert principal is not None
        budgets = self._budgets.covering(principal)
        free, _ = self._budgets.left(budgets, self._clock.wall())
        fits = 0 if call.operation == "embeddings" else self._fitting(call, targets, free)
        call.shrunk_to = 0
        return exceeded(budgets, bound(call, targets), free, fits)
