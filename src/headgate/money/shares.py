"""What several workers count together: how a shared meter is split into hands. Pure.

A meter allows so many units per window and refills evenly; what is used of it is kept in millionths. A
worker takes units into its hand before it spends them, and says what it has spent later. What is in a hand
counts against the limit all the time and is not refilled, so hands and what is free never add up to more
than the limit: all workers together let through what one bucket would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from headgate.values import MonotonicNs

MICRO: Final = 1_000_000
_PLENTY: Final = 8  # below so many times what is wanted, nobody gets more than that
_AHEAD: Final = 32


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


class Answer(NamedTuple):
    """What a worker is told of a meter."""

    granted: int  # into its hand: what it wants, perhaps more, or what there is
    free: int  # whole units in nobody's hand
    others: int  # units in the hands of other workers
    wait_ns: int = 0  # until the rest of it is free, if nobody else takes it; 0: all was granted


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
    free = ask.limit + (-used // MICRO) - others - ask.keep
    if ask.want > free:
        # Hands come back within a tenth of a second; what is used, with time.
        lack = ask.want - free
        wait_ns = -(-lack * ask.window_ns // ask.limit) if ask.window_ns else 1
        granted = max(0, free)  # several calls want it, and some of them fit
        return pool, ask.keep + granted, Answer(granted, 0, others, wait_ns)
    granted = ask.want
    if ask.want and free >= _PLENTY * ask.want * workers:
        granted += min(free // (4 * workers), _AHEAD * ask.want)
    return pool, ask.keep + granted, Answer(granted, free - granted, others)


def buried(pool: Pool, hand: int, now: MonotonicNs) -> Pool:
    """Return a meter after a worker died: what was in its hand may be spent, its open calls are over."""
    pool = refilled(pool, now)
    return pool._replace(used=pool.used + hand * MICRO) if pool.window_ns else pool
