"""Batches of videos: a line answers when its video is made, and orders and pays one, whatever is killed."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.stores.books import figures
from tests.surfaces.clients import openai_client
from tests.surfaces.lives import Lives
from tests.surfaces.test_batches_sdk import ABSENT, PNG, lines_of, order, wait
from tests.surfaces.test_workers import until
from tests.threaded import Threaded

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
VIDEOS = "/v1/videos"
VEO = "veo-3.1-fast-generate-preview"
CONFIG = """
[[providers]]
name = "maker"
base_url = "{base}"
api_key = "sk-maker"
models = ["film-*"]
[[prices.rows]]
model = "film-*"
input = 0
output = 0
[prices.rows.units]
second = 0.1
"""
EACH = 200_000_000  # nano-USD: half of 4 x $0.10


class Maker(Threaded):
    """OpenAI's wire of videos, in a thread that outlives the gateways that are killed."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.done = True
        self.refuse = 0  # so many orders, with a 503
        self.ends = "completed"
        super().__init__(_handler(self))

    def shown(self, name: str) -> dict[str, Any]:
        status = self.ends if self.done else "in_progress"
        error = {"code": "blocked", "message": "The filters kept it back."} if status == "failed" else None
        return {"id": name, "object": "video", "status": status, "progress": 100, "error": error}


def _handler(maker: Maker) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._say(200, maker.shown(self.path.rpartition("/")[2]))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if maker.refuse:
                maker.refuse -= 1
                self._say(
                    503, {"error": {"message": "busy", "type": "server_error", "code": None, "param": None}}
                )
                return
            maker.orders.append(body)
            self._say(200, {"id": f"video_m{len(maker.orders)}", "object": "video", "status": "queued"})

        def _say(self, status: int, told: Any) -> None:
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


@pytest.fixture
def maker() -> Iterator[Maker]:
    with Maker() as made:
        yield made


@pytest.fixture
def lives(tmp_path: Path, maker: Maker) -> Iterator[Lives]:
    made = Lives(tmp_path, CONFIG.format(base=maker.base), EACH, "9/total")
    yield made
    if made.gateway is not None:
        made.gateway.stop()


def film(name: str, **body: Any) -> dict[str, Any]:
    usual = {"model": "film-1", "prompt": f"A canal, {name}", "seconds": "4", "size": "1280x720"}
    return {"custom_id": name, "method": "POST", "url": VIDEOS, "body": {**usual, **body}}


@pytest.fixture
def client(simulated) -> openai.OpenAI:
    return openai_client(simulated.base, simulated.key)


def test_lines_answer_when_their_videos_are_made(client, simulated):
    began_us = time.time_ns() // 1000
    picture = client.files.create(file=("a.png", base64.b64decode(PNG)), purpose="vision").id
    bodies = {
        "plain": {"seconds": "4", "size": "1280x720"},
        "begun": {"input_reference": {"file_id": picture}},
        "none": {"input_reference": {"file_id": ABSENT}},
        "long": {"seconds": "61"},
    }
    asked = [
        {
            "custom_id": name,
            "method": "POST",
            "url": VIDEOS,
            "body": {"model": VEO, "prompt": "A canal", **body},
        }
        for name, body in bodies.items()
    ]
    batch = wait(client, order(client, asked, VIDEOS))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == (
        "completed",
        2,
        2,
    ), batch
    answers, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert set(answers) == {"plain", "begun"}
    video = answers["plain"]["response"]["body"]
    assert (video["object"], video["status"], video["progress"], video["seconds"]) == (
        "video",
        "completed",
        100,
        "4",
    )
    assert client.videos.retrieve(video["id"]).to_dict() == video
    assert client.videos.download_content(video["id"]).read().startswith(b"GIF89a")
    said = {name: row["response"]["body"]["error"] for name, row in errors.items()}
    assert said["none"]["message"] == f"No such File object: {ABSENT}"
    assert said["long"]["param"] == "seconds"
    found = simulated.command("ledger", "check")
    assert (found.returncode, found.stderr) == (0, "")
    asked_for = f"SELECT charge, hold FROM calls WHERE charge > 0 AND opened_at > {began_us}"
    until(lambda: len(figures(simulated.data, asked_for)) == 2)
    assert figures(simulated.data, asked_for) == [(200_000_000, 200_000_000)] * 2  # half of 4 x $0.10


def test_each_line_orders_and_pays_one(lives, maker):
    maker.refuse = 2
    client = lives.start()
    batch = wait(client, order(client, [film(f"r{n}") for n in range(5)], VIDEOS))
    assert (batch.status, batch.request_counts.completed) == ("completed", 5)
    assert len(maker.orders) == 5
    videos = [row["response"]["body"]["id"] for row in lines_of(client, batch.output_file_id).values()]
    assert {video.id for video in client.videos.list()} == set(videos)
    lives.check(5)


def test_no_provider_runs_them(lives, maker):
    path = lives.folder / "headgate.toml"
    path.write_text(
        path.read_text().replace('models = ["film-*"]', 'models = ["film-*"]\nbatch = "provider"')
    )
    client = lives.start()
    batch = wait(client, order(client, [film("a")], VIDEOS))
    assert (batch.status, batch.request_counts.completed, len(maker.orders)) == ("completed", 1, 1)
    lives.check(1)


def test_a_video_that_is_kept_back_is_an_answer_that_costs_nothing(lives, maker):
    maker.ends = "failed"
    client = lives.start()
    batch = wait(client, order(client, [film("a")], VIDEOS))
    assert (batch.status, batch.request_counts.completed) == ("completed", 1)
    row = lines_of(client, batch.output_file_id)["a"]["response"]
    assert (row["status_code"], row["body"]["status"], row["body"]["error"]["code"]) == (
        200,
        "failed",
        "blocked",
    )
    lives.check(0)


def test_what_all_may_cost_is_held_before_the_first_is_ordered(lives, maker):
    client = lives.start(cap="0.7/total")
    batch = wait(client, order(client, [film(f"r{n}") for n in range(4)], VIDEOS))
    assert (batch.status, batch.errors.data[0].code) == ("failed", "insufficient_quota")
    batch = wait(client, order(client, [film(f"r{n}") for n in range(3)], VIDEOS))
    assert batch.status == "completed"
    assert len(maker.orders) == 3
    lives.check(3)


@pytest.mark.parametrize(
    ("place", "orders"),
    [("video-ordered", 2), ("video-kept", 1), ("video-opened", 1), ("video-settled", 1), ("video-ended", 1)],
)
def test_a_kill_orders_no_second_video_once_the_first_is_known(lives, maker, place, orders):
    client = lives.start(f"{place}=kill@1")
    batch = order(client, [film("a")], VIDEOS)
    lives.died()
    client = lives.start()
    batch = wait(client, batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", 1)
    video = lines_of(client, batch.output_file_id)["a"]["response"]["body"]
    assert video["status"] == client.videos.retrieve(video["id"]).status == "completed"
    assert len(maker.orders) == orders
    lives.check(1)


def test_a_stop_leaves_a_video_to_the_next_start(lives, maker):
    maker.done = False
    client = lives.start()
    batch = order(client, [film("a")], VIDEOS)
    batch = wait(client, batch, until={"in_progress"})
    _until(lambda: [video.status for video in client.videos.list()] == ["in_progress"])
    began = time.monotonic()
    assert lives.gateway.stop()[0] == 0
    assert time.monotonic() - began < 10
    client = lives.start()
    maker.done = True
    assert wait(client, batch).request_counts.completed == 1
    assert len(maker.orders) == 1
    lives.check(1)


def test_what_runs_at_a_cancel_comes_to_its_end(lives, maker):
    maker.done = False
    client = lives.start()
    batch = wait(client, order(client, [film(f"r{n}") for n in range(12)], VIDEOS), until={"in_progress"})
    _until(lambda: len(maker.orders) == 8)
    client.batches.cancel(batch.id)
    maker.done = True
    batch = wait(client, batch)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("cancelled", 8, 4)
    said = {row["error"]["code"] for row in lines_of(client, batch.error_file_id).values()}
    assert said == {"batch_cancelled"}
    lives.check(8)


def test_what_a_killed_worker_ordered_and_nobody_runs_again_is_said(lives, maker):
    maker.done = False
    client = lives.start("video-kept=kill@1")
    batch = order(client, [film("a")], VIDEOS)
    lives.died()
    path = lives.folder / "headgate.toml"
    settings = path.read_text()
    path.write_text(settings + "[batch]\nrun = 'workers'\n")
    lives.start().batches.cancel(batch.id)
    lives.gateway.stop()
    path.write_text(settings)
    client = lives.start()
    batch = wait(client, batch)
    assert (batch.status, batch.request_counts.failed) == ("cancelled", 1)
    [video] = client.videos.list()
    assert (video.status, video.error.code) == ("failed", "batch_ended")
    lives.check(0)


def test_one_that_is_deleted_while_it_is_made_stays_so_and_is_paid(lives, maker):
    maker.done = False
    client = lives.start()
    batch = order(client, [film("a")], VIDEOS)
    _until(lambda: [video.status for video in client.videos.list()] == ["in_progress"])
    [video] = client.videos.list()
    client.videos.delete(video.id)
    maker.done = True
    batch = wait(client, batch)
    assert batch.request_counts.completed == 1
    assert list(client.videos.list()) == []
    lives.check(1)


def _until(true: Any, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
