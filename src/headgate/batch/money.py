"""The money of a batch: all of it is held when it begins, and each line spends the part that is its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.admission.bounds import assumed_output, bound, most_used
from headgate.admission.budget import Hold
from headgate.admission.reserve import Reservations, unpriced
from headgate.errors import QuotaExceeded
from headgate.money.credit import in_tokens
from headgate.ports import Source
from headgate.values import Call, Host, Model, Prices, Target
from headgate.wire.batchjobs import portions_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headgate.batch.line import Running
    from headgate.ports import Clock
    from headgate.values import NanoUSD, Principal

_UNIT: Final = "batch"
_PICO: Final = 1_000


class Weight(NamedTuple):
    """What lines may cost together."""

    money: NanoUSD = 0
    tokens: int = 0
    only_tokens: bool = True  # and no other unit, which no grant in tokens covers

    def plus(self, other: Weight) -> Weight:
        """Return the sum. What costs nothing takes no tokens, either."""
        tokens = other.tokens if other.money else 0
        return Weight(self.money + other.money, self.tokens + tokens, self.only_tokens and other.only_tokens)


class Lump(NamedTuple):
    """The money of a whole batch, or the tokens that cover it."""

    weight: Weight
    hold: Hold

    @property
    def in_tokens(self) -> bool:
        """Say whether a grant in tokens covers it."""
        return in_tokens(self.hold.sources)

    @property
    def taken(self) -> tuple[tuple[int, int], ...]:
        """Return how much of it is of each pot: of budgets nothing, where a grant in tokens covers it."""
        hold = self.hold
        if self.in_tokens:
            return tuple((source.pot, source.tokens) for source in hold.sources)
        budgets = tuple((own.pot, hold.amount) for own in hold.slices)
        return (*budgets, *((source.pot, source.amount) for source in hold.sources))


async def hold_lump(
    reservations: Reservations, principal: Principal, call_id: bytes, model: str, weight: Weight
) -> Lump:
    """Hold what a batch may cost, as for one call that costs so much and takes so many tokens.

    Raises:
        QuotaExceeded: it does not fit; the message says what it could cost, and what is left.
        Unavailable: who grants money does not answer.
    """
    call = Call(call_id, "embeddings", 0)  # no output whose limit could be lowered
    call.principal, call.model = principal, model
    call.unknown = (_UNIT,)  # so that nobody counts its input
    call.input_bytes, call.counted = weight.tokens, {(_UNIT, model): weight.tokens}
    prices = Prices(request=weight.money * _PICO)
    if not weight.only_tokens:
        call.units, prices = ((_UNIT, 1),), Prices(more=((_UNIT, weight.money * _PICO),))
    target = Target(
        host=Host(name=_UNIT, base_url=""),
        model=Model(name=model),
        prices=prices,
        by_unit=not weight.only_tokens,
    )
    try:
        return Lump(weight, await reservations.reserve(call, (target,)))
    except QuotaExceeded as error:
        error.message = error.message.replace("This call may cost", "This batch may cost")
        error.code = "insufficient_quota"
        raise


class LineReservations(Reservations):
    """Gives the calls of lines the money that was held for them.

    Args:
        running: the lines that run, by the ids of their calls.
        clock: wall time.
    """

    __slots__ = ("_running", "_time")

    def __init__(self, running: Mapping[bytes, Running], clock: Clock) -> None:
        self._running = running
        self._time = clock

    def at_once(self, call: Call, targets: tuple[Target, ...]) -> Hold:
        """Return the hold of a line, or of a call that came apart from it.

        Raises:
            NotFound: a candidate has no price and the caller has a cap.
            QuotaExceeded: nothing was held for it, as it could not be served when the batch began.
        """
        line = self._running.get(call.id) or self._running[call.parent]
        job = line.batch.job
        # What a line was charged once, or may have been, it is not charged again: the house pays.
        if not job.capped:
            return Hold(0 if line.free else bound(call, targets), job.held_at, (), ())
        if any(target.prices is None for target in targets):
            raise unpriced(call)
        call.shrunk_to = assumed_output(call, targets)
        amount = bound(call, targets)
        if amount and not line.claim.bound:
            raise QuotaExceeded(
                "Nothing was held for this request, since it could not be served when its batch began. "
                "Send it again in another batch."
            )
        whole = call.id == line.claim.call
        if job.in_tokens:
            tokens = most_used(call, targets)[0] if amount else 0
            parts = portions_of(job, *line.take(tokens, whole=whole))
            sources = tuple(Source(part.pot, part.grant, amount, part.amount) for part in parts)
            return Hold(amount if parts else 0, job.held_at, (), (), sources)
        start, amount = line.take(amount, whole=whole)
        sources = tuple(Source(part.pot, part.grant, part.amount) for part in portions_of(job, start, amount))
        return Hold(amount, job.held_at, (), job.pots, sources)

    async def reserve(self, call: Call, targets: tuple[Target, ...]) -> Hold:
        """Do the same."""
        return self.at_once(call, targets)

    async def wait(self, call: Call, targets: tuple[Target, ...]) -> Hold:
        """Do the same: there is nothing to wait for."""
        return self.at_once(call, targets)
