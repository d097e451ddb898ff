"""The books around one call: opened once per attempt, settled exactly once, on every way out.

`Tab.settle` has no await: a journal record and counters, guarded by the tab's state, so there is
nothing to shield. The rules, each with a test in `tests/path`:

=====================================  ====================================================
how the call ended                     what the customer pays
=====================================  ====================================================
complete, usage believed               its cost, at most the hold; the excess is the house's
the same, held in a grant of tokens    nothing: the grant loses tokens, the house pays the cost
complete, usage absent or absurd       the same for tokens counted here; `estimated`
caller hung up                         the input and what was produced until then; `estimated`
stream broke off, or was cut           the input and what was produced until then; `estimated`
refused, failed or cut unanswered      nothing
=====================================  ====================================================

What we owe a provider is booked for each attempt: that of the answer by the same usage, and one that began
to answer and then failed by what it had used, although the caller pays nothing for it (`lose`). Of two
attempts at once (`Side`) one is the call's; the other costs us its input, which its provider may have read.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar, Protocol

import msgspec

from headgate.admission.bounds import input_bound, output_bound, rough_input, units_bound
from headgate.callstate import CallState, set_at_once
from headgate.errors import Outrun
from headgate.money.cost import cost
from headgate.money.credit import tokens_taken
from headgate.ports import Lost, Mark, Open, Settle
from headgate.values import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headgate.admission.budget import Budgets, Hold
    from headgate.admission.gates import Ticket
    from headgate.admission.rate import Rates
    from headgate.ports import Clock, Journal, Observer
    from headgate.routing.doors import Seat
    from headgate.values import Call, MonotonicNs, NanoUSD, Target, Units

MARK_EVERY_NS = 1_000_000_000
MARK_EVERY_TOKENS = 256
HUNG_UP = 499
_OK = 200
_LIMITED = 429
_PLENTY = 1_000_000  # tokens: where no window is known, a count up to here is believed


class Ledger:
    """What settling needs: one object per process."""

    __slots__ = ("budgets", "clock", "journal", "observer", "rates")

    def __init__(
        self, journal: Journal, budgets: Budgets, rates: Rates, observer: Observer, clock: Clock
    ) -> None:
        self.journal = journal
        self.budgets = budgets
        self.rates = rates
        self.observer = observer
        self.clock = clock


class Producing(Protocol):
    """An answer that is on its way."""

    def produced(self) -> int:
        """Return a running count of output tokens seen so far (an estimate, never falling)."""
        ...


@set_at_once
class Tab(CallState):
    """What one call holds, has opened and will pay."""

    hedge: ClassVar[bytes] = b""  # of a call for which two targets were asked: which answered

    _ledger: Ledger
    _call: Call
    _hold: Hold
    ticket: Ticket
    _bill: Settle | None = None  # once it is made, it is what this call is settled with
    _opened: Open | None = None
    _target: Target | None = None
    attempts: int = 0  # that were opened
    _lost: tuple[Lost, ...] = ()
    _lost_costs: tuple[tuple[int, NanoUSD], ...] = ()  # of them, by their numbers
    _opened_ns: MonotonicNs = 0
    _first_byte_ns: MonotonicNs = 0
    _marked_ns: MonotonicNs = 0
    _marked_tokens: int = 0
    settled: bool = False
    charge: NanoUSD = 0
    shown: bool = False  # has the caller seen any of the answer?
    seat: Seat | None = None  # of the attempt, where its target has bounds
    waited_ns: MonotonicNs = 0  # for seats
    withdrawn: bool = False  # we refused the call ourselves, so no limit counts it

    @property
    def sent(self) -> bool:
        """Say whether any attempt was opened."""
        return self._opened is not None

    @property
    def used(self) -> Usage:
        """Return what was booked of it; nothing before it is settled."""
        return self._bill.usage if self._bill is not None else Usage()

    @property
    def bill(self) -> Settle | None:
        """Return what the call was settled with; None before that."""
        return self._bill

    @property
    def pace_ns(self) -> float:
        """Return how long an answer took: a stream to its first byte, a whole one for each token; 0: none."""
        bill = self._bill
        if bill is None or bill.status != _OK or not self._first_byte_ns:
            return 0.0
        if self._call.stream:
            return max(0, self._first_byte_ns - self._opened_ns)
        return bill.duration_us * 1000 / (bill.usage.output_tokens or 1)

    @property
    def first_byte_us(self) -> int:
        """Return how long the settled answer took to begin."""
        return self._bill.first_byte_us if self._bill is not None else 0

    @property
    def open_ns(self) -> int:
        """Return how long ago the last attempt was opened; 0: none was."""
        return self._ledger.clock.monotonic() - self._opened_ns if self._opened_ns else 0

    def show(self) -> None:
        """Note that the caller is about to see some of the answer."""
        self.shown = True

    def open(self, target: Target) -> None:
        """Record that an attempt is about to be sent.

        Raises:
            Unavailable: the journal cannot take it; nothing must be sent.
        """
        call, ledger, hold = self._call, self._ledger, self._hold
        principal, attempt, at = call.principal, self.attempts, hold.at
        assert principal is not None
        self._opened_ns = ledger.clock.monotonic()
        if attempt:
            at = ledger.clock.wall()
            self._first_byte_ns = self._marked_ns = 0  # the attempt before may have begun to answer
        record = Open(
            call.id,
            attempt,
            at,
            principal.book,
            principal.account,
            principal.project,
            principal.key,
            principal.member,
            call.operation,
            call.model,
            target.host.name,
            target.model.name,
            target.prices,
            target.costs,
            hold.amount,
            hold.given or input_bound(call, target),
            call.parent,
            call.stream,
            hold.pots,
            hold.sources,
            self._lost,
            units_bound(call, target) if target.by_unit or call.measures else call.units,
        )
        ledger.journal.open(record)
        self._opened = record
        self._target = target
        self.attempts = attempt + 1

    def lose(self, usage: Usage, *, estimated: bool) -> None:
        """Note what the open attempt used before it failed: that is our cost, and nobody pays it."""
        opened = self._opened
        assert opened is not None
        self._lost += (Lost(opened.attempt, usage, estimated),)
        if opened.costs is not None:
            self._lost_costs += ((opened.attempt, cost(usage, opened.costs)),)

    def first_byte(self) -> None:
        """Note when the provider's answer began."""
        if not self._first_byte_ns:
            self._first_byte_ns = self._ledger.clock.monotonic()

    def progress(self, reader: Producing) -> bool:
        """Checkpoint a stream each second or 256 tokens; say whether it is still within its hold."""
        produced = reader.produced()
        now = self._ledger.clock.monotonic()
        passed = now - (self._marked_ns or self._opened_ns)
        if produced - self._marked_tokens < MARK_EVERY_TOKENS and passed < MARK_EVERY_NS:
            return True
        opened, target = self._opened, self._target
        assert opened is not None
        assert target is not None
        self._marked_ns, self._marked_tokens = now, produced
        usage = Usage(rough_input(self._call), produced)
        self._ledger.journal.mark(Mark(opened.call, opened.attempt, self._ledger.clock.wall(), usage))
        # The running count is rough, so a stream is cut only when it is clearly beyond its bound.
        limit = output_bound(self._call, target)
        return produced <= limit + limit // 4 + 64

    def settle(self, status: int, usage: Usage, *, estimated: bool = False) -> None:
        """Book what the call cost and free its hold. Once it is done it does nothing.

        When a step raises, which is a bug of ours, the next call goes on with the same bill, whatever it
        says: the books take a settlement once, a hold is closed once. What the journal never takes stays
        open there, for the next start to settle.

        Args:
            status: of the answer; 499 when the caller hung up.
            usage: what the last attempt used; all zero when it gave no answer.
            estimated: the usage is our own count.
        """
        if self.settled:
            return
        opened, bill = self._opened, self._bill
        ledger = self._ledger
        now = ledger.clock.monotonic()
        if opened is None:
            self._release(status, now)
            return
        if bill is None:
            prices, ours, lost = opened.prices, opened.costs, self._lost
            actual = cost(usage, prices) if prices is not None else 0
            charge = min(actual, opened.hold)
            taken = actual if ours is prices else 0 if ours is None else cost(usage, ours)
            began = self._first_byte_ns
            bill = Settle(
                opened.call,
                opened.attempt,
                ledger.clock.wall(),
                status,
                usage,
                charge,
                actual - charge,
                (taken,) if self.attempts == 1 and not lost else self._costs(opened, taken),
                estimated,
                (began - self._opened_ns) // 1000 if began else 0,
                (now - self._opened_ns) // 1000,
                0,
                0,
                lost,
            )
            if opened.sources and opened.sources[0].tokens:
                bill = _covered(bill, opened)
            self._bill, self.charge = bill, bill.charge
        ledger.budgets.close(self._hold, bill.charge, bill.tokens)
        used = bill.usage.input_tokens + bill.usage.output_tokens
        ticket = self.ticket
        ticket.gate.settle(ticket, used, now, failed=not used and _failed(bill.status))
        ledger.journal.settle(bill)
        self.settled = True
        ledger.observer.settled(opened, bill)

    def _costs(self, opened: Open, taken: NanoUSD) -> tuple[NanoUSD, ...]:
        """Return what each attempt costs us: the last one what is taken for it, unless it was lost."""
        costs = [0] * self.attempts
        costs[opened.attempt] = taken
        for attempt, lost in self._lost_costs:
            costs[attempt] = lost
        return tuple(costs)

    def _release(self, status: int, now: MonotonicNs) -> None:
        """Give back what was held and admitted for a call of which nothing was sent."""
        ledger = self._ledger
        ledger.budgets.close(self._hold, 0)
        if self.withdrawn:
            ledger.rates.cancel(self.ticket, now)
        else:
            ledger.rates.settle(self.ticket, 0, now, failed=_failed(status))
        self.settled = True

    def side(self, rivals: list[Side]) -> Side:
        """Return the tab of one of two attempts at once, and put it to the others."""
        side = Side(self._ledger, self._call, self._hold, self.ticket, rivals=rivals)
        side.share(self.attempts, self._lost_costs)
        side.waited_ns = self.waited_ns
        rivals.append(side)
        rivals[0].tell()
        return side

    def adopt(self, sides: Sequence[Side]) -> None:
        """Go on with what attempts at once have come to: as the one that is the call's, or after both."""
        last = next((side for side in sides if side.won), None) or max(sides, key=attrgetter("number"))
        for name in _ADOPTED:
            setattr(self, name, getattr(last, name))
        self._lost = _in_order(each for side in sides for each in side.lost)


def _nothing() -> None:
    """End nothing."""


def _ignored(_: str) -> None:
    """Pass."""


@set_at_once
class Side(Tab, kw_only=True):
    """The tab of one of two attempts of a call at once. What settles first, or shows anything, is the call's.

    The other is ended with `Outrun` then, and what it may cost us is lost. The hold is the call's, the
    attempts are numbered as they are opened; each record of one that is opened beside another names that as
    lost, so that a start after a crash needs nothing else.
    """

    rivals: list[Side]
    _ends: Callable[[], None] = _nothing
    _open: bool = False
    begun_ns: MonotonicNs = 0  # when it began to answer
    won: bool = False  # it is the call's
    beaten: bool = False  # another one is
    passing: Callable[[str], None] = _ignored  # a named place

    def share(self, attempts: int, lost_costs: tuple[tuple[int, NanoUSD], ...]) -> None:
        """Take what is the call's."""
        self.attempts, self._lost_costs = attempts, lost_costs

    def tell(self) -> None:
        """Let the others know what has come to the call."""
        for side in self.rivals:
            side.share(self.attempts, self._lost_costs)

    def ends(self, end: Callable[[], None]) -> None:
        """Keep how its attempt is ended."""
        self._ends = end

    @property
    def number(self) -> int:
        """Return which of the call's attempts it opened last; -1: none."""
        return self._opened.attempt if self._opened is not None else -1

    @property
    def lost(self) -> tuple[Lost, ...]:
        """Return what was lost so far."""
        return self._lost

    @property
    def hedge(self) -> bytes:  # type: ignore[override]
        """Return which of the two answered: the one that was asked later has won, or lost."""
        if len(self.rivals) == 1:
            return b""
        return b"won" if self is self.rivals[-1] else b"lost"

    def show(self) -> None:
        """Note that the caller is about to see some of the answer: then it is the call's."""
        self.shown = True
        if self.claim() and self._opened is not None:
            usage = Usage(rough_input(self._call), 0)  # says to a start after a crash which of them it was
            self._ledger.journal.mark(
                Mark(self._opened.call, self._opened.attempt, self._ledger.clock.wall(), usage)
            )

    def open(self, target: Target) -> None:
        """Record that an attempt is about to be sent, perhaps beside another.

        Raises:
            Unavailable: the journal cannot take it; nothing must be sent.
            Outrun: another one is the call's.
        """
        if self.beaten:
            raise Outrun
        before = self._lost
        beside = tuple(each for side in self.rivals if side is not self for each in side.forfeit())
        self._lost = _in_order((*before, *beside))
        try:
            super().open(target)
        finally:
            self._lost = before
        self.tell()
        self._open = True
        if beside:
            self.passing("both-open")

    def lose(self, usage: Usage, *, estimated: bool) -> None:
        """Note what its open attempt used before it failed, or another one was the call's."""
        super().lose(usage, estimated=estimated)
        self.tell()

    def over(self) -> None:
        """Take in that the attempt has ended."""
        self._open = False

    def first_byte(self) -> None:
        """Note when the provider's answer began: a whole one with its head."""
        super().first_byte()
        if not self._call.stream:
            self.begun_ns = self._first_byte_ns

    def settle(self, status: int, usage: Usage, *, estimated: bool = False) -> None:
        """Book the call, if that is this one's."""
        if not self.beaten:
            self.claim()
            super().settle(status, usage, estimated=estimated)

    def claim(self) -> bool:
        """Be the call's; say whether another attempt was open.

        Raises:
            Outrun: another one is.
        """
        if self.beaten:
            raise Outrun
        if self.won:
            return False
        self.won = True
        self.begun_ns = self.begun_ns or self._ledger.clock.monotonic()
        others = [side for side in self.rivals if side is not self]
        beaten = any(side.forfeit() for side in others)
        if beaten:
            self.passing("one-won")
        for side in others:
            side.give_way()
        self._lost = _in_order(each for side in self.rivals for each in side.lost)
        return beaten

    def forfeit(self) -> tuple[Lost, ...]:
        """Return what the open attempt costs us when it gives way: its input, by our estimate."""
        opened, target = self._opened, self._target
        if not self._open or opened is None or target is None:
            return ()
        usage = Usage(rough_input(self._call), 0, more=units_bound(self._call, target))
        return (Lost(opened.attempt, usage, estimated=True),)

    def give_way(self) -> None:
        """Let another one be the call's."""
        for each in self.forfeit():
            self.lose(each.usage, estimated=each.estimated)
        self.beaten = self.settled = True
        self._open = False
        self._ends()


_ADOPTED = (
    "_bill", "_first_byte_ns", "_lost_costs", "_marked_ns", "_marked_tokens", "_opened", "_opened_ns",
    "_target", "attempts", "charge", "settled", "shown", "withdrawn",
)  # fmt: skip


def _in_order(lost: Iterable[Lost]) -> tuple[Lost, ...]:
    """Return each lost attempt once, in order."""
    return tuple(sorted({each.attempt: each for each in lost}.values(), key=attrgetter("attempt")))


def believable(usage: Usage | None, call: Call, target: Target) -> bool:
    """Say whether a provider's count can be true."""
    if usage is None or not (usage.input_tokens or usage.more):
        return False
    if usage.more and not _within(usage.more, units_bound(call, target)):
        return False
    given, made, window = usage.input_tokens, usage.output_tokens, target.model.context_window
    if window and (given > window or made > window):
        # What is rejected of a prediction is billed as output and was never in the window.
        most = (window + call.predicted) * call.n
        if given > window * call.inputs or made > most:
            return False
    if made > _PLENTY and made > 4 * output_bound(call, target):
        return False
    return given <= _PLENTY or given <= 4 * input_bound(call, target)


def _covered(bill: Settle, opened: Open) -> Settle:
    """Return the bill of a call that a grant of tokens covers."""
    tokens = tokens_taken(opened.sources, bill.usage)
    return msgspec.structs.replace(bill, charge=0, promoted=bill.charge, tokens=tokens)


def _failed(status: int) -> bool:
    """Say whether an answer by which nothing was used counts as none for the limits."""
    return status >= 500 or status == _LIMITED


def _within(used: Units, bound: Units) -> bool:
    """Say whether counts in other units can be true: not far above a bound, where one was held for."""
    most = dict(bound)
    return all(0 <= count <= 4 * most.get(name, _PLENTY) for name, count in used)
