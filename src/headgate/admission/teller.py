"""Between the calls that wait for money and the store that grants it: one batch at a time, off the hot path.

What the purse has to tell and what calls want goes out together: at once when a call wants something, else
every `EVERY_S`, so that a recall is answered within that time. While the store does not answer, slices go on
being spent, and who wants more waits to its own deadline.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.admission.budget import Budgets, Hold
    from headgate.admission.purse import Purse
    from headgate.money.pots import Want
    from headgate.ports import Clock, Leases

EVERY_S: Final = 0.1


class Ticket(NamedTuple):
    """A call in the queue."""

    want: Want
    reserve: Callable[[], Hold | None]  # tried as soon as the store has granted something
    hold: asyncio.Future[Hold | None]


class Teller:
    """One worker's way to the store.

    Args:
        purse: what it may spend.
        store: who grants more.
        clock: of the wall times that people see.
        budgets: where holds are; told when what the purse knew of a pot is no longer so.
    """

    def __init__(self, purse: Purse, store: Leases, clock: Clock, budgets: Budgets) -> None:
        self.trouble = ""  # what the store said when it refused the last batch
        self._purse = purse
        self._store = store
        self._clock = clock
        self._budgets = budgets
        self._queue: list[Ticket] = []
        self._bell = asyncio.Event()
        self._joined = False
        self._left = asyncio.Event()

    @property
    def place(self) -> tuple[str, int]:
        """Return the slot of this worker and its epoch there; 0: it is not in service yet."""
        return self._purse.slot, self._purse.epoch if self._joined else 0

    async def take(self, want: Want, reserve: Callable[[], Hold | None]) -> Hold | None:
        """Ask the store once; return the hold, or None where it has too little.

        Raises:
            Unavailable: this worker has left, or has been replaced by another one.
        """
        if self._left.is_set():
            raise _replaced()
        ticket = Ticket(want, reserve, asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        self._bell.set()
        try:
            return await ticket.hold
        except asyncio.CancelledError:
            if ticket.hold.done() and not ticket.hold.cancelled():
                granted = ticket.hold.result()
                if granted is not None:
                    self._budgets.close(granted, 0)  # nobody waits for it any more
            raise

    async def run(self) -> None:
        """Serve until `close`. Raises Unavailable when another worker has this slot."""
        renewal = asyncio.get_running_loop().create_task(self._renew())
        try:
            while not self._left.is_set():
                await self._turn()
        finally:
            renewal.cancel()
            self._left.set()
            self._send_away()

    async def close(self, within_s: float, *, booked: bool = True) -> None:
        """Give everything back that is not held, and leave; nothing is taken after this.

        Where the store does not answer within this time, who recovers this slot gives it back.

        Args:
            within_s: how long it waits for the store.
            booked: the books have all that this worker charged; else its slot is not left but lies silent
                until its journal is read, since who finds it left believes that.
        """
        self._purse.closing, self._purse.booked = True, booked
        self._bell.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._left.wait()

    async def _turn(self) -> None:
        """Wait for something to tell, or for the time to look, and tell it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await self._bell.wait()
        self._bell.clear()
        try:
            if not self._joined:
                self._purse.epoch = await self._store.join(self._purse.slot, self._clock.wall())
                self._joined = True
            again = await self._exchange()
        except Unavailable as fault:
            self.trouble = fault.message
            await asyncio.sleep(EVERY_S)
            self._bell.set()
            return
        self.trouble = ""
        if again:
            self._bell.set()

    async def _exchange(self) -> bool:
        """Tell the store everything, once; say whether there is more to tell already."""
        purse = self._purse
        tickets = [ticket for ticket in self._queue if not ticket.hold.done()]
        self._queue = []
        now, began = self._clock.wall(), purse.time_ns()
        self._budgets.expire(now)
        last = purse.ending
        batch = purse.collect([ticket.want for ticket in tickets], now, began)
        try:
            outcome = await self._store.exchange(batch)
        except BaseException:
            self._queue = tickets + self._queue
            raise
        purse.apply(batch, outcome, began)
        if purse.fenced:
            self._queue = tickets
            raise RuntimeError(f"another worker has the slot {purse.slot}")
        if outcome.repeated:
            self._queue = tickets + self._queue
            tickets = []
        for ticket in tickets:
            if not ticket.hold.done():
                ticket.hold.set_result(ticket.reserve())
        again = purse.answer(outcome) or outcome.repeated or purse.closing
        if outcome.recalled:
            self._budgets.wake()
        if last:
            self._left.set()
        return again

    def _send_away(self) -> None:
        """Refuse those who still wait: nobody will ask the store any more."""
        for ticket in self._queue:
            if not ticket.hold.done():
                ticket.hold.set_exception(_replaced())
        self._queue = []

    async def _renew(self) -> None:
        """Note that this worker runs, also while the store does not answer."""
        while True:
            self._purse.renew(self._purse.time_ns())
            await asyncio.sleep(EVERY_S)


def _replaced() -> Unavailable:
    return Unavailable("This worker of the gateway has ended. Try again in a moment.")
