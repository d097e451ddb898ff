"""Videos through xAI's wire and a running worker: ordered, asked for, fetched elsewhere without the key, paid once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.faults.worker import worker
from tests.upstream import ScriptedUpstream, http_answer, json_answer
from tests.videos.test_videos import ended, send, told

pytestmark = pytest.mark.anyio
FILE = b"\x00\x00\x00\x18ftypmp42" + bytes(100_000)
ORDER = {"model": "grok-imagine-video", "prompt": "A cat", "seconds": "6", "size": "1280x720"}
COST = 420_000_000  # nano-USD: 6 seconds at $0.07
SETTINGS = """
[[providers]]
name = "x-ai"
base_url = "{base_url}"
api_key = "x-canary"
[[prices.rows]]
provider = "x-ai"
model = "grok-imagine-video"
input = 0
output = 0
[prices.rows.units]
"second:720p" = 0.07
"""


async def test_a_video_is_ordered_asked_for_fetched_and_paid_once(tmp_path: Path) -> None:
    async with ScriptedUpstream(http_answer(FILE, 200, [("content-type", "video/mp4")])) as files:
        link = f"{files.url}/xai-video/a.mp4?sig=1"
        answers = (
            json_answer({"request_id": "d97415a1"}),
            json_answer({"status": "pending", "progress": 10}, 202),
            json_answer({"status": "done", "video": {"url": link, "duration": 6}}),
        )
        async with (
            ScriptedUpstream(*answers) as maker,
            worker(tmp_path, maker.base_url, more=SETTINGS.format(base_url=maker.base_url)) as gateway,
        ):
            video = await told(gateway, "POST", "/v1/videos", ORDER)
            assert (video["status"], gateway.held) == ("in_progress", COST)
            order, *_ = maker.requests
            assert (order.path, order.get("authorization")) == ("/v1/videos/generations", "Bearer x-canary")
            assert order.json() == {
                "model": "grok-imagine-video",
                "prompt": "A cat",
                "duration": 6,
                "aspect_ratio": "16:9",
                "resolution": "720p",
            }
            done = await ended(gateway, video["id"])
            assert (done["status"], done["progress"]) == ("completed", 100)
            assert {request.path for request in maker.requests[1:]} == {"/v1/videos/d97415a1"}
            content = await send(gateway, "GET", f"/v1/videos/{video['id']}/content")
            assert (content.status, content.body) == (200, FILE)
            assert files.requests[0].path == "/xai-video/a.mp4?sig=1"
            assert files.requests[0].get("authorization") is None
            (booked,) = (await gateway.books()).values()
            assert (booked.status, booked.charge, booked.estimated) == (200, COST, False)


async def test_a_chat_model_makes_none_and_the_price_that_lacks_is_named(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, worker(tmp_path, upstream.base_url) as gateway:
        reply = await send(gateway, "POST", "/v1/videos", {**ORDER, "model": "gpt-4o-mini"})
        assert reply.status == 404
        assert "has no price here for second:720p" in json.loads(reply.body)["error"]["message"]
        assert upstream.requests == []
