"""Python's collector looks where objects have been left, and not because many calls are open."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.stores.books import journal, write
from tests.stores.records import opened, settled

from headgate.process import collector
from headgate.process.collector import Collector
from headgate.serving import _open_now


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def _ours_alone() -> Iterator[None]:
    gc.disable()
    gc.collect()
    yield
    gc.enable()
    gc.collect()


def _leave(knots: int) -> weakref.ref[Knot]:
    for _ in range(knots):
        last = Knot()
    return weakref.ref(last)


def test_what_is_left_is_collected_once_there_is_much_of_it() -> None:
    idle = Collector(lambda: 3)
    last = _leave(4_000)
    assert idle.look() == 0.0
    assert last() is not None
    last = _leave(7_000)
    assert idle.look() == 0.0, "they may be on their way out"
    assert idle.look() > 0.0
    assert last() is None
    assert idle.look() == 0.0, "it begins to count anew"


def test_objects_that_go_with_their_connections_are_not_looked_at() -> None:
    idle = Collector(lambda: 0)
    kept = [Knot() for _ in range(20_000)]
    assert idle.look() == 0.0
    for each in kept:
        del each.own
    kept.clear()
    assert idle.look() == 0.0
    kept += [Knot() for _ in range(20_000)]
    assert idle.look() == 0.0, "it begins to count anew"
    kept.clear()


def test_what_many_open_calls_have_is_no_reason_to_look() -> None:
    last, kept = _leave(1), [Knot() for _ in range(60_000)]
    many = Collector(lambda: 2_000)
    assert (many.look(), many.look()) == (0.0, 0.0)
    assert last() is not None
    few = Collector(lambda: 200)
    assert (few.look(), few.look() > 0.0) == (0.0, True)
    assert last() is None
    assert len(kept) == 60_000


def test_calls_on_their_way_to_the_books_are_no_reason_to_look(tmp_path: Path) -> None:
    calls = SimpleNamespace(runs=dict.fromkeys(range(3)))
    edge = SimpleNamespace(open_connections=4)
    with journal(tmp_path) as book:
        app = SimpleNamespace(calls=calls, server=SimpleNamespace(edge=edge), journal=book)
        few = Collector(partial(_open_now, app))
        assert few.look() == 0.0
        write(book, [(record := opened(), settled(record)) for _ in range(4_000)])
        assert [few.look() for _ in range(3)] == [0.0, 0.0, 0.0]
        last = _leave(40_000)
        assert [few.look() > 0.0 for _ in range(2)] == [False, True]
        assert last() is None


@pytest.mark.anyio
async def test_it_takes_the_place_of_pythons_own_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "_EVERY_S", 0.01)
    gc.enable()
    running = asyncio.create_task(Collector(lambda: 0).run())
    await asyncio.sleep(0.005)
    assert not gc.isenabled()
    last = _leave(11_000)
    async with asyncio.timeout(5):
        while last() is not None:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    assert gc.isenabled()
