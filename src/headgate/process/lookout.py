"""How the providers do, as this worker sees it and all workers together: sampled, kept, shown.

Nothing here is asked by a call. What calls count anyway is looked at each second, written where other
workers and commands read it, and added to the hours of uptime every ten seconds: so much is lost of a worker
that is killed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from headgate.observe.scoreboard import Scoreboard
from headgate.stores.breakers import SharedBreakers
from headgate.stores.sql import uptime
from headgate.stores.sql.database import connect
from headgate.values import Book
from headgate.vitals import FAULTS, OTHER, RECENT_S, DayRow, Probing, Scene, Seen, Traffic, report

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.observe.metrics import Metrics
    from headgate.ports import Clock
    from headgate.process.background import Background
    from headgate.routing.health import Health
    from headgate.routing.trials import Trials
    from headgate.stores.sql.database import Database
    from headgate.values import MonotonicNs, Target
    from headgate.vitals import Report, Sign

BOARDS: Final = "run"
_EVERY_S: Final = 1.0
_FOLLOW_S: Final = 0.1
_SAMPLE_ROUNDS: Final = 5
_KEEP_ROUNDS: Final = 10
_LOOK_ROUNDS: Final = 60
_PRUNE_ROUNDS: Final = 3600
_STALE_NS: Final = 2_000_000_000
_MOST: Final = 2_000  # targets whose uptime is kept; names of models come from callers
_SERVED: Final = 400  # a status below it
_HUNG_UP: Final = 499
Place: TypeAlias = tuple[str, str]  # a provider, and a model as it calls it
Key: TypeAlias = tuple[str, str, str]  # and which of the provider's keys


class About(NamedTuple):
    """What is configured now."""

    hosts: tuple[str, ...]
    targets: tuple[Place, ...]  # of the models that the configuration names
    simulated: bool


class Sights(NamedTuple):
    """Where a worker looks."""

    metrics: Metrics
    health: Health
    trials: Trials
    gauges: Callable[[], dict[str, float]]
    about: Callable[[], About]


class Count(NamedTuple):
    """What has become of attempts at a target since the process began."""

    served: int = 0
    failed: int = 0
    left: int = 0
    first_byte_us: int = 0
    duration_us: int = 0


_NONE: Final = Count()


class Lookout:
    """Watch how the providers do, in one worker.

    Args:
        database: the data folder, and where the books are.
        team: the slot of this worker, and how many there are.
        clock: the time.
        sights: where to look.
        trouble: told what the database or the disk said when it refused; it is tried again.
    """

    def __init__(
        self,
        database: Database,
        team: tuple[int, int],
        clock: Clock,
        sights: Sights,
        trouble: Callable[[str], None],
    ) -> None:
        self._connect = partial(connect, database)
        self._slot, self._workers = team
        self._clock = clock
        self._sights = sights
        self._trouble = trouble
        self._board = Scoreboard(database.folder / BOARDS, self._slot)
        self._shared = SharedBreakers(database.folder / BOARDS, self._slot) if self._workers > 1 else None
        if self._shared is not None:
            sights.health.share(self._shared)
        self._samples: deque[dict[Place, Count]] = deque(maxlen=RECENT_S // _SAMPLE_ROUNDS)
        self._key_samples: deque[dict[Key, tuple[int, int, int]]] = deque(maxlen=RECENT_S // _SAMPLE_ROUNDS)
        self._kept: dict[tuple[str, str, bool], tuple[int, int]] = {}  # what is in the database
        self._probes: dict[Place, tuple[int, int]] = {}  # served and failed, of our own
        self._days: list[DayRow] = []
        self._looked_ns: MonotonicNs = 0
        self._keeping = asyncio.Lock()
        self.probing: Probing | None = None  # in the worker that probes

    async def start(self, background: Background) -> None:
        """Begin to watch; with several workers, go on with what the one before in this slot has counted."""
        if self._workers > 1:
            seen = self._board.resume(self._sights.metrics)
            self._sights.health.resume(seen.signs)
            self._kept = {(*place, False): count[:2] for place, count in self._counts().items()}
            background.spawn("breakers", self._follow())
        await self._try(self._look_up)
        background.spawn("lookout", self._run())

    async def close(self) -> None:
        """Keep what was counted since the last time, and leave a last board."""
        await self._keep()
        await self._show()
        if self._shared is not None:
            self._shared.close()

    def probed(self, target: Target, *, served: bool) -> None:
        """Take in what a probe of ours came to, which is counted among the attempts, too."""
        place = (target.host.name, target.model.name)
        good, bad = self._probes.get(place, (0, 0))
        self._probes[place] = (good + served, bad + (not served))

    # ── what is shown ────────────────────────────────────────────────────────────────────────────

    def seen(self) -> Seen:
        """Return what this worker has seen."""
        sights, about = self._sights, self._sights.about()
        hosts = (*about.hosts, "simulator") if about.simulated else about.hosts
        counts, oldest = self._counts(), self._samples[0] if self._samples else {}
        places = dict.fromkeys((*about.targets, *counts))
        return Seen(
            tuple(self._lately(sign) for sign in sights.health.signs(self._clock) if sign.provider in hosts),
            tuple(
                _traffic(place, counts.get(place, _NONE), oldest.get(place, _NONE))
                for place in places
                if place[0] in hosts
            ),
            hosts,
            about.simulated,
            self.probing,
        )

    async def report(self, lists: Callable[[str, str], bool] | None = None) -> Report:
        """Return how the providers do by the sight of all workers.

        Args:
            lists: whether a target may be named; None: each may.
        """
        if self._clock.monotonic() - self._looked_ns > _STALE_NS:  # anybody may ask, at any rate
            await self._keep()
            await self._try(self._look_up)
        sights = self._sights
        _, _, seen = self._board.all(sights.metrics, {}, self.seen())
        return report(Scene(seen, self._days, self._clock.wall(), lists=lists))

    def exposition(self) -> bytes:
        """Return the exposition of all metrics, of all workers."""
        from headgate.observe.prometheus import render

        sights = self._sights
        metrics, gauges, seen = self._board.all(sights.metrics, sights.gauges(), self.seen())
        return render(metrics, gauges, report(Scene(seen, self._days, self._clock.wall())))

    # ── what is counted ──────────────────────────────────────────────────────────────────────────

    def _counts(self) -> dict[Place, Count]:
        """Return what has become of attempts at each target that was ever asked."""
        counts: dict[Place, Count] = {}
        real, simulated = Book.REAL.label, self._sights.about().simulated
        for (_, provider, model, book, status), series in self._sights.metrics.series.items():
            if book != real and not simulated:
                continue
            before = counts.get((provider, model), _NONE)
            if status < _SERVED:
                before = before._replace(
                    served=before.served + series.calls,
                    first_byte_us=before.first_byte_us + series.first_byte_us,
                    duration_us=before.duration_us + series.duration_us,
                )
            elif status == _HUNG_UP:
                before = before._replace(left=before.left + series.calls)
            counts[provider, model] = before
        for (provider, model, _), tally in self._sights.health.tallies.items():
            before = counts.get((provider, model), _NONE)
            counts[provider, model] = before._replace(failed=before.failed + tally.failed)
        return counts

    def _key_counts(self) -> dict[Key, tuple[int, int, int]]:
        """Return what was served, failed and waited for with each key of the providers that have several."""
        keyed = [(place, each) for place, each in self._sights.health.tallies.items() if place.credential]
        return {place: (each.served, each.failed, each.first_byte_us) for place, each in keyed}

    def _lately(self, sign: Sign) -> Sign:
        """Return a sign with what has come of its key lately, where the provider has several."""
        if not sign.key:
            return sign
        place = (sign.provider, sign.model, sign.key)
        oldest = self._key_samples[0] if self._key_samples else {}
        served, failed, waited_us = oldest.get(place, (0, 0, 0))
        now_failed = sum(sign.errors.get(kind, 0) for kind in FAULTS)
        return msgspec.structs.replace(
            sign,
            recent_served=sign.served - served,
            recent_failed=now_failed - failed,
            recent_first_byte_us=sign.first_byte_us - waited_us,
        )

    async def _follow(self) -> None:
        while True:
            self._sights.health.follow(self._clock.monotonic())
            await asyncio.sleep(_FOLLOW_S)

    async def _run(self) -> None:
        rounds = 0
        while True:
            if rounds % _SAMPLE_ROUNDS == 0:
                self._samples.append(self._counts())
                self._key_samples.append(self._key_counts())
            await self._show()
            if rounds % _KEEP_ROUNDS == 0:
                await self._keep()
            if rounds % _LOOK_ROUNDS == 0:
                await self._try(self._look_up)
            if self._slot == 0 and rounds % _PRUNE_ROUNDS == 0:
                await self._try(self._prune)
            rounds += 1
            await asyncio.sleep(_EVERY_S)

    async def _show(self) -> None:
        sights = self._sights
        try:
            await asyncio.to_thread(self._board.take(sights.metrics, sights.gauges(), self.seen()))
            if self._workers > 1 and sights.trials.running:  # else each call is judged where it ends
                sights.trials.judge(self._board.all(sights.metrics, {}, Seen())[0].counts)
        except OSError as fault:  # the disk is full: the others see older counts
            self._trouble(f"the counts cannot be shown to other workers: {fault}")

    async def _keep(self) -> None:
        """Add to the hours of uptime what was counted since they were last added to."""
        async with self._keeping:
            await self._keep_fresh()

    async def _keep_fresh(self) -> None:
        fresh = self._totals()
        rows = [
            uptime.Tried(*key, good - self._kept.get(key, (0, 0))[0], bad - self._kept.get(key, (0, 0))[1])
            for key, (good, bad) in fresh.items()
            if (good, bad) != self._kept.get(key, (0, 0))
        ]
        if rows:
            before, self._kept = self._kept, fresh  # a thread goes on although who waits for it is cancelled
            if not await self._try(partial(self._add, rows)):
                self._kept = before

    def _totals(self) -> dict[tuple[str, str, bool], tuple[int, int]]:
        """Return what was served and failed, by targets, and whether by probes."""
        hosts = self._sights.about().hosts
        totals: dict[tuple[str, str, bool], tuple[int, int]] = {}
        for (provider, model), count in self._counts().items():
            if provider not in hosts or not (count.served or count.failed):
                continue
            served, failed = self._probes.get((provider, model), (0, 0))
            kept_as = model if (provider, model, False) in self._kept or len(totals) < _MOST else OTHER
            good, bad = totals.get((provider, kept_as, False), (0, 0))
            totals[provider, kept_as, False] = (good + count.served - served, bad + count.failed - failed)
            if served or failed:
                totals[provider, model, True] = (served, failed)
        return totals

    async def _try(self, work: Callable[[], None]) -> bool:
        """Do something with the database in a thread; say whether it was done."""
        try:
            await asyncio.to_thread(work)
        except sqlite3.Error as fault:
            self._trouble(str(fault))
            return False
        return True

    # ── in a thread ──────────────────────────────────────────────────────────────────────────────

    def _add(self, rows: list[uptime.Tried]) -> None:
        with closing(self._connect()) as sql:
            uptime.add(sql, rows, self._clock.wall())

    def _look_up(self) -> None:
        self._looked_ns = self._clock.monotonic()
        with closing(self._connect()) as sql:
            self._days = uptime.kept(sql, self._clock.wall())

    def _prune(self) -> None:
        with closing(self._connect()) as sql:
            uptime.prune(sql, self._clock.wall())


def _traffic(place: Place, count: Count, oldest: Count) -> Traffic:
    return Traffic(
        *place,
        served=count.served,
        left=count.left,
        recent_served=count.served - oldest.served,
        recent_failed=count.failed - oldest.failed,
        first_byte_us=count.first_byte_us - oldest.first_byte_us,
        duration_us=count.duration_us - oldest.duration_us,
    )
