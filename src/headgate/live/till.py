"""The money and the limits of one session: held before a response can begin, settled response by response."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.admission.bounds import ASSUMED_OUTPUT
from headgate.admission.gates import Gate, Ticket
from headgate.errors import QuotaExceeded
from headgate.settle import Tab, believable
from headgate.values import Call, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.admission.budget import Hold
    from headgate.pipeline import Stages
    from headgate.ports import Sink
    from headgate.values import MonotonicNs, Target, Units
    from headgate.wire.realtime import EventUsage

_FAILED = 502
_ROOM = 4_096  # tokens that are held beyond what is there, so that not every word asks for money


class Turn:
    """One response, or one transcription: a call of its own, whose parent is the session."""

    __slots__ = ("_rough", "_tab", "audio", "call", "target", "text")

    def __init__(self, call: Call, tab: Tab, target: Target, rough: int) -> None:
        self.call = call
        self.target = target
        self.text = 0  # output tokens so far, by our own count
        self.audio = 0
        self._tab = tab
        self._rough = rough  # what there is to read, not the most that it can be

    def produced(self) -> int:
        """Return the output tokens so far."""
        return self.text + self.audio

    def within(self) -> bool:
        """Checkpoint it; say whether it is still within its hold."""
        return self._tab.progress(self)

    def settle(self, usage: Usage | None, *, failed: bool = False) -> Usage | None:
        """Book what it used; return the provider's count where it is believed.

        Without one it is what was made until now, and what was there to read; one that failed before it
        made anything, or was cancelled, costs what the provider says, and nothing where it says nothing.
        """
        believed = usage if believable(usage, self.call, self.target) else None
        if believed is not None:
            self._tab.settle(200, believed)
        elif failed and not self.produced():
            self._tab.settle(_FAILED, Usage())
        else:
            self._tab.settle(_FAILED if failed else 200, self._counted(), estimated=True)
        return believed

    def cut(self, status: int) -> None:
        """Settle one that will not be done: for what was made until now."""
        self._tab.settle(status, self._counted(), estimated=True)

    def _counted(self) -> Usage:
        """Return our own count."""
        return Usage(self._rough, self.produced(), output_audio_tokens=self.audio)


class Till:
    """What a session holds for the next turn of one kind.

    Args:
        stages: of the pipeline.
        session: the call that is the parent of all.
        new_id: makes the ids of calls.
        targets: one of which serves the session; `serves` says which.
        sink: of the caller.
    """

    __slots__ = (
        "_held",
        "_lock",
        "_new_id",
        "_session",
        "_sink",
        "_stages",
        "clock",
        "model",
        "targets",
        "units",
    )

    def __init__(
        self,
        stages: Stages,
        session: Call,
        new_id: Callable[[], bytes],
        targets: tuple[Target, ...],
        sink: Sink,
    ) -> None:
        self.targets = targets
        self.clock = stages.ledger.clock
        self.model = session.model
        self.units: Units = ()  # what a turn can use besides tokens
        self._stages = stages
        self._session = session
        self._new_id = new_id
        self._sink = sink
        self._held: tuple[Call, Hold] | None = None
        self._lock = asyncio.Lock()

    def limit(self) -> int:
        """Return the most output tokens of a turn for which nobody has set a limit."""
        return max(
            target.model.max_output or min(target.model.context_window or ASSUMED_OUTPUT, ASSUMED_OUTPUT)
            for target in self.targets
        )

    async def secure(self, bound: int, limit: int, *, anew: bool = False) -> None:
        """Hold what a turn may cost that reads and makes so many tokens at most.

        Raises:
            QuotaExceeded: the money does not cover it.
            NotFound: there is no price, and the caller has a cap.
            Unavailable: who grants money does not answer.
        """
        async with self._lock:
            if self._held is not None:
                call = self._held[0]
                if not anew and call.input_bytes >= bound and (call.max_output or 0) >= limit:
                    return
            self.release()
            try:
                self._held = await self._hold(bound if anew else bound + _ROOM, limit)
            except QuotaExceeded:
                if anew:
                    raise
                self._held = await self._hold(bound, limit)

    async def _hold(self, bound: int, limit: int) -> tuple[Call, Hold]:
        stages, session = self._stages, self._session
        call = Call(self._new_id(), session.operation, stages.ledger.clock.monotonic())
        call.principal = session.principal
        call.parent = session.id
        call.model = self.model
        call.stream = True
        call.input_bytes = bound
        call.max_output = limit
        call.units = self.units
        return call, await stages.reservations.reserve(call, self.targets)

    def release(self) -> None:
        """Give back what is held for the next turn."""
        held, self._held = self._held, None
        if held is not None:
            self._stages.ledger.budgets.close(held[1], 0)

    async def begin(self, bound: int, limit: int, ticket: Ticket, rough: int) -> Turn:
        """Open a turn that begins now, in the period that is in force.

        Raises:
            QuotaExceeded: as `secure` does, and what else it raises.
            Unavailable: the journal cannot take it.
        """
        await self.secure(bound, limit, anew=True)
        held, self._held = self._held, None
        assert held is not None
        call, hold = held
        tab = Tab(self._stages.ledger, call, hold, ticket)
        tab.open(self.targets[0])
        tab.first_byte()
        return Turn(call, tab, self.targets[0], rough)

    # ── limits ──────────────────────────────────────────────────────────────────────────────────

    def _gate(self, now: MonotonicNs) -> Gate:
        """Return the limits of a turn: all but calls at once, in which the session counts."""
        principal = self._session.principal
        assert principal is not None
        return self._stages.ledger.rates.gate(principal, self.model, now).without_counts()

    async def admit(self, bound: int, limit: int) -> Ticket:
        """Count a turn in.

        Raises:
            RateLimited: a limit of requests or tokens holds it back.
        """
        now = self._stages.ledger.clock.monotonic()
        gate, entrance = self._gate(now), self._stages.entrance
        tokens = max(limit, bound // 4) if gate.tokens else 0
        ticket = entrance.enter(gate, tokens, now)
        return ticket if ticket is not None else await entrance.stand(gate, tokens, self.model, self._sink)

    def uncounted(self) -> Ticket:
        """Return the ticket of a turn that no limit counts: it was not ours to hold back."""
        now = self._stages.ledger.clock.monotonic()
        return Ticket(self._gate(now), 0, open=False)

    def cancel(self, ticket: Ticket) -> None:
        """Undo an admission that nothing came of."""
        self._stages.ledger.rates.cancel(ticket, self._stages.ledger.clock.monotonic())


def counted(usage: EventUsage | None) -> Usage | None:
    """Return a provider's count as the books have it."""
    return usage.read() if usage is not None else None
