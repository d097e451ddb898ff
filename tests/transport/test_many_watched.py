"""Deadlines of thousands of exchanges are looked at in parts, evenly, and each once in a walk."""

from __future__ import annotations

import asyncio

import pytest

from headgate.walks import Walk, in_turns


def test_a_large_set_is_gone_over_in_parts_and_a_small_one_at_once() -> None:
    walk, many = Walk[int](), set(range(1000))
    seen = walk.part(many)
    assert len(seen) == 100
    gone = next(iter(many - set(seen)))
    many.discard(gone)
    many.add(5000)  # comes in the middle of a walk: its turn is in the next
    for _ in range(9):
        seen += walk.part(many)
    assert sorted(seen) == sorted(set(range(1000)) - {gone})
    assert len(walk.part(many)) == 100, "then it begins anew"
    walk = Walk[int]()
    assert set(walk.part({1, 2, 3})) == {1, 2, 3}
    assert walk.pause_s(1.0) == 1.0


def test_parts_are_spread_over_the_time_of_a_walk_and_never_come_too_often() -> None:
    walk = Walk[int]()
    walk.part(set(range(1000)))
    assert walk.pause_s(1.0) == 0.1
    assert walk.pause_s(0.02) == 0.01
    walk = Walk[int](500)
    walk.part(set(range(1000)))
    assert walk.pause_s(1.0) == 0.5


def test_nothing_is_kept_of_those_who_have_all_left() -> None:
    walk = Walk[int]()
    walk.part(set(range(1000)))
    assert walk.part(set()) == []
    assert walk.pause_s(1.0) == 1.0
    assert walk._left == []


@pytest.mark.anyio
async def test_many_are_looked_at_in_many_turns_of_the_loop() -> None:
    turns, seen = 0, list[tuple[int, int]]()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await in_turns(range(1000), lambda each: seen.append((turns, each)))
    counting.cancel()
    assert sorted(each for _, each in seen) == list(range(1000))
    in_one = [sum(turn == when for when, _ in seen) for turn in {turn for turn, _ in seen}]
    assert max(in_one) == 100
