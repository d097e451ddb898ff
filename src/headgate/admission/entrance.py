"""Where calls pass their limits: at once, after a wait in line, or not at all."""

from __future__ import annotations

import asyncio
from operator import itemgetter
from typing import TYPE_CHECKING

from headgate.admission.queue import Line, Waiter
from headgate.errors import CallerGone

if TYPE_CHECKING:
    from headgate.admission.gates import Gate, Ticket
    from headgate.admission.limits import LimitSettings
    from headgate.admission.rate import Rates
    from headgate.ports import Clock, Sink
    from headgate.values import MonotonicNs

_NS = 1_000_000_000
_AGAIN_NS = 50_000_000  # how often a shared limit is asked for that others have used up


class _Place:
    """A line of one account, and when it is looked at next."""

    __slots__ = ("hurried", "line", "timer")

    def __init__(self) -> None:
        self.line = Line()
        self.hurried = False  # it is looked at in the loop's next turn
        self.timer: asyncio.Handle | None = None

    def stop(self) -> None:
        """Look no more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Entrance:
    """Let calls in. One per process.

    Args:
        rates: the limits.
        clock: monotonic time.
        settings: how many calls may wait.
    """

    __slots__ = ("_clock", "_places", "_rates", "_settings", "_waits")

    def __init__(self, rates: Rates, clock: Clock, settings: LimitSettings) -> None:
        self._rates = rates
        self._clock = clock
        self._settings = settings
        self._places: dict[int, _Place] = {}  # by account
        self._waits: dict[Waiter, asyncio.Future[None]] = {}
        if rates.shares is not None:
            rates.shares.answered = self._answered

    @property
    def waiting(self) -> int:
        """Return how many calls wait."""
        return len(self._waits)

    def enter(self, gate: Gate, tokens: int, now: MonotonicNs) -> Ticket | None:
        """Count a call of at most `tokens` tokens; None when it does not pass, or others stand before it."""
        if self._places:
            place = self._places.get(gate.principal.account)
            if place is not None and place.line.is_before(gate):
                return None
        return gate.unbound or gate.admit(tokens, now)

    async def stand(
        self, gate: Gate, tokens: int, model: str, sink: Sink, until: MonotonicNs | None = None
    ) -> Ticket:
        """Wait for a limit as long as the caller's key or tier says, holding no money.

        Args:
            gate: the limits.
            tokens: that the call may use.
            model: as the caller named it.
            sink: of the caller.
            until: when the caller wants the answer; a wait that ends later is not begun.

        Raises:
            RateLimited: it does not wait, or did in vain; says when to come back. Nothing was counted.
            CallerGone: the caller hung up.
        """
        ticket = await self._fetched(gate, tokens)
        if ticket is not None:
            return ticket
        now = self._clock.monotonic()
        if not self._may_wait(gate, tokens, now, until) or not self._room(gate):
            raise gate.refusal(model, tokens, now)
        loop, account = asyncio.get_running_loop(), gate.principal.account
        waiter = Waiter(gate, tokens, now)
        waited = self._waits[waiter] = loop.create_future()
        place = self._places.get(account)
        if place is None:
            place = self._places[account] = _Place()
        self._rates.hall.freed = self._freed
        place.line.join(waiter)
        limit = loop.call_later(gate.queue_ms / 1000, self._go, waiter)
        sink.on_gone(lambda: self._go(waiter))
        self._turn(account)
        try:
            await waited
        except BaseException:
            self._go(waiter)
            if waiter.ticket is not None:
                self._rates.cancel(waiter.ticket, self._clock.monotonic())
            raise
        finally:
            limit.cancel()
            sink.on_gone(_nothing)
        return self._came_through(waiter, model, sink)

    async def _fetched(self, gate: Gate, tokens: int) -> Ticket | None:
        """Let a call in by what other workers leave of its limits."""
        place = self._places.get(gate.principal.account)
        if self._rates.shares is None or (place is not None and place.line.is_before(gate)):
            return None
        await self._rates.shares.fetch(gate, tokens)
        return self.enter(gate, tokens, self._clock.monotonic())

    def _came_through(self, waiter: Waiter, model: str, sink: Sink) -> Ticket:
        now, ticket = self._clock.monotonic(), waiter.ticket
        queued_ns = now - waiter.since
        if ticket is not None:
            ticket.queued_ns = queued_ns
            return ticket
        if sink.gone:
            raise CallerGone
        refusal = waiter.gate.refusal(model, waiter.tokens, now)
        refusal.headers["x-headgate-queued-ms"] = str(queued_ns // 1_000_000)
        raise refusal

    @staticmethod
    def _may_wait(gate: Gate, tokens: int, now: MonotonicNs, until: MonotonicNs | None) -> bool:
        """Say whether a wait may help: the call is not too large, and its requests come back in time."""
        if not gate.queue_ms or any(tokens > bucket.limit for bucket in gate.tokens):
            return False
        most = gate.queue_ms * 1_000_000
        if until is not None:
            most = min(most, until - now)
        gate.close()
        return all(bucket.wait_ns(1, now) <= most for bucket in gate.requests)

    def _room(self, gate: Gate) -> bool:
        """Say whether a call may join the queue, where the longest lane gives way to a shorter one."""
        place = self._places.get(gate.principal.account)
        own = place.line.waiting(gate.principal.key) if place is not None else 0
        if own >= self._settings.queue_per_key:
            return False
        if len(self._waits) < self._settings.queue_total:
            return True
        longest = max((place.line.longest() for place in self._places.values()), key=itemgetter(0))
        if longest[0] <= own + 1:
            return False
        self._go(longest[1])
        return True

    # ── turns ────────────────────────────────────────────────────────────────────────────────────

    def _freed(self, account: int) -> None:
        """Look at a line soon: a call of its account has ended."""
        place = self._places.get(account)
        if place is not None and not place.hurried:
            place.stop()
            place.hurried = True
            place.timer = asyncio.get_running_loop().call_soon(self._turn, account)

    def _answered(self) -> None:
        """Look at every line: the store has given something."""
        for account in self._places:
            self._freed(account)

    def _turn(self, account: int) -> None:
        """Let in who passes now; look again when somebody may."""
        place = self._places.get(account)
        if place is None:
            return
        place.stop()
        place.hurried = False
        now = self._clock.monotonic()
        admitted, next_ns = place.line.turn(now)
        for waiter in admitted:
            self._end(waiter)
        if not place.line.count:
            del self._places[account]
            if not self._places:
                self._rates.hall.freed = None
            return
        if self._rates.shares is not None:
            for waiter in place.line.blocked:
                self._rates.shares.wish(waiter.gate, waiter.tokens, now)
            next_ns = max(next_ns, now + _AGAIN_NS) if next_ns else 0
        if next_ns:
            delay_s = (next_ns - now) / _NS
            place.timer = asyncio.get_running_loop().call_later(delay_s, self._turn, account)

    def _go(self, waiter: Waiter) -> None:
        """Let a call go that waits no more: it waited too long, hung up, was cut, or gave way."""
        if not waiter.left:
            account = waiter.gate.principal.account
            self._places[account].line.leave(waiter)
            self._end(waiter)
            self._freed(account)  # what it claimed is free for others

    def _end(self, waiter: Waiter) -> None:
        waited = self._waits.pop(waiter)
        if not waited.done():
            waited.set_result(None)


def _nothing() -> None:
    """Nobody has to be told."""
