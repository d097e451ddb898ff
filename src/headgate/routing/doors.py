"""Where calls pass on their way to a target: at once, after a wait in line, or not at all.

A target, and its provider as a whole, has as much room as the settings say, and is asked as fast as it says
itself (`pace.py`). A call takes the first of its targets that lets it in; where none does it waits for
whichever does first, in the line of those with the same targets (`turns.py`), with its money held: it may be
sent in the next moment. While no setting bounds anything and no provider is near its limits nothing is kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from headgate.errors import CallerGone, Crowded, RateLimited
from headgate.routing.health import place_of
from headgate.routing.pace import FREED, Pace, near
from headgate.routing.turns import Turns, Waiter
from headgate.waits import ends_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.errors import GatewayError
    from headgate.ports import Clock, Sink
    from headgate.routing.health import Place
    from headgate.routing.pace import Fare
    from headgate.values import Call, MonotonicNs, Target
    from headgate.wire.limits import Told

_NS: Final = 1_000_000_000
BUSY_S: Final = 1.0  # of a provider that limits us and does not say for how long


class _Room:
    """How many calls are at a provider, or at one of its models."""

    __slots__ = ("limit", "open")

    def __init__(self) -> None:
        self.limit = 0  # 0: as many as come
        self.open = 0


class _Door:
    """The way to one target."""

    __slots__ = ("longest_ns", "pace", "place", "rooms")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.rooms: tuple[_Room, ...] = ()  # of the provider, and of the target itself
        self.pace: Pace | None = None
        self.longest_ns = 0

    def wait_ns(self, tokens: int, now: MonotonicNs) -> int:
        """Return how long a call waits here; 0: not at all."""
        for room in self.rooms:
            if 0 < room.limit <= room.open:
                return FREED
        return self.pace.wait_ns(tokens, now, self.longest_ns) if self.pace is not None else 0


class Seat:
    """A call's place at a target, from before it is sent until its attempt has ended."""

    __slots__ = ("_fare", "_pace", "door", "index", "open", "rooms")

    def __init__(self, door: _Door, index: int, tokens: int, now: MonotonicNs) -> None:
        self.door = door
        self.index = index  # of the target, among those that the call could take
        self.open = True
        self.rooms = door.rooms
        for room in door.rooms:
            room.open += 1
        self._pace = door.pace
        self._fare = None if door.pace is None else door.pace.take(tokens, now)

    def counted(self, now: MonotonicNs, *, served: bool = False) -> Fare | None:
        """Take in that the provider counts the call by now; return what it took, the first time."""
        pace, fare = self._pace, self._fare
        if pace is None or fare is None:
            return None
        self._fare = None
        pace.back(fare)
        if fare.tests and served:
            pace.doubt(now)
        return fare


class _Line:
    """The calls that wait for the same targets, in whichever order each of them would take these."""

    __slots__ = ("key", "timer", "turns")

    def __init__(self, key: frozenset[Place]) -> None:
        self.key = key
        self.turns = Turns()
        self.timer: asyncio.TimerHandle | None = None


class _Waiting(NamedTuple):
    """What is known of a call that waits."""

    line: _Line
    seat: asyncio.Future[Seat | None]
    targets: tuple[Target, ...]  # in its order


class Doors:
    """Let calls go to targets. One per process.

    Args:
        clock: monotonic time.
        workers: of the gateway, which share what the settings allow.
        draw: returns chance from [0, 1).
    """

    __slots__ = ("_clock", "_doors", "_draw", "_limited", "_lines", "_rooms", "_waits", "_workers", "idle")

    def __init__(self, clock: Clock, workers: int, draw: Callable[[], float]) -> None:
        self.idle = True  # every call passes everywhere, and nobody asks
        self._clock = clock
        self._workers = workers
        self._draw = draw
        self._limited = False
        self._doors: dict[Place, _Door] = {}
        self._rooms: dict[tuple[str, str], _Room] = {}  # by provider, and by its model
        self._lines: dict[frozenset[Place], _Line] = {}
        self._waits: dict[Waiter, _Waiting] = {}

    @property
    def waiting(self) -> int:
        """Return how many calls wait."""
        return len(self._waits)

    def follow(self, *, limited: bool) -> None:
        """Take in whether the settings bound any provider or target."""
        self._limited = limited
        self.idle = not (self._doors or limited)

    # ── to go in ─────────────────────────────────────────────────────────────────────────────────

    async def enter(self, call: Call, targets: tuple[Target, ...], tokens: int, sink: Sink) -> Seat:
        """Take a seat at the first target that has one, or wait for one.

        Args:
            call: whose.
            targets: that the call may take, in its order.
            tokens: that it may use.
            sink: of the caller.

        Raises:
            Crowded: too many wait already, or it waited too long.
            RateLimited: the provider wants to be left alone for longer than a call, or its caller, waits.
            CallerGone: the caller hung up.
        """
        principal, now = call.principal, self._clock.monotonic()
        assert principal is not None
        key = frozenset(map(place_of, targets))
        if key not in self._lines:
            seat = self._seat(targets, tokens, now)
            if seat is not None:
                return seat
        return await self._stand(key, targets, Waiter(principal, tokens, now, ends_at(call.deadline)), sink)

    def at_once(self, target: Target, tokens: int) -> Seat | None:
        """Return a seat at a target that has one now and for which nobody waits."""
        if any(place_of(target) in key for key in self._lines):
            return None
        return self._seat((target,), tokens, self._clock.monotonic())

    def leave(self, seat: Seat) -> None:
        """Give a seat back; the second time does nothing."""
        if not seat.open:
            return
        seat.open = False
        for room in seat.rooms:
            room.open -= 1
        seat.counted(self._clock.monotonic())
        if self._lines:
            self._turn_all()
        self._rest(seat.door)

    def _seat(self, targets: tuple[Target, ...], tokens: int, now: MonotonicNs) -> Seat | None:
        for index, target in enumerate(targets):
            door = self._door(target)
            if not door.wait_ns(tokens, now):
                return Seat(door, index, tokens, now)
        return None

    def _door(self, target: Target) -> _Door:
        """Return the way to a target, with the bounds that are in force now."""
        place = place_of(target)
        door = self._doors.get(place)
        if door is None:
            door = self._doors[place] = _Door(place)
        provider, own = (place.provider, ""), (place.provider, place.model)
        door.rooms = (self._rooms.setdefault(provider, _Room()), self._rooms.setdefault(own, _Room()))
        for room, terms in zip(door.rooms, (target.host.room, target.room), strict=True):
            room.limit = self._share(terms.max_concurrent)
        door.longest_ns = int(target.room.longest_wait_s * _NS)
        return door

    def _share(self, bound: int) -> int:
        """Return a worker's share of a bound, at least one where there is any."""
        return bound and max(1, bound // self._workers)

    # ── to wait ──────────────────────────────────────────────────────────────────────────────────

    async def _stand(
        self, key: frozenset[Place], targets: tuple[Target, ...], waiter: Waiter, sink: Sink
    ) -> Seat:
        line, future = self._join(key, targets, waiter)
        limit = asyncio.get_running_loop().call_later(targets[0].room.longest_wait_s, self._go, waiter)
        sink.on_gone(lambda: self._go(waiter))
        self._turn(line)
        try:
            seat = await future
        except BaseException:
            self._go(waiter)
            late = None if future.cancelled() else future.result()
            if late is not None:
                self.leave(late)
            raise
        finally:
            limit.cancel()
            sink.on_gone(_nothing)
        if seat is not None:
            return seat
        if sink.gone:
            raise CallerGone
        now = self._clock.monotonic()
        refusal = self._refusal(targets, waiter.tokens, now)
        refusal.headers["x-headgate-queued-ms"] = str((now - waiter.since) // 1_000_000)
        raise refusal

    def _join(
        self, key: frozenset[Place], targets: tuple[Target, ...], waiter: Waiter
    ) -> tuple[_Line, asyncio.Future[Seat | None]]:
        """Stand in line, in the place of another one where it is full.

        Raises:
            GatewayError: it would wait for too long, or finds no place.
        """
        terms, now = targets[0].room, waiter.since
        wait = min(self._door(target).wait_ns(waiter.tokens, now) for target in targets)
        longest = terms.longest_wait_s * _NS
        if waiter.until is not None:
            longest = min(longest, waiter.until - now)
        if longest < wait < FREED or not terms.longest_wait_s:
            raise self._refusal(targets, waiter.tokens, now)
        line, other = self._lines.get(key) or _Line(key), None
        if line.turns.count >= self._share(terms.max_waiting):
            other = line.turns.yielding(waiter)
            if other is None:
                raise self._refusal(targets, waiter.tokens, now)
        future: asyncio.Future[Seat | None] = asyncio.get_running_loop().create_future()
        self._lines[key] = line
        self._waits[waiter] = _Waiting(line, future, targets)
        line.turns.join(waiter)
        if other is not None:
            self._go(other)
        return line, future

    def _refusal(self, targets: tuple[Target, ...], tokens: int, now: MonotonicNs) -> GatewayError:
        wait = min(self._door(target).wait_ns(tokens, now) for target in targets)
        if 0 < wait < FREED:
            return RateLimited(
                "The provider of this model limits the rate of this gateway's calls, and yours would have to "
                f"wait for too long. Try again in {max(1, -(-wait // _NS))} s.",
                kind="requests",
                retry_after_s=wait / _NS,
            )
        return Crowded(
            "Too many calls wait for this model. Try again in a moment.",
            retry_after_s=1.0 + self._draw(),  # so that they do not all come back at once
        )

    def _turn_all(self) -> None:
        """Look at every line, those first that were not served for longest."""
        for key, line in tuple(self._lines.items()):
            if self._turn(line) and key in self._lines:
                self._lines[key] = self._lines.pop(key)

    def _turn(self, line: _Line) -> bool:
        """Let in who passes now, and look again when somebody may; say whether somebody passed."""
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        now, turns, passed = self._clock.monotonic(), line.turns, False
        while (waiter := turns.head()) is not None:
            targets = self._waits[waiter].targets
            seat = self._seat(targets, waiter.tokens, now)
            if seat is None:
                wait = min(self._door(target).wait_ns(waiter.tokens, now) for target in targets)
                if wait < FREED:
                    line.timer = asyncio.get_running_loop().call_later(wait / _NS, self._turn, line)
                return passed
            passed = True
            turns.served(waiter)
            self._waits.pop(waiter).seat.set_result(seat)
        self._forget(line)
        return passed

    def _go(self, waiter: Waiter) -> None:
        """Let a call go that waits no more: it waited too long, hung up, was cut, or gave way."""
        if waiter.left:
            return
        line, future, _ = self._waits.pop(waiter)
        line.turns.leave(waiter)
        if not future.done():
            future.set_result(None)
        self._turn(line)  # who is next may need less

    def _forget(self, line: _Line) -> None:
        if not line.turns.count and self._lines.get(line.key) is line:
            del self._lines[line.key]

    # ── what providers say ───────────────────────────────────────────────────────────────────────

    def told(self, target: Target, told: Told, seat: Seat | None, *, served: bool) -> None:
        """Take in what the head of an answer says is left of the provider's limits."""
        now = self._clock.monotonic()
        fare = None if seat is None else seat.counted(now, served=served)
        door = self._doors.get(place_of(target))
        if door is None or door.pace is None:
            if not near(told):
                return
            door = self._door(target)
            door.pace = Pace()
            self.idle = False
        door.pace.tell(told, fare, now)
        if self._lines:
            self._turn_all()

    def refused(self, target: Target, retry_after_s: float | None, now: MonotonicNs) -> None:
        """Take in that a provider refused a call as one too many."""
        door = self._door(target)
        if door.pace is None:
            door.pace = Pace()
        self.idle = False
        door.pace.refused(int((BUSY_S if retry_after_s is None else retry_after_s) * _NS), now)

    def paces(self, target: Target) -> bool:
        """Say whether a target has refused calls lately, so that few go there at once."""
        door = self._doors.get(place_of(target))
        return door is not None and door.pace is not None and door.pace.slow

    # ── what is kept ─────────────────────────────────────────────────────────────────────────────

    def _rest(self, door: _Door) -> None:
        """Forget a way that nobody is on, if nothing is known of it that matters."""
        place, rooms = door.place, door.rooms
        if rooms[1].open or not (door.pace is None or door.pace.forgettable(self._clock.monotonic())):
            return
        if self._doors.get(place) is door:
            del self._doors[place]
        self._rooms.pop((place.provider, place.model), None)  # the ways by other keys will make a new one
        self.idle = not (self._doors or self._limited)


def _nothing() -> None:
    """Nobody has to be told."""
