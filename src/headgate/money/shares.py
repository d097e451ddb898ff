"""What several workers count together: how a shared meter is split into hands. Pure.

A meter allows so many units per window and refills evenly; what is used of it is kept in millionths. A
worker takes units into its hand before it spends them, and says what it has spent later. What is in a hand
counts against the limit all the time and is not refilled, so hands and what is free never add up to more
than the limit: all workers together let through what one bucket would.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from headgate.values import MonotonicNs

MICRO: Final = 1_000_000
_PLENTY: Final = 8  # below so many times what is wanted, nobody gets more than that
_AHEAD: Final = 32
MOST_ROWS: Final = 1 << 16  # meters beyond these cannot be seen
MOST_SLOTS: Final = 64  # workers
_LEFT, _TOLD, _SPENT = 1, 2, 3  # cells of a row; the first is when it was shown
_WIDTH: Final = _SPENT + MOST_SLOTS
_PLACES: Final = 2 * MOST_ROWS
_PROBES: Final = 16
CELLS: Final = _PLACES + _WIDTH * MOST_ROWS
_LOOKS: Final = 3  # at a row that is being written


class Pool(NamedTuple):
    """A shared meter."""

    used: int  # millionths of a unit, hands apart
    at: MonotonicNs  # when that was so
    limit: int
    window_ns: int  # 0: of calls at once, which are only ever in hands


class Ask(NamedTuple):
    """What a worker says of a meter, and wants of it."""

    name: str
    limit: int
    window_ns: int
    spent: int  # since it last said so; below zero: given back
    keep: int  # what stays in its hand
    want: int = 0  # what it needs on top now
    known: int = 0  # millionths that are used as far as it knows, for a store that has lost the meter


class Answer(NamedTuple):
    """What a worker is told of a meter."""

    granted: int  # into its hand: what it wants, perhaps more, or what there is
    free: int  # whole units in nobody's hand
    others: int  # units in the hands of other workers
    wait_ns: int = 0  # until the rest of it is free, if nobody else takes it; 0: all was granted
    left: int | None = (
        0  # units that nobody has used, by what workers have said; None: nobody asked the store
    )
    told: int = 0  # what all of them have ever said that they spent
    row: int = 0  # the meter's in `Sight`; 0: it has none


class Sight:
    """What all workers of a machine have spent, at once and without a word to the store: for people to see.

    Each meter has a row of cells: how it stood when some worker last asked, and what each worker has ever
    spent of it, which that worker alone writes. Nothing is granted by it, so it may be torn for a moment.
    Before the rows stands where each is: a hash of the meter's name and the row, in one cell.

    Args:
        cells: `CELLS` integers of 64 bits, 0 at first, which all workers share.
        slot: of this worker.
        workers: how many there are.
    """

    __slots__ = ("_cells", "_slot", "_workers")

    def __init__(self, cells: memoryview[int], slot: int, workers: int) -> None:
        self._cells = cells
        self._slot = slot
        self._workers = workers

    def find(self, name: str) -> int:
        """Return the row of a meter; 0 where nobody has entered one."""
        sign = _sign(name)
        for place in range(sign, sign + _PROBES):
            found = self._cells[place % _PLACES]
            if found // MOST_ROWS == sign:
                return found % MOST_ROWS
        return 0

    def enter(self, name: str, row: int) -> None:
        """Tell the others where a meter's row is."""
        if not 0 < row < MOST_ROWS or self.find(name):
            return
        sign = _sign(name)
        for place in range(sign, sign + _PROBES):
            if not self._cells[place % _PLACES]:
                self._cells[place % _PLACES] = sign * MOST_ROWS + row
                return

    def spend(self, row: int, amount: int) -> None:
        """Note what this worker has spent; below zero: given back."""
        if 0 < row < MOST_ROWS:
            self._cells[_PLACES + row * _WIDTH + _SPENT + self._slot] += amount

    def show(self, row: int, left: int, told: int, now: MonotonicNs) -> None:
        """Note how a meter stands, as the store has just told it: `left` and `told` of an answer."""
        if 0 < row < MOST_ROWS:
            at = _PLACES + row * _WIDTH
            self._cells[at] = 0
            self._cells[at + _LEFT], self._cells[at + _TOLD] = left, told
            self._cells[at] = now

    def spent(self, row: int) -> int:
        """Return what this worker, and those who had its slot before, have ever spent of a meter."""
        return self._cells[_PLACES + row * _WIDTH + _SPENT + self._slot] if 0 < row < MOST_ROWS else 0

    def left(self, row: int, limit: int, window_ns: int, now: MonotonicNs) -> int | None:
        """Return the units that nobody has used; None where that cannot be seen."""
        if not 0 < row < MOST_ROWS:
            return None
        cells, at = self._cells, _PLACES + row * _WIDTH
        for _ in range(_LOOKS):
            since, left, told = cells[at : at + _SPENT].tolist()
            spent = sum(cells[at + _SPENT : at + _SPENT + self._workers].tolist())
            if since and cells[at] == since:
                back = max(0, now - since) * limit // window_ns
                return max(0, min(left + back, limit) - (spent - told))
        return None


def _sign(name: str) -> int:
    """Return 47 bits of a hash that all processes have alike; never 0."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) % ((1 << 47) - 1) + 1


def begun(ask: Ask, now: MonotonicNs) -> Pool:
    """Return a meter that the store does not have: as the worker that asks knows it."""
    return Pool(min(ask.known, ask.limit * MICRO), now, ask.limit, ask.window_ns)


def unused(pool: Pool) -> int:
    """Return the units that nobody has used, by what workers have said."""
    return pool.limit + (-pool.used // MICRO)


def refilled(pool: Pool, now: MonotonicNs) -> Pool:
    """Return a meter as it is now."""
    if not pool.window_ns or now <= pool.at:
        return pool
    back = (now - pool.at) * pool.limit * MICRO // pool.window_ns
    return pool._replace(used=max(0, pool.used - back), at=now)


def exchange(pool: Pool, ask: Ask, others: int, now: MonotonicNs, workers: int) -> tuple[Pool, int, Answer]:
    """Apply what a worker says; return the meter, what is in its hand, and the answer."""
    if ask.window_ns and not pool.window_ns:  # of the last run: its limit was not kept
        pool = Pool(min(pool.used, ask.limit * MICRO), pool.at, ask.limit, ask.window_ns)
    pool = refilled(pool, now)
    used = max(0, pool.used + ask.spent * MICRO) if ask.window_ns else 0
    if ask.limit != pool.limit:  # what is used stays used, as far as the new limit goes
        used = min(used, ask.limit * MICRO)
    pool = Pool(used, max(pool.at, now), ask.limit, ask.window_ns)
    left = unused(pool)
    free = left - others - ask.keep
    if ask.want > free:
        # Hands come back within a tenth of a second; what is used, with time.
        lack = ask.want - free
        wait_ns = -(-lack * ask.window_ns // ask.limit) if ask.window_ns else 1
        granted = max(0, free)  # several calls want it, and some of them fit
        return pool, ask.keep + granted, Answer(granted, 0, others, wait_ns, left)
    granted = ask.want
    if ask.want and free >= _PLENTY * ask.want * workers:
        granted += min(free // (4 * workers), _AHEAD * ask.want)
    return pool, ask.keep + granted, Answer(granted, free - granted, others, 0, left)


def buried(pool: Pool, hand: int, now: MonotonicNs) -> Pool:
    """Return a meter after a worker died: what was in its hand may be spent, its open calls are over."""
    pool = refilled(pool, now)
    return pool._replace(used=pool.used + hand * MICRO) if pool.window_ns else pool
