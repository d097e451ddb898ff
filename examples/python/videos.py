"""Order a video, wait for it, fetch it."""

import time
import warnings

from openai import OpenAI

warnings.simplefilter("ignore", DeprecationWarning)  # OpenAI closed its own; the routes live on here
client = OpenAI()
video = client.videos.create(
    model="grok-imagine-video", prompt="A gate in a canal", seconds="4", size="1280x720"
)
while video.status in {"queued", "in_progress"}:
    time.sleep(0.5)
    video = client.videos.retrieve(video.id)
print(video.status, video.seconds, "s", video.size)
content = client.videos.download_content(video.id)
print(content.response.headers["content-type"], len(content.read()), "bytes")
client.videos.delete(video.id)
