"""Money: what a principal's calls spend from, and the holds that keep its caps.

A call may open only when its upper bound fits every hard budget above it and, where its account is
prepaid, the credit. What this process may spend of each is its slice. `reserve` and `close` compare and
subtract integers and do not await, so no other call can come between the question and the answer.
"""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from headgate.admission.allotment import CLOSED, Allotment
from headgate.admission.purse import Slice, spent_next
from headgate.callstate import set_at_once
from headgate.money.credit import Need, cover, in_tokens
from headgate.money.periods import FOREVER, PeriodClock
from headgate.money.pots import PotName, Want
from headgate.ports import Source
from headgate.values import NanoUSD, WallMicros

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.admission.purse import Purse
    from headgate.money.amounts import Unit
    from headgate.money.pots import BudgetTerms, GrantTerms
    from headgate.values import Book, Principal

WAIT_S = 2.0  # how long a call waits for other calls' holds to be released


class Budget:
    """A hard cap on an account, a project or a key, in one book, per period.

    Args:
        terms: of it, as they stand in the books.
        clock: of its unit and time zone; it may be shared.
    """

    __slots__ = ("_clock", "slice", "terms")

    def __init__(self, terms: BudgetTerms, clock: PeriodClock) -> None:
        self.terms = terms
        self._clock = clock
        self.slice: Slice | None = None  # of the period in force

    def at(self, now: WallMicros, purse: Purse) -> Slice:
        """Return the slice of the period in force; a clock that steps back never reopens an old one."""
        current = self.slice
        if current is None or now >= current.until:
            clock = self._clock
            key = clock.key(now)
            if current is not None:
                purse.retire(current)
            name = PotName("budget", self.terms.id, key, clock.start, clock.end)
            current = self.slice = purse.slice(name)
        return current


class Cover:
    """What the calls of one key spend from in one book: resolved once, anew when a period or grant ends."""

    __slots__ = (
        "allotment", "budgets", "capped", "first", "grants", "offers", "pots", "prepaid", "slices", "until",
    )  # fmt: skip

    def __init__(self, budgets: tuple[Budget, ...], grants: tuple[Slice, ...], *, prepaid: bool) -> None:
        self.budgets = budgets
        self.grants = grants  # in the order in which they are spent
        self.prepaid = prepaid
        self.slices: tuple[Slice, ...] = ()  # of the budgets, in the same order
        self.offers: tuple[Slice, ...] = ()  # the grants that have not expired
        self.first: Slice | None = None  # of them that is not spent, where that is in money
        self.pots: tuple[int, ...] | None = None  # of the slices; None: not all are known
        self.until: WallMicros = 0
        self.allotment = CLOSED  # that the calls of this moment share
        self.capped = prepaid or bool(budgets)  # anything limits these calls


Credit: TypeAlias = "tuple[tuple[Source, ...], tuple[Slice, ...]]"  # parts of a hold, and their slices
_NO_CREDIT: Credit = ((), ())


@set_at_once
class Hold(msgspec.Struct, gc=False, eq=False):
    """Money reserved for one open call. Closed exactly once.

    `at` is when it was taken: its call belongs to the periods and the grants that were in force then.
    """

    amount: NanoUSD
    at: WallMicros
    slices: tuple[Slice, ...]
    pots: tuple[int, ...]
    sources: tuple[Source, ...] = ()  # the parts of a prepaid call's hold, the first to be charged first
    parts: tuple[Slice, ...] = ()  # their slices
    allotment: Allotment = CLOSED  # that it is a part of
    given: int = 0  # tokens: the bound of the input, where there is one target
    open: bool = True


class Standing(NamedTuple):
    """How a call stands that does not fit."""

    free: NanoUSD  # what a call could have now
    hope: NanoUSD  # what it could have if every other hold were released
    tightest: Budget | None  # where the least is left; None: in the credit


class Budgets:
    """Every hard budget and every grant of this process, by what it covers.

    Args:
        purse: this worker's slices.
        guarded: a supervisor may give this worker's slot to another one, so slices expire with its lease.
    """

    __slots__ = (
        "_budgets", "_clocks", "_floor", "_grants", "_guarded", "_next_expiry", "_purse", "_terms", "_time",
        "_waiters", "covers",
    )  # fmt: skip

    def __init__(self, purse: Purse, *, guarded: bool = False) -> None:
        self._purse = purse
        self._guarded = guarded
        self._time = purse.time_ns
        self._terms: dict[tuple[str, int, Book], list[BudgetTerms]] = {}
        self._budgets: dict[int, Budget] = {}  # by id: those that somebody has spent from
        self._grants: dict[tuple[int, Book], tuple[Slice, ...]] = {}
        self._clocks: dict[tuple[Unit, str], PeriodClock] = {}
        self.covers: dict[tuple[int, Book], Cover] = {}  # by key: those that `covering` has resolved
        self._floor: WallMicros = 0  # where the latest period began that was ever in force
        self._next_expiry: WallMicros = FOREVER
        self._waiters: list[asyncio.Future[None]] = []

    # ── what there is ────────────────────────────────────────────────────────────────────────────

    def replace(self, budgets: Iterable[BudgetTerms], grants: Iterable[GrantTerms] = ()) -> None:
        """Take over all hard budgets, and the grants of each account in the order they are spent in.

        What stays keeps its slice and its holds; what is gone gives back what is not held.
        """
        grouped: dict[tuple[str, int, Book], list[BudgetTerms]] = {}
        known = {}
        for terms in budgets:
            grouped.setdefault((terms.scope, terms.ref, terms.book), []).append(terms)
            if terms.id in self._budgets:
                known[terms.id] = terms
        self._terms = grouped
        for number, budget in list(self._budgets.items()):
            new = known.get(number)
            if new is not None and new._replace(amount=0) == budget.terms._replace(amount=0):
                budget.terms = new
                continue
            if budget.slice is not None:
                self._purse.retire(budget.slice)
            del self._budgets[number]
        self._replace_grants(grants)
        self.covers.clear()
        self._purse.gather()
        self._purse.doubt()
        self.wake()

    def _replace_grants(self, grants: Iterable[GrantTerms]) -> None:
        grouped: dict[tuple[int, Book], list[Slice]] = {}
        for terms in grants:
            name = PotName("tokens" if terms.model else "grant", terms.id, "", 0, terms.expires_at or FOREVER)
            own = self._purse.slice(name, revived=name.until > self._floor)
            own.model = terms.model
            grouped.setdefault((terms.account, terms.book), []).append(own)
        kept = {id(own) for group in grouped.values() for own in group}
        for group in self._grants.values():
            for own in group:
                if id(own) not in kept:
                    self._purse.retire(own)
        self._grants = {place: tuple(group) for place, group in grouped.items()}
        self._next_expiry = min(
            (own.until for group in grouped.values() for own in group if not own.retired), default=FOREVER
        )

    def expire(self, now: WallMicros) -> None:
        """Give back what is not held of grants that have expired, also where no call comes."""
        if now < self._next_expiry:
            return
        ends = [FOREVER]
        for group in self._grants.values():
            for own in group:
                if own.until <= now:
                    self._purse.retire(own)
                else:
                    ends.append(own.until)
        self._next_expiry = min(ends)

    def covering(self, principal: Principal) -> Cover:
        """Return what a principal's calls spend from."""
        place = (principal.key, principal.book)
        found = self.covers.get(place)
        if found is None:
            found = self.covers[place] = self._resolve(principal)
        return found

    def in_force(self, principal: Principal, now: WallMicros) -> Cover:
        """Return the same with the periods and grants that are in force."""
        found = self.covering(principal)
        now = max(now, self._floor)
        if now >= found.until:
            self._renew(found, now)
        return found

    def _resolve(self, principal: Principal) -> Cover:
        book, terms = principal.book, self._terms
        rows = (
            *terms.get(("key", principal.key, book), ()),
            *terms.get(("project", principal.project, book), ()),
            *terms.get(("account", principal.account, book), ()),
        )
        budgets = tuple(self._budgets.get(row.id) or self._begin(row) for row in rows)
        grants = self._grants.get((principal.account, book), ()) if principal.prepaid else ()
        return Cover(budgets, grants, prepaid=principal.prepaid)

    def _begin(self, terms: BudgetTerms) -> Budget:
        kind = (terms.unit, terms.tz)
        clock = self._clocks.get(kind)
        if clock is None:
            clock = self._clocks[kind] = PeriodClock(*kind)
        budget = self._budgets[terms.id] = Budget(terms, clock)
        return budget

    def _renew(self, found: Cover, now: WallMicros) -> None:
        """Turn to the periods and grants that are in force."""
        purse = self._purse
        purse.gather(found.allotment)
        found.slices = tuple(budget.at(now, purse) for budget in found.budgets)
        found.offers = tuple(own for own in found.grants if own.until > now)
        found.first = spent_next(found.offers)
        for own in found.grants:
            if own.until <= now:
                purse.retire(own)
                self._floor = max(self._floor, own.until)
        found.until = min([FOREVER, *(own.until for own in (*found.slices, *found.offers))])
        found.pots = None
        self._floor = max([self._floor, *(own.name.since for own in found.slices)])

    # ── holds ────────────────────────────────────────────────────────────────────────────────────

    def reserve(
        self, found: Cover, amount: NanoUSD, now: WallMicros, need: Need | None = None
    ) -> Hold | None:
        """Hold `amount` in every budget and in the credit, or in none when one has too little left.

        Args:
            found: what the call spends from.
            amount: its upper bound.
            now: wall time.
            need: the same and its tokens; without it the credit that is spent first must have all of it.
        """
        if now >= found.until or now < self._floor:
            now = max(now, self._floor)
            if now >= found.until:
                self._renew(found, now)
        if self._guarded and self._lapsed():
            return None
        allotment = found.allotment
        if not 0 < amount <= allotment.free:
            if not found.capped:
                return Hold(amount, now, (), ())
            opened = self._allot(found, amount)
            if opened is None:
                return self._reserve_alone(found, amount, now, need)
            allotment = opened
        allotment.free -= amount
        grant = allotment.grant
        sources = (Source(grant.pot, grant.grant, amount),) if grant is not None else ()
        return Hold(amount, now, allotment.slices, allotment.pots, sources, allotment.parts, allotment)

    def _allot(self, found: Cover, amount: NanoUSD) -> Allotment | None:
        """Open an allotment for calls like this one; None where each has to ask each pot."""
        purse, pots = self._purse, found.pots
        if found.prepaid:
            found.first = spent_next(found.offers)
        if amount <= 0 or pots is None or (found.prepaid and found.first is None):
            return None
        purse.gather(found.allotment)
        opened = Allotment(found.slices, pots, found.first)
        if not opened.begin(amount):
            return None
        purse.allotments.add(opened)
        found.allotment = opened
        return opened

    def _reserve_alone(
        self, found: Cover, amount: NanoUSD, now: WallMicros, need: Need | None
    ) -> Hold | None:
        """Do the same by asking each pot, once more where something was allotted to others."""
        hold = self._ask(found, amount, now, need)
        if hold is None and self._gathered(own for own in found.slices if own.free < amount):
            hold = self._ask(found, amount, now, need)
        return hold

    def _gathered(self, slices: Iterable[Slice]) -> bool:
        """Put back what was allotted, if anything was of some slices; say whether it was.

        Where nothing was it costs nothing: who is above its cap may ask very often.
        """
        for own in slices:
            if own.allotments:
                self._purse.gather()
                return True
        return False

    def _ask(self, found: Cover, amount: NanoUSD, now: WallMicros, need: Need | None) -> Hold | None:
        slices = found.slices
        for own in slices:
            if own.free < amount:
                return None
        sources, parts = _NO_CREDIT
        if found.prepaid:
            first = found.first
            if first is not None and first.free >= amount > 0 and first.until > now:
                first.free -= amount  # the usual: the first in order has enough
                sources, parts = (Source(first.pot, first.grant, amount),), (first,)
            else:
                if need is None:
                    return None
                self._gathered(found.offers)  # who splits must see what is in each
                drawn = _draw(found.offers, need, now)
                if drawn is None:
                    return None
                sources, parts = drawn
        for own in slices:
            own.free -= amount
        pots = found.pots
        if pots is None:
            pots = self._pots(found)
        return Hold(amount, now, slices, pots, sources, parts)

    def _lapsed(self) -> bool:
        """Say whether this worker was stopped for so long that it must ask before it spends."""
        return self._time() > self._purse.good_until

    @staticmethod
    def _pots(found: Cover) -> tuple[int, ...]:
        """Return the pots' ids; a call that costs nothing may open before all are known."""
        pots = tuple(own.pot for own in found.slices if own.pot)
        if len(pots) == len(found.slices):
            found.pots = pots
        return pots

    def close(self, hold: Hold, charge: NanoUSD, tokens: int = 0) -> None:
        """Spend `charge` of a hold and free the rest. The second call does nothing.

        Args:
            hold: of the call.
            charge: what its customer pays; 0 where a grant in tokens covers it.
            tokens: what that grant loses.
        """
        if not hold.open:
            return
        hold.open = False
        allotment = hold.allotment
        if allotment.open:
            allotment.free += hold.amount - charge
            allotment.drawn += charge
        else:
            _close_alone(hold, charge, tokens)
        if self._waiters:
            self.wake()

    def carry_away(self, hold: Hold) -> None:
        """Take a hold out of this worker's slices, as the store has done.

        What a grant in tokens covers is charged to no budget: there it is free again.
        """
        hold.open = False
        covered = in_tokens(hold.sources)
        for own in hold.slices:
            if covered:
                own.free += hold.amount
            else:
                own.granted -= hold.amount
        for own, source in zip(hold.parts, hold.sources, strict=True):
            own.granted -= source.tokens or source.amount
        self.wake()

    # ── when it does not fit ─────────────────────────────────────────────────────────────────────

    def want(self, found: Cover, amount: NanoUSD, need: Need | None, *, in_order: bool = True) -> Want:
        """Return what the store is asked for; `in_order` until the other workers have answered."""
        names = tuple(own.name for own in found.slices)
        if not found.prepaid or need is None:
            return Want(amount, names)
        sources = [own.name for own in found.offers if not own.model or fnmatchcase(need.model, own.model)]
        return Want(amount, names, tuple(sources), need.tokens if need.only_tokens else 0, in_order)

    def standing(self, found: Cover) -> Standing:
        """Say how much is left, by what the store said last."""
        self._gathered((*found.slices, *found.offers))
        free, hope = 2**62, 2**62
        tightest: Budget | None = None
        if found.prepaid:
            money = [own for own in found.offers if not own.model]
            free, hope = sum(own.reach for own in money), sum(own.hope for own in money)
        for budget, own in zip(found.budgets, found.slices, strict=True):
            if own.reach < free:
                tightest = budget
            free, hope = min(free, own.reach), min(hope, own.hope)
        return Standing(free, hope, tightest)

    def complete(self, found: Cover) -> bool:
        """Say whether the store could tell nothing new: this worker has all that there is."""
        if not self._purse.alone or (self._guarded and self._lapsed()):
            return False
        return all(own.known and not own.elsewhere for own in (*found.slices, *found.offers))

    @staticmethod
    def heard(found: Cover, asked: dict[Slice, int]) -> bool:
        """Say whether the other workers have given back what they could since a call began to ask.

        Args:
            found: what the call spends from.
            asked: which recalls it waits for; filled here at the first time.
        """
        owned = (*found.slices, *found.offers)
        answered = [own.heard >= asked.setdefault(own, own.required) for own in owned if own.others]
        return all(answered) and all(own.known for own in owned)

    def wake(self) -> None:
        """Let everybody who waits for money look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self) -> None:
        """Wait until a hold is released, or the budgets change."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


def _draw(offers: tuple[Slice, ...], need: Need, now: WallMicros) -> Credit | None:
    """Hold a call's need in the credit; None where it does not fit, or the store is to be asked first."""
    sources = None if _out_of_order(offers, need) else cover(offers, need, now)
    if sources is None:
        return None
    by_pot = {own.pot: own for own in offers}
    parts = tuple(by_pot[source.pot] for source in sources)
    for own, source in zip(parts, sources, strict=True):
        own.free -= source.tokens or source.amount
    return sources, parts


def _close_alone(hold: Hold, charge: NanoUSD, tokens: int) -> None:
    """Spend and free in each pot."""
    rest = hold.amount - charge
    for own in hold.slices:
        own.free += rest
        own.drawn += charge
    parts = hold.parts
    if len(parts) == 1 and not hold.sources[0].tokens:  # the usual: one grant covers all of it
        own = parts[0]
        own.free += rest
        own.drawn += charge
    elif parts:
        _close_parts(hold, charge, tokens)


def _close_parts(hold: Hold, charge: NanoUSD, tokens: int) -> None:
    for own, source in zip(hold.parts, hold.sources, strict=True):
        held, drawn = (
            (source.tokens, tokens) if source.tokens else (source.amount, min(charge, source.amount))
        )
        own.free += held - drawn
        own.drawn += drawn
        charge -= drawn


def _out_of_order(offers: Iterable[Slice], need: Need) -> bool:
    """Say whether the store has, or may have, what is to be spent before what this worker has."""
    rest = need.amount
    for own in offers:
        if rest <= 0:
            break
        if own.model:
            if not (need.only_tokens and need.tokens and fnmatchcase(need.model, own.model)):
                continue
            if own.free >= need.tokens:  # it covers all, so nothing behind it is asked for
                return False
            if not own.known or need.tokens <= own.reach:
                return True
            continue
        if own.free < rest and (own.elsewhere > 0 or not own.known):
            return True
        rest -= max(own.free, 0)
    return False
