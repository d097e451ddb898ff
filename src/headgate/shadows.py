"""Shadow traffic: a copy of an answered call goes to another target, whose answer nobody sees.

A shadow begins when its call has been answered and settled, so it delays and changes nothing. It is a call of
its own in the books, with the answered one as its parent, paid by the house: by a project of the account
`shadow`, at what its provider takes, within the budget of the settings. It is tried once, waits for no room,
and counts in metrics of its own, beside what the answered calls took.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from headgate.admission.bounds import rough_input
from headgate.admission.gates import Ticket
from headgate.choices import copy_of
from headgate.errors import CallerGone, GatewayError, Internal, NotFound, QuotaExceeded
from headgate.settle import HUNG_UP, Ledger, Tab
from headgate.values import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.attempts import Attempt
    from headgate.pipeline import Stages
    from headgate.ports import Headers, Open, Settle
    from headgate.routing.routes import Routes
    from headgate.routing.trials import Counter
    from headgate.values import Call, Principal, Target

CALLS: Final = "headgate_shadow_calls"
COST: Final = "headgate_shadow_cost_nano_usd"
MICROS: Final = "headgate_shadow_microseconds"
_MOST: Final = 16  # shadows at once: more are left out
_REST_NS: Final = 10_000_000_000  # of a model whose budget is used up
_COPIED: Final = frozenset({"chat", "completions", "embeddings"})
_SHADOW: Final = -2  # what its id is counted with, below those of the parts of a call
_NOTHING: Final = Usage()
_CUT: Final = 503


class _Nobody:
    """Where the answer of a shadow goes. Implements `ports.Sink`."""

    gone = False
    started = False

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """Take a head."""

    def whole(self, status: int, lines: bytes, body: bytes) -> None:
        """Take a whole answer."""

    def write(self, data: bytes) -> None:
        """Take bytes."""

    def finish(self) -> None:
        """Take the end."""

    async def drained(self) -> None:
        """Be ready for more."""

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Never go."""

    def on_quiet(self, callback: Callable[[], None]) -> None:
        """Never be sent anything too late."""

    def abort(self) -> None:
        """Take the end."""


class _Tally:
    """Counts shadows apart from the calls of customers. Implements `ports.Observer`."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def refused(self, operation: str, error: GatewayError) -> None:
        """Leave it to who casts shadows."""

    def settled(self, opened: Open, settled: Settle) -> None:
        """Count a shadow that was sent, and what it cost."""
        labels = (opened.model, opened.provider, opened.upstream_model)
        self._counter.count(CALLS, *labels, "served" if settled.status == 200 else "failed")
        self._counter.count(COST, *labels, by=sum(settled.costs))


class Shadows:
    """Cast the shadows of calls. One per pipeline.

    Args:
        stages: of the pipeline.
        attempt: makes one attempt of a call.
    """

    def __init__(self, stages: Stages, attempt: Attempt) -> None:
        ledger = stages.ledger
        self.payers: Mapping[str, Principal] = {}  # by the model; without one nothing is sent
        self._stages = stages
        self._attempt = attempt
        self._counter = stages.steering.trials.counter
        self._ledger = Ledger(
            ledger.journal, ledger.budgets, ledger.rates, _Tally(self._counter), ledger.clock
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._resting: dict[str, int] = {}  # until when, by the model

    def cast(self, call: Call, tab: Tab, routes: Routes) -> None:
        """Send a copy of a call that was answered, if its model's settings want one of it."""
        told = tab.bill
        if told is None or told.status != 200 or call.operation not in _COPIED:
            return
        target = self._stages.steering.shadow(call, routes)
        payer = None if target is None else self.payers.get(routes.name_of(call.model))
        if target is None or payer is None or not self._ledger.budgets.covering(payer).budgets:
            return
        if len(self._tasks) >= _MOST:
            self._left_out(call.model, target, "busy")
            return
        if self._ledger.clock.monotonic() < self._resting.get(call.model, 0):
            self._left_out(call.model, target, "over_budget")
            return
        copy = copy_of(call, _SHADOW)
        copy.principal, copy.shrunk_to = payer, 0
        copy.face = copy.counted = copy.deadline = None
        copy.received_ns = self._ledger.clock.monotonic()
        task = asyncio.get_running_loop().create_task(self._run(copy, target, told))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told of already

    async def close(self) -> None:
        """Cut those that are under way; each is settled."""
        self.payers = {}
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _left_out(self, model: str, target: Target, why: str) -> None:
        self._counter.count(CALLS, model, target.host.name, target.model.name, why)

    async def _run(self, call: Call, target: Target, told: Settle) -> None:
        tab = await self._open(call, target)
        if tab is None:
            return
        status = Internal.status
        try:
            await self._ask(call, tab, target)
        except GatewayError as error:
            status = error.http_status
            if not tab.sent:
                self._left_out(call.model, target, "unavailable")
        except CallerGone:
            status = HUNG_UP
        except asyncio.CancelledError:  # the gateway is stopping
            status = _CUT
            raise
        except Exception as fault:
            self._stages.fault(call, fault)
            raise
        finally:
            if not tab.settled:
                tab.settle(status, _NOTHING)
        self._compare(call, target, told, tab)

    async def _ask(self, call: Call, tab: Tab, target: Target) -> None:
        """Make the attempt, where the provider has room for it now."""
        attempts, nobody = self._stages.attempts, _Nobody()
        if not attempts.doors.idle:
            hurried = msgspec.structs.replace(
                target, room=msgspec.structs.replace(target.room, longest_wait_s=0.0)
            )
            tokens = rough_input(call) + (call.max_output or 0) * call.n
            tab.seat = await attempts.doors.enter(call, (hurried,), tokens, nobody)
        try:
            await self._attempt(call, nobody, tab, target)
        finally:
            attempts.free(tab)

    async def _open(self, call: Call, target: Target) -> Tab | None:
        """Hold the money of a shadow; None: its budget does not have it."""
        ledger, payer = self._ledger, call.principal
        assert payer is not None
        try:
            hold = await self._stages.reservations.reserve(call, (target,))
        except QuotaExceeded:
            self._resting[call.model] = ledger.clock.monotonic() + _REST_NS
            self._left_out(call.model, target, "over_budget")
            return None
        except NotFound:
            self._left_out(call.model, target, "unpriced")
            return None
        except GatewayError:
            self._left_out(call.model, target, "unavailable")
            return None
        gate = ledger.rates.gate(payer, call.model, ledger.clock.monotonic())
        return Tab(ledger, call, hold, Ticket(gate, 0, open=False))

    def _compare(self, call: Call, target: Target, told: Settle, tab: Tab) -> None:
        """Count how long both took, where both answered."""
        bill = tab.bill
        if bill is None or bill.status != 200:
            return
        labels = (call.model, target.host.name, target.model.name)
        for side, each in (("main", told), ("shadow", bill)):
            self._counter.count(MICROS, *labels, side, "first_byte", by=each.first_byte_us)
            self._counter.count(MICROS, *labels, side, "whole", by=each.duration_us)
