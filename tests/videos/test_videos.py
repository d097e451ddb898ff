"""Videos through Google's wire and a running worker: what is asked, what is paid, what outlives a process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.faults.test_revoked import desk, known
from tests.faults.worker import Reply, Worker, parse, worker
from tests.upstream import RESET, ScriptedUpstream
from tests.videos.maker import FILE, MODEL, OPERATION, Maker, maker

from headgate.errors import Unavailable
from headgate.ops.actors import LOCAL
from headgate.ops.keyrules import KeyOrder
from headgate.ops.keys import create_key
from headgate.ops.projects import ProjectOrder, create_project
from headgate.stores.sql.check import check
from headgate.wire.videos import VideoJob

pytestmark = pytest.mark.anyio
ORDER = {"model": MODEL, "prompt": "A cat", "seconds": "8", "size": "1920x1080"}
COST = 960_000_000  # nano-USD: 8 seconds at $0.12


@asynccontextmanager
async def studio(folder: Path, made: Maker, **more: Any) -> AsyncIterator[Worker]:
    async with worker(folder, made.url, more=made.settings, **more) as gateway:
        yield gateway


async def send(gateway: Worker, method: str, path: str, body: object = None) -> Reply:
    data = b"" if body is None else json.dumps(body).encode()
    request = gateway.request(data, path).replace(b"POST ", method.encode() + b" ", 1)
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*gateway.address)
        writer.write(request)
        raw = await reader.read()
        writer.close()
    return parse(raw)


async def told(gateway: Worker, method: str, path: str, body: object = None) -> Any:
    reply = await send(gateway, method, path, body)
    answer = json.loads(reply.body)
    assert reply.status == 200, answer
    return answer


async def ended(gateway: Worker, name: str) -> Any:
    """Wait for the end of a job."""
    async with asyncio.timeout(20):
        while True:
            video = await told(gateway, "GET", f"/v1/videos/{name}")
            if video["status"] in {"completed", "failed"}:
                return video
            await asyncio.sleep(0.1)


async def only_open(put: Any, job: VideoJob) -> None:
    """Write down what is not done; for the rest the disk is full."""
    if not job.open:
        raise Unavailable("The disk is full.")
    await put(job)


async def paid(gateway: Worker) -> None:
    """Wait until something is in the books."""
    async with asyncio.timeout(20):
        while not await gateway.books():
            await asyncio.sleep(0.1)


async def test_a_video_is_ordered_in_googles_words_fetched_with_the_key_and_paid_by_the_second(
    tmp_path: Path,
) -> None:
    async with maker() as made, studio(tmp_path, made) as gateway:
        video = await told(gateway, "POST", "/v1/videos", ORDER)
        assert (video["object"], video["status"], video["seconds"]) == ("video", "in_progress", "8")
        assert (video["completed_at"], video["error"], video["size"]) == (None, None, "1920x1080")
        (order,) = made.orders
        assert order.path == f"/v1beta/models/{MODEL}:predictLongRunning"
        assert order.get("x-goog-api-key") == "g-canary"
        assert order.json() == {
            "instances": [{"prompt": "A cat"}],
            "parameters": {"aspectRatio": "16:9", "resolution": "1080p", "durationSeconds": 8},
        }
        assert gateway.held == COST
        early = await send(gateway, "GET", f"/v1/videos/{video['id']}/content")
        assert (early.status, json.loads(early.body)["error"]["code"]) == (404, "video_not_ready")
        made.make()
        done = await ended(gateway, video["id"])
        assert (done["status"], done["progress"]) == ("completed", 100)
        assert done["expires_at"] - done["completed_at"] == 2 * 86_400
        content = await send(gateway, "GET", f"/v1/videos/{video['id']}/content")
        assert (content.status, content.headers["content-type"], content.body) == (200, "video/mp4", FILE)
        polls = {request.path for request in made.asked if request.method == "GET"}
        assert polls == {f"/v1beta/{OPERATION}", "/v1beta/files/f1:download?alt=media"}
        assert {request.get("x-goog-api-key") for request in made.asked} == {"g-canary"}
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.charge, booked.estimated) == (200, COST, False)


async def test_it_is_paid_once_although_nobody_asks_for_it(tmp_path: Path) -> None:
    async with maker() as made, studio(tmp_path, made) as gateway:
        made.make()
        await told(gateway, "POST", "/v1/videos", ORDER)
        await paid(gateway)
        (booked,) = (await gateway.books()).values()
        assert booked.charge == COST


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ({"error": {"code": 13, "message": "Internal trouble."}}, "video_failed", "Internal trouble."),
        (
            {
                "response": {
                    "generateVideoResponse": {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": ["No."]}
                }
            },
            "moderation_blocked",
            "No.",
        ),
    ],
    ids=["error", "filtered"],
)
async def test_one_that_fails_costs_nothing_and_says_why(
    end: dict[str, Any], code: str, words: str, tmp_path: Path
) -> None:
    async with maker() as made, studio(tmp_path, made) as gateway:
        made.end = end
        video = await ended(gateway, (await told(gateway, "POST", "/v1/videos", ORDER))["id"])
        assert video["status"] == "failed"
        assert video["error"] == {"code": code, "message": words}
        (booked,) = (await gateway.books()).values()
        assert (booked.status, booked.charge) == (502, 0)


async def test_what_a_provider_refuses_is_refused_and_kept_nowhere(tmp_path: Path) -> None:
    async with maker() as made, studio(tmp_path, made) as gateway:
        made.refusal = (
            400,
            {"code": 400, "message": "The prompt is too long.", "status": "INVALID_ARGUMENT"},
        )
        reply = await send(gateway, "POST", "/v1/videos", ORDER)
        assert (reply.status, json.loads(reply.body)["error"]["message"]) == (400, "The prompt is too long.")
        assert (await told(gateway, "GET", "/v1/videos"))["data"] == []
        assert await gateway.books() == {}


async def test_money_that_is_not_there_orders_nothing(tmp_path: Path) -> None:
    async with maker() as made, studio(tmp_path, made, cap="0.9/month") as gateway:
        reply = await send(gateway, "POST", "/v1/videos", ORDER)
        assert reply.status == 429
        assert json.loads(reply.body)["error"]["type"] == "insufficient_quota"
        assert made.asked == []


async def test_a_job_outlives_the_process_that_ordered_it(tmp_path: Path) -> None:
    async with maker() as made:
        async with studio(tmp_path, made, ends=False) as gateway:
            key, name = gateway.key, (await told(gateway, "POST", "/v1/videos", ORDER))["id"]
        async with studio(tmp_path, made) as gateway:
            assert gateway.held == COST, "its money is held again before anybody is served"
            gateway.key = key
            made.make()
            assert (await ended(gateway, name))["status"] == "completed"
            (booked,) = (await gateway.books()).values()
            assert booked.charge == COST


async def test_one_that_was_settled_but_not_written_down_is_not_settled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with maker() as made:
        made.make()
        async with studio(tmp_path, made, ends=False) as gateway:
            key, store = gateway.key, gateway.app.videos().store
            monkeypatch.setattr(store, "put", partial(only_open, store.put))
            name = (await told(gateway, "POST", "/v1/videos", ORDER))["id"]
            await paid(gateway)
        async with studio(tmp_path, made, ends=False) as gateway:  # it was the other process that spent
            gateway.key = key
            assert (await ended(gateway, name))["status"] == "completed"
            assert gateway.held == gateway.spent == 0
            assert check(tmp_path / "data", gateway.app.clock.wall()).findings == []
            assert [row.charge for row in (await gateway.books()).values()] == [COST]


async def test_what_is_somebody_elses_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    async with maker() as made, studio(tmp_path, made) as gateway:
        made.make()
        name = (await told(gateway, "POST", "/v1/videos", ORDER))["id"]
        await ended(gateway, name)
        absent = name[:-4] + "0000"
        with desk(tmp_path) as on:
            other = create_project(LOCAL, on, ProjectOrder(name="other"))
            gateway.key = create_key(LOCAL, on, KeyOrder(name="b", project=other.id)).text
        await known(gateway, gateway.key)
        for method, tail in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            theirs = await send(gateway, method, f"/v1/videos/{name}{tail}")
            nobodys = await send(gateway, method, f"/v1/videos/{absent}{tail}")
            assert theirs.status == nobodys.status == 404
            assert theirs.body.replace(name.encode(), b"") == nobodys.body.replace(absent.encode(), b"")
        assert (await told(gateway, "GET", "/v1/videos"))["data"] == []
        assert (await send(gateway, "GET", f"/v1/videos?after={name}")).status == 404


async def test_one_that_is_deleted_while_it_is_made_is_hidden_and_paid(tmp_path: Path) -> None:
    async with maker() as made, studio(tmp_path, made) as gateway:
        name = (await told(gateway, "POST", "/v1/videos", ORDER))["id"]
        gone = await told(gateway, "DELETE", f"/v1/videos/{name}")
        assert gone == {"id": name, "object": "video.deleted", "deleted": True}
        assert (await send(gateway, "GET", f"/v1/videos/{name}")).status == 404
        made.make()
        await paid(gateway)
        assert gateway.app._notices.sql.execute("SELECT count(*) FROM videos").fetchone() == (0,)


async def test_lists_go_by_pages(tmp_path: Path) -> None:
    async with maker() as made, studio(tmp_path, made) as gateway:
        made.make()
        names = [(await told(gateway, "POST", "/v1/videos", ORDER))["id"] for _ in range(3)]
        page = await told(gateway, "GET", "/v1/videos?limit=2")
        assert [video["id"] for video in page["data"]] == names[:0:-1]
        assert (page["has_more"], page["last_id"]) == (True, names[1])
        rest = await told(gateway, "GET", f"/v1/videos?limit=2&after={names[1]}")
        assert [video["id"] for video in rest["data"]] == names[:1]
        oldest = await told(gateway, "GET", "/v1/videos?order=asc&limit=1")
        assert oldest["first_id"] == names[0]
        for query in ("limit=0", "limit=x", "order=up"):
            assert (await send(gateway, "GET", f"/v1/videos?{query}")).status == 400
        assert (await send(gateway, "PUT", "/v1/videos")).status == 405
        for name in names:
            await ended(gateway, name)


async def test_a_key_for_other_endpoints_sees_none(tmp_path: Path) -> None:
    async with maker() as made, studio(tmp_path, made) as gateway:
        with desk(tmp_path) as on:
            gateway.key = create_key(LOCAL, on, KeyOrder(name="a", endpoints=("chat",))).text
        await known(gateway, gateway.key)
        assert (await send(gateway, "POST", "/v1/videos", ORDER)).status == 403
        assert (await send(gateway, "GET", "/v1/videos")).status == 403


SECOND = """
[[providers]]
name = "spare"
kind = "gemini"
base_url = "%s"
api_key = "g-spare"
models = ["none-*"]
[[models]]
name = "film"
targets = [{ provider = "google", model = "%s" }, { provider = "spare", model = "%s" }]
[retries]
attempts = 3
base_s = 0.0
"""
FILM = ORDER | {"model": "film"}


async def test_an_order_falls_back_and_is_paid_where_it_was_made(tmp_path: Path) -> None:
    async with maker() as busy, maker() as spare:
        busy.refusal = (503, {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"})
        spare.make()
        more = busy.settings + SECOND % (spare.url, MODEL, MODEL)
        async with worker(tmp_path, busy.url, more=more) as gateway:
            video = await told(gateway, "POST", "/v1/videos", FILM)
            assert (await ended(gateway, video["id"]))["status"] == "completed"
            assert (len(busy.orders), len(spare.orders)) == (1, 1)
            (booked,) = (await gateway.books()).values()
            assert booked.charge == COST
            tallies = {
                place.provider: tally.errors for place, tally in gateway.app.outward.health.tallies.items()
            }
            assert tallies["google"] == {"overloaded": 1}


async def test_an_order_that_may_have_been_taken_is_not_sent_there_again(tmp_path: Path) -> None:
    async with ScriptedUpstream([RESET]) as torn, maker() as made:
        more = (
            made.settings.replace(made.url, torn.base_url.replace("/v1", "/v1beta"))
            + "[retries]\nattempts = 3\n"
        )
        async with worker(tmp_path, torn.base_url, more=more) as gateway:
            reply = await send(gateway, "POST", "/v1/videos", ORDER)
            assert reply.status == 502
            assert len(torn.requests) == 1
            assert gateway.held == 0


async def test_a_job_has_room_at_its_provider_until_it_is_done(tmp_path: Path) -> None:
    async with maker() as made:
        narrow = made.settings.replace(
            'api_key = "g-canary"', 'api_key = "g-canary"\nmax_concurrent = 1\nlongest_wait_s = 0.2'
        )
        async with worker(tmp_path, made.url, more=narrow) as gateway:
            video = await told(gateway, "POST", "/v1/videos", ORDER)
            crowded = await send(gateway, "POST", "/v1/videos", ORDER)
            assert (crowded.status, json.loads(crowded.body)["error"]["code"]) == (
                503,
                "server_is_overloaded",
            )
            assert len(made.orders) == 1
            made.make()
            await ended(gateway, video["id"])
            another = await told(gateway, "POST", "/v1/videos", ORDER)
            await ended(gateway, another["id"])
            assert len(made.orders) == 2
