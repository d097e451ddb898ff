"""A worker's way to the meters that it shares with others: many wishes in one step, off the loop.

What is not used comes back within two rounds of `EVERY_S`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from headgate.admission.leased import LeasedBucket, LeasedCount, Meter
from headgate.admission.passes import Turnstiles
from headgate.errors import Unavailable
from headgate.ports import Forgotten

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.admission.gates import Gate
    from headgate.admission.leased import Hand
    from headgate.admission.meters import Kind, Place
    from headgate.money.shares import Answer, Ask, Sight
    from headgate.ports import Clock, SharedMeters
    from headgate.values import MonotonicNs

EVERY_S: Final = 0.1
_ROUNDS: Final = 8  # of asking for one call
_AT_ONCE: Final = 256  # meters in one exchange: the store serves others, too


def _hand(meter: object) -> Hand:
    assert isinstance(meter, Meter)
    return meter.hand


class Shares:
    """One worker's way to the shared meters.

    Args:
        slot: of this worker.
        store: where they are.
        clock: monotonic time, which all workers share.
        report: told what the store said when it began to refuse.
        sight: what the workers of this machine see of one another; None: nothing.
        beat_ns: the store hears of this worker at least so often; 0: it need not.
    """

    __slots__ = (
        "_beat_ns",
        "_bell",
        "_clock",
        "_made",
        "_report",
        "_round_ns",
        "_sight",
        "_slot",
        "_store",
        "_told_ns",
        "_touched",
        "_waiting",
        "answered",
        "trouble",
        "turnstiles",
    )

    def __init__(
        self,
        slot: int,
        store: SharedMeters,
        clock: Clock,
        report: Callable[[str], None] = lambda _: None,
        sight: Sight | None = None,
        *,
        beat_ns: int = 0,
    ) -> None:
        self._slot = slot
        self._beat_ns = beat_ns
        self._told_ns: MonotonicNs = 0
        self._made: WeakSet[Meter] = WeakSet()
        self._sight = sight
        self._report = report
        self._store = store
        self._clock = clock
        self._touched: dict[Meter, None] = {}  # with something to tell
        self._waiting: list[asyncio.Future[None]] = []
        self._bell = asyncio.Event()
        self._round_ns: MonotonicNs = 0
        self.answered: Callable[[], None] = lambda: None  # told when the store has answered wishes
        self.trouble = ""  # what the store said when it refused
        # None: each call looks at its meters, since the others see at once what it takes.
        self.turnstiles = Turnstiles() if sight is None else None

    def touch(self, meter: Meter) -> None:
        """Note that a meter has something to tell."""
        meter.hand.idle = False
        self._touched[meter] = None

    def bucket(self, place: Place, kind: Kind, limit: int) -> LeasedBucket:
        """Return a shared bucket."""
        bucket = LeasedBucket(place, kind, limit, self.touch, self._sight)
        self._made.add(bucket)
        return bucket

    def count(self, place: Place, limit: int) -> LeasedCount:
        """Return a shared count."""
        count = LeasedCount(place, limit, self.touch)
        self._made.add(count)
        return count

    def wish(self, gate: Gate, tokens: int, now: MonotonicNs) -> bool:
        """Ask for what a call lacks; False where the store has just refused some of it."""
        gate.close()
        lacking: list[tuple[Meter, int]] = []
        for meter in gate.meters():
            assert isinstance(meter, Meter)
            requests = isinstance(meter, LeasedCount) or meter.kind in {"rpm", "rpd"}
            lack = (1 if requests else tokens) - meter.hand.spare
            if lack > 0:
                lacking.append((meter, lack))
        if any(meter.hand.refused_until > now for meter, _ in lacking):
            return False
        for meter, lack in lacking:
            meter.hand.want += lack
            self.touch(meter)
        self._bell.set()
        return True

    async def fetch(self, gate: Gate, tokens: int) -> None:
        """Ask for what a call lacks and wait for the answers; once more where others have it in hand."""
        patient = True
        for _ in range(_ROUNDS):
            now = self._clock.monotonic()
            if not gate.wait_ns(tokens, now):
                return
            if self.wish(gate, tokens, now):
                waited = asyncio.get_running_loop().create_future()
                self._waiting.append(waited)
                await waited
            elif patient and any(_hand(meter).others for meter in gate.meters()):
                patient = False
                await asyncio.sleep(1.5 * EVERY_S)  # by then they have given back what they do not use
            else:
                return

    async def run(self) -> None:
        """Tell and ask for as long as the process lives."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._bell.wait()
            self._bell.clear()
            await self.tell()

    async def tell(self, *, leaving: bool = False) -> None:
        """Tell the store everything once; take what it gives."""
        now = self._clock.monotonic()
        waiting, self._waiting = self._waiting, []
        self._close_passes()
        if leaving or now - self._round_ns >= EVERY_S * 1_000_000_000:
            self._round_ns = now
            for meter in self._touched:
                meter.hand.let_go(all_of_it=leaving)
        meters = self._take_touched()
        asks = [meter.report(now) for meter in meters]
        if asks or (self._beat_ns and now - self._told_ns >= self._beat_ns):
            self._told_ns = now
            await self._exchange(meters, asks, now)
        for waited in waiting:
            if not waited.done():
                waited.set_result(None)
        if any(ask.want for ask in asks):
            self.answered()

    def _take_touched(self) -> list[Meter]:
        """Return what is told now: those that are waited for, then as many others as one step takes."""
        meters = list(self._touched)
        if len(meters) > _AT_ONCE:
            meters.sort(key=lambda meter: not meter.hand.want)
            self._bell.set()
        self._touched = dict.fromkeys(meters[_AT_ONCE:])
        return meters[:_AT_ONCE]

    async def _exchange(self, meters: list[Meter], asks: list[Ask], now: MonotonicNs) -> None:
        try:
            answers = await self._answers(asks, now)
        except Forgotten:
            self._begin_anew(meters, asks, now)
            return
        except Unavailable as fault:
            if not self.trouble:
                self._report(fault.message)
            self.trouble = fault.message
            for meter, ask in zip(meters, asks, strict=True):
                meter.hand.untold(ask)
                self.touch(meter)
            return
        self.trouble = ""
        for meter, ask, answer in zip(meters, asks, answers, strict=True):
            meter.hand.told(ask, answer, now)
            if meter.hand.spare > 0:  # what is not used goes back in a later round
                self.touch(meter)

    async def _answers(self, asks: list[Ask], now: MonotonicNs) -> list[Answer]:
        """Ask the store. Whatever it says, what passes took meanwhile is booked before that is heard."""
        try:
            return await self._store.exchange(self._slot, asks, now)
        finally:
            self._close_passes()

    def _close_passes(self) -> None:
        if self.turnstiles is not None:
            self.turnstiles.close()

    def _begin_anew(self, meters: list[Meter], asks: list[Ask], now: MonotonicNs) -> None:
        """Tell the store what it may have lost: what was used and what is open. Nothing else is in hand."""
        for meter, ask in zip(meters, asks, strict=True):
            meter.hand.untold(ask)
            self.touch(meter)
        for meter in tuple(self._made):
            if meter.lose(now):
                self.touch(meter)
        self._bell.set()
