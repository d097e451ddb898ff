"""Money before the call: hold what it may cost, or say what would fit."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from headgate.admission.bounds import (
    MIN_SHRUNK,
    TEXTLESS,
    assumed_output,
    bound,
    input_bound,
    most_used,
    output_limit,
    units_bound,
    weigh,
)
from headgate.admission.budget import WAIT_S, Budgets, Hold
from headgate.errors import NotFound, QuotaExceeded, Unavailable
from headgate.money.amounts import format_usd
from headgate.money.cost import affordable_output, upper_bound
from headgate.money.credit import Need
from headgate.waits import own_task

if TYPE_CHECKING:
    from headgate.admission.budget import Cover, Standing
    from headgate.admission.purse import Slice
    from headgate.admission.teller import Teller
    from headgate.ports import Clock
    from headgate.values import Call, NanoUSD, Principal, Target

ASK_EVERY_NS: Final = 50_000_000  # how often a call that waits asks the store again
_CODES: Final = {
    "key": "insufficient_quota",
    "project": "project_spend_limit_exceeded",
    "account": "organization_spend_limit_exceeded",
}


class InputCounter(Protocol):
    """Count an input off the loop."""

    async def input_bound(self, call: Call, target: Target) -> int:
        """Return the most tokens that the input can be, counted where the tokenizer is known."""
        ...


class Reservations:
    """Reserve the money of calls."""

    __slots__ = ("_budgets", "_clock", "_counter", "_covers", "_teller")

    def __init__(self, budgets: Budgets, teller: Teller, clock: Clock, counter: InputCounter) -> None:
        self._budgets, self._covers = budgets, budgets.covers
        self._teller = teller
        self._clock = clock
        self._counter = counter

    async def reserve(self, call: Call, targets: tuple[Target, ...]) -> Hold:
        """Hold the upper bound of a call over its candidates; may shrink its output or wait 2 s.

        Under a cap the limit that the hold rests on is sent, where the provider keeps none of its own.

        Raises:
            QuotaExceeded: it does not fit; the message says what would.
            NotFound: a candidate has no price and the caller has a cap.
            Unavailable: who grants money does not answer.
        """
        hold = self.at_once(call, targets)
        return hold if hold is not None else await self.wait(call, targets)

    def at_once(self, call: Call, targets: tuple[Target, ...]) -> Hold | None:
        """Do the same where this worker has the money; None: it is to be waited for.

        Raises:
            NotFound: a candidate has no price and the caller has a cap.
        """
        principal = call.principal
        assert principal is not None
        place = (principal.key, principal.book)
        found = self._covers.get(place) or self._budgets.covering(principal)
        if found.capped:
            call.shrunk_to = 0
            for target in targets:
                if not target.bounded:
                    _assume(call, targets)
                    break
        amount, given = weigh(call, targets)
        hold = self._budgets.reserve(found, amount, self._clock.wall())
        if hold is None:
            return self._try(call, targets, found) if found.prepaid else None
        hold.given = given
        return hold

    async def wait(self, call: Call, targets: tuple[Target, ...]) -> Hold:
        """Do the same after asking the store, and waiting for others; see `reserve`."""
        principal = call.principal
        assert principal is not None
        await own_task()
        asks: list[bool] = []
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._wait_for_money(call, targets, principal, asks)
        except TimeoutError:
            if self._teller.trouble or asks == [False]:  # the first one was never answered
                raise Unavailable(
                    "The gateway cannot grant money now: its database does not answer. Try again in a moment."
                ) from None
            found = self._budgets.in_force(principal, self._clock.wall())
            raise self._too_dear(call, targets, found) from None

    def _try(self, call: Call, targets: tuple[Target, ...], found: Cover) -> Hold | None:
        """Hold the upper bound of a call, in several grants where none has all of it."""
        amount, given = weigh(call, targets)
        need = _needed(call, targets, amount) if found.prepaid else None
        hold = self._budgets.reserve(found, amount, self._clock.wall(), need)
        if hold is not None:
            hold.given = given
        return hold

    async def _wait_for_money(
        self, call: Call, targets: tuple[Target, ...], principal: Principal, asks: list[bool]
    ) -> Hold:
        """Hold what fits: what the store has, by an exact count, with a smaller output, or given back.

        Counting comes second, since a cold tokenizer costs far more than asking the store. `asks` is told of
        each question to it, and of each answer.
        """
        budgets, counted = self._budgets, False
        asked: dict[Slice, int] = {}  # which recalls must have been answered before it is refused
        ask_at = 0  # monotonic
        while True:
            found = budgets.covering(principal)
            hold = self._try(call, targets, found)
            if hold is None and not budgets.complete(found) and self._clock.monotonic() >= ask_at:
                in_order = not (asked and budgets.heard(found, asked))
                asks.append(False)
                hold = await self._take(call, targets, found, in_order=in_order)
                asks.append(True)
                ask_at = self._clock.monotonic() + ASK_EVERY_NS
            if hold is not None:
                return hold
            if not counted:
                counted, ask_at = True, 0
                await self._count(call, targets)
                continue
            if budgets.heard(found, asked):
                if self._shrink(call, targets, found):
                    ask_at = 0
                    continue
                if _least(call, targets) > budgets.standing(found).hope:
                    raise self._too_dear(call, targets, found)
            await self._changed(found)

    async def _take(
        self, call: Call, targets: tuple[Target, ...], found: Cover, *, in_order: bool
    ) -> Hold | None:
        """Ask the store for what the call lacks."""
        amount, _ = weigh(call, targets)
        need = _needed(call, targets, amount) if found.prepaid else None
        want = self._budgets.want(found, amount, need, in_order=in_order)
        return await self._teller.take(want, lambda: self._try(call, targets, found))

    def _shrink(self, call: Call, targets: tuple[Target, ...], found: Cover) -> bool:
        """Shrink an output that the caller left open to what can be had; say whether that changed it."""
        if call.max_output is not None or call.operation in TEXTLESS:
            return False
        fits = self._fitting(call, targets, self._budgets.standing(found).free)
        widest = max(output_limit(call, target) for target in targets)
        if not min(MIN_SHRUNK, _ceiling(call, targets)) <= fits < widest:
            return False
        call.shrunk_to = fits
        return True

    async def _changed(self, found: Cover) -> None:
        """Wait for a hold to be released, or until the store may know more."""
        if self._budgets.complete(found):
            await self._budgets.changed()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(ASK_EVERY_NS / 1e9):
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
            tokens = affordable_output(
                input_bound(call, target), money, target.prices, units_bound(call, target)
            )
            fits = min(fits, tokens // call.n - call.predicted)
        return max(fits, 0)

    def _too_dear(self, call: Call, targets: tuple[Target, ...], found: Cover) -> QuotaExceeded:
        standing = self._budgets.standing(found)
        fits = self._fitting(call, targets, standing.free)
        call.shrunk_to = 0
        return exceeded(standing, bound(call, targets), fits)


def exceeded(standing: Standing, needed: NanoUSD, fits: int) -> QuotaExceeded:
    """Return the refusal: OpenAI's sentence, then what the call may cost, what is left and what fits."""
    if standing.tightest is None:
        whose, code = "the account's credit", "insufficient_quota"
    else:
        terms = standing.tightest.terms
        each = "in all" if terms.unit == "total" else f"per {terms.unit}"
        whose, code = f"the {terms.scope}'s {format_usd(terms.amount)} {each}", _CODES[terms.scope]
    advice = f" With max_tokens up to {fits} it fits." if fits > 0 else ""
    return QuotaExceeded(
        "You exceeded your current quota, please check your plan and billing details. "
        f"This call may cost up to {format_usd(needed)} and {format_usd(max(standing.free, 0))} is left of "
        f"{whose}.{advice}",
        code=code,
    )


def _assume(call: Call, targets: tuple[Target, ...]) -> None:
    """Note the output limit to be sent; see `Reservations.at_once`."""
    if any(target.prices is None for target in targets):
        raise unpriced(call)
    call.shrunk_to = assumed_output(call, targets)


def _needed(call: Call, targets: tuple[Target, ...], amount: NanoUSD) -> Need:
    """Return what a call asks of credit whose upper bound is known."""
    tokens, other = most_used(call, targets)
    return Need(call.model, amount, tokens, not other)


def unpriced(call: Call) -> NotFound:
    """Return the refusal of a call that may cost what nobody knows."""
    units = ", ".join(name for name, _ in call.units)
    return NotFound(
        f"The model `{call.model}` does not exist or has no price here{units and f' for {units}'}, and this "
        "account has a spending cap. Give it a price under [prices] in the configuration.",
        code="model_not_found",
    )


def _ceiling(call: Call, targets: tuple[Target, ...]) -> int:
    return min(output_limit(call, target) for target in targets)


def _least(call: Call, targets: tuple[Target, ...]) -> NanoUSD:
    """Return the bound with the smallest output limit that the call may be given."""
    limit = call.max_output if call.max_output is not None else min(MIN_SHRUNK, _ceiling(call, targets))
    limit = (limit + call.predicted) * call.n
    return max(
        upper_bound(input_bound(call, target), limit, target.prices, units_bound(call, target))
        for target in targets
        if target.prices is not None
    )
