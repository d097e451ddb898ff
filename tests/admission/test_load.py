"""Room for what calls carry: it is had in the order in which it was asked for."""

from __future__ import annotations

import asyncio

import pytest

from headgate.admission.load import Load

pytestmark = pytest.mark.anyio


async def test_a_large_one_is_not_passed_by_small_ones_for_ever() -> None:
    load, came = Load(100), list[str]()

    async def take(name: str, size: int) -> None:
        await load.take(size)
        came.append(name)

    await load.take(60)
    waiting = [asyncio.create_task(take(name, size)) for name, size in (("large", 90), ("small", 30))]
    await asyncio.sleep(0.01)
    assert came == []
    load.give(60)
    await asyncio.sleep(0.01)
    assert came == ["large"]
    load.give(90)
    await asyncio.gather(*waiting)
    assert (came, load.taken) == (["large", "small"], 30)


async def test_who_goes_while_waiting_leaves_the_turn_to_the_next() -> None:
    load = Load(100)
    await load.take(100)
    gone, stays = asyncio.create_task(load.take(50)), asyncio.create_task(load.take(40))
    await asyncio.sleep(0.01)
    gone.cancel()
    load.give(100)
    await stays
    assert gone.cancelled() or gone.done()
    assert load.taken == 40
