"""OpenAI's own client orders videos of the simulator, through a running gateway."""

from __future__ import annotations

import time

import openai
import pytest
from tests.surfaces.clients import openai_client

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
MODEL = "veo-3.1-generate-preview"


@pytest.fixture
def client(simulated) -> openai.OpenAI:
    return openai_client(simulated.base, simulated.key)


def ended(client: openai.OpenAI, video):
    due = time.monotonic() + 20
    while video.status in {"queued", "in_progress"} and time.monotonic() < due:
        time.sleep(0.2)
        video = client.videos.retrieve(video.id)
    return video


def test_one_is_ordered_made_listed_fetched_and_deleted(client, simulated):
    picture = ("a.png", b"\x89PNG", "image/png")
    video = client.videos.create(
        model=MODEL, prompt="A cat", seconds="8", size="1280x720", input_reference=picture
    )
    assert (video.status, video.object, video.seconds) == ("queued", "video", "8")
    video = ended(client, video)
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert client.videos.download_content(video.id).read().startswith(b"GIF89a")
    assert video.id in [row.id for row in client.videos.list()]
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.videos.retrieve(video.id)
    assert video.id not in [row.id for row in client.videos.list()]
    assert "second:720p" in simulated.command("usage", "--by", "model", "--json").stdout
    assert simulated.command("ledger", "check").returncode == 0


def test_one_that_fails_says_why(client):
    video = client.videos.create(model=MODEL, prompt="A cat", extra_headers={"x-headgate-sim": "fault=cut"})
    video = ended(client, video)
    assert video.status == "failed"
    assert video.error is not None
    assert video.error.code == "video_failed"


def test_what_does_something_else_makes_no_videos_and_what_makes_them_does_not_chat(client):
    with pytest.raises(openai.NotFoundError, match="does not support videos"):
        client.videos.create(model="gpt-4o", prompt="A cat")
    with pytest.raises(openai.NotFoundError, match="does not support chat"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])


def test_what_was_closed_for_good_is_said_to_be(client):
    with pytest.raises(openai.NotFoundError, match="does not serve this route"):
        client.videos.remix("video_1", prompt="x")
