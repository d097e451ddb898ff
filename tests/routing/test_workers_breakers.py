"""The breakers of several workers: one row of failures, one time out, one probe."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from tests.path.fakes import HandClock, target

from headgate.errors import UpstreamFailed, UpstreamOverloaded
from headgate.routing.breaker import BreakerTerms
from headgate.routing.health import Health, Place

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process there")
if sys.platform != "win32":
    from headgate.stores.breakers import SharedBreakers, prepare

SECOND = 1_000_000_000
DOWN = UpstreamFailed("it fails", upstream_status=500)


class Crew:
    """Some workers of one node, and their time."""

    def __init__(self, folder: Path, count: int = 4) -> None:
        prepare(folder)
        self.folder = folder
        self.clock = HandClock()
        self.clock.now_ns = 100 * SECOND
        self.told: list[tuple[int, str]] = []
        self.workers = [self.worker(slot) for slot in range(count)]

    def worker(self, slot: int) -> Health:
        health = Health(BreakerTerms(), lambda: 0.0, lambda _, news: self.told.append((slot, news)))
        health.share(SharedBreakers(self.folder, slot))
        return health

    def follow(self) -> None:
        for worker in self.workers:
            worker.follow(self.clock.now_ns)

    def later(self, seconds: float) -> None:
        self.clock.now_ns += int(seconds * SECOND)

    def asks(self, worker: Health, error: Exception | None) -> bool:
        """Make a call with two targets in one worker; say whether the first was asked."""
        first = worker.choose((target("a"), target("b")), self.clock.now_ns).targets[0]
        if first.host.name != "a" or worker.asked(first, self.clock) is None:
            return False
        if error is None:
            worker.served(first, self.clock)
        else:
            worker.failed(first, error, self.clock)  # type: ignore[arg-type]
        return True


def test_five_failures_in_a_row_of_all_workers_take_a_target_out_for_all(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    asked = [crew.asks(crew.workers[turn % 4], DOWN) for turn in range(40)]
    assert sum(asked) <= 8  # five, and one of each other that did not know
    assert len(crew.told) == 1
    crew.follow()
    assert not any(crew.asks(worker, DOWN) for worker in crew.workers)


def test_a_worker_that_never_asked_it_knows_within_a_look(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    for _ in range(5):
        assert crew.asks(crew.workers[0], DOWN)
    assert not any(worker.breakers for worker in crew.workers[1:])
    crew.follow()
    assert not any(crew.asks(worker, DOWN) for worker in crew.workers)
    late = crew.worker(3)  # started after it
    late.follow(crew.clock.now_ns)
    assert not crew.asks(late, None)


def test_what_one_worker_is_served_ends_the_row_of_all(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    for _ in range(20):
        for worker in crew.workers[1:]:
            crew.asks(worker, DOWN)
        for worker in crew.workers:
            assert crew.asks(worker, None)
        crew.later(11)  # another window: less than half of twenty in each
    assert crew.told == []


def test_half_of_twenty_counts_what_all_have_seen_go_well(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    crew.asks(crew.workers[0], DOWN)
    crew.asks(crew.workers[1], DOWN)
    for turn in range(60):
        crew.asks(crew.workers[turn % 2], None)
    for _ in range(4):
        crew.asks(crew.workers[2], DOWN)
    assert crew.told == []
    crew.asks(crew.workers[3], DOWN)
    assert crew.told == [(3, "out")]


def test_one_worker_probes_and_what_it_meets_holds_for_all(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    for _ in range(5):
        crew.asks(crew.workers[0], DOWN)
    crew.follow()
    crew.later(31)
    at = crew.clock.now_ns
    chosen = [worker.choose((target("a"), target("b")), at).targets[0] for worker in crew.workers]
    assert [each.host.name for each in chosen] == ["a"] * 4  # all at the same moment
    assert [worker.asked(target("a"), crew.clock) for worker in crew.workers] == [True, None, None, None]
    assert not any(crew.asks(worker, None) for worker in crew.workers[1:])
    crew.workers[0].served(target("a"), crew.clock)
    assert all(crew.asks(worker, None) for worker in crew.workers)
    assert crew.told == [(0, "out"), (0, "well")]


def test_a_probe_that_fails_keeps_it_out_of_all(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    for _ in range(5):
        crew.asks(crew.workers[0], DOWN)
    crew.follow()
    for _ in range(3):
        crew.later(31)
        assert sum(crew.asks(worker, DOWN) for worker in crew.workers[::-1]) == 1


def test_a_prober_that_dies_leaves_the_probe_to_another(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    for _ in range(5):
        crew.asks(crew.workers[0], DOWN)
    crew.follow()
    crew.later(31)
    assert crew.workers[2].asked(target("a"), crew.clock)
    assert not crew.asks(crew.workers[1], None)
    crew.workers[2] = crew.worker(2)  # as its supervisor starts it again
    assert crew.asks(crew.workers[1], None)


def test_a_caller_of_the_probe_who_leaves_gives_it_back(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    for _ in range(5):
        crew.asks(crew.workers[0], DOWN)
    crew.follow()
    crew.later(31)
    assert crew.workers[2].asked(target("a"), crew.clock)
    crew.workers[2].left(target("a"))
    assert crew.asks(crew.workers[1], None)


def test_who_asked_one_worker_to_wait_is_left_alone_by_all(tmp_path: Path) -> None:
    crew = Crew(tmp_path)
    limited = UpstreamOverloaded("slow down", retry_after_s=20.0, limited_by="requests")
    crew.asks(crew.workers[0], limited)
    crew.follow()
    assert not any(crew.asks(worker, None) for worker in crew.workers)
    crew.later(21)
    assert all(crew.asks(worker, None) for worker in crew.workers)


def test_a_lock_that_a_stopped_worker_has_costs_what_is_shared_and_no_time(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    stopped = SharedBreakers(tmp_path, 1)
    with stopped.edit(Place("x", "y", "")):
        asked = [crew.asks(crew.workers[turn % 2], DOWN) for turn in range(20)]
    assert sum(asked) == 10  # five of each


def test_many_places_and_long_names_are_known_as_far_as_there_is_room(tmp_path: Path) -> None:
    crew = Crew(tmp_path, 2)
    first, second = crew.workers
    places = [msgspec.structs.replace(target("h"), model=msgspec.structs.replace(target().model, name=name))
              for name in ("é" * 100, *(f"m{number}" for number in range(600)))]  # fmt: skip
    for place in places:
        for _ in range(5):
            first.failed(place, DOWN, crew.clock)
    assert len(first.unwell(crew.clock.now_ns)) == 601
    second.follow(crew.clock.now_ns)
    assert len(second.unwell(crew.clock.now_ns)) == 512
