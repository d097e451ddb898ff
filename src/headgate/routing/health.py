"""Which targets are well. While nothing fails nothing is kept, and a call asks one question of it.

A target is a provider's model asked with one credential: a bad key takes out that key alone. Pure; time and
chance are given.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

from headgate.errors import UpstreamDenied, UpstreamOverloaded, UpstreamRefused, WrongShape
from headgate.routing.breaker import Breaker, BreakerTerms
from headgate.routing.tallies import Tally
from headgate.vitals import OTHER, Sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from headgate.errors import UpstreamError
    from headgate.ports import Clock
    from headgate.values import MonotonicNs, Target, WallMicros
    from headgate.vitals import State

News: TypeAlias = Literal["out", "well", "denied"]
_NS = 1_000_000_000
_MOST = 10_000  # names of models come from callers
_PANIC_NS = 30 * _NS  # how long it is shown
_BUSY_S = 1.0  # of a provider that limits us and does not say for how long


class Place(NamedTuple):
    """What a breaker is for."""

    provider: str
    model: str  # as the provider calls it
    credential: str  # which of the provider's keys; empty: its only one


class Answered(Protocol):
    """An attempt that has ended well."""

    @property
    def first_byte_us(self) -> int:
        """Return how long it took to begin."""
        ...


class Standing(NamedTuple):
    """What people see of a target that is not well."""

    place: Place
    out: bool
    wait_ns: int
    times: int


class Choice(NamedTuple):
    """The targets of a call, in the order in which they are asked."""

    targets: tuple[Target, ...]
    panic: bool = False  # none of them is well: each is asked once, and nothing is tried again
    open: int = 0  # the first so many are well, or only limit us; 0: all, or none


class Shared(Protocol):
    """What the workers of a node know together of their breakers.

    Facts are those of `Breaker.tell`, and whether another worker probes. Nothing here waits for anybody.
    """

    @property
    def version(self) -> int:
        """Return a number that changes with what is known."""
        ...

    def get(self, place: Place) -> tuple[int, ...] | None:
        """Return what is known of a place; None: nothing."""
        ...

    def known(self) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
        """Return what is known of all places."""
        ...

    def edit(self, place: Place) -> AbstractContextManager[list[int] | None]:
        """Let a worker change what is known of a place, alone; None where that cannot be."""
        ...


class Health:
    """The breakers of a process, and its tallies of what failed.

    Args:
        terms: when a target is taken out.
        draw: returns chance from [0, 1).
        told: hears that a target was taken out, is well again, or began to refuse our credential.
    """

    __slots__ = ("_draw", "_shared", "_terms", "_told", "_version", "breakers", "tallies")

    def __init__(
        self, terms: BreakerTerms, draw: Callable[[], float], told: Callable[[Place, News], None]
    ) -> None:
        self._terms = terms
        self._draw = draw
        self._told = told
        self.breakers: dict[Place, Breaker] = {}  # where something has failed lately
        self._shared: Shared | None = None
        self._version = 0  # of what is shared, as of the last look
        self.tallies: dict[Place, Tally] = {}

    # ── with other workers ───────────────────────────────────────────────────────────────────────

    def share(self, shared: Shared) -> None:
        """Know from now on what other workers know."""
        self._shared = shared

    def follow(self, now: MonotonicNs) -> None:
        """Take in what other workers have met since the last time."""
        shared = self._shared
        if shared is None or shared.version == self._version:
            return
        self._version = shared.version
        for names, facts in shared.known():
            place, fresh = Place(*names), Breaker(self._terms)
            fresh.learn(facts[:-1])
            breaker = self.breakers.get(place)
            if breaker is not None:
                breaker.learn(facts[:-1])
            elif fresh.out or fresh.wait_ns(now):
                self.breakers[place] = fresh

    @contextmanager
    def _together(self, place: Place, breaker: Breaker) -> Iterator[bool]:
        """Change a breaker as all workers know it; yield whether another one probes."""
        if self._shared is None:
            yield False
            return
        with self._shared.edit(place) as facts:
            if facts is None:
                yield False
                return
            breaker.join(facts[:-1])
            yield bool(facts[-1])
            facts[:-1] = breaker.tell()

    def _breaker(self, target: Target) -> Breaker | None:
        """Return a target's breaker as it is now."""
        place = place_of(target)
        breaker = self.breakers.get(place)
        if breaker is not None and self._shared is not None and breaker.out:
            facts = self._shared.get(place)
            if facts is not None:
                breaker.learn(facts[:-1])
        return breaker

    # ── calls ────────────────────────────────────────────────────────────────────────────────────

    def choose(self, targets: tuple[Target, ...], now: MonotonicNs) -> Choice:
        """Return the targets to ask, those that are out last."""
        if not self.breakers:
            return Choice(targets)
        well: list[Target] = []
        out: list[Target] = []
        for target in targets:
            breaker = self._breaker(target)
            (well if breaker is None or breaker.admits(now) else out).append(target)
        if not out:
            return Choice(targets)
        ordered = (*well, *sorted(out, key=self._is_out))
        return Choice(ordered, panic=not well, open=sum(not self._is_out(target) for target in ordered))

    def _is_out(self, target: Target) -> bool:
        """Say whether a target was taken out, and does not only limit us."""
        breaker = self.breakers.get(place_of(target))
        return breaker is not None and breaker.out

    def asked(self, target: Target, clock: Clock) -> bool | None:
        """Take in that a target is asked; say whether that is what probes it.

        None: another worker has begun to, in the moment since it was chosen.
        """
        if not self.breakers:
            return False
        place = place_of(target)
        breaker = self.breakers.get(place)
        if breaker is None:
            return False
        now = clock.monotonic()
        if self._shared is None or not breaker.due(now):
            return breaker.asked(now)
        with self._together(place, breaker) as another:
            return None if another and not breaker.due(now) else breaker.asked(now)

    def served(self, target: Target, clock: Clock, answered: Answered | None = None) -> None:
        """Take in that a target answered, and how soon."""
        if target.host.credential:  # else the calls that were settled say so
            tally = self._tally(place_of(target))
            tally.served += 1
            tally.first_byte_us += answered.first_byte_us if answered is not None else 0
        if not self.breakers:
            return
        place = place_of(target)
        breaker = self.breakers.get(place)
        if breaker is None:
            return
        was_out, now = breaker.out, clock.monotonic()
        facts = self._shared.get(place) if self._shared is not None else None
        if facts is not None and (was_out or facts[0]):
            with self._together(place, breaker):
                breaker.served(now)
        else:  # the good ones are said with the next bad one
            breaker.served(now)
        if was_out and not breaker.out:
            self._told(place, "well")
        if breaker.forgettable(now):
            del self.breakers[place]

    def failed(self, target: Target, error: UpstreamError, clock: Clock) -> None:
        """Take in that an attempt failed. What the caller did wrong is no failure of the target."""
        if target.simulated:
            return
        place, now = place_of(target), clock.monotonic()
        tally = self._tally(place)
        if isinstance(error, UpstreamDenied) and tally.last != error.kind:
            self._told(place, "denied")
        tally.count(error, clock.wall())
        if isinstance(error, (UpstreamRefused, WrongShape)) or error.not_processed:
            return
        breaker = self.breakers.get(place)
        if breaker is None:
            if len(self.breakers) >= _MOST:
                self._forget(now)
            breaker = self.breakers[place] = Breaker(self._terms)
        with self._together(place, breaker):
            if isinstance(error, UpstreamOverloaded) and error.limited_by:
                wait_s = _BUSY_S if error.retry_after_s is None else error.retry_after_s
                breaker.busy(now + int(wait_s * _NS))
                return
            taken_out = breaker.failed(now, self._draw())
        if taken_out:
            self._told(place, "out")

    def left(self, target: Target) -> None:
        """Take in that what probes a target has ended and says nothing of it."""
        place = place_of(target)
        breaker = self.breakers.get(place)
        if breaker is not None:
            with self._together(place, breaker):
                breaker.left()

    def retried(self, target: Target) -> None:
        """Take in that a call whose first attempt failed asks a target."""
        if not target.simulated:
            self._tally(place_of(target)).retries += 1

    def panicked(self, targets: Iterable[Target], now: MonotonicNs) -> None:
        """Take in that none of a call's targets is well."""
        for target in targets:
            self._tally(place_of(target)).panic_ns = now

    def admits(self, target: Target, now: MonotonicNs) -> bool:
        """Say whether a target may be asked; where it is out, that would be what probes it."""
        breaker = self._breaker(target)
        return breaker is None or breaker.admits(now)

    def well(self, target: Target, now: MonotonicNs) -> bool:
        """Say whether a target was not taken out and does not limit us now."""
        breaker = self._breaker(target)
        return breaker is None or breaker.state(now) == "well"

    def wait_ns(self, target: Target, now: MonotonicNs) -> int:
        """Return how long a target is not asked; 0: it is."""
        breaker = self.breakers.get(place_of(target))
        return breaker.wait_ns(now) if breaker is not None else 0

    def unwell(self, now: MonotonicNs) -> list[Standing]:
        """Return the targets that are out or asked to be left alone."""
        return [
            Standing(place, breaker.out, breaker.wait_ns(now), breaker.times)
            for place, breaker in self.breakers.items()
            if breaker.out or breaker.wait_ns(now)
        ]

    def signs(self, clock: Clock) -> list[Sign]:
        """Return what is known of each place at which something ever failed."""
        now, wall = clock.monotonic(), clock.wall()
        return [self._sign(place, now, wall) for place in {**self.tallies, **self.breakers}]

    def _sign(self, place: Place, now: MonotonicNs, wall: WallMicros) -> Sign:
        tally, breaker = self.tallies.get(place) or Tally(), self.breakers.get(place)
        state: State = "well" if breaker is None else breaker.state(now)
        if state == "out" and tally.panic_ns and now - tally.panic_ns < _PANIC_NS:
            state = "panic"
        wait_ns = 0 if breaker is None else breaker.wait_ns(now)
        return Sign(
            *place,
            state=state,
            until=wall + wait_ns // 1000 if wait_ns else 0,
            times=0 if breaker is None else breaker.times,
            served=tally.served,
            first_byte_us=tally.first_byte_us,
            retries=tally.retries,
            errors=tally.errors.copy(),
            last=tally.last,
            last_at=tally.last_at,
        )

    def resume(self, signs: Iterable[Sign]) -> None:
        """Go on with what the worker that had this slot before has counted."""
        for sign in signs:
            self._tally(Place(sign.provider, sign.model, sign.key)).resume(sign)

    def _tally(self, place: Place) -> Tally:
        tally = self.tallies.get(place)
        if tally is None:
            if len(self.tallies) >= _MOST:  # one for all that come later
                place = Place(place.provider, OTHER, "")
            tally = self.tallies.setdefault(place, Tally())
        return tally

    def _forget(self, now: MonotonicNs) -> None:
        gone = [place for place, breaker in self.breakers.items() if breaker.forgettable(now)]
        for place in gone or list(self.breakers)[: _MOST // 2]:
            del self.breakers[place]


def place_of(target: Target) -> Place:
    """Return what a target's breaker is kept under."""
    return Place(target.host.name, target.model.name, target.host.credential)
