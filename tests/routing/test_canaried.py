"""Canaries in a whole worker: who goes to them, and what becomes of a bad one and of one that is as good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.faults.worker import ONE_ATTEMPT, Reply, Worker, chat, worker
from tests.routing.test_routes import NOW
from tests.upstream import Peer, Received, ScriptedUpstream, chat_json, error_json

from headgate.config import load
from headgate.observe.metrics import Metrics
from headgate.routing.settings import Canary, RouteTarget
from headgate.routing.trials import ATTEMPTS, ROLLBACKS, RolledBack, Trial, Trials
from headgate.stores.sql.bootstrap import prepare
from headgate.stores.sql.canaries import RollBacks
from headgate.stores.sql.check import check
from headgate.stores.sql.database import connect

pytestmark = pytest.mark.anyio

MAIN, CANARY = "scripted-1", "gpt-4o-mini"


def settings(share: float = 50, sticky_by: str = "user", more: str = "") -> str:
    return (
        ONE_ATTEMPT
        + f"""
[[models]]
name = "smart"
targets = [{{ provider = "compatible", model = "{MAIN}" }}]
[models.canary]
target = {{ provider = "openai", model = "{CANARY}" {more} }}
share_percent = {share}
sticky_by = "{sticky_by}"
"""
    )


async def failing(peer: Peer, request: Received) -> None:
    """The canary fails, the main side does not."""
    bad = request.json()["model"] == CANARY
    await peer.send(error_json(500) if bad else chat_json("fine"))


async def change(gateway: Worker, old: str, new: str) -> None:
    """Change the settings of a running worker."""
    options = gateway.app.config.options
    path = Path(options.config or "")
    path.write_text(path.read_text().replace(old, new))
    await gateway.app._reconfigure(load(options, environment={}))


async def served_by(gateway: Worker, users: range, **members: Any) -> list[str]:
    """Who answered a call of each user."""
    found = []
    for number in users:
        reply = await gateway.ask(chat(model="smart", user=f"user-{number}", **members))
        assert reply.status == 200
        found.append(reply.headers["x-headgate-provider"])
    return found


async def test_callers_stay_on_their_side_and_a_larger_share_takes_nobody_back(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        async with worker(tmp_path, upstream.base_url, more=settings(30)) as gateway:
            first = await served_by(gateway, range(30))
            assert await served_by(gateway, range(30)) == first
            assert 3 <= first.count("openai") <= 18
            counts = gateway.app.metrics.counts
            sides = {labels[2]: count for (name, labels), count in counts.items() if name == ATTEMPTS}
            assert sides == {"canary": 2 * first.count("openai"), "main": 2 * first.count("compatible")}
            await change(gateway, settings(30), settings(60))
            second = await served_by(gateway, range(30))
        assert all(later == "openai" for early, later in zip(first, second, strict=True) if early == "openai")
        assert second.count("openai") > first.count("openai")


async def test_a_bad_canary_is_rolled_back_at_once_for_good_and_nobody_is_hurt(tmp_path: Path) -> None:
    async with ScriptedUpstream(failing) as upstream:
        async with worker(tmp_path, upstream.base_url, more=settings()) as gateway:
            assert set(await served_by(gateway, range(60))) == {"compatible"}
            asked = sum(request.json()["model"] == CANARY for request in upstream.requests)
            assert 5 <= asked <= 20
            [charged] = {row.charge for row in (await gateway.books()).values()}
            assert charged > 0
            await gateway.app._trial_parts.rollbacks.step()
            assert (
                sum(count for (name, _), count in gateway.app.metrics.counts.items() if name == ROLLBACKS)
                == 1
            )
            assert b'headgate_canary_rollbacks_total{model="smart"' in gateway.app.exposition()
            key = gateway.key
        async with worker(tmp_path, upstream.base_url, more=settings(), ends=False) as gateway:
            gateway.key = key
            await served_by(gateway, range(20))
            assert sum(request.json()["model"] == CANARY for request in upstream.requests) == asked
            await change(gateway, settings(), settings(51))
            await served_by(gateway, range(10))
            assert sum(request.json()["model"] == CANARY for request in upstream.requests) > asked
    sql = connect(tmp_path / "data", read_only=True)
    [(ref, detail)] = sql.execute("SELECT ref, detail FROM events WHERE kind = 'canary.rolled_back'")
    sql.close()
    assert check(tmp_path / "data", NOW).findings == []
    assert ref == "smart"
    assert "it failed in" in detail


async def test_one_caller_whose_requests_are_wrong_condemns_no_canary_and_several_do(tmp_path: Path) -> None:
    async def answer(peer: Peer, request: Received) -> None:
        bad = request.json()["model"] == CANARY
        await peer.send(error_json(400, "unsupported parameter") if bad else chat_json("fine"))

    async with (
        ScriptedUpstream(answer) as upstream,
        worker(tmp_path, upstream.base_url, more=settings()) as gateway,
    ):
        statuses = {number: (await ask(gateway, number)).status for number in range(4)}
        wrong = next(number for number, status in statuses.items() if status == 400)
        assert {(await ask(gateway, wrong)).status for _ in range(20)} == {400}
        assert not gateway.app.outward.trials.over
        for number in range(4, 40):
            await ask(gateway, number)
        assert gateway.app.outward.trials.over
        assert (await ask(gateway, wrong)).status == 200


async def ask(gateway: Worker, user: int) -> Reply:
    return await gateway.ask(chat(model="smart", user=f"user-{user}"))


async def test_a_canary_that_is_as_good_goes_on(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, more=settings()) as gateway,
    ):
        found = await served_by(gateway, range(60))
        assert found.count("openai") > 10
        assert not gateway.app.outward.trials.over


async def test_calls_that_a_canary_may_not_have_stay_away_and_are_not_compared(tmp_path: Path) -> None:
    only_streams = settings(99, more=", when = { stream = true }")
    async with (
        ScriptedUpstream() as upstream,
        worker(tmp_path, upstream.base_url, more=only_streams) as gateway,
    ):
        assert set(await served_by(gateway, range(20))) == {"compatible"}
        assert gateway.app.metrics.counts == {}
        assert "openai" in await served_by(gateway, range(5), stream=True)
        reply = await gateway.ask(chat(model="smart", stream=True), more="x-headgate-demand: region=eu\r\n")
        assert reply.status == 400


async def test_every_worker_follows_and_a_roll_back_is_told_once(tmp_path: Path) -> None:
    prepare(tmp_path, 0, None)
    trial = Trial("t1", "smart", Canary(target=RouteTarget("p", "m"), share_percent=10))
    told: list[RolledBack] = []
    team = []
    for _ in range(3):
        trials = Trials(Metrics(), alone=False)
        trials.follow({"t1": trial})
        team.append((trials, RollBacks(trials, lambda: connect(tmp_path), Wall(), told.append, print)))
    failed = {
        (ATTEMPTS, ("smart", "t1", "canary", "failed")): 9,
        (ATTEMPTS, ("smart", "t1", "main", "served")): 90,
    }
    for trials, _ in team[:2]:
        assert trials.takes("t1", "anyone") is not None
        trials.judge(failed)
        assert trials.takes("t1", "anyone") is None
    for _, follower in team:
        await follower.step()
    assert [each.trial.id for each in told] == ["t1"]
    assert team[2][0].takes("t1", "anyone") is None


class Wall:
    def wall(self) -> int:
        return 1

    def monotonic(self) -> int:
        return 1
