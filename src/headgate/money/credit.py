"""Credit: which grants cover a call, how its charge is split over them, what expires when. Pure.

A prepaid account spends its grants in one order: a grant in tokens of the call's model, which covers
the whole call or nothing of it; then grants in money, the first to expire first; then the balance
that top-ups fill. A hold is split over them when the call opens, and its charge is taken from the parts
in the same order when it settles, so a grant that expires in between stays chargeable by that call.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from headgate.money.periods import FOREVER
from headgate.ports import Source
from headgate.values import NanoUSD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headgate.values import Usage, WallMicros

BALANCE: Final = "balance"  # the kind of the grant that top-ups fill
DAY_US: Final = 86_400_000_000
MOST_AT_ONCE: Final[NanoUSD] = 10**16  # of one posting, 10 million USD: sums stay far within 64 bits


class Offer(Protocol):
    """What a process may still spend of one grant."""

    @property
    def pot(self) -> int:
        """Return the id of its pot."""
        ...

    @property
    def grant(self) -> int:
        """Return the grant's own id."""
        ...

    @property
    def model(self) -> str:
        """Return the model, or pattern of models, that a grant in tokens is for; empty: it is in money."""
        ...

    @property
    def until(self) -> WallMicros:
        """Return when it expires; `FOREVER` where it does not."""
        ...

    @property
    def free(self) -> int:
        """Return what is neither spent nor held: nano-USD, or tokens."""
        ...


class Need(msgspec.Struct, frozen=True, gc=False):
    """What a call may need at most."""

    model: str  # as the caller names it
    amount: NanoUSD
    tokens: int  # input and output together
    only_tokens: bool = True  # and no other unit, which no grant in tokens covers


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What a settled call takes from one source."""

    n: int  # its place among the sources
    source: Source
    amount: int  # nano-USD, or tokens of a grant in tokens


def rank(kind: str, model: str, expires_at: WallMicros, grant: int) -> tuple[bool, bool, WallMicros, int]:
    """Return where a grant stands in the order in which an account spends its grants."""
    return (not model, kind == BALANCE, expires_at or FOREVER, grant)


def cover(offers: Iterable[Offer], need: Need, now: WallMicros) -> tuple[Source, ...] | None:
    """Return the parts that cover a call, or None where the offers do not.

    Args:
        offers: of one account and book, in the order of `rank`.
        need: the bounds that the call is held for.
        now: grants that have expired by then cover nothing.
    """
    rest = need.amount
    parts: list[Source] = []
    if not rest:  # it costs nothing
        return ()
    for offer in offers:
        free = offer.free
        if free <= 0 or offer.until <= now:
            continue
        if offer.model:
            if need.only_tokens and free >= need.tokens > 0 and fnmatchcase(need.model, offer.model):
                return (Source(offer.pot, offer.grant, need.amount, need.tokens),)
            continue
        part = min(rest, free)
        parts.append(Source(offer.pot, offer.grant, part))
        rest -= part
        if not rest:
            return tuple(parts)
    return None


def left(offers: Iterable[Offer], now: WallMicros) -> NanoUSD:
    """Return the money that is neither spent nor held nor expired."""
    return sum(max(0, offer.free) for offer in offers if not offer.model and offer.until > now)


def in_tokens(sources: Sequence[Source]) -> bool:
    """Say whether a grant in tokens covers the call, so that its customer pays nothing."""
    return bool(sources) and sources[0].tokens > 0


def tokens_taken(sources: Sequence[Source], usage: Usage) -> int:
    """Return how many tokens a usage takes from the grant in tokens that covers it."""
    return min(usage.input_tokens + usage.output_tokens, sources[0].tokens)


def taken(sources: Sequence[Source], charge: NanoUSD, tokens: int) -> list[Taken]:
    """Split a settled call over its sources, in their order; parts of zero are left out.

    Raises:
        ValueError: the sources do not hold that much.
    """
    if len(sources) == 1 and not sources[0].tokens and 0 < charge <= sources[0].amount:
        return [Taken(0, sources[0], charge)]  # the usual
    if in_tokens(sources):
        if tokens > sources[0].tokens or charge:
            raise ValueError(f"{tokens} tokens and {charge} nano-USD do not fit {sources[0]}")
        return [Taken(0, sources[0], tokens)] if tokens else []
    rest = charge
    parts = []
    for n, source in enumerate(sources):
        if not rest:
            break
        part = min(rest, source.amount)
        if part:
            parts.append(Taken(n, source, part))
            rest -= part
    if rest:
        raise ValueError(f"{charge} nano-USD are {rest} more than the sources hold")
    return parts
