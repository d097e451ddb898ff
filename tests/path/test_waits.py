from __future__ import annotations

import asyncio

import pytest

from headgate.errors import PermissionRefused, Unavailable
from headgate.process.background import Calls
from headgate.values import Call
from headgate.waits import Wait, own_task

pytestmark = pytest.mark.anyio


def _wait() -> Wait:
    return Wait(asyncio.get_running_loop())


async def test_a_call_runs_to_its_first_wait_and_on_in_the_callback_that_wakes_it() -> None:
    calls, wait = Calls(), _wait()
    seen: list[object] = []

    async def run() -> None:
        seen.append("begun")
        await wait
        seen.append("woken")
        await wait
        seen.append("ended")

    calls.start(run())
    assert seen == ["begun"]
    wait.wake()
    assert seen == ["begun", "woken"]
    wait.wake()
    assert seen == ["begun", "woken", "ended"]
    assert not calls.runs
    wait.wake()  # nobody waits


async def test_a_call_that_never_waits_has_ended_when_it_is_started() -> None:
    calls = Calls()
    seen: list[object] = []

    async def run() -> None:
        seen.append("ended")

    calls.start(run())
    assert seen == ["ended"]
    assert not calls.runs


async def test_other_waits_move_a_call_into_a_task_where_waits_still_work() -> None:
    calls, wait = Calls(), _wait()
    seen: list[object] = []

    async def run() -> None:
        await wait
        seen.append(await asyncio.to_thread(lambda: 7))
        await wait
        await own_task()
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        seen.append("ended")

    calls.start(run())
    wait.wake()
    while wait.resume is None:
        await asyncio.sleep(0.001)
    assert seen == [7]
    wait.wake()
    assert seen == [7]  # a task goes on in the loop's next turn
    while calls.runs:
        await asyncio.sleep(0.001)
    assert seen == [7, "ended"]


async def test_what_needs_a_task_has_its_own_even_inside_another_one() -> None:
    calls = Calls()
    seen: list[object] = []

    async def run() -> None:
        await own_task()
        seen.append(asyncio.current_task())

    calls.start(run())
    while calls.runs:
        await asyncio.sleep(0.001)
    assert seen[0] not in {None, asyncio.current_task()}


async def test_an_error_of_an_awaited_future_reaches_the_call() -> None:
    calls = Calls()
    seen: list[object] = []

    async def run() -> None:
        try:
            await asyncio.to_thread(int, "x")
        except ValueError as error:
            seen.append(type(error))

    calls.start(run())
    while calls.runs:
        await asyncio.sleep(0.001)
    assert seen == [ValueError]


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_a_cut_call_is_cancelled_where_it_waits(in_a_task: bool) -> None:
    calls, wait = Calls(), _wait()
    seen: list[object] = []

    async def run() -> None:
        if in_a_task:
            await own_task()
        try:
            await wait
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    calls.start(run())
    await asyncio.sleep(0.01)
    calls.cut()
    await asyncio.sleep(0.01)
    assert seen == ["cancelled"]
    assert not calls.runs
    wait.wake()  # too late, and without harm


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_a_drain_tells_a_call_first_and_cancels_it_when_it_does_not_end(in_a_task: bool) -> None:
    calls, wait = Calls(), _wait()
    seen: list[str] = []

    async def run() -> None:
        if in_a_task:
            await own_task()
        try:
            await wait
        except Unavailable:
            seen.append("told")
        try:
            await asyncio.sleep(60)  # its answer takes too long
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    calls.start(run())
    await asyncio.sleep(0.01)
    assert await calls.drain(0.01) == 1
    assert seen == ["told", "cancelled"]
    assert not calls.runs


@pytest.mark.parametrize("in_a_task", [False, True])
async def test_a_cancelled_call_may_still_wait_for_its_clean_up(in_a_task: bool) -> None:
    calls, wait = Calls(), _wait()
    seen: list[object] = []

    async def run() -> None:
        if in_a_task:
            await own_task()
        try:
            await wait
        finally:
            await asyncio.sleep(0.01)
            seen.append("clean")

    calls.start(run())
    await asyncio.sleep(0.01)
    calls.cut()
    await asyncio.sleep(0.05)
    assert seen == ["clean"]
    assert not calls.runs


async def test_a_drain_waits_for_what_ends_in_time() -> None:
    calls, wait = Calls(), _wait()

    async def run() -> None:
        await wait

    calls.start(run())
    asyncio.get_running_loop().call_later(0.01, wait.wake)
    assert await calls.drain(5) == 0


async def test_a_wait_serves_an_ordinary_task_like_a_future() -> None:
    wait = _wait()
    seen: list[object] = []

    async def run() -> None:
        for _ in range(3):
            await wait
            seen.append("woken")

    task = asyncio.create_task(run())
    for _ in range(2):
        await asyncio.sleep(0)
        wait.wake()
        await asyncio.sleep(0)
    assert seen == ["woken", "woken"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["woken", "woken"]


@pytest.mark.parametrize("moved", [False, True])
async def test_a_call_is_ended_with_an_error_where_it_waits_and_may_go_on_to_answer(moved: bool) -> None:
    calls = Calls()
    said: list[object] = []

    async def run() -> None:
        if moved:
            await asyncio.sleep(0)
        try:
            await _wait()
        except PermissionRefused as error:
            said.append(error)
            async with asyncio.timeout(5):  # it is not cancelled: its answer takes its time
                await asyncio.sleep(0.01)
            said.append("answered")

    calls.start(run(), Call(bytes(16), "chat", 0))
    calls.start(run())  # nobody's
    await asyncio.sleep(0.02)
    error = PermissionRefused("revoked")
    await calls.each(lambda call: error)
    await asyncio.sleep(0.1)
    assert said == [error, "answered"]
    assert len(calls.runs) == 1
    calls.cut()
