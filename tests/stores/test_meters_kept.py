"""What limits have counted, across restarts and steps of the wall clock."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from tests.stores.books import anywhere, make

from headgate.stores.sql.database import Place, connect
from headgate.stores.sql.meters import Moment, SqlMeters

pytestmark = pytest.mark.anyio
HOUR_US, HOUR_NS = 3_600_000_000, 3_600_000_000_000
START = 1_790_000_000_000_000


class Wall:
    """A wall clock that a test sets."""

    now = START

    def wall(self) -> int:
        return self.now

    def monotonic(self) -> int:
        raise AssertionError


def meters(data: Place, wall: Wall, said: list[str] | None = None) -> SqlMeters:
    return SqlMeters(lambda: connect(data), wall, (said if said is not None else []).append)


def booted(data: Place, boot: str) -> None:
    """Make the saved rows those of another boot."""
    with closing(anywhere(data)) as sql:
        sql.execute("UPDATE meters SET boot = ?", (boot,))


@pytest.mark.parametrize("step", [0, HOUR_US, -HOUR_US, 400 * 24 * HOUR_US, -400 * 24 * HOUR_US])
async def test_a_set_wall_clock_makes_no_difference_within_a_boot(step: int, place: Place) -> None:
    data, wall = make(place), Wall()
    await meters(data, wall).keep([("key:1::rpm", 3_000_000), ("key:2::tpd", 7)])
    wall.now += step
    found = {name: (lacking, ago) for name, lacking, ago in await asyncio.to_thread(meters(data, wall).load)}
    assert {name: lacking for name, (lacking, _) in found.items()} == {
        "key:1::rpm": 3_000_000,
        "key:2::tpd": 7,
    }
    assert all(0 <= ago < 60 * 10**9 for _, ago in found.values())


@pytest.mark.parametrize(("step", "ago"), [(0, 0), (HOUR_US, HOUR_NS), (-HOUR_US, 0)])
async def test_after_a_boot_only_the_wall_clock_tells(step: int, ago: int, place: Place) -> None:
    data, wall = make(place), Wall()
    await meters(data, wall).keep([("key:1::rpm", 5)])
    booted(data, "another")
    wall.now += step
    assert await asyncio.to_thread(meters(data, wall).load) == [("key:1::rpm", 5, ago)]


async def test_what_is_refilled_by_now_is_forgotten(place: Place) -> None:
    data, wall = make(place), Wall()
    await meters(data, wall).keep([("key:1::tpd", 5), ("key:2::rpm", 0)])
    booted(data, "another")
    wall.now += 24 * HOUR_US
    assert await asyncio.to_thread(meters(data, wall).load) == []
    with closing(anywhere(data)) as sql:
        assert sql.execute("SELECT count(*) FROM meters").fetchone() == (0,)


async def test_the_last_state_counts_and_a_refusal_is_made_up_for(place: Place) -> None:
    data, wall, said = make(place), Wall(), []
    kept = meters(data, wall, said)
    await kept.keep([("a", 1), ("b", 1)])
    opened, kept._connect = kept._connect, lambda: sqlite3.connect("file:/nowhere/x?mode=ro", uri=True)
    await kept.keep([("a", 2)])
    assert len(said) == 1
    kept._connect = opened
    await kept.keep([("c", 3)])
    assert {(name, lacking) for name, lacking, _ in await asyncio.to_thread(meters(data, wall).load)} == {
        ("a", 2),
        ("b", 1),
        ("c", 3),
    }


def test_moments_of_unknown_boots_are_told_by_the_wall_clock() -> None:
    assert Moment(10, "", 900).since(Moment(4, "", 100)) == 6_000
    assert Moment(4, "b", 100).since(Moment(10, "b", 900)) == 0
