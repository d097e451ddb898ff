"""Which new calls are refused while this process has more to do than it can. Pure; it is told of the time.

While the loop is late, calls wait in a lobby of which each turn of it begins a few (`lobby.py`): a turn
stays short, there is always something to do next, and no rate has to be guessed. Where it is late by its own
work and from look to look no fewer wait, it is overloaded, and whoever is not begun soon is refused: the
fewer are, the later, so it ends where all could be served. A burst that is worked off is no overload, nor are
some callers who ask again whenever they are answered. Batch calls are refused first; of the others each key
gets as many in as everybody could have (max-min), so only those that ask the most lose any. It refuses, too,
while more calls are open than its memory holds; of those places batch calls get nine in ten.
"""

from __future__ import annotations

from enum import IntEnum
from math import exp
from typing import TYPE_CHECKING, Final

from headgate.errors import Crowded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized

    from headgate.values import MonotonicNs, Principal

CALM_S, CLOSE_S = 0.05, 0.01  # between two looks at the loop; while it is late
_NS: Final = 1_000_000_000
_STEP: Final = 0.381966  # of a second: fills it evenly, however many there are
_BUSY: Final = 0.3  # of a core: else others keep it from its work, and fewer calls do not help
_FULL: Final = 0.9  # of the time it had something to do: else it has time left, whatever makes it late
_NOTICED_S: Final = 0.005  # so late, it is watched closely,
_LATE_S: Final = 0.015  # and so late
_FOR_S: Final = 0.03  # for so long, while no fewer wait, calls are refused: of a burst fewer do at each look
_HANDFUL: Final = 16  # fewer calls are no overload: what makes it late is not that there are too many
_MEMORY_S: Final = 0.05  # of how late it was on average
_LADEN_S: Final = 0.02  # of how much there is to do
_QUIET_S: Final = 1.0  # in which hardly any is refused, and it is over
_HARDLY: Final = 0.02  # of what comes
_LEVEL_S: Final = 0.05  # between two looks at what keys want
_WANT_S: Final = 0.1  # the memory of that,
_LATELY_S: Final = 1.0  # and of the most it was: who wanted much does not go in front
_ENTERED_S: Final = 0.25  # the memory of how many went in
_AHEAD: Final = 1.25  # times as many may: else it would never be more;
_BEST_S: Final = 20.0  # the memory of how many it was at best
_SLOWEST: Final = 100.0  # calls a second that keys share at least
_BURST_S: Final = 0.1  # of its rate that a key may use at once,
_PIECE_S: Final = 0.01  # and one that asks for more than it may have
_NONE_NS: Final = 10_000_000  # at most, in which it is not looked whether a key may have a call again
_TURN_NS: Final = 100_000  # of work, in which a turn of the loop begins calls,
_LONG_TURN_NS: Final = 250_000  # and while no more is refused than
_LITTLE: Final = 0.15  # of what comes: longer turns get more done, and nobody waits for long then
_LEEWAY_NS: Final = 20_000_000  # for which a call may wait where none is lost, and the less the more are
_SUDDEN: Final = (
    4.0  # calls between two looks, or twice as many as it did ask: what it wants now is not known
)
_FAR: Final = 0.5  # of what it may have: who has about as much as that would be in front by turns only
_SWIFT: Final = 1000.0  # calls a second: who serves so many, or lately did, is kept busy by a few
_FORGOTTEN: Final = 0.5  # calls a second: who wants fewer is a stranger again


class Place(IntEnum):
    """Where a new call waits."""

    OUT = 0  # it is refused
    BEHIND = 1
    FIRST = 2


class _Want:
    """What a key asks for, and what it may still have."""

    __slots__ = ("at_ns", "batch", "came", "lately", "none_until_ns", "per_s", "tokens")

    def __init__(self, now: MonotonicNs, *, batch: bool) -> None:
        self.batch = batch
        self.came = 0  # since the last look
        self.per_s = 0.0
        self.lately = 0.0  # the same, or what it was before: who pauses for a moment has not changed
        self.tokens = 0.0 if batch else 1.0  # who has not asked before has one call
        self.at_ns = now
        self.none_until_ns: MonotonicNs = 0  # it has no call before


class Shedder:
    """Refuse new calls. One per process.

    Args:
        calls: that are open.
        lobby: those that have come and not begun.
        most: so many may be, of both.
        few: so many may be in any case where the machine is slow.
    """

    __slots__ = (
        "_average_s", "_best_per_s", "_busy", "_calls", "_came", "_entered", "_entered_per_s", "_fair",
        "_few", "_late_for_s", "_level", "_levelled_s", "_lobby", "_loss", "_lost", "_most", "_quiet_s",
        "_refused", "_rest", "_spread", "_waited", "_wanted", "_wants", "active", "full", "share",
    )  # fmt: skip

    def __init__(self, calls: Sized, lobby: Sized, most: int, few: int = 64) -> None:
        self.active = False  # else every call goes in, and nobody asks
        self.full = False  # there are more calls than it can serve
        self.share = 0.0  # of new calls that are refused
        self._calls = calls
        self._lobby = lobby
        self._most = most
        self._few = few
        self._average_s = self._busy = self._wanted = 0.0
        self._late_for_s = self._quiet_s = 0.0
        self._waited = 0  # calls, at the last look
        self._entered = self._refused = 0  # since the last look
        self._came = self._lost = 0  # the same of all that are not batch: those that came, and were refused
        self._loss = 0.0  # of these
        self._entered_per_s = self._best_per_s = 0.0
        self._wants: dict[int, _Want] = {}  # by key
        self._levelled_s = 0.0  # since they were looked at
        self._level = self._rest = 0.0  # calls each second of a key; of one whose calls are batch
        self._fair = 0.0  # the same as the level, if no more go in than do
        self._spread = 0.0

    def tick(self, late_s: float, busy: float, wanted: float, took_s: float) -> float:
        """Take in how the loop was since the last look.

        Args:
            late_s: by so much.
            busy: which share of a core the process had,
            wanted: and which share of the time the loop had something to do.
            took_s: how long ago that look was.

        Returns:
            After how many seconds to look again.
        """
        late_s *= min(1.0, busy)  # the rest is the others' doing
        weight = 1 - exp(-took_s / _MEMORY_S)
        self._average_s += (late_s - self._average_s) * weight
        weight = 1 - exp(-took_s / _LADEN_S)
        self._busy += (busy - self._busy) * weight
        self._wanted += (wanted - self._wanted) * weight
        watched = late_s > _NOTICED_S or self._average_s > _NOTICED_S
        if self.active:
            self._count(took_s)
        self._judge(late_s, min(took_s, 2 * CLOSE_S))
        self.active = watched or self.full or self._open * 10 >= self._most * 9
        if not self.active:
            self._wants = {}
            self._entered_per_s = self._levelled_s = self._late_for_s = self.share = 0.0
            return CALM_S
        return CLOSE_S if watched or self.full else CALM_S

    @property
    def _laden(self) -> bool:
        """Say whether the loop has no time left, by its own work."""
        return self._wanted > _FULL and self._busy > _BUSY

    def _count(self, took_s: float) -> None:
        """Take in what came since the last look."""
        weight = 1 - exp(-took_s / _ENTERED_S) if self._entered_per_s else 1.0
        self._entered_per_s += (self._entered / took_s - self._entered_per_s) * weight
        came = self._entered + self._refused
        if came:
            self.share += (self._refused / came - self.share) * weight
        if self._came:
            self._loss += (min(1.0, self._lost / self._came) - self._loss) * weight
        self._quiet_s = 0.0 if self._refused and self.share > _HARDLY else self._quiet_s + took_s
        self._entered = self._refused = self._came = self._lost = 0
        self._levelled_s += took_s
        if self._levelled_s >= _LEVEL_S:
            self._weigh(self._levelled_s)

    def _weigh(self, took_s: float) -> None:
        """Look at what the keys want, and say how much each may have."""
        self._levelled_s = 0.0
        weight, kept = 1 - exp(-took_s / _WANT_S), exp(-took_s / _LATELY_S)
        for want in self._wants.values():
            want.per_s += (want.came / took_s - want.per_s) * (weight if want.per_s else 1.0)
            want.lately = max(want.per_s, want.lately * kept)
            want.came = 0
        self._wants = {key: want for key, want in self._wants.items() if want.per_s > _FORGOTTEN}
        own = [want.per_s for want in self._wants.values() if not want.batch]
        batch = [want.per_s for want in self._wants.values() if want.batch]
        self._best_per_s = max(self._entered_per_s, self._best_per_s * exp(-took_s / _BEST_S))
        room = max(_SLOWEST, self._entered_per_s * _AHEAD, self._best_per_s)
        self._level, self._fair = level(own, room), level(own, self._entered_per_s)
        self._rest = level(batch, max(0.0, room - sum(own)))

    def _judge(self, late_s: float, lately_s: float) -> None:
        """Begin to refuse, or end."""
        if late_s <= _LATE_S or not self._laden:
            self._late_for_s = max(0.0, self._late_for_s - lately_s)
        elif self._open >= min(_HANDFUL, self._few) and len(self._lobby) >= self._waited:
            self._late_for_s += lately_s
        self._waited = len(self._lobby)
        if self.full:
            self.full = self._quiet_s < _QUIET_S or self._average_s > _LATE_S
        elif self._late_for_s >= _FOR_S:
            self.full = True
            self._quiet_s, self._loss = 0.0, _LITTLE  # until it is known

    def watch(self) -> None:
        """Look closely from now on: a turn of the loop begins many calls."""
        self.active = True

    def place(self, principal: Principal, now: MonotonicNs) -> Place:
        """Say where a new call waits.

        Args:
            principal: whose.
            now: when it came.
        """
        want = self._wants.get(principal.key)
        if want is None:
            want = self._wants[principal.key] = _Want(now, batch=principal.priority == "batch")
        want.came += 1
        self._came += not want.batch
        if self._open >= (self._most * 9 // 10 if want.batch else self._most):
            place = Place.OUT
        elif self.full:
            place = self._place(want, now)
        else:
            place = Place.FIRST if 0 < want.per_s <= self._fair * _FAR and not want.batch else Place.BEHIND
        if place is Place.OUT:
            self.refused(batch=want.batch)
        return place

    def refuses(self, key: int, now: MonotonicNs) -> bool:
        """Refuse a call of a key that may have none yet; one that is not refused by this is not counted."""
        want = self._wants.get(key)
        if want is None or now >= want.none_until_ns:
            return False
        want.came += 1
        self._came += not want.batch
        self.refused(batch=want.batch)
        return True

    def _place(self, want: _Want, now: MonotonicNs) -> Place:
        """Take one call from what a key may have."""
        per_s = self._rest if want.batch else self._level
        sudden = want.came > max(_SUDDEN, 2 * want.per_s * _LEVEL_S)
        modest = not want.batch and want.lately <= self._fair and not sudden
        tokens = want.tokens + (now - want.at_ns) * per_s / _NS
        want.at_ns = now
        want.tokens = tokens = min(tokens, max(2.0, per_s * (_BURST_S if modest else _PIECE_S)))
        few = self._open < self._few and self._slow and not want.batch
        if not few and tokens < 1:
            want.none_until_ns = now + int(min(_NONE_NS, (1 - tokens) * _NS / per_s if per_s else _NONE_NS))
            return Place.OUT
        want.tokens = max(0.0, tokens - 1)
        return Place.FIRST if modest or few else Place.BEHIND

    @property
    def turn_ns(self) -> int:
        """Return for how much work a turn of the loop begins calls."""
        return _TURN_NS if self.full and self.share > _LITTLE else _LONG_TURN_NS

    @property
    def in_order(self) -> bool:
        """Say whether calls go in order: few are lost of those that are not batch, so none waits for long."""
        return not self.full or self._loss < _LITTLE

    @property
    def leeway_ns(self) -> int:
        """Return for how much longer a call may wait than where many are lost."""
        return int(_LEEWAY_NS * max(0.0, 1 - self._loss / _LITTLE))

    @property
    def few(self) -> bool:
        """Say whether there are so few calls that none is refused: a slow machine is late with them, too."""
        return self._open <= self._few and self._slow

    @property
    def _slow(self) -> bool:
        return max(self._entered_per_s, self._best_per_s) < _SWIFT

    @property
    def _open(self) -> int:
        return len(self._calls) + len(self._lobby)

    def begun(self) -> None:
        """Count a call that goes in."""
        self._entered += 1

    def refused(self, *, batch: bool = False) -> None:
        """Count a call that is refused, such as one that waited for too long."""
        self._refused += 1
        self._lost += not batch

    def refusal(self) -> Crowded:
        """Return the refusal of a call, with a time to come back that differs from that of the others."""
        self._spread = (self._spread + _STEP) % 1.0
        return Crowded(
            "The gateway has more to do than it can. Try again in a moment.", retry_after_s=1.0 + self._spread
        )


def level(wants: Iterable[float], room: float) -> float:
    """Return how much each of some may have at most, so that all together have no more than there is room."""
    ordered = sorted(wants)
    for index, want in enumerate(ordered):
        each = room / (len(ordered) - index)
        if want > each:
            return each
        room -= want
    return room + (ordered[-1] if ordered else 0)
