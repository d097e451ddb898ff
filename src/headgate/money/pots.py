"""Pots and slices: what can be spent, and which worker may spend it. Pure.

A *pot* is one thing that can be spent: a budget in one period, a grant in money, or a grant in tokens. A
*slice* is the part of a pot that one worker slot may still spend, or has spent and not drained. Always,
with one worker or many:

    spent + the sum of all slices ≤ amount + over

where `over` is zero but while more is out than an amount that was just lowered. The drain moves `spent` up
and the slice down in the transaction that books a call; everything else moves money between a slice and
what is free. Amounts are nano-USD, or tokens in a pot of kind `tokens`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from headgate.money.periods import FOREVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headgate.money.amounts import Unit
    from headgate.values import Book, NanoUSD, WallMicros

PotKind: TypeAlias = Literal["budget", "grant", "tokens"]
NEAR_THE_END: Final = 8  # needs: with less than so many left, nobody gets more than it needs
_AHEAD: Final = 32  # needs: the most that a slice gets beyond what was asked for


class BudgetTerms(NamedTuple):
    """A hard budget as it stands in the books."""

    id: int
    scope: str  # account, project, key
    ref: int  # the id within the scope
    book: Book
    amount: NanoUSD
    unit: Unit
    tz: str = "UTC"


class GrantTerms(NamedTuple):
    """A grant that is not closed."""

    id: int
    account: int
    book: Book
    model: str = ""  # of a grant in tokens: the model, or pattern of models, that it is for
    expires_at: WallMicros = 0  # 0: never


class PotName(NamedTuple):
    """Which pot: what it is of, and when a call must open to spend from it."""

    kind: PotKind
    ref: int  # the budget's or the grant's id
    period: str = ""  # its key; empty for a grant
    since: WallMicros = 0
    until: WallMicros = FOREVER


class Want(NamedTuple):
    """What one call waits for: its bound in every pot of `all_of`, and once in `sources` together."""

    amount: int  # nano-USD
    all_of: tuple[PotName, ...] = ()
    sources: tuple[PotName, ...] = ()  # in the order in which they are spent; empty: none needed
    tokens: int = 0  # that a source of kind `tokens` must cover, whole or not at all
    in_order: bool = True  # a later source only when nobody else has any of the earlier ones


class Batch(NamedTuple):
    """Everything that one worker says to the store at once. Applied as a whole, or not at all."""

    slot: str
    epoch: int
    now: WallMicros
    turn: int = 0  # of those of this epoch; the same again until it is answered
    live: frozenset[str] = frozenset()  # the slots that are waited for, this one too
    wants: Sequence[Want] = ()  # in the order in which they came
    free: Mapping[PotName, int] = {}  # what this slot has free of them
    ahead: Mapping[PotName, int] = {}  # what it would have besides, of pots with plenty left
    returns: Mapping[int, int] = {}  # pot: what is given back; of a turn always the same
    answers: Mapping[int, int] = {}  # pot: the recall that this answers; likewise
    watched: Sequence[int] = ()  # pots to be told of, whatever happens
    seen: int = 0  # the last recall that this slot knows of
    beat: bool = False  # say that this slot lives
    leaving: bool = False  # and is gone after this


class Lot(NamedTuple):
    """How a pot stands for one slot after a batch."""

    name: PotName
    pot: int  # its id; 0: there is no such pot, so a budget limits nothing any more
    granted: int  # to this slot by this batch
    free: int  # in nobody's slice
    others: int  # in the slices of other slots, spent and not drained included
    over: int  # above zero: the pot was lowered and so much must come back
    heard: int  # the recall that every live slot had answered before this batch, at least
    required: int  # a want of this batch may be refused once this recall was heard; 0: there is nobody to ask


class Outcome(NamedTuple):
    """What came of a batch."""

    lots: Sequence[Lot] = ()  # of the pots that were wanted or watched
    recalled: Mapping[int, int] = {}  # pot: a recall that this slot has yet to answer
    seen: int = 0  # the last recall that there is
    slots: Mapping[str, int] = {}  # every slot in service: a stamp that changes as long as it lives
    fenced: bool = False  # another worker has this slot: nothing was done, and nothing may be spent
    repeated: bool = False  # the turn was applied before: lots say what it was granted, wants were left alone


class Pot:
    """A pot as it stands in a store, while a batch is applied to it.

    Args:
        name: of it.
        number: its id.
        standing: its amount; what is out above that; what settled calls have spent; its last recall.
        slices: slot: amount and the last recall answered.
    """

    __slots__ = (
        "amount",
        "granted",
        "heard",
        "name",
        "number",
        "over",
        "pending",
        "recall",
        "slices",
        "spent",
    )

    def __init__(
        self,
        name: PotName,
        number: int,
        standing: tuple[int, int, int, int],
        slices: dict[str, tuple[int, int]],
    ) -> None:
        self.name = name
        self.number = number
        self.amount, self.over, self.spent, self.recall = standing
        self.slices = slices
        self.granted = 0
        self.heard = -1
        self.pending = False  # a recall was under way before this batch

    @property
    def free(self) -> int:
        """Return what is in nobody's slice."""
        return max(0, self.amount - self.spent - sum(amount for amount, _ in self.slices.values()))

    def give(self, slot: str, amount: int) -> None:
        """Move some of what is free into a slice."""
        had, answered = self.slices.get(slot, (0, self.recall))
        self.slices[slot] = (had + amount, answered)
        self.granted += amount

    def others(self, slot: str) -> int:
        """Return what is in the slices of other slots."""
        return sum(amount for name, (amount, _) in self.slices.items() if name != slot)

    def owes(self, slot: str) -> bool:
        """Say whether a slot has yet to answer the last recall."""
        return self.slices.get(slot, (0, self.recall))[1] < self.recall

    def listen(self, slot: str, live: frozenset[str]) -> None:
        """Note which recall every other live slot has answered that has anything."""
        answers = (
            answered
            for name, (amount, answered) in self.slices.items()
            if amount and name != slot and name in live
        )
        self.heard = min(self.recall, min(answers, default=self.recall))
        self.pending = self.heard < self.recall

    def lot(self, slot: str) -> Lot:
        """Return how it stands for a slot."""
        others = self.others(slot)
        required = 0
        if others:  # a recall that was under way before may have been answered before it was wanted
            required = self.recall + 1 if self.pending else self.recall
        return Lot(self.name, self.number, self.granted, self.free, others, self.over, self.heard, required)


def grant_size(free: int, need: int, live: int) -> int:
    """Return how much a slot is given that lacks `need` of a pot with `free` left, at least as much.

    A single worker gets everything, so that it never asks again. One of many gets some more than it
    needs, and near the end exactly that.
    """
    if live <= 1:
        return free
    if free < NEAR_THE_END * need:
        return need
    return need + min(free // (2 * live), _AHEAD * need)


def allocate(batch: Batch, pots: Mapping[PotName, Pot], next_recall: int) -> None:
    """Give a slot what its calls want, each all or nothing, and recall what others have where it lacks.

    What it asks for ahead of its calls it gets where there is plenty, and nobody else gives it for that.

    Args:
        batch: whose wants are met, in their order.
        pots: every pot that it names and that exists; they are changed. Another covers anything.
        next_recall: the number of a new recall; one number serves for the whole batch.
    """
    for pot in pots.values():
        pot.listen(batch.slot, batch.live)
    have = dict(batch.free)
    lacking: set[PotName] = set()
    for want in batch.wants:
        parts = _parts(want, batch, pots, have, lacking)
        if parts is None:
            continue
        for name, part in parts:
            lack = part - have.get(name, 0)
            if lack > 0:
                size = grant_size(pots[name].free, lack, len(batch.live))
                pots[name].give(batch.slot, size)
                have[name] = have.get(name, 0) + size
            have[name] = have.get(name, 0) - part
    for name in lacking:
        if pots[name].others(batch.slot) and not pots[name].pending:
            pots[name].recall = next_recall
    for name in batch.ahead.keys() & pots.keys() - lacking:
        pot, more = pots[name], batch.ahead[name]
        if pot.free >= NEAR_THE_END * more and not pot.pending and not pot.owes(batch.slot):
            pot.give(batch.slot, more)


def _parts(
    want: Want, batch: Batch, pots: Mapping[PotName, Pot], have: Mapping[PotName, int], lacking: set[PotName]
) -> list[tuple[PotName, int]] | None:
    """Return what a want takes of each pot, or None where it does not fit; note what it lacks."""
    parts = [(name, want.amount) for name in want.all_of if name in pots]
    short = {name for name, part in parts if have.get(name, 0) + pots[name].free < part}
    if want.sources:
        sources = [
            Reach(name, have.get(name, 0) + pots[name].free, pots[name].others(batch.slot))
            for name in want.sources
            if name in pots
        ]
        covered, missing = _cover(want, sources)
        parts += covered
        short |= missing
        if not covered and not missing and want.amount:
            return None  # there is no source at all
    lacking |= short
    return None if short else parts


class Reach(NamedTuple):
    """What one worker can have of a grant."""

    name: PotName
    reach: int  # in its slice, or free
    others: int  # in the slices of other slots


def _cover(want: Want, sources: Iterable[Reach]) -> tuple[list[tuple[PotName, int]], set[PotName]]:
    """Return how the sources cover a want, tokens whole or money together; else which of them lack."""
    rest = want.amount
    parts: list[tuple[PotName, int]] = []
    all_of_them: set[PotName] = set()
    earlier: set[PotName] = set()
    for name, reach, others in sources:
        all_of_them.add(name)
        if name.kind == "tokens":
            if want.tokens and reach >= want.tokens:
                return ([], earlier) if earlier and want.in_order else ([(name, want.tokens)], set())
            if want.tokens and reach + others >= want.tokens:
                earlier.add(name)
            continue
        part = min(rest, reach)
        if part > 0:
            parts.append((name, part))
            rest -= part
        if rest and others:
            earlier.add(name)
        if not rest:
            break
    if rest:
        return [], all_of_them
    return ([], earlier) if earlier and want.in_order else (parts, set())
